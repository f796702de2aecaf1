"""What garbage collection costs in a large registry, and what it costs those who pull meanwhile: `ci/bench gc`.

The claims are that a cycle with nothing to do looks into indexes only, that memory does not grow with the registry, and
that pulls keep their p99 within 1.5 times. The rows are written straight into the database: pushing a million images would
take days. So the objects of what is deleted are not there, and deleting each is one system call that finds nothing.
The pulled images are real. The cycle is cut into slices of repositories, so that pulls with and without it alternate.
"""

import json
import multiprocessing
import os
import statistics
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from harness import processes, servers
from harness.bench_audit import CONFIG_TYPE, LAYER_TYPE, MANIFEST, descriptor, digest_of
from harness.bench_gc_data import DUE_LOOKS, Postgres, Sqlite
from harness.client import ACCEPT, Client, scopes_of
from harness.processes import say

CONNECTIONS = 4
IMAGES = 20  # that are pulled
BLOB_BYTES = 4096
RATIO_LIMIT = 1.5  # of the p99 of pulls during the cycle to that without
SLICE = 0.1  # of the cycle's repositories, in each round with pulls
REPO = "demo/pulled"
POLICY = {"match_repository": ".*", "only_untagged": True, "action": "delete",
          "time_constraint": {"on": "pushed_at", "older_than": {"value": 4, "unit": "w"}}}


def stamp(**ahead):
    """A time as both databases read and sort it."""
    return (datetime.now(timezone.utc) + timedelta(**ahead)).strftime("%Y-%m-%d %H:%M:%S")


class Kontor(servers.Kontor):
    """Blobs go as soon as nothing needs them, and a repository that is done does not come back within the run."""

    def environment(self):
        settings = {"GRACE_SECONDS": "0", "GC_INTERVAL_SECONDS": str(24 * 60 * 60)}
        return {**super().environment(), **{f"KONTOR__JANITOR__{name}": value for name, value in settings.items()}}

    def manage(self, method, path, document=None):
        body = None if document is None else json.dumps(document).encode()
        client = self.client(basic=True)
        answer = client.expect((200, 201), method, f"/api/v1/{path}", (), body, {"Content-Type": "application/json"})
        client.close()
        return answer

    def push_images(self):
        """Some images, and the paths by which they are pulled: manifests by tag, and blobs."""
        client, scopes, manifests, blobs = self.client(), scopes_of(REPO), [], []
        for number in range(IMAGES):
            config, layer = json.dumps({"number": number}).encode(), os.urandom(BLOB_BYTES)
            for content in (config, layer):
                client.finish(client.start_upload(REPO, scopes), scopes, digest_of(content), content)
            manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG_TYPE, config),
                        "layers": [descriptor(LAYER_TYPE, layer)]}
            client.put_manifest(REPO, f"v{number}", json.dumps(manifest).encode(), MANIFEST, scopes)
            manifests.append(f"/v2/{REPO}/manifests/v{number}")
            blobs.append(f"/v2/{REPO}/blobs/{digest_of(layer)}")
        client.close()
        return {"manifest": manifests, "blob": blobs}


# -- pulls, in processes of their own: threads of one would wait for each other


def pull(port, paths, until):
    """Pulls until then, and gives `(kind, when it began, milliseconds)` of each."""
    client, scopes, samples, number = Client(port, servers.Kontor.login), scopes_of(REPO, actions="pull"), [], 0
    client.authorization(scopes)
    while (began := time.perf_counter()) < until:
        for kind, targets in paths.items():
            began = time.perf_counter()
            client.expect((200,), "GET", targets[number % len(targets)], scopes, None, {"Accept": ACCEPT})
            samples.append((kind, began, (time.perf_counter() - began) * 1000))
        number += 1
    client.close()
    return samples


def p99(samples, kind, before=float("inf")):
    times = sorted(sample for name, began, sample in samples if name == kind and began < before)
    if len(times) < 200:
        return None  # the hundredth part would be nothing
    return times[int(len(times) * 0.99)]


