"""High availability: nodes are restarted, killed and cut off under load. `ci/ha --help` tells how to call it."""

import collections
import http.client
import json
import os
import re
import signal
import time

from harness import ha_load, postgres, processes
from harness.content import MANIFEST_TYPE
from harness.crash import kept_log
from harness.ha_load import Floor, Phase, Puller, PullingClient, Pusher, Seeder
from harness.haproxy import HaProxy
from harness.processes import free_ports, say
from harness.servers import Kontor
from harness.verify import verify_all

DRAIN_DELAY_SECONDS = 4
RECOVERY_SECONDS = 20  # from the start of PostgreSQL until requests succeed again
JANITOR_SECONDS = 60  # until each janitor works again: no job rests longer
LOG_LINES_PER_SECOND = 5  # of a janitor while the database is away

# All nodes have the same. The times are short, so that the janitors have work all the time; `chunk_bytes` makes blobs of
# many chunks, which are merged.
CONFIGURATION = """\
default_storage = "shared"

[server]
public_url = "http://127.0.0.1:{port}"
trusted_proxies = ["127.0.0.0/8"]
drain_delay_seconds = {delay}

[auth]
signing_key_file = "{directory}/signing-key.pem"
secret_key_file = "{directory}/secret-key"

[storage.shared]
kind = "filesystem"
path = "{directory}/storage"

[limits]
chunk_bytes = 131072

[janitor]
grace_seconds = 1
unused_blobs_seconds = 60
abandoned_uploads_seconds = 60
loose_objects_seconds = 300
blob_validation_seconds = 15
manifest_validation_seconds = 15
storage_sweep_seconds = 10
"""

# Some of the stated times are longer than this test: what is there at the end is made older instead. Rows that a janitor
# has in its hands are left to it, or they would wait for each other.
AGEING = """
UPDATE {table} SET {time} = {time} - INTERVAL '30 days' WHERE ({key}) IN (
    SELECT {key} FROM {table} WHERE {rest} AND {time} > now() - INTERVAL '10 days' FOR UPDATE SKIP LOCKED)
"""
AGED = (
    {"table": "uploads", "time": "updated_at", "key": "id", "rest": "TRUE"},
    {"table": "blob_mounts", "time": "keep_until", "key": "repo_id, blob_id", "rest": "NOT is_used"},
    {"table": "loose_objects", "time": "noted_at", "key": "object_id", "rest": "NOT is_kept"},
    {"table": "trash_manifests", "time": "purge_at", "key": "repo_id, digest", "rest": "TRUE"},
)


