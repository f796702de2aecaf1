"""kontor beside Debian's docker-registry, in alternating rounds on one machine: `ci/bench peers`.

Absolute figures belong to one machine and one hour; only the ratios of one run mean anything. So each round measures
both, one after the other, and while one is measured the other is frozen (SIGSTOP), so that nobody's background work
falls into somebody else's figures.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import time

from harness import loadgen, processes, servers, wire
from harness.client import scopes_of
from harness.content import INDEX_TYPE, KIB, MANIFEST_TYPE, MIB, Maker, digest_of, image_of, write_oci_layout
from harness.processes import say
from harness.pushers import skopeo_pull, skopeo_push

IMAGES = 64  # manifests and small blobs that the load goes through in turn
BIG = 256 * MIB
LAYERS, LAYER_SIZE = 8, 60 * MIB // 8
REPO = "demo/bench"


class Subject:
    """One server with what was pushed to it, and its figures: name of the figure -> values of the rounds."""

    def __init__(self, server, directory):
        self.server, self.directory, self.values = server, directory, {}
        self.scopes = scopes_of(REPO)

    def add(self, figure, value):
        self.values.setdefault(figure, []).append(value)

    def headers(self):
        """Accept as clients send it, and a token that is fresh for the next minutes."""
        client = self.server.client()
        authorization = client.authorization(self.scopes)
        client.close()
        return {"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}", **authorization}

    def seed(self, maker, rng, big_file, big_digest):
        """The images, and the big blob for the downloads."""
        client = self.server.client()
        self.tags, self.blobs = [], []
        for number in range(IMAGES):
            config, layer = maker.config(), maker.blob_of(4 * KIB, rng)
            for blob in (config, layer):
                location = client.start_upload(REPO, self.scopes)
                client.finish(location, self.scopes, blob.digest, maker.content(blob))
            image = image_of(config, [layer])
            client.put_manifest(REPO, f"tag-{number}", image.manifest, MANIFEST_TYPE, self.scopes)
            self.tags.append(f"/v2/{REPO}/manifests/tag-{number}")
            self.blobs.append(f"/v2/{REPO}/blobs/{layer.digest}")
        client.close()
        self.push_big(big_file, big_digest)
        self.big = f"/v2/{REPO}/blobs/{big_digest}"

    def push_big(self, path, digest):
        """POST + PUT of a file; returns the seconds."""
        headers = self.headers()
        client = self.server.client()
        client.request("GET", "/v2/", self.scopes)  # a token is not part of what is measured
        began = time.perf_counter()
        target = client.with_digest(client.start_upload(REPO, self.scopes), digest)
        status, answer = wire.send_file(self.server.port, "PUT", target,
                                        {**headers, "Content-Type": "application/octet-stream"}, path)
        took = time.perf_counter() - began
        client.close()
        if status != 201:
            raise RuntimeError(f"{self.server.name}: push of {digest}: {status} {answer[:300]!r}")
        return took

    # -- the works; each adds its figures

    def manifest_get(self, context):
        rate, _, p99 = loadgen.wrk(self.directory, self.server.port, self.tags, self.headers(), 32, context.seconds)
        self.add("manifest GET by tag, 32 connections", rate)
        self.add("manifest GET by tag, 32 connections, p99", p99)

    def manifest_head(self, context):
        self.add("manifest HEAD by tag, 32 connections (ab)", loadgen.ab_head(
            self.server.port, self.tags[0], self.headers(), 32, context.seconds))

    def blob_get(self, context):
        rate, _, p99 = loadgen.wrk(self.directory, self.server.port, self.blobs, self.headers(), 32, context.seconds)
        self.add("blob GET 4 KiB, 32 connections", rate)
        self.add("blob GET 4 KiB, 32 connections, p99", p99)

    def big_get(self, _context):
        headers = self.headers()
        for connections, times in ((1, 2), (4, 1)):
            took = sum(wire.fetch_parallel(self.server.port, self.big, headers, BIG, connections) for _ in range(times))
            self.add(f"blob GET 256 MiB, {connections} connection{'s' * (connections > 1)}",
                     connections * times * BIG / MIB / took)

    def big_push(self, context):
        digest = context.new_big_content()
        os.sync()  # nobody pays for the pages of the work before
        self.add("push 256 MiB, POST+PUT", BIG / MIB / self.push_big(context.big_file, digest))

    def skopeo(self, context):
        layout, pulled = self.directory / "layout", self.directory / "pulled"
        for path in (layout, pulled):
            shutil.rmtree(path, ignore_errors=True)
        write_oci_layout(layout, [os.urandom(LAYER_SIZE) for _ in range(LAYERS)])
        os.sync()
        reference = f"{REPO}-skopeo:round-{len(self.values.get('skopeo push, 60 MiB in 8 layers', []))}"
        push = self.timed(skopeo_push(self.server, layout, reference))
        pull = self.timed(skopeo_pull(self.server, reference, pulled))
        self.add("skopeo push, 60 MiB in 8 layers", push)
        self.add("skopeo pull, 60 MiB in 8 layers", pull)
        self.add("skopeo push and pull, 60 MiB in 8 layers", push + pull)

    def timed(self, command):
        began = time.perf_counter()
        done = processes.run(command, 120)
        if done.returncode:
            raise RuntimeError(f"{self.server.name}: skopeo failed: {done.stderr[-500:]}")
        return time.perf_counter() - began

    def start_up(self, _context):
        self.server.stop()
        self.add("start to first answer", self.server.start() * 1000)


WORKS = {
    "manifest GET": Subject.manifest_get,
    "manifest HEAD": Subject.manifest_head,
    "blob GET 4 KiB": Subject.blob_get,
    "blob GET 256 MiB": Subject.big_get,
    "push 256 MiB": Subject.big_push,
    "skopeo": Subject.skopeo,
}


class Context:
    """What is the same for both: the length of a load, and the big file."""

    def __init__(self, options, directory):
        self.seconds, self.big_file = options.seconds, directory / "big"
        block = random.Random(options.seed).randbytes(4 * MIB)
        with open(self.big_file, "wb") as file:
            for number in range(BIG // len(block)):
                file.write(number.to_bytes(8, "big") + block[8:])

    def new_big_content(self):
        """Other first bytes, so that nothing is deduplicated. Returns the digest; outside of the timed part."""
        with open(self.big_file, "r+b") as file:
            file.write(os.urandom(16))
        return digest_of(self.big_file.read_bytes())


@contextlib.contextmanager
def frozen(server):
    server.child.send(signal.SIGSTOP)
    try:
        yield
    finally:
        server.child.send(signal.SIGCONT)


def measure(subjects, context, rounds, name, work):
    """One work in alternating rounds, and the highest resident size of each server in it."""
    for subject in subjects:
        processes.reset_peak(subject.server.pid)
    for number in range(rounds):
        say(f"  {name}, round {number + 1} of {rounds}")
        for subject, other in (subjects, subjects[::-1]):
            with frozen(other.server):
                work(subject, context)
    for subject in subjects:
        subject.add(f"resident, peak: {name}", processes.resident_peak_mib(subject.server.pid))


def idle_sizes(subjects):
    """After a restart on the existing data, when start-up is over."""
    for subject in subjects:
        subject.server.stop()
        subject.server.start()
    time.sleep(3)
    for subject in subjects:
        subject.add("resident, idle", processes.resident_mib(subject.server.pid))


def unit_of(figure):
    """The unit, and whether more of it is better."""
    if figure.startswith("resident") or figure.startswith("binary"):
        return "MiB", False
    if figure.startswith("start"):
        return "ms", False
    if figure.startswith("skopeo"):
        return "s", False
    if figure.endswith("p99"):
        return "ms", False
    if "256 MiB" in figure:
        return "MiB/s", True
    return "requests/s", True


def results(subjects, peer_name):
    ours, theirs = (subject.values for subject in subjects)
    rows = []
    for figure, values in ours.items():
        unit, more_is_better = unit_of(figure)
        mine, other = statistics.median(values), statistics.median(theirs[figure])
        ratio = mine / other if more_is_better else other / mine
        rows.append({"work": figure, "unit": unit, "kontor": round(mine, 3), "peer": peer_name,
                     "peer_value": round(other, 3), "ratio": round(ratio, 3)})
    return rows


def table(rows, peer_name):
    lines = [f"| work | unit | kontor | {peer_name} | ratio (above 1: kontor is better) |", "|---|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['work']} | {row['unit']} | {figure(row['kontor'])} | {figure(row['peer_value'])} "
                     f"| {row['ratio']:.2f} |")
    return "\n".join(lines)


def figure(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def run(options, out):
    with processes.work_dir(out) as directory:
        kontor = servers.Kontor(directory / "kontor", options.binary)
        peer = servers.DockerRegistry(directory / "docker-registry")
        subjects = [Subject(kontor, directory / "kontor"), Subject(peer, directory / "docker-registry")]
        head = header(kontor, peer, directory)
        print(head, flush=True)
        context = Context(options, directory)
        maker, rng = Maker(options.seed), random.Random(options.seed)
        for subject in subjects:
            subject.server.start()
            subject.seed(maker, rng, context.big_file, context.new_big_content())
        idle_sizes(subjects)
        for name, work in WORKS.items():
            if not options.only or any(part in name for part in options.only):
                measure(subjects, context, options.rounds, name, work)
        for number in range(2 * options.rounds):
            for subject, other in (subjects, subjects[::-1]):
                with frozen(other.server):
                    subject.start_up(context)
        for subject in subjects:
            subject.add("binary, as built", os.path.getsize(subject.server.binary) / MIB)
    rows = results(subjects, peer.version())
    (out / "peers.json").write_text(json.dumps(rows, indent=1) + "\n")
    (out / "peers.md").write_text(f"{head}\n\n{table(rows, peer.version())}\n")
    print(f"\n{table(rows, peer.version())}\n\nwritten: {out / 'peers.json'}")
    return 0


def header(kontor, peer, directory):
    return "\n".join([
        f"machine: {processes.machine()}, {processes.file_system(directory)}; the load generator runs on it too",
        f"versions: {kontor.version()} with SQLite, {peer.version()}",
        "kontor checks a bearer token at each request; docker-registry runs anonymous. Both fsync on commit.",
        "docker-registry: no access log, descriptors cached in memory. Rounds alternate, the other server is frozen.",
        "Medians of the rounds; resident peaks are the highest of all rounds, and include what earlier works left.",
    ])
