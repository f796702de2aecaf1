"""The clients of a crash test: pushers in every upload style, a skopeo, and readers. Threads; each has its own
connection and its own random numbers, and none of them knows when the server will die.
"""

import random
import shutil
import threading
import time

from harness.client import Client, Disconnected, Unexpected, scopes_of
from harness.content import KIB, MANIFEST_TYPE, digest_of, image_of, write_oci_layout
from harness.ledger import Push
from harness.processes import run
from harness.verify import verify_blob, verify_manifest

STYLES = ("put", "stream", "chunks", "post", "mount")


class Worker(threading.Thread):
    """A loop of `turn`s that goes on after every cut connection, until `stop` is set."""

    def __init__(self, name, arena):
        super().__init__(name=name, daemon=True)
        self.arena, self.ledger, self.maker = arena, arena.ledger, arena.maker
        self.random = random.Random(f"{arena.seed}-{name}")
        self.client = None
        self.failure = None  # a mistake in this script, not in the server

    def run(self):
        self.client = self.connect()
        generation = 0
        try:
            while not self.arena.stop.is_set():
                if not self.arena.up.wait(0.2):
                    continue
                if generation != self.arena.generation:
                    generation = self.arena.generation
                    self.client.close()  # the other end of this connection died with the old process
                try:
                    self.turn()
                except Disconnected as cut:
                    self.client.close()
                    self.ledger.count("cut connections")
                    if "timed out" in str(cut):
                        self.ledger.odd("request timed out", cut)
                    # Let the main thread notice the kill, then wait until the server is back.
                    time.sleep(0.01)
                    if self.arena.up.is_set() and generation == self.arena.generation:
                        self.on_cut_without_kill(cut)
                except Unexpected as odd:
                    self.client.close()
                    self.on_unexpected(odd)
        except BaseException as error:  # noqa: B902 - reported by the main thread
            self.failure = error
            raise
        finally:
            self.client.close()

    def connect(self):
        return self.arena.server.client()

    def on_cut_without_kill(self, cut):
        """Idle connections are closed by servers, so a cut is odd only on a busy one; counted, not judged."""
        self.ledger.count("cut without a kill")

    def on_unexpected(self, odd):
        if odd.status >= 500 and self.arena.database_hurt:
            self.ledger.count("5xx while the database was gone")
            time.sleep(0.02)
        else:
            self.ledger.odd(f"{odd.what}: {odd.status}", odd)

    def turn(self):
        raise NotImplementedError


