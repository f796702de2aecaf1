"""Whether a page of a list takes as long at its end as at its beginning: `ci/bench listing`.

The claim is that a page of 100 tags takes constant time, however many tags there are and wherever it begins. The rows are
written straight into the database: pushing 100,000 tags would measure something else.
"""

import hashlib
import json
import sqlite3
import statistics
import time
from urllib.parse import urlencode

from harness import processes, servers
from harness.client import scopes_of
from harness.processes import say

COUNTS = (1_000, 100_000)
PAGE = 100
RATIO_LIMIT = 2.0  # of the slowest page of the long list to the first page of the short one
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def push(client, repo):
    """A manifest for the tags to lead to."""
    scopes, config = scopes_of(repo), b"{}"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    client.finish(client.start_upload(repo, scopes), scopes, digest, config)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}}
    client.put_manifest(repo, name(0), json.dumps(manifest).encode(), MANIFEST, scopes)


def name(number):
    return f"v{number:07}"


def fill(database, repo, count):
    """The other tags."""
    connection = sqlite3.connect(database, timeout=60)
    with connection:
        (row,) = connection.execute(
            "SELECT tags.repo_id, tags.digest, tags.pushed_at FROM tags JOIN repos ON repos.id = tags.repo_id"
            " WHERE repos.name = ?", (repo,)).fetchall()
        connection.executemany("INSERT INTO tags (repo_id, name, digest, pushed_at) VALUES (?, ?, ?, ?)",
                               ((row[0], name(number), row[1], row[2]) for number in range(1, count)))
    connection.close()


class Page:
    """One page of a list, asked for again and again."""

    def __init__(self, api, client, count, where):
        self.api, self.client, self.count, self.where, self.times = api, client, count, where, []
        inside = f"listing{count}"
        self.scopes = scopes_of(f"demo/{inside}", actions="pull")
        self.last = {"start": "", "middle": name(count // 2), "end": name(count - PAGE - 1)}[where]
        path, limit = {
            "/v2/": (f"/v2/demo/{inside}/tags/list", "n"),
            "/api/v1": (f"/api/v1/accounts/demo/repositories/{inside}/_tags", "limit"),
        }[api]
        self.target = f"{path}?" + urlencode({limit: PAGE, "last": self.last})

    def ask(self):
        began = time.perf_counter()
        answer = self.client.expect((200,), "GET", self.target, self.scopes)
        self.times.append((time.perf_counter() - began) * 1000)
        return json.loads(answer.body)["tags"]

    def warm_up(self):
        for _ in range(10):
            tags = self.ask()
        first = tags[0] if isinstance(tags[0], str) else tags[0]["name"]
        if len(tags) != PAGE or first <= self.last:
            raise RuntimeError(f"{self.target}: {len(tags)} tags from {first}")
        self.times.clear()

    def median(self):
        return round(statistics.median(self.times), 3)


def run(options, out):
    with processes.work_dir() as directory:
        kontor = servers.Kontor(directory / "kontor", options.binary)
        kontor.start()
        clients = {"/v2/": kontor.client(), "/api/v1": kontor.client(basic=True)}
        for count in COUNTS:
            push(clients["/v2/"], f"demo/listing{count}")
            fill(kontor.data / "kontor.db", f"listing{count}", count)
        pages = [Page(api, client, count, where) for api, client in clients.items() for count in COUNTS
                 for where in ("start", "middle", "end")]
        for page in pages:
            page.warm_up()
        # In turn, so that what else the machine does meets all of them.
        for _ in range(options.requests):
            for page in pages:
                page.ask()
        kontor.stop()
    ratios = {}
    for api in clients:
        short, long = ([page.median() for page in pages if (page.api, page.count) == (api, count)] for count in COUNTS)
        say(f"{api}, start, middle, end: {short} ms of {COUNTS[0]} tags, {long} ms of {COUNTS[1]}")
        ratios[api] = round(max(long) / short[0], 2)
    passed = all(ratio <= RATIO_LIMIT for ratio in ratios.values())
    say(f"slowest page of {COUNTS[1]} to first page of {COUNTS[0]}: {ratios}")
    rows = [{"api": page.api, "tags": page.count, "page": page.where, "ms": page.median()} for page in pages]
    figures = {"machine": processes.machine(), "page": PAGE, "pages": rows, "ratios": ratios, "passed": passed}
    (out / "listing.json").write_text(json.dumps(figures, indent=1))
    return 0 if passed else 1
