"""What a token costs, and whether logins starve pulls: `ci/bench tokens`.

The claim is that a token for a credential that was checked a moment ago takes less than a millisecond of processor time,
and that people who guess passwords, each guess of which takes tens of milliseconds of a core, leave pulls their share.
"""

import base64
import hashlib
import http.client
import json
import statistics
import threading
import time
from urllib.parse import urlencode

from harness import processes, servers
from harness.client import scopes_of
from harness.processes import say

TOKENS = 2000
TOKEN_LIMIT_MS = 1.0
GUESSERS = 16
PULL_SECONDS = 8
LEAST_SHARE = 0.25  # of the pulls without guessers; the guessers' own process and the client take their part
REPO = "demo/tokens"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SCOPE = f"repository:{REPO}:pull"


class Asker:
    """One connection that asks the token service again and again."""

    def __init__(self, port, seconds=30):
        self.port, self.connection = port, http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)

    def ask(self, method, target, headers, body=None):
        self.connection.request(method, target, body, headers)
        response = self.connection.getresponse()
        return response.status, response.read()

    def by_password(self, user, secret):
        value = base64.b64encode(f"{user}:{secret}".encode()).decode()
        target = "/token?" + urlencode({"service": f"127.0.0.1:{self.port}", "scope": SCOPE})
        return self.ask("GET", target, {"Authorization": f"Basic {value}"})

    def by_refresh_token(self, secret):
        form = urlencode({"grant_type": "refresh_token", "refresh_token": secret,
                          "service": f"127.0.0.1:{self.port}", "scope": SCOPE})
        return self.ask("POST", "/token", {"Content-Type": "application/x-www-form-urlencoded"}, form)


def credentials(kontor):
    """A name and how to ask, for each kind of credential that needs no other server."""
    robot = kontor.admin("robot", "create", "demo", "bench", "--permissions", "pull").strip()
    personal = kontor.admin("token", "create", "--description", "bench").strip()
    asker = Asker(kontor.port)
    value = base64.b64encode(f"admin:{servers.PASSWORD}".encode()).decode()
    target = "/token?" + urlencode({"service": f"127.0.0.1:{kontor.port}", "offline_token": "true"})
    _, body = asker.ask("GET", target, {"Authorization": f"Basic {value}"})
    refresh = json.loads(body)["refresh_token"]
    return [
        ("anonymous", lambda asker: asker.ask("GET", "/token?" + urlencode({"scope": SCOPE}), {})),
        ("password of a local user", lambda asker: asker.by_password("admin", servers.PASSWORD)),
        ("robot", lambda asker: asker.by_password("demo+bench", robot)),
        ("personal token", lambda asker: asker.by_password("admin", personal)),
        ("refresh token", lambda asker: asker.by_refresh_token(refresh)),
    ]


def token_cost(kontor, ask):
    asker, times = Asker(kontor.port), []
    for _ in range(50):
        status, body = ask(asker)
        if status != 200:
            raise RuntimeError(f"{status} {body[:200]}")
    before = processes.cpu_seconds(kontor.pid)
    for _ in range(TOKENS):
        began = time.perf_counter()
        ask(asker)
        times.append(time.perf_counter() - began)
    used = processes.cpu_seconds(kontor.pid) - before
    return {"cpu_ms_each": round(used * 1000 / TOKENS, 3), "median_ms": round(statistics.median(times) * 1000, 3)}


def pulls(kontor):
    """How many manifests one client pulls in a while, and how long they take."""
    client, scopes, times = kontor.client(), scopes_of(REPO, actions="pull"), []
    end = time.perf_counter() + PULL_SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        client.expect((200,), "GET", f"/v2/{REPO}/manifests/v1", scopes)
        times.append(time.perf_counter() - began)
    times.sort()
    return {"per_second": round(len(times) / PULL_SECONDS), "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 2)}


def guessed(kontor):
    """The same while others guess passwords."""
    stop, tries = threading.Event(), [0] * GUESSERS

    def guess(number):
        asker = Asker(kontor.port, 60)
        while not stop.is_set():
            status, _ = asker.by_password(f"nobody{number}-{tries[number]}", "wrong")
            tries[number] += status in (401, 503)

    threads = [threading.Thread(target=guess, args=(number,), daemon=True) for number in range(GUESSERS)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    figures = pulls(kontor)
    stop.set()
    for thread in threads:
        thread.join(30)
    return {**figures, "guesses": sum(tries)}


def push(kontor):
    """A manifest to pull."""
    client, scopes, config = kontor.client(), scopes_of(REPO), b"{}"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    client.finish(client.start_upload(REPO, scopes), scopes, digest, config)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}}
    client.put_manifest(REPO, "v1", json.dumps(manifest).encode(), MANIFEST, scopes)


class Kontor(servers.Kontor):
    """Nobody is locked out: the guesses have to reach the password hash."""

    def environment(self):
        many = "1000000000"
        limits = {f"KONTOR__AUTH__LOGIN_LIMITS__{name}": many for name in ("PER_USER_AND_ADDRESS", "PER_USER", "PER_ADDRESS")}
        return {**super().environment(), **limits}


def run(options, out):
    with processes.work_dir() as directory:
        kontor = Kontor(directory / "kontor", options.binary)
        kontor.start()
        push(kontor)
        rows = []
        for name, ask in credentials(kontor):
            rows.append({"credential": name, **token_cost(kontor, ask)})
            say(f"{name}: {rows[-1]}")
        alone, among = pulls(kontor), guessed(kontor)
        share = round(among["per_second"] / alone["per_second"], 2)
        kontor.stop()
    say(f"pulls alone {alone}, among {GUESSERS} who guess {among}: {share}")
    passed = all(row["cpu_ms_each"] < TOKEN_LIMIT_MS for row in rows) and share >= LEAST_SHARE
    figures = {"machine": processes.machine(), "tokens": rows,
               "pulls_alone": alone, "pulls_among_guessers": among, "share": share, "passed": passed}
    (out / "tokens.json").write_text(json.dumps(figures, indent=1))
    return 0 if passed else 1