class Pusher(Worker):
    """Pushes images one after the other: two to four blobs, a manifest under a tag of its own, and now and then a tag
    that moves. What is acknowledged goes to the ledger at once, what is not is forgotten or tried again."""

    def __init__(self, number, arena, basic=False):
        self.basic = basic
        super().__init__(f"pusher-{number}", arena)
        namespace = arena.server.namespace
        self.repo = f"{namespace}crash-{number % 3}"
        self.other = f"{namespace}crash-{(number + 1) % 3}"
        self.scopes = scopes_of(self.repo, self.other)
        self.serial = 0
        self.moving_tag = f"moving-{number}"
        self.moving_now, self.moving_tried = None, []
        self.deletable = []  # pushes that only their own tag leads to

    def connect(self):
        return self.arena.server.client(basic=self.basic and self.arena.server.login is not None)

    def turn(self):
        self.serial += 1
        config = self.upload(self.maker.config())
        layers = [self.layer() for _ in range(self.random.randint(1, 3))]
        image = image_of(config, layers)
        tag = f"{self.name}-{self.serial}"
        self.put_manifest(image, tag)
        push = Push(self.repo, tag, image.digest, len(image.manifest), tuple((b.digest, b.size) for b in image.blobs))
        self.ledger.push_acknowledged(push)
        if self.random.random() < 0.3:
            self.move_tag(image)
        else:
            self.deletable.append(push)
        if self.arena.deletes and self.deletable and self.random.random() < 0.4:
            self.delete(self.deletable.pop(self.random.randrange(len(self.deletable))))

    def delete(self, push):
        """Only this thread deletes what it has pushed. After a cut nobody knows, and nobody asks."""
        self.ledger.push_deleting(push)
        target = f"/v2/{push.repo}/manifests/{push.digest}"
        self.client.expect((202,), "DELETE", target, scopes_of(push.repo, actions="delete"))
        self.ledger.count("deleted images")
        answer = self.client.request("GET", target, self.scopes, headers={"Accept": MANIFEST_TYPE})
        if answer.status != 404:
            raise Unexpected("GET of a deleted manifest", answer)

    def layer(self):
        """Mostly a new blob; sometimes one that the registry has acknowledged before, which must still be there."""
        known = self.ledger.any_blob(self.random, self.repo) if self.random.random() < 0.2 else None
        if known:
            blob = known[1]
            answer = self.client.request("HEAD", f"/v2/{self.repo}/blobs/{blob.digest}", self.scopes)
            if answer.status == 200:
                return blob
            if answer.status != 404:
                raise Unexpected("HEAD blob", answer)
            if self.ledger.is_swept:
                return self.upload(blob) if blob.offset >= 0 else self.layer()
            self.ledger.note_lost(f"blob {self.repo}@{blob.digest}", "HEAD of an acknowledged blob: 404")
        algorithm = "sha512" if self.arena.server.sha512 and self.random.random() < 0.1 else "sha256"
        return self.upload(self.maker.blob(self.random, algorithm=algorithm))

    def put_manifest(self, image, reference):
        try:
            answer = self.client.put_manifest(self.repo, reference, image.manifest, MANIFEST_TYPE, self.scopes)
        except Unexpected as odd:
            # Without a time of grace, a blob goes with the manifest of another client that had it as well.
            if self.ledger.is_swept and b"MANIFEST_BLOB_UNKNOWN" in odd.answer.body:
                self.ledger.count("pushes whose blobs were swept")
                raise
            # Every blob was acknowledged, so an answer such as MANIFEST_BLOB_UNKNOWN means that one is lost.
            if 400 <= odd.status < 500 and odd.status not in (401, 403, 429):
                self.ledger.note_lost(f"blobs of {self.repo}:{reference}", odd)
            raise
        self.check_digest(answer, image.digest)

    def check_digest(self, answer, digest):
        if answer.header("Docker-Content-Digest") not in (None, digest):
            self.ledger.note_corrupt(digest, f"201 for {digest} says {answer.header('Docker-Content-Digest')}")

    def move_tag(self, image):
        """Only this thread moves the tag, so it must stand at the last acknowledged image or at a later try."""
        if self.moving_tried:
            answer = self.client.request("GET", f"/v2/{self.repo}/manifests/{self.moving_tag}", self.scopes,
                                         headers={"Accept": MANIFEST_TYPE})
            if answer.status not in (200, 404):
                raise Unexpected("GET moving tag", answer)
            stands = digest_of(answer.body) if answer.status == 200 else None
            if stands not in (self.moving_now, *self.moving_tried):
                self.ledger.note_lost(f"{self.repo}:{self.moving_tag} -> {self.moving_now}",
                                      f"the moving tag {self.repo}:{self.moving_tag} stands at {stands}, "
                                      f"acknowledged was {self.moving_now}")
            self.moving_now, self.moving_tried = stands, []
        self.moving_tried.append(image.digest)
        self.put_manifest(image, self.moving_tag)
        self.moving_now, self.moving_tried = image.digest, [image.digest]

    # -- uploads

    def upload(self, blob):
        style = self.random.choice(STYLES)
        self.ledger.attempt(self.repo, blob)
        answer = getattr(self, f"upload_by_{style}")(blob, self.maker.content(blob))
        self.check_digest(answer, blob.digest)
        self.ledger.blob_acknowledged(self.repo, blob, style)
        return blob

    def pieces(self, data):
        """The body in a few pieces, sometimes with pauses, so that kills also find half bodies."""
        step = max(len(data) // self.random.randint(1, 8), 1 * KIB)
        pause = self.random.choice((0, 0, 0, 0.002, 0.01))
        for start in range(0, len(data), step):
            yield data[start : start + step]
            if pause:
                time.sleep(pause)

    def new_upload(self, blob):
        return self.client.start_upload(self.repo, self.scopes, self.algorithm_query(blob, "?"))

    @staticmethod
    def algorithm_query(blob, separator):
        """A registry hashes while it receives, so it must know of SHA-512 beforehand."""
        return f"{separator}digest-algorithm=sha512" if blob.digest.startswith("sha512") else ""

    def upload_by_put(self, blob, data):
        """POST, PUT: containerd."""
        location = self.new_upload(blob)
        return self.client.finish(location, self.scopes, blob.digest, lambda: self.pieces(data), len(data))

    def upload_by_stream(self, blob, data):
        """POST, one PATCH in chunked transfer coding, PUT: docker, podman, skopeo."""
        location = self.new_upload(blob)
        try:
            after = self.client.append(location, self.scopes, lambda: self.pieces(data))
        except Disconnected:
            return self.resume(location, blob, data, acknowledged=0, sent=len(data))
        try:
            return self.client.finish(after, self.scopes, blob.digest)
        except Disconnected:
            return self.resume(after, blob, data, acknowledged=len(data), sent=len(data), finishing=True)

    def upload_by_chunks(self, blob, data):
        """POST, several PATCHes with Content-Range, PUT, the last piece sometimes with the PUT: regclient."""
        location, offset = self.new_upload(blob), 0
        cuts = sorted(self.random.sample(range(1, len(data)), min(self.random.randint(1, 3), len(data) - 1)))
        ends = cuts if self.random.random() < 0.3 else [*cuts, len(data)]
        for end in ends:
            try:
                location = self.client.append(location, self.scopes, lambda: self.pieces(data[offset:end]),
                                              offset, end - offset)
            except Disconnected:
                return self.resume(location, blob, data, acknowledged=offset, sent=end)
            offset = end
        return self.client.finish(location, self.scopes, blob.digest, data[offset:])

    def upload_by_post(self, blob, data):
        """A single POST with the digest. A registry may answer 202 and then wants an ordinary upload."""
        target = Client.with_digest(f"/v2/{self.repo}/blobs/uploads/", blob.digest)
        answer = self.client.expect((201, 202), "POST", target, self.scopes, lambda: self.pieces(data),
                                    {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))})
        if answer.status == 202:
            location = self.client.location(answer, target)
            return self.client.finish(location, self.scopes, blob.digest, data)
        return answer

    def upload_by_mount(self, blob, data):
        """Into the neighbour repository first, then mounted from there; 202 means an ordinary upload."""
        location = self.client.start_upload(self.other, self.scopes, self.algorithm_query(blob, "?"))
        self.client.finish(location, self.scopes, blob.digest, data)
        self.ledger.blob_acknowledged(self.other, blob, "put")
        target = f"/v2/{self.repo}/blobs/uploads/?mount={blob.digest}&from={self.other}"
        target += self.algorithm_query(blob, "&")
        answer = self.client.expect((201, 202), "POST", target, self.scopes, b"", {"Content-Length": "0"})
        if answer.status == 202:
            self.ledger.count("mounts answered 202")
            return self.client.finish(self.client.location(answer, target), self.scopes, blob.digest, data)
        return answer

    def resume(self, location, blob, data, acknowledged, sent, finishing=False):
        """After a cut: asks how much has arrived and goes on there, half of the time; else gives the upload up.
        What a 202 has acknowledged must have survived."""
        self.client.close()
        if self.random.random() < 0.5 or not self.arena.wait_up():
            raise Disconnected("gave an upload up")
        key = f"upload {blob.digest}"
        known = self.client.upload_position(location, self.scopes)
        if known is None:
            if finishing:  # the PUT may have come through: then the blob is there, or nothing is
                if verify_blob(self.ledger, self.client, self.repo, blob.digest, blob.size, must_exist=False):
                    raise Disconnected("the upload was finished after all")
            if acknowledged:
                self.ledger.note_lost(key, f"{key}: session unknown after {acknowledged} acknowledged bytes")
            raise Disconnected("the upload is unknown")
        position, location = known
        if position == 1 and acknowledged == 0:
            position = 0  # "0-0" is what most registries say of an empty upload
        if not acknowledged <= position <= sent:
            self.ledger.note_lost(key, f"{key}: holds {position} bytes, acknowledged {acknowledged}, sent {sent}")
            raise Disconnected("the upload lost bytes")
        if position < len(data):
            location = self.client.append(location, self.scopes, lambda: self.pieces(data[position:]),
                                          position, len(data) - position)
        try:
            answer = self.client.finish(location, self.scopes, blob.digest)
        except Unexpected as odd:
            if odd.status == 400:
                self.ledger.note_corrupt(key, f"{key}: resumed at {position} of {len(data)}: {odd}")
            raise
        self.ledger.count("resumed uploads")
        return answer


