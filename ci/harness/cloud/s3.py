"""As much of an S3 client as checks and measurements need: signed requests, presigned addresses, listings."""

import datetime
import hashlib
import hmac
import re
from urllib.parse import quote, urlencode, urlsplit

from harness.cloud import rest

EMPTY = hashlib.sha256(b"").hexdigest()


class S3:
    """One endpoint, with the bucket in the path."""

    def __init__(self, endpoint, access_key_id, secret_access_key, region):
        self.endpoint, self.key, self.secret, self.region = endpoint.rstrip("/"), access_key_id, secret_access_key, region
        self.host = urlsplit(endpoint).netloc

    @classmethod
    def of(cls, environment, prefix="KONTOR_TEST_S3"):
        return cls(*(environment[f"{prefix}_{name}"] for name in ("ENDPOINT", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION")))

    def _signature(self, method, path, query, headers, payload, stamp):
        names = ";".join(sorted(headers))
        lines = [method, path, query, *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names, payload]
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"
        key = f"AWS4{self.secret}".encode()
        for part in (*scope.split("/"), text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return names, scope, key.hex()

    @staticmethod
    def _now():
        return datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")

    @staticmethod
    def _query(parameters):
        return urlencode(sorted(parameters.items()), quote_via=quote, safe="-_.~")

    def call(self, method, path, parameters=None, body=b"", headers=None, statuses=None):
        """`path` is `/bucket/key`. A signed request."""
        path, query, stamp = quote(path, safe="/-_.~"), self._query(parameters or {}), self._now()
        payload = hashlib.sha256(body).hexdigest() if body else EMPTY
        signed = {"host": self.host, "x-amz-content-sha256": payload, "x-amz-date": stamp}
        names, scope, signature = self._signature(method, path, query, signed, payload, stamp)
        authorization = (f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, "
                         f"Signature={signature}")
        sent = {**signed, **(headers or {}), "Authorization": authorization, "Content-Length": str(len(body))}
        url = f"{self.endpoint}{path}" + (f"?{query}" if query else "")
        return rest.call(method, url, sent, body, statuses)

    def presigned(self, method, path, seconds=3600):
        path, stamp = quote(path, safe="/-_.~"), self._now()
        parameters = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Date": stamp, "X-Amz-Expires": str(seconds),
            "X-Amz-Credential": f"{self.key}/{stamp[:8]}/{self.region}/s3/aws4_request",
            "X-Amz-SignedHeaders": "host",
        }
        query = self._query(parameters)
        signature = self._signature(method, path, query, {"host": self.host}, "UNSIGNED-PAYLOAD", stamp)[2]
        return f"{self.endpoint}{path}?{query}&X-Amz-Signature={signature}"

    def buckets(self):
        answer = self.call("GET", "/", statuses=(200,))
        return re.findall(r"<Bucket>.*?<Name>([^<]+)</Name>", answer.body.decode(), re.DOTALL)

    def keys(self, bucket):
        """All keys of a bucket, or None if there is no such bucket."""
        found, parameters = [], {"list-type": "2"}
        while True:
            answer = self.call("GET", f"/{bucket}", parameters, statuses=(200, 404))
            if answer.status == 404:
                return None
            text = answer.body.decode()
            found += re.findall(r"<Key>([^<]+)</Key>", text)
            more = re.search(r"<NextContinuationToken>([^<]+)</NextContinuationToken>", text)
            if not more:
                return found
            parameters["continuation-token"] = more[1]
