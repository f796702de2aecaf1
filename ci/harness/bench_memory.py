"""How the server's memory grows with big blobs and with many slow clients: `ci/bench memory`.

The claim is that a body passes through buffers of a fixed size. So the base is the size after a small push and pull
(threads, caches and the password hash have taken their part by then), and what counts is the growth from there. Each
work gets a fresh process: what an allocator has kept from the work before would hide the growth.
"""

import hashlib
import json
import random
import selectors
import socket
import time

from harness import processes, servers, wire
from harness.client import scopes_of
from harness.content import GIB, KIB, MIB, Maker
from harness.processes import say

BIG = 2 * GIB
GROWTH_LIMIT_MIB = 32
CLIENTS = 100
CLIENT_LIMIT_MIB = 1
CLIENT_BLOB = 64 * MIB
SIP = 16 * KIB  # what a slow client takes or gives at a time
SIP_SECONDS = 0.1
SLOW_RATE = 2 * MIB  # bytes/s of the throttled transfer
REPO = "demo/memory"


class Stream:
    """A long body made of one block with a counter at its head: nothing is stored, nothing repeats."""

    def __init__(self, size, seed):
        self.size, self.block = size, bytearray(random.Random(seed).randbytes(4 * MIB))

    def chunks(self):
        sent = 0
        while sent < self.size:
            self.block[:8] = sent.to_bytes(8, "big")
            piece = bytes(memoryview(self.block)[: self.size - sent])
            for start in range(0, len(piece), MIB):
                yield piece[start : start + MIB]
            sent += len(piece)

    def digest(self):
        hasher = hashlib.sha256()
        for piece in self.chunks():
            hasher.update(piece)
        return f"sha256:{hasher.hexdigest()}"


class Memory:
    """Runs the works against one server and keeps the figures."""

    def __init__(self, server, options):
        self.server, self.options, self.rows, self.scopes = server, options, [], scopes_of(REPO)

    def client(self):
        return self.server.client(timeout=120)

    def settle(self):
        time.sleep(1.5)
        return processes.resident_mib(self.server.pid)

    def measure(self, name, work, clients=None):
        """Idle before, highest during, and after. The limit is the growth, or the growth for each client."""
        self.server.stop()
        self.server.start()
        self.warm_up()
        idle = self.settle()
        processes.reset_peak(self.server.pid)
        began = time.perf_counter()
        moved = work()
        took = time.perf_counter() - began
        peak = processes.resident_peak_mib(self.server.pid)
        growth = peak - idle
        value, limit = (growth / clients, CLIENT_LIMIT_MIB) if clients else (growth, GROWTH_LIMIT_MIB)
        row = {"work": name, "idle_mib": round(idle, 1), "peak_mib": round(peak, 1), "growth_mib": round(growth, 1),
               "after_mib": round(self.settle(), 1), "clients": clients or 1, "growth_per_client_mib": round(value, 3),
               "limit_mib": limit, "within": value <= limit, "seconds": round(took, 1), "moved_mib": round(moved / MIB)}
        self.rows.append(row)
        say(f"  {name}: idle {idle:.1f}, peak {peak:.1f}, growth {growth:.1f} MiB"
            + (f" = {value:.2f} for each client" if clients else "") + f" (limit {limit}), {took:.1f} s")

    # -- one big blob

    def warm_up(self):
        """One small blob in and out."""
        maker, client = Maker(self.options.seed), self.client()
        blob = maker.blob_of(MIB, random.Random())
        client.finish(client.start_upload(REPO, self.scopes), self.scopes, blob.digest, maker.content(blob))
        client.download(f"/v2/{REPO}/blobs/{blob.digest}", self.scopes)
        client.close()

    def push(self, stream, digest, streamed=False):
        client = self.client()
        location = client.start_upload(REPO, self.scopes)
        if streamed:
            location = client.append(location, self.scopes, stream.chunks)
            client.finish(location, self.scopes, digest)
        else:
            client.finish(location, self.scopes, digest, stream.chunks, stream.size)
        client.close()
        return stream.size

    def pull(self, digest, size):
        client = self.client()
        answer, got, length = client.download(f"/v2/{REPO}/blobs/{digest}", self.scopes)
        client.close()
        if (answer.status, got, length) != (200, digest, size):
            raise RuntimeError(f"pull of {digest}: {answer.status}, {got}, {length} bytes")
        return length

    def push_throttled(self, stream):
        """A slow part of a big push, then the client goes away."""
        moved = 0
        client = self.client()
        location = client.start_upload(REPO, self.scopes)
        client.close()
        with wire.connect(self.server.port) as connection:
            connection.sendall(wire.head("PATCH", self.server.port, location, {
                **self.client().authorization(self.scopes), "Content-Type": "application/octet-stream",
                "Content-Length": stream.size}))
            began = time.monotonic()
            for piece in stream.chunks():
                for start in range(0, len(piece), 64 * KIB):
                    connection.sendall(piece[start : start + 64 * KIB])
                    moved += 64 * KIB
                    time.sleep(max(0, began + moved / SLOW_RATE - time.monotonic()))
                if time.monotonic() - began > self.options.slow_seconds:
                    return moved

    def pull_throttled(self, digest):
        moved = 0
        with wire.connect(self.server.port, 256 * KIB) as connection:
            connection.sendall(wire.head("GET", self.server.port, f"/v2/{REPO}/blobs/{digest}", self.client().authorization(self.scopes)))
            status, _, _ = wire.read_head(connection)
            if status != 200:
                raise RuntimeError(f"GET {digest}: {status}")
            began = time.monotonic()
            while time.monotonic() - began < self.options.slow_seconds:
                moved += len(connection.recv(64 * KIB))
                time.sleep(max(0, began + moved / SLOW_RATE - time.monotonic()))
        return moved

    # -- many slow clients, in one thread: they do next to nothing

    def slow_pullers(self, digest):
        headers = self.client().authorization(self.scopes)
        return slow_pullers(self.server.port, f"/v2/{REPO}/blobs/{digest}", headers, self.options.slow_seconds)

    def slow_pushers(self):
        headers, connections, moved, client = self.client().authorization(self.scopes), [], 0, self.client()
        sip = random.Random(self.options.seed).randbytes(SIP)
        try:
            for _ in range(CLIENTS):
                location = client.start_upload(REPO, self.scopes)
                connection = wire.connect(self.server.port)
                connection.sendall(wire.head("PATCH", self.server.port, location, {
                    **headers, "Content-Type": "application/octet-stream", "Content-Length": CLIENT_BLOB}))
                connections.append(connection)
            client.close()
            with selectors.DefaultSelector() as answers:
                for connection in connections:
                    connection.setblocking(False)
                    answers.register(connection, selectors.EVENT_READ)
                for _ in sips(self.options.slow_seconds):
                    for connection in connections:
                        try:
                            moved += connection.send(sip)
                        except BlockingIOError:
                            continue  # the server does not read as fast
                    if early := answers.select(0):
                        answer = early[0][0].fileobj.recv(300, socket.MSG_PEEK)
                        raise RuntimeError(f"a slow pusher was answered early: {answer!r}")
        finally:
            for connection in connections:
                connection.close()
        return moved

    def run(self):
        stream = Stream(self.options.big_mib * MIB, self.options.seed)
        say("  hashing the big blob")
        digest = stream.digest()
        second = Stream(stream.size, self.options.seed + 1)
        second_digest = second.digest()
        small = Stream(CLIENT_BLOB, self.options.seed + 2)
        cold = self.settle()
        name = f"{stream.size / GIB:g} GiB"
        self.measure(f"push {name}, POST+PUT", lambda: self.push(stream, digest))
        self.measure(f"push {name}, POST+PATCH+PUT", lambda: self.push(second, second_digest, streamed=True))
        self.measure(f"pull {name}", lambda: self.pull(digest, stream.size))
        self.measure(f"pull {name}, pushed by PATCH", lambda: self.pull(second_digest, stream.size))
        self.measure("a push at 2 MiB/s, then cut", lambda: self.push_throttled(stream))
        self.measure("a pull at 2 MiB/s, then cut", lambda: self.pull_throttled(digest))
        small_digest = small.digest()
        self.push(small, small_digest)  # by PUT: one chunk
        self.measure(f"{CLIENTS} slow pullers", lambda: self.slow_pullers(small_digest), CLIENTS)
        self.measure(f"{CLIENTS} slow pushers", self.slow_pushers, CLIENTS)
        if not self.server.ready():
            raise RuntimeError("the server is not ready any more")
        return cold


