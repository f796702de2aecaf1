"""What lies in the cloud's stores, asked without kontor."""

import json
from urllib.parse import quote

from harness.cloud import rest
from harness.cloud.s3 import S3


class SwiftAccount:
    """The account of the registry's own project, with a token that is good for one run."""

    def __init__(self, environment):
        name = {key: environment[f"KONTOR_TEST_SWIFT_{key}"] for key in
                ("AUTH_URL", "USER", "PASSWORD", "PROJECT", "DOMAIN", "REGION")}
        domain = {"name": name["DOMAIN"]}
        answer = rest.call("POST", f"{name['AUTH_URL']}/auth/tokens", body={"auth": {
            "identity": {"methods": ["password"], "password": {
                "user": {"name": name["USER"], "password": name["PASSWORD"], "domain": domain}}},
            "scope": {"project": {"name": name["PROJECT"], "domain": domain}}}}, statuses=(201,))
        self.headers = {"X-Auth-Token": answer.headers["X-Subject-Token"]}
        self.url = next(endpoint["url"] for service in answer.json()["token"]["catalog"]
                        if service["type"] == "object-store" for endpoint in service["endpoints"]
                        if endpoint["interface"] == "public" and endpoint["region_id"] == name["REGION"])

    def call(self, method, path="", body=None, headers=None, statuses=None):
        """`path` is `/container/object`, perhaps with a query."""
        return rest.call(method, self.url + path, {**self.headers, **(headers or {})}, body, statuses)

    def containers(self):
        answer = self.call("GET", "?format=json", statuses=(200, 204))
        return [container["name"] for container in json.loads(answer.body or "[]")]

    def objects(self, container):
        """All names in a container, or None if there is no such container."""
        found = []
        while True:
            marker = f"&marker={quote(found[-1])}" if found else ""
            answer = self.call("GET", f"/{container}?format=json{marker}", statuses=(200, 204, 404))
            if answer.status == 404:
                return None
            page = [one["name"] for one in json.loads(answer.body or "[]")]
            if not page:
                return found
            found += page


def holders(environment, start):
    """The buckets and containers whose names begin with `start`: store -> names."""
    return {
        "s3": [name for name in S3.of(environment).buckets() if name.startswith(start)],
        "swift": [name for name in SwiftAccount(environment).containers() if name.startswith(start)],
    }