class Pullers:
    """All connections at once, in the background."""

    def __init__(self, server, paths):
        self.server, self.paths = server, paths

    def begin(self, seconds):
        self.pool = multiprocessing.get_context("fork").Pool(CONNECTIONS)
        until = time.perf_counter() + seconds
        self.results = [self.pool.apply_async(pull, (self.server.port, self.paths, until)) for _ in range(CONNECTIONS)]

    def end(self):
        samples = [sample for result in self.results for sample in result.get(120)]
        self.pool.close()
        self.pool.join()
        return samples


# -- the cycle


class Cycle:
    """Repositories are made due in slices. Only the time in which something is due counts."""

    def __init__(self, database, pullers, options):
        self.database, self.pullers, self.options, self.seconds, self.rounds = database, pullers, options, 0.0, []
        self.left = list(range(1, (options.cycle or options.repositories) + 1))
        self.slice = max(1, int(len(self.left) * SLICE))

    def make_due(self, count):
        numbers, self.left = self.left[:count], self.left[count:]
        due = stamp()
        self.database.make_due(numbers[0], numbers[-1], due)
        # The job looks every five seconds, and what it has not seen yet costs nothing.
        if not processes.wait_until(lambda: self.database.count_at(due) < len(numbers), 60, 0.02):
            raise RuntimeError("nobody took a repository on")
        self.began = time.perf_counter()

    def wait(self, pause):
        """Until nothing is due; gives the moment."""
        told = time.perf_counter()
        while self.database.count_due(stamp(hours=2)):
            if time.perf_counter() > told + 60:
                told += 60
                say(f"    still due: {self.database.count_due(stamp(hours=2))}")
            time.sleep(pause)
        ended = time.perf_counter()
        self.seconds += ended - self.began
        return ended

    def round(self):
        """Pulls without, and pulls during."""
        self.pullers.begin(self.options.seconds)
        without = self.pullers.end()
        self.make_due(self.slice)
        self.pullers.begin(self.options.seconds)
        ended = self.wait(0.2)
        during = self.pullers.end()
        row = {"active_seconds": round(ended - self.began, 1)}
        for kind in ("manifest", "blob"):
            mine, theirs = p99(without, kind), p99(during, kind, ended)
            if mine and theirs:
                row[kind] = {"without_ms": round(mine, 2), "during_ms": round(theirs, 2), "ratio": round(theirs / mine, 2)}
        self.rounds.append(row)
        say(f"  round {len(self.rounds)}: {row}")

    def medians(self):
        found = {}
        for kind in ("manifest", "blob"):
            rows = [row[kind] for row in self.rounds if kind in row]
            found[kind] = {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]} if rows else None
        return found


def idle(kontor, database, seconds):
    """Processor time and reads while nothing is due."""
    time.sleep(5)
    used, read, scans = processes.cpu_seconds(kontor.pid), bytes_read(kontor.pid), database.scans()
    time.sleep(seconds)
    figures = {"seconds": seconds, "cpu_ms_per_second": round((processes.cpu_seconds(kontor.pid) - used) * 1000 / seconds, 2),
               "kib_read_per_second": round((bytes_read(kontor.pid) - read) / 1024 / seconds, 1)}
    if scans is not None:
        figures["rows_read_by_scans_per_second"] = round((database.scans() - scans) / seconds, 1)
    say(f"  nothing to do: {figures}")
    return figures


def bytes_read(pid):
    """By system calls, from the page cache too: a database in the process cannot scan a table without them."""
    return int(Path(f"/proc/{pid}/io").read_text().split("rchar: ")[1].split()[0])


def table(figures):
    cycle, pulls = figures["cycle"], figures["pulls"]
    lines = ["| figure | value |", "| --- | --- |",
             f"| cycle over {cycle['repositories']:,} repositories with {cycle['manifests_looked_at']:,} manifests "
             f"| {cycle['seconds']:,.0f} s |",
             f"| deleted: manifests and blobs | {cycle['manifests_deleted']:,} and {cycle['blobs_deleted']:,} |",
             f"| time per 1,000 deleted objects | {cycle['seconds_per_1000_deleted']:.2f} s |",
             f"| the same while nobody pulls | {cycle['alone_seconds_per_1000_deleted']:.2f} s |",
             f"| time per 1,000 manifests looked at | {cycle['seconds_per_1000_looked_at']:.2f} s |",
             f"| resident before, and at the peak of the cycle | {cycle['resident_mib']} and {cycle['peak_mib']} MiB |",
             f"| processor time while nothing is due | {figures['idle']['cpu_ms_per_second']} ms a second |",
             f"| read from the database file or server then | {figures['idle']['kib_read_per_second']} KiB a second |"]
    for kind, row in pulls.items():
        if row:
            lines.append(f"| p99 of {kind} pulls without, and during the cycle "
                         f"| {row['without_ms']} and {row['during_ms']} ms, ratio {row['ratio']} |")
    return "\n".join(lines)