class Skopeo(Worker):
    """The real thing: `skopeo copy` of a small image. Its exit code 0 is the acknowledgement."""

    @staticmethod
    def available():
        return shutil.which("skopeo") is not None

    def __init__(self, arena):
        super().__init__("skopeo", arena)
        self.repo = f"{arena.server.namespace}crash-skopeo"
        self.serial = 0

    def turn(self):
        self.serial += 1
        tag, directory = f"skopeo-{self.serial}", self.arena.directory / "skopeo"
        shutil.rmtree(directory, ignore_errors=True)
        layers = [self.maker.content(self.maker.blob(self.random)) for _ in range(2)]
        digest, blobs = write_oci_layout(directory, layers)
        size = (directory / "blobs" / "sha256" / digest.split(":")[1]).stat().st_size
        done = run(skopeo_push(self.arena.server, directory, f"{self.repo}:{tag}"), 60)
        if done.returncode == 0:
            self.ledger.push_acknowledged(Push(self.repo, tag, digest, size, tuple(blobs)), "skopeo")
        else:
            self.ledger.count("failed skopeo pushes")
        self.arena.stop.wait(0.1)  # it costs much processor time; leave some to the others


def skopeo_push(server, layout, reference):
    """The command that pushes an OCI layout directory without changing a byte."""
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
    command += ["--dest-creds", ":".join(server.login)] if server.login else ["--dest-no-creds"]
    return [*command, f"oci:{layout}", f"docker://127.0.0.1:{server.port}/{reference}"]


