"""kontor in front of an object store, beside the same store asked directly: `ci/bench storage`.

Direct and through kontor, both with curl, in alternating rounds with the same files. What kontor does besides is hash
every byte, and keep a database. While the store is asked directly, kontor is frozen (SIGSTOP).
"""

import contextlib
import hashlib
import json
import os
import random
import re
import statistics
import subprocess
import time
from urllib.parse import urlsplit

from harness import bench_memory, cloud, processes, servers, wire
from harness.bench_peers import figure, frozen
from harness.client import scopes_of
from harness.cloud import stores
from harness.cloud.s3 import S3
from harness.content import MIB, Maker
from harness.processes import say

RATIO_LIMIT = 0.85
GROWTH_LIMIT_MIB = 32
REDIRECT_LIMIT_MS = 1
REDIRECTS = 2000
SMALL = 64 * MIB
CONNECTIONS = (1, 4)
CURL_SECONDS = 600
SLOW_SECONDS = 10
SETTLE_SECONDS = 2


class Files:
    """As many files as there are connections, with other contents at each use, so that nothing is deduplicated."""

    def __init__(self, directory, size, count, seed):
        self.size, self.paths = size, [directory / f"file-{size // MIB}-{number}" for number in range(count)]
        block = random.Random(seed).randbytes(4 * MIB)
        for path in self.paths:
            with open(path, "wb") as file:
                for start in range(0, size, len(block)):
                    file.write(memoryview(start.to_bytes(8, "big") + block[8:])[: size - start])

    def renew(self, count):
        """Returns `(path, digest)` of `count` files."""
        made = []
        for path in self.paths[:count]:
            with open(path, "r+b") as file:
                file.write(os.urandom(16))
                file.seek(0)
                made.append((path, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"))
        os.sync()  # nobody pays for these pages later
        return made


def curl_all(commands, statuses):
    """Runs the curls at once; the seconds until the last one has ended. Each must get one of the statuses."""
    head = ["curl", "--silent", "--show-error", "--max-time", str(CURL_SECONDS), "--write-out", "%{http_code}",
            "--output", "/dev/null"]
    began = time.perf_counter()
    running = [subprocess.Popen([*head, *map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True) for command in commands]
    ended = [process.communicate(timeout=CURL_SECONDS + 10) for process in running]
    took = time.perf_counter() - began
    for (status, errors), process, command in zip(ended, running, commands):
        if process.returncode or int(status) not in statuses:
            raise RuntimeError(f"curl {command[-1]}: {status} {errors.strip()}")
    return took


def with_headers(headers):
    return [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]


def upload(path, url, headers=()):
    # curl would ask before it sends, and wait a second for an answer.
    return [*with_headers(dict(headers)), "--header", "Expect:", "--header", "Content-Type: application/octet-stream",
            "--upload-file", path, url]


class DirectS3:
    """Signed addresses, so that curl hashes nothing."""

    def __init__(self, environment, prefix, bucket):
        self.s3, self.bucket = S3.of(environment, prefix), bucket

    def begin(self):
        self.s3.call("PUT", f"/{self.bucket}", statuses=(200,))

    def port(self):
        return urlsplit(self.s3.presigned("GET", "/")).port

    def put(self, name, path):
        return upload(path, self.s3.presigned("PUT", f"/{self.bucket}/{name}"))

    def get(self, name):
        return [self.s3.presigned("GET", f"/{self.bucket}/{name}")]

    def end(self):
        for key in self.s3.keys(self.bucket):
            self.s3.call("DELETE", f"/{self.bucket}/{key}", statuses=(204,))
        self.s3.call("DELETE", f"/{self.bucket}", statuses=(204,))


class DirectSwift:
    """With the token of the registry's user."""

    def __init__(self, environment, container):
        self.account, self.container = stores.SwiftAccount(environment), container

    def begin(self):
        self.account.call("PUT", f"/{self.container}", statuses=(201,))

    def port(self):
        return urlsplit(self.account.url).port

    def _url(self, name):
        return f"{self.account.url}/{self.container}/{name}"

    def put(self, name, path):
        return upload(path, self._url(name), self.account.headers)

    def get(self, name):
        return [*with_headers(self.account.headers), self._url(name)]

    def end(self):
        for name in self.account.objects(self.container):
            self.account.call("DELETE", f"/{self.container}/{name}", statuses=(204,))
        self.account.call("DELETE", f"/{self.container}", statuses=(204,))


def direct(environment, backend, name):
    if backend == "swift":
        return DirectSwift(environment, name)
    return DirectS3(environment, {"s3": "KONTOR_TEST_S3", "swift-s3": "KONTOR_TEST_SWIFT_S3"}[backend], name)


class Through:
    """The same through kontor. An account for each round: with it, everything goes away again."""

    def __init__(self, server):
        self.server, self.account, self.rounds, self.digests = server, None, 0, {}

    @property
    def repo(self):
        return f"{self.account}/bench"

    def begin(self):
        self.rounds += 1
        self.account = f"bench{self.rounds}"
        self.server.admin("account", "create", self.account, "--auth-tenant", "bench")
        self.server.admin("account", "update", self.account, "--proxy-downloads", "true")

    def headers(self):
        with contextlib.closing(self.server.client()) as client:
            return client.authorization(scopes_of(self.repo))

    def put(self, name, path, digest):
        self.digests[name] = digest
        with contextlib.closing(self.server.client()) as client:
            location = client.start_upload(self.repo, scopes_of(self.repo))
        return upload(path, f"http://127.0.0.1:{self.server.port}{client.with_digest(location, digest)}", self.headers())

    def get(self, name):
        return [*with_headers(self.headers()), f"http://127.0.0.1:{self.server.port}/v2/{self.repo}/blobs/{self.digests[name]}"]

    def end(self):
        self.server.admin("account", "delete", self.account, seconds=600)


class StorageBench:
    def __init__(self, options, environment, directory, backend):
        self.options, self.backend, self.values, self.memory = options, backend, {}, {}
        name = f"bench-{os.getpid()}"
        config = directory / f"{backend}.toml"
        config.write_text(f'default_storage = "{backend}"\n\n{cloud.storage_toml(environment, name)}')
        self.server = servers.Kontor(directory / backend, options.binary, config=config)
        self.direct = direct(environment, backend, f"direct-{os.getpid()}")
        self.through = Through(self.server)

    def add(self, work, side, value):
        self.values.setdefault(work, {}).setdefault(side, []).append(value)

    def speeds(self, all_files):
        for files in all_files:
            for connections in CONNECTIONS:
                for number in range(self.options.rounds):
                    say(f"  {self.backend}: {size_name(files.size)}, {connections} at once, "
                        f"round {number + 1} of {self.options.rounds}")
                    made = files.renew(connections)
                    sides = [self.round_direct, self.round_through]
                    for side in sides if number % 2 == 0 else sides[::-1]:
                        side(files.size, made)

    def record(self, kind, side, size, connections, took):
        self.add(f"{kind} {size_name(size)}, {connections} at once", side, connections * size / MIB / took)

    def round_direct(self, size, made):
        with frozen(self.server):
            self.direct.begin()
            try:
                names = [f"object-{number}" for number in range(len(made))]
                took = curl_all([self.direct.put(name, path) for name, (path, _) in zip(names, made)], (200, 201))
                self.record("push", "direct", size, len(made), took)
                os.sync()
                self.record("pull", "direct", size, len(made), curl_all([self.direct.get(name) for name in names], (200,)))
            finally:
                self.direct.end()

    def round_through(self, size, made):
        self.through.begin()
        try:
            names = [f"blob-{number}" for number in range(len(made))]
            puts = [self.through.put(name, path, digest) for name, (path, digest) in zip(names, made)]
            self.record("push", "kontor", size, len(made), curl_all(puts, (201,)))
            os.sync()
            self.record("pull", "kontor", size, len(made), curl_all([self.through.get(name) for name in names], (200,)))
        finally:
            self.through.end()

    def growth(self, files):
        """The highest resident size in a push and in a pull over the idle one, each in a fresh process."""
        for connections in CONNECTIONS:
            made = files.renew(connections)
            names = [f"blob-{number}" for number in range(connections)]
            self.through.begin()
            try:
                for kind in ("push", "pull"):
                    self.restart_warm()
                    idle = processes.resident_mib(self.server.pid)
                    processes.reset_peak(self.server.pid)
                    if kind == "push":
                        puts = [self.through.put(name, path, digest) for name, (path, digest) in zip(names, made)]
                        curl_all(puts, (201,))
                    else:
                        curl_all([self.through.get(name) for name in names], (200,))
                    self.memory[f"{kind} {size_name(files.size)}, {connections} at once"] = (
                        idle, processes.resident_peak_mib(self.server.pid), connections)
            finally:
                self.through.end()

    def restart_warm(self):
        """Threads, connections to the store and the password hash have taken their part by then."""
        self.server.stop()
        self.server.start()
        self.small_blob()
        time.sleep(1.5)

    def small_blob(self):
        maker, repo, scopes = Maker(self.options.seed), self.through.repo, scopes_of(self.through.repo)
        with contextlib.closing(self.server.client()) as client:
            blob = maker.blob_of(MIB, random.Random())
            client.finish(client.start_upload(repo, scopes), scopes, blob.digest, maker.content(blob))
            if client.download(f"/v2/{repo}/blobs/{blob.digest}", scopes)[1] != blob.digest:
                raise RuntimeError("a blob came back with other bytes")
        return blob

    def redirects(self):
        """Processor time of kontor for each pull that it redirects, and the bytes of the answers' bodies."""
        self.through.begin()
        try:
            self.server.admin("account", "update", self.through.account, "--proxy-downloads", "false")
            blob = self.small_blob()
            request = wire.head("GET", self.server.port, f"/v2/{self.through.repo}/blobs/{blob.digest}", self.through.headers())
            with wire.connect(self.server.port) as connection:
                self.ask(connection, request, 100)
                before = processes.cpu_seconds(self.server.pid)
                body_bytes = self.ask(connection, request, REDIRECTS)
                used = processes.cpu_seconds(self.server.pid) - before
        finally:
            self.through.end()
        return {"pulls": REDIRECTS, "cpu_ms_each": round(used * 1000 / REDIRECTS, 3), "limit_ms": REDIRECT_LIMIT_MS,
                "body_bytes": body_bytes, "within": used * 1000 / REDIRECTS < REDIRECT_LIMIT_MS and body_bytes == 0}

    def slow_pulls(self, files):
        """What many slow clients hold: memory of kontor, and what waits in the kernel on its connections to the
        store; together less than a MiB for a client."""
        port, waiting = self.direct.port(), []
        self.through.begin()
        try:
            (path, digest), = files.renew(1)
            curl_all([self.through.put("slow", path, digest)], (201,))
            self.restart_warm()
            pid = self.server.pid
            idle = processes.resident_mib(pid)
            processes.reset_peak(pid)
            target = f"/v2/{self.through.repo}/blobs/{digest}"
            bench_memory.slow_pullers(self.server.port, target, self.through.headers(), SLOW_SECONDS,
                                      lambda: waiting.append((time.monotonic(), received_bytes(pid, port))))
            growth = processes.resident_peak_mib(pid) - idle
        finally:
            self.through.end()
        # Who is slow is known after a moment only.
        settled = [held for at, held in waiting if at - waiting[0][0] > SETTLE_SECONDS]
        first, kernel = (max(held) / MIB / bench_memory.CLIENTS for held in ([held for _, held in waiting], settled))
        growth /= bench_memory.CLIENTS
        return {"clients": bench_memory.CLIENTS, "memory_mib_each": round(growth, 3), "kernel_mib_each": round(kernel, 3),
                "kernel_mib_each_at_first": round(first, 3),
                "limit_mib": bench_memory.CLIENT_LIMIT_MIB, "within": growth + kernel <= bench_memory.CLIENT_LIMIT_MIB}

    @staticmethod
    def ask(connection, request, times):
        body_bytes = 0
        for _ in range(times):
            connection.sendall(request)
            status, headers, rest = wire.read_head(connection)
            if status != 307 or "location" not in headers:
                raise RuntimeError(f"no redirect: {status} {rest[:200]!r}")
            length = int(headers.get("content-length", 0))
            while len(rest) < length:
                rest += connection.recv(65536)
            body_bytes += length
        return body_bytes

    def run(self, small, big):
        self.server.start()
        try:
            self.through.begin()
            self.small_blob()
            self.through.end()
            redirects = self.redirects()
            self.speeds([small, big])
            self.growth(big)
            slow = self.slow_pulls(small)
        finally:
            self.server.stop()
        return {**self.results(), "redirects": redirects, "slow": slow}

    def results(self):
        speeds, memory = [], []
        for work, sides in self.values.items():
            theirs, mine = statistics.median(sides["direct"]), statistics.median(sides["kontor"])
            speeds.append({"work": work, "unit": "MiB/s", "direct": round(theirs, 1), "kontor": round(mine, 1),
                           "ratio": round(mine / theirs, 3), "limit": RATIO_LIMIT, "within": mine / theirs >= RATIO_LIMIT,
                           "rounds": {side: [round(value, 1) for value in values] for side, values in sides.items()}})
        for work, (idle, peak, connections) in self.memory.items():
            # The limit is for one transfer; several at once have that much each.
            memory.append({"work": work, "idle_mib": round(idle, 1), "peak_mib": round(peak, 1),
                           "growth_mib": round(peak - idle, 1), "limit_mib": GROWTH_LIMIT_MIB * connections,
                           "within": peak - idle <= GROWTH_LIMIT_MIB * connections})
        return {"backend": self.backend, "speeds": speeds, "memory": memory}


def size_name(size):
    return f"{size // MIB} MiB" if size < 1024 * MIB else f"{size / MIB / 1024:g} GiB"


def table(result):
    lines = [f"### {result['backend']}", "", "| work | direct, MiB/s | through kontor, MiB/s | ratio | |", "|---|---|---|---|---|"]
    lines += [f"| {row['work']} | {figure(row['direct'])} | {figure(row['kontor'])} | {row['ratio']:.2f} | {verdict(row)} |"
              for row in result["speeds"]]
    lines += ["", "| kontor's memory, MiB | idle | peak | growth | limit | |", "|---|---|---|---|---|---|"]
    lines += [f"| {row['work']} | {row['idle_mib']} | {row['peak_mib']} | {row['growth_mib']} | {row['limit_mib']} "
              f"| {verdict(row)} |" for row in result["memory"]]
    redirects = result["redirects"]
    lines += ["", f"{redirects['pulls']} redirected pulls: {redirects['cpu_ms_each']} ms of kontor's processor time each "
                  f"(limit {redirects['limit_ms']}), {redirects['body_bytes']} bytes in the answers' bodies: {verdict(redirects)}"]
    slow = result["slow"]
    lines += ["", f"{slow['clients']} slow pullers: {slow['memory_mib_each']} MiB of kontor's memory each and "
                  f"{slow['kernel_mib_each']} MiB that wait on its connections to the store, {slow['kernel_mib_each_at_first']} at first (limit {slow['limit_mib']} in "
                  f"all): {verdict(slow)}"]
    return "\n".join(lines)


def received_bytes(pid, port):
    """The memory of the kernel that holds what a process has not read yet of its connections to a port."""
    shown = processes.run(["ss", "-tnmp", "dst", f"127.0.0.1:{port}"]).stdout.replace("\n\t", " ")
    mine = [line for line in shown.splitlines() if f"pid={pid}," in line]
    return sum(int(found[1]) for line in mine if (found := re.search(r"skmem:\(r(\d+)", line)))


def verdict(row):
    return "ok" if row["within"] else "TOO MUCH" if "ratio" not in row else "TOO SLOW"


def is_good(result):
    return all(row["within"] for row in (*result["speeds"], *result["memory"], result["redirects"], result["slow"]))


def run(options, out):
    with processes.work_dir(out) as directory, cloud.given_or_started(directory / "cloud") as environment:
        small, big = (Files(directory, size, max(CONNECTIONS), options.seed)
                      for size in (SMALL, options.big_mib * MIB))
        benches = [StorageBench(options, environment, directory, backend) for backend in options.backends]
        head = (f"machine: {processes.machine()}, {processes.file_system(directory)}; curl and the store run on it too\n"
                f"version: {benches[0].server.version()} with SQLite. Medians of {options.rounds} alternating rounds; "
                "kontor is frozen while the store is asked directly.")
        print(head, flush=True)
        results = []
        for bench in benches:
            results.append(bench.run(small, big))
            print(f"\n{table(results[-1])}", flush=True)
    (out / "storage.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "storage.md").write_text("\n\n".join([head, *map(table, results)]) + "\n")
    print(f"\nwritten: {out / 'storage.json'}")
    return 0 if all(map(is_good, results)) else 1