def measure(kontor, database, paths, options):
    figures = {"idle": idle(kontor, database, options.idle_seconds)}
    cycle, before = Cycle(database, Pullers(kontor, paths), options), database.counts()
    resident = processes.resident_mib(kontor.pid)
    processes.reset_peak(kontor.pid)
    for _ in range(options.rounds):
        cycle.round()
    middle = database.counts()
    with_pulls = cycle.seconds
    say(f"  the rest without pulls: {len(cycle.left)} repositories")
    cycle.make_due(len(cycle.left))
    cycle.wait(0.5)
    peak, after = processes.resident_peak_mib(kontor.pid), database.counts()
    deleted = [first - last for first, last in zip(before, after)]
    alone = sum(first - last for first, last in zip(middle, after))
    repositories = options.cycle or options.repositories
    looked_at = options.manifests * repositories // options.repositories
    figures["cycle"] = {
        "repositories": repositories, "manifests_looked_at": looked_at, "seconds": round(cycle.seconds, 1),
        "manifests_deleted": deleted[0], "blobs_deleted": deleted[1],
        "seconds_per_1000_deleted": round(cycle.seconds * 1000 / max(sum(deleted), 1), 3),
        "alone_seconds_per_1000_deleted": round((cycle.seconds - with_pulls) * 1000 / max(alone, 1), 3),
        "seconds_per_1000_looked_at": round(cycle.seconds * 1000 / looked_at, 3),
        "resident_mib": round(resident, 1), "peak_mib": round(peak, 1)}
    expected = looked_at // 5
    if deleted != [expected, 2 * expected]:
        raise RuntimeError(f"{deleted} manifests and blobs were deleted, not {expected} and {2 * expected}")
    return {**figures, "pulls": cycle.medians(), "rounds": cycle.rounds}


def run(options, out):
    with processes.work_dir(out) as directory:
        database = (Postgres if options.database == "postgres" else Sqlite)(directory)
        kontor = Kontor(directory / "kontor", options.binary, database.url)
        kontor.start()
        database.found(kontor.data)
        paths = kontor.push_images()
        document = json.loads(kontor.manage("GET", "accounts/demo").body)["account"]
        kontor.manage("PUT", "accounts/demo", {**document, "gc_policies": [POLICY], "trash_days": 0})
        kontor.stop()
        began = time.perf_counter()
        say(f"filling the database with {options.manifests:,} manifests in {options.repositories:,} repositories")
        database.fill(options, stamp(days=-60), stamp(days=30))
        say(f"  {time.perf_counter() - began:.0f} s, {database.size_mib():,.0f} MiB")
        head = f"machine: {processes.machine()}, {processes.file_system(directory)}; {kontor.version()}, {options.database}"
        kontor.start()
        plans = database.plans(DUE_LOOKS)
        for name, plan in plans.items():
            print(f"{name}: {plan}")
        scans = database.scanned(plans)
        figures = measure(kontor, database, paths, options)
        kontor.stop()
        database.stop()
    ratios = [row["ratio"] for row in figures["pulls"].values() if row]
    passed = not scans and all(ratio <= RATIO_LIMIT for ratio in ratios)
    name = f"gc-{options.database}"
    figures = {"head": head, "size": [options.manifests, options.repositories], **figures, "plans": plans, "scans": scans,
               "passed": passed}
    (out / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / f"{name}.md").write_text(f"{head}\n\n{table(figures)}\n")
    print(f"{head}\n\n{table(figures)}\n\nno index: {scans or 'none'}\nwritten: {out / name}.json")
    return 0 if passed else 1