class Node(Kontor):
    """One process of several on the same database and storage."""

    def __init__(self, role, directory, port, **options):
        super().__init__(directory, **options)
        self.role, self.name, self.port = role, directory.name, port

    def argv(self):
        return [self.binary, "serve", self.role, "--data-dir", self.data]

    def get(self, path):
        """`(status, body)` without a proxy; `(None, "")` if nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None, ""
        finally:
            connection.close()

    def tasks(self):
        """How often this process has done each job: `{(job, outcome): count}`."""
        found = re.findall(r'kontor_janitor_tasks_total\{job="(\w+)",outcome="(\w+)"\} (\d+)', self.get("/metrics")[1])
        return collections.Counter({(job, outcome): int(count) for job, outcome, count in found})

    def audit_verify(self):
        done = processes.run([self.binary, "audit", "verify", "--data-dir", self.data], 120,
                             env={**os.environ, **self.environment()})
        return done.returncode == 0, (done.stdout + done.stderr).strip()


class HaTest:
    def __init__(self, options, directory):
        self.options, self.directory, self.problems, self.phases = options, directory, [], []
        self.done = collections.Counter()  # tasks of processes that are gone
        self.kills = 2 * options.rounds  # of each node
        self.postgres = postgres.Postgres(directory / "postgres")
        self.postgres.start()
        config, ports = directory / "kontor.toml", free_ports(5)
        same = {"binary": options.binary, "database_url": self.postgres.create_database("kontor"), "config": config}
        self.apis = [Node("api", directory / f"api{n}", ports.pop(), **same) for n in (1, 2)]
        self.janitors = [Node("janitor", directory / f"janitor{n}", ports.pop(), **same) for n in (1, 2)]
        self.proxy = HaProxy(directory / "haproxy", ports.pop(), [node.port for node in self.apis])
        config.write_text(CONFIGURATION.format(port=self.proxy.port, delay=DRAIN_DELAY_SECONDS, directory=directory))
        self.floor = Floor(self.proxy.port, self.apis[0].login, options.seed)
        self.operators = [Pusher(number, self.floor) for number in range(4)]
        self.operators += [Puller(number, self.floor) for number in range(3)]
        self.phase_began = time.monotonic()

    # -- the course of it

    def run(self):
        for node in self.nodes():
            node.start()
        self.proxy.start()
        for name in ("node1", "node2"):
            self.proxy.await_state(name, is_up=True)
        Seeder(self.floor).seed()
        for operator in self.operators:
            operator.start()
        try:
            self.all_phases()
        finally:
            self.floor.stop.set()
            for operator in self.operators:
                operator.join(60)
        self.problems += [f"{it.name} did not come to an end" for it in self.operators if it.is_alive()]
        self.problems += [f"{it.name} failed: {it.failure!r}" for it in self.operators if it.failure]
        return self.finish()

    def all_phases(self):
        rounds = range(self.options.rounds)
        self.enter(Phase("steady"))
        self.settle(6)
        self.enter(Phase("rolling restart of the API nodes"))
        for _ in rounds:
            for number, node in enumerate(self.apis):
                self.restart_api(node, f"node{number + 1}")
        self.enter(Phase("rolling restart of the janitors"))
        for _ in rounds:
            for node in self.janitors:
                self.restart(node)
        self.expect_no_failed_tasks()
        for number, node in enumerate(self.apis):
            self.enter(Phase(f"SIGKILL of {node.name}", allows_cuts=True))
            for _ in range(self.kills):
                self.kill_api(node, f"node{number + 1}")
        self.enter(Phase("SIGKILL of the janitors"))
        for _ in rounds:
            for node in (*self.janitors, *self.janitors):
                self.kill(node)
                self.settle(0.5)
        self.expect_no_failed_tasks()
        for how, number in (("fast", signal.SIGINT), ("immediate", signal.SIGQUIT)):
            self.enter(Phase(f"PostgreSQL restarts ({how})", allows_outage=True))
            self.restart_database(number)
        self.enter(Phase("steady again"))
        self.settle(6)
        self.enter(Phase("end"))

    def enter(self, phase):
        """The phase before ends; what it was is noted."""
        now = time.monotonic()
        with self.floor.lock:
            before, self.floor.phase = self.floor.phase, phase
        before.seconds, self.phase_began = now - self.phase_began, now
        if before.name != "before":
            self.phases.append(before)
        if phase.name != "end":
            say(f"  {phase.name}")
        self.watch()

    def settle(self, seconds):
        self.floor.stop.wait(seconds)
        self.watch()

    def watch(self):
        """A node that ends by itself is a failure wherever it happens."""
        for it in (*self.nodes(), self.postgres, self.proxy):
            if not it.child.running():
                raise RuntimeError(f"{it.child.name} is gone:\n{it.child.log_tail()}")
        if failed := [operator for operator in self.operators if operator.failure]:
            raise RuntimeError(f"{failed[0].name} failed: {failed[0].failure!r}")

    def nodes(self):
        return (*self.apis, *self.janitors)

    # -- what is done to the nodes

    def restart_api(self, node, name):
        """As an operator or systemd does it; HAProxy must know before the node stops to listen."""
        self.end(node, lambda: self.expect_polite_end(node, name))
        node.start()
        self.proxy.await_state(name, is_up=True)
        self.settle(1)

    def restart(self, node):
        self.end(node, lambda: None)
        node.start()
        self.settle(1)

    def end(self, node, meanwhile):
        self.note_tasks(node)
        child = node.child
        child.send(signal.SIGTERM)
        meanwhile()
        if (code := child.stop(60, number=0)) != node.clean_exit:  # the signal was sent already
            self.problems.append(f"{node.name} ended with {code} when asked to stop")

    def expect_polite_end(self, node, name):
        if not processes.wait_until(lambda: node.get("/readyz")[0] != 200, 10):
            self.problems.append(f"{node.name} is still ready after SIGTERM")
        status, body = node.get("/readyz")
        if status != 503 or not json.loads(body).get("stopping"):
            self.problems.append(f"/readyz of {node.name} after SIGTERM: {status} {body}")
        self.proxy.await_state(name, is_up=False)
        if node.get("/healthz")[0] != 200:
            self.problems.append(f"{node.name} stopped to answer before HAProxy knew")

    def kill_api(self, node, name):
        self.kill(node)
        self.proxy.await_state(name, is_up=True)
        self.settle(2)

    def kill(self, node):
        self.note_tasks(node)
        node.kill()
        self.floor.stop.wait(1.5)
        node.start()

    def restart_database(self, number):
        """What `pg_ctl restart -m fast` and `-m immediate` do."""
        logs = {node: len(node.log.read_bytes().splitlines()) for node in self.janitors}
        began = time.monotonic()
        self.postgres.child.stop(30, number)
        self.floor.stop.wait(1)
        self.postgres.start()
        started, before = time.monotonic(), {node: node.tasks() for node in self.janitors}
        for name in ("node1", "node2"):
            self.proxy.await_state(name, is_up=True)
        if (seconds := time.monotonic() - started) > RECOVERY_SECONDS:
            self.problems.append(f"the API took {seconds:.0f} s to recover from the database's restart")
        say(f"    the API is back {seconds:.1f} s after the database")
        for node in self.janitors:
            def works(node=node):
                new = node.tasks() - before[node]
                return sum(count for (_, outcome), count in new.items() if outcome == "success")

            if not processes.wait_until(works, JANITOR_SECONDS, 0.2):
                self.problems.append(f"{node.name} does nothing {JANITOR_SECONDS} s after the database's restart")
            elapsed = time.monotonic() - began
            lines = len(node.log.read_bytes().splitlines()) - logs[node]
            if lines > LOG_LINES_PER_SECOND * elapsed:
                self.problems.append(f"{node.name} wrote {lines} lines to its log in the {elapsed:.0f} s of the outage")
            say(f"    {node.name} works again {time.monotonic() - started:.1f} s after it, {lines} log lines")
        self.settle(3)

    # -- what the janitors have done

    def note_tasks(self, node):
        self.done.update(node.tasks())

    def expect_no_failed_tasks(self):
        for node in self.nodes():
            if failed := {job: count for (job, outcome), count in node.tasks().items() if outcome == "failure"}:
                self.problems.append(f"{node.name}: tasks failed with database and storage in order: {failed}")

    # -- the end

    def finish(self):
        floor, ledger = self.floor, self.floor.ledger
        self.watch()
        kept = list(floor.live)
        say(f"  verifying {len(kept)} images and {len(floor.deleted)} deletions")
        verify_all(ledger, self, [*kept, *floor.moving.values()])
        self.expect_freed()
        self.age()
        self.expect_deleted(kept)
        for node in self.nodes():
            self.end(node, lambda: None)
        self.expect_nothing_left()
        for passed, output in (self.apis[0].check("--digests"), self.apis[0].audit_verify()):
            say(f"  {output.splitlines()[-1] if output else ''}")
            if not passed:
                self.problems.append(f"check failed at the end:\n{output[-2000:]}")
        self.postgres.stop()
        self.proxy.stop()
        if not ledger.acknowledged or not ledger.counts["pulls"] or not floor.deleted:
            self.problems.append("nobody pushed, pulled or deleted")
        return self.report()

    def client(self):
        return PullingClient(self.floor)

    def sql(self, text):
        done = processes.run([self.postgres.bin / "psql", "-qAt", "-d", self.postgres.url("kontor"), "-c", text])
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr}")
        return done.stdout.strip()

    def expect_freed(self):
        """What deleted images have left goes by itself, after the grace of a second and the rest of the job."""
        overdue = "SELECT count(*) FROM blob_mounts WHERE NOT is_used AND keep_until < now() AT TIME ZONE 'UTC'"
        if not processes.wait_until(lambda: self.sql(overdue) == "0", JANITOR_SECONDS, 0.5):
            self.problems.append(f"{self.sql(overdue)} blobs that nothing needs are still there after {JANITOR_SECONDS} s")

    def age(self):
        """Makes what nobody needs old enough, until the janitors have taken it all."""
        def rest():
            counts = {it["table"]: self.sql(f"SELECT count(*) FROM {it['table']} WHERE {it['rest']}") for it in AGED}
            return {table: count for table, count in counts.items() if count != "0"}

        def is_done():
            for aged in AGED:
                self.sql(AGEING.format(**aged))
            return not rest()

        left, began = rest(), time.monotonic()
        if not processes.wait_until(is_done, 90, 0.5):
            self.problems.append(f"of what nobody needs, {left}, there is left: {rest()}")
        say(f"  rows of what nobody needs: {left}, gone after {time.monotonic() - began:.1f} s")

    def expect_deleted(self, kept):
        """What was deleted is gone, with the blobs that nothing else needs."""
        needed = {(push.repo, digest) for push in kept for digest, _ in push.blobs}
        client = self.client()
        for push in self.floor.deleted:
            scopes = ha_load.scopes_of(push.repo, actions="pull")
            answer = client.request("GET", f"/v2/{push.repo}/manifests/{push.digest}", scopes,
                                    headers={"Accept": MANIFEST_TYPE})
            if answer.status != 404:
                self.problems.append(f"{push.repo}@{push.digest} was deleted and is {answer.status}")
            for digest, _ in push.blobs:
                if (push.repo, digest) not in needed and not ha_load.blob_is_gone(client, push.repo, digest):
                    self.problems.append(f"blob {push.repo}@{digest} of a deleted image is still there")
        client.close()

    def expect_nothing_left(self):
        """As many objects in storage as the database names; `kontor check` looks at each."""
        passed, output = self.apis[0].check()
        found = re.search(r"(\d+) objects, (\d+) of cut-off writes, (\d+) unknown", output)
        if not passed or not found or found[2] != "0" or found[3] != "0":
            self.problems.append(f"something is left in storage:\n{output[-2000:]}")
        files = [path for path in (self.directory / "storage").rglob("*") if path.is_file() and path.name != "tenant"]
        if found and len(files) != int(found[1]):
            self.problems.append(f"{len(files)} files in storage for {found[1]} objects")

    def report(self):
        ledger = self.floor.ledger
        for phase in (*self.phases, *([self.floor.phase] if self.floor.phase.failures else [])):
            print(f"  {phase.line()}")
            for kind, (count, example) in phase.failures.items():
                print(f"    FAILED, {count} times: {kind}\n      e.g. {example}")
            if phase.allows_cuts and phase.cuts > len(self.operators) * self.kills:
                self.problems.append(f"{phase.cuts} cut connections for {self.kills} kills: more than were open")
        print(f"  blobs acknowledged: {dict(ledger.styles)}, {dict(ledger.counts)}")
        jobs = sorted({job for job, _ in self.done})
        print("  tasks: " + ", ".join(f"{job} {self.done[job, 'success']}" for job in jobs))
        self.problems += [f"the job {job} was never done" for job in WORKING_JOBS if not self.done[job, "success"]]
        for what, found in (("LOST", ledger.lost), ("CORRUPT", ledger.corrupt)):
            for finding in list(found.values())[:10]:
                print(f"  {what}: {finding}")
        for node in self.nodes():
            if panics := node.log.read_bytes().count(b"panicked at"):
                self.problems.append(f"the log of {node.name} holds {panics} panics")
        for problem in self.problems:
            print(f"  PROBLEM: {problem}")
        requests = sum(len(phase.latencies) for phase in self.phases)
        failed = sum(phase.failed() for phase in (*self.phases, self.floor.phase))
        good = not (self.problems or failed or ledger.lost or ledger.corrupt)
        if not good:
            self.keep_logs()
        print(f"ha: {requests} requests, {failed} failed, {ledger.acknowledged} acknowledged pushes, "
              f"{ledger.counts['deletions']} deletions, {len(ledger.lost)} lost, {len(ledger.corrupt)} corrupt", flush=True)
        return good

    def keep_logs(self):
        logs = {node.name: node.log for node in self.nodes()} | {"haproxy": self.proxy.log, "postgres": self.postgres.log}
        kept = [str(kept_log(log, f"ha-{name}")) for name, log in logs.items() if log.exists()]
        print(f"  logs: {', '.join(kept)}", flush=True)


# What the janitors must have done while all this went on.
WORKING_JOBS = ("abandon_uploads", "sweep_blobs", "sweep_objects", "sweep_storage", "merge_chunks", "validate_blobs",
                "validate_manifests", "seal_audit")


def run(options):
    say(f"ha: two API nodes, two janitors, {options.rounds} rounds, seed {options.seed}")
    with processes.work_dir() as directory:
        test = HaTest(options, directory)
        try:
            return test.run()
        except RuntimeError:  # a node is gone, or does not come back
            test.keep_logs()
            raise