def skopeo_pull(server, reference, directory):
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
    command += ["--src-creds", ":".join(server.login)] if server.login else ["--src-no-creds"]
    return [*command, f"docker://127.0.0.1:{server.port}/{reference}", f"dir:{directory}"]


class Reader(Worker):
    """Hammers: blobs that are being uploaded (404 or all of it, never a half), acknowledged ones, ranges, manifests."""

    def __init__(self, number, arena):
        super().__init__(f"reader-{number}", arena)

    def turn(self):
        act = self.random.choice((self.read_attempted, self.read_attempted, self.read_known, self.read_range,
                                  self.read_manifest))
        self.arena.stop.wait(0.003 if act() else 0.01)  # leave some of the two cores to the pushers
        self.ledger.count("reads")

    def read_attempted(self):
        if found := self.ledger.any_attempt(self.random):
            repo, blob = found
            verify_blob(self.ledger, self.client, repo, blob.digest, blob.size, must_exist=False)
        return found

    def read_known(self):
        if found := self.ledger.any_blob(self.random):
            repo, blob = found
            verify_blob(self.ledger, self.client, repo, blob.digest, blob.size, not self.ledger.is_swept)
        return found

    def read_manifest(self):
        if push := self.ledger.any_push(self.random):
            verify_manifest(self.ledger, self.client, push, self.random.choice((push.tag, push.digest)))
        return push

    def read_range(self):
        """A part must be the part: Range over one or several chunks."""
        if found := self.ledger.any_blob(self.random):
            repo, blob = found
            first = self.random.randrange(blob.size)
            last = self.random.randrange(first, blob.size)
            key = f"blob {repo}@{blob.digest}"
            answer, got, length = self.client.download(
                f"/v2/{repo}/blobs/{blob.digest}", scopes_of(repo), {"Range": f"bytes={first}-{last}"})
            whole = self.maker.content(blob)
            want = whole[first : last + 1] if answer.status == 206 else whole
            if answer.status == 404 and self.ledger.is_swept:
                return found
            if answer.status == 404:
                self.ledger.note_lost(key, f"{key}: 404 to a range although it was acknowledged")
            elif answer.status not in (200, 206):
                raise Unexpected("GET range", answer)
            elif (got, length) != (digest_of(want), len(want)):
                self.ledger.note_corrupt(key, f"{key}: wrong bytes for {first}-{last} ({answer.status})")
        return found