def slow_pullers(port, target, headers, seconds, sample=None):
    """Pulls a blob with many clients that take a sip now and then; returns what they have got. `sample` is called at
    every tick."""
    connections, moved = [], 0
    try:
        for _ in range(CLIENTS):
            connection = wire.connect(port, 64 * KIB)
            connection.sendall(wire.head("GET", port, target, headers))
            connections.append(connection)
        for connection in connections:
            status, _, rest = wire.read_head(connection)
            if status != 200:
                raise RuntimeError(f"one of {CLIENTS} slow clients got {status} {rest[:200]!r}")
        for connection in connections:
            connection.setblocking(False)
        for _ in sips(seconds):
            for connection in connections:
                try:
                    got = len(connection.recv(SIP))
                except BlockingIOError:
                    continue
                if not got:
                    raise RuntimeError("a slow puller was cut off")
                moved += got
            if sample:
                sample()
    finally:
        for connection in connections:
            connection.close()
    return moved


def sips(seconds):
    """A tick every SIP_SECONDS."""
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        yield
        time.sleep(max(0, now + SIP_SECONDS - time.monotonic()))


def table(rows):
    lines = ["| work | idle | peak | growth | after | for each client | limit | |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        each = f"{row['growth_per_client_mib']:.2f}" if row["clients"] > 1 else ""
        lines.append(f"| {row['work']} | {row['idle_mib']} | {row['peak_mib']} | {row['growth_mib']} "
                     f"| {row['after_mib']} | {each} | {row['limit_mib']} | {'ok' if row['within'] else 'TOO MUCH'} |")
    return "\n".join(lines)


def run(options, out):
    with processes.work_dir(out) as directory:
        if options.server == "docker-registry":
            server = servers.DockerRegistry(directory / "docker-registry")
        else:
            server = servers.Kontor(directory / "kontor", options.binary)
        head = (f"machine: {processes.machine()}, {processes.file_system(directory)}\n"
                f"version: {server.version()}; sizes in MiB, resident (VmRSS; the peak is the kernel's VmHWM)")
        print(head, flush=True)
        server.start()
        memory = Memory(server, options)
        cold = memory.run()
        server.stop()
    print(f"resident after the start, before any request: {cold:.1f} MiB\n\n{table(memory.rows)}")
    written = out / ("memory.json" if options.server == "kontor" else f"memory-{options.server}.json")
    written.write_text(json.dumps({
        "version": server.version(), "start_mib": round(cold, 1), "works": memory.rows}, indent=1) + "\n")
    print(f"\nwritten: {written}")
    return 0 if all(row["within"] for row in memory.rows) else 1
