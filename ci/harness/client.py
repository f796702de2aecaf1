"""A small registry client over raw HTTP, with every way of uploading that real clients use.

Why our own: a crash test must know exactly what was acknowledged, must cut and resume where it wants, and must tell a
cut connection from a wrong answer. No retry happens here, save one after a 401.
"""

import base64
import hashlib
import http.client
import json
import re
import time
from contextlib import suppress
from urllib.parse import quote, urljoin, urlsplit

from harness.content import MIB

ACCEPT = ("application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
          "application/vnd.docker.distribution.manifest.v2+json")


class Disconnected(Exception):
    """The connection was refused, cut or stalled: whatever was asked may have happened or not."""


class Unexpected(Exception):
    """An answer with a status that the request should not get."""

    def __init__(self, what, answer):
        super().__init__(f"{what}: {answer.status} {answer.body[:200]!r}")
        self.what, self.answer, self.status = what, answer, answer.status


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    def header(self, name):
        return self.headers.get(name)


class Client:
    """One connection to one registry; not to be shared among threads.

    `login` is None (anonymous), or `(user, password)`; `basic` sends it with every request instead of fetching tokens.
    """

    def __init__(self, port, login=None, basic=False, timeout=30):
        self.port, self.login, self.basic, self.timeout = port, login, basic, timeout
        self.connection = None
        self.tokens = {}  # scopes -> (token, time when to fetch another)
        self.refused_tokens = 0  # 401 for a token that should be good
        self.redirects = 0  # followed

    # -- plumbing

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def _send(self, method, target, body, headers):
        """Sends and returns the response with its body unread. A body of chunks goes out as chunked transfer coding
        unless the headers say its length."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
                self.connection.connect()
            chunked = body is not None and not isinstance(body, bytes) and "Content-Length" not in headers
            if chunked:
                headers = {**headers, "Transfer-Encoding": "chunked"}
            try:
                self.connection.request(method, target, body, headers, encode_chunked=chunked)
            except (BrokenPipeError, ConnectionResetError):
                # The server may have answered before it had the whole body.
                with suppress(http.client.HTTPException, OSError):
                    return self.connection.getresponse()
                raise
            return self.connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise Disconnected(f"{method} {target}: {error!r}") from error

    def authorization(self, scopes):
        """The header for a request, with a token fetched or remembered; nothing for the anonymous."""
        if not self.login:
            return {}
        if self.basic:
            return {"Authorization": self._basic()}
        token, until = self.tokens.get(scopes, (None, 0))
        if time.monotonic() > until:
            token = self.fetch_token(scopes)
        return {"Authorization": f"Bearer {token}"}

    def _basic(self):
        return "Basic " + base64.b64encode(":".join(self.login).encode()).decode()

    def fetch_token(self, scopes):
        """Does what the challenge of `/v2/` says and remembers the token."""
        challenge = self._read(self._send("GET", "/v2/", None, {}))
        found = re.search(r'Bearer realm="([^"]+)",service="([^"]+)"', challenge.header("WWW-Authenticate") or "")
        if challenge.status != 401 or not found:
            raise Unexpected("GET /v2/ without credentials", challenge)
        realm, service = found.groups()
        query = "&".join([f"service={quote(service)}", *(f"scope={quote(scope)}" for scope in scopes)])
        target = f"{urlsplit(realm).path}?{query}"
        answer = self._read(self._send("GET", target, None, {"Authorization": self._basic()}))
        if answer.status != 200:
            raise Unexpected("GET token", answer)
        body = json.loads(answer.body)
        self.tokens[scopes] = body["token"], time.monotonic() + max(body.get("expires_in", 60) - 30, 20)
        return body["token"]

    def _read(self, response):
        try:
            return Answer(response, response.read())
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise Disconnected(repr(error)) from error

    def open(self, method, target, scopes, body=None, headers=None):
        """Sends with authorization. `body` is None, bytes, or a function that returns fresh chunks of bytes."""
        response = self._attempt(method, target, scopes, body, headers)
        if response.status == 401 and self.tokens.pop(scopes, None):
            self.refused_tokens += 1
            self._read(response)
            self.close()
            response = self._attempt(method, target, scopes, body, headers)
        return response

    def _attempt(self, method, target, scopes, body, headers):
        sent = {**(headers or {}), **self.authorization(scopes)}
        return self._send(method, target, body() if callable(body) else body, sent)

    def request(self, method, target, scopes, body=None, headers=None):
        return self._read(self.open(method, target, scopes, body, headers))

    def expect(self, statuses, method, target, scopes, body=None, headers=None):
        answer = self.request(method, target, scopes, body, headers)
        if answer.status not in statuses:
            raise Unexpected(f"{method} {re.sub(r'[0-9a-f]{12,}|[?].*', '...', target)}", answer)
        return answer

    # -- reading

    def download(self, target, scopes, headers=None, algorithm="sha256"):
        """GETs and hashes a body of any length. Returns `(answer without body, digest, length)`.
        A redirect is followed. A body that ends before its Content-Length is `Disconnected`."""
        response = self.open("GET", target, scopes, None, {"Accept": ACCEPT, **(headers or {})})
        if response.status == 307:
            return self.download_there(self._read(response).header("Location"), headers, algorithm)
        return self._hash(target, response, algorithm)

    def download_there(self, url, headers=None, algorithm="sha256"):
        """The same from an address that a redirect named. Nothing that belongs to the registry is sent along."""
        self.redirects += 1
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout)
        try:
            connection.request("GET", f"{parts.path}?{parts.query}", None, headers or {})
            response = connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise Disconnected(f"GET {parts.netloc}{parts.path}: {error!r}") from error
        try:
            return self._hash(f"{parts.netloc}{parts.path}", response, algorithm)
        finally:
            connection.close()

    def _hash(self, target, response, algorithm):
        hasher, length, piece = hashlib.new(algorithm), 0, bytearray(MIB)
        try:
            while count := response.readinto(piece):
                hasher.update(memoryview(piece)[:count])
                length += count
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise Disconnected(f"GET {target} after {length} bytes: {error!r}") from error
        announced = response.headers.get("Content-Length")
        if announced is not None and int(announced) != length:  # readinto() takes an early end for the end
            self.close()
            raise Disconnected(f"GET {target}: {length} of {announced} bytes")
        return Answer(response, b""), f"{algorithm}:{hasher.hexdigest()}", length

    # -- uploading; each returns the Location or the answer that matters

    def start_upload(self, repo, scopes, query=""):
        answer = self.expect((202,), "POST", f"/v2/{repo}/blobs/uploads/{query}", scopes, b"", {"Content-Length": "0"})
        return self.location(answer, f"/v2/{repo}/blobs/uploads/")

    @staticmethod
    def location(answer, base):
        """The path and query of a Location, which may be relative or absolute."""
        parts = urlsplit(urljoin(base, answer.header("Location") or ""))
        return parts.path + (f"?{parts.query}" if parts.query else "")

    @staticmethod
    def with_digest(location, digest):
        return f"{location}{'&' if '?' in location else '?'}digest={quote(digest)}"

    def append(self, location, scopes, body, offset=None, length=None):
        """One PATCH: with a Content-Range when `offset` is given, as regclient does it, else as docker streams it."""
        headers = {"Content-Type": "application/octet-stream"}
        if offset is not None:
            headers |= {"Content-Range": f"{offset}-{offset + length - 1}", "Content-Length": str(length)}
        answer = self.expect((202,), "PATCH", location, scopes, body, headers)
        return self.location(answer, location)

    def finish(self, location, scopes, digest, body=b"", length=None):
        headers = {"Content-Type": "application/octet-stream"}
        headers["Content-Length"] = str(len(body) if length is None else length)
        return self.expect((201,), "PUT", self.with_digest(location, digest), scopes, body, headers)

    def upload_position(self, location, scopes):
        """How many bytes the registry holds of an upload, with the Location to go on at. None if it knows nothing."""
        answer = self.expect((204, 404), "GET", location, scopes)
        if answer.status == 404:
            return None
        found = re.fullmatch(r"(?:bytes=)?0-(-?\d+)", answer.header("Range") or "0--1")
        if not found:
            raise Unexpected(f"GET upload with Range {answer.header('Range')!r}", answer)
        return int(found[1]) + 1, self.location(answer, location)

    def put_manifest(self, repo, reference, manifest, media_type, scopes):
        return self.expect((201,), "PUT", f"/v2/{repo}/manifests/{reference}", scopes, manifest,
                           {"Content-Type": media_type})


def scopes_of(*repos, actions="pull,push"):
    return tuple(f"repository:{repo}:{actions}" for repo in sorted(set(repos)))
