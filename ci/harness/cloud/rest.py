"""HTTP in one call, for services whose answers are looked at whole."""

import http.client
import json
from urllib.parse import urlsplit


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    def json(self):
        return json.loads(self.body)


class Refused(RuntimeError):
    def __init__(self, method, url, answer):
        super().__init__(f"{method} {url}: {answer.status} {answer.body[:300]!r}")
        self.status = answer.status


def call(method, url, headers=None, body=None, statuses=None, timeout=60):
    """A dict as body goes out as JSON. Raises `Refused` for a status that is not among `statuses`."""
    headers = dict(headers or {})
    if isinstance(body, dict):
        headers["Content-Type"], body = "application/json", json.dumps(body).encode()
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers)
        response = connection.getresponse()
        answer = Answer(response, response.read())
    finally:
        connection.close()
    if statuses and answer.status not in statuses:
        raise Refused(method, url, answer)
    return answer
