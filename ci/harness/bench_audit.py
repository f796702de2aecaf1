"""What the audit trail, quotas and pull auditing cost: `ci/bench audit`.

The claim is that the trail takes a tenth of a push at most, and that a pull that is not audited does not notice it. Pushes
are audited always, so that their share can only be seen beside a kontor without the trail (`--base`). Each round measures
all subjects, in an order that turns around, and while one is measured the others are frozen (SIGSTOP): only the ratios of
one round mean anything, and the figure is the median of these ratios.
"""

import contextlib
import hashlib
import json
import os
import signal
import statistics
import threading
import time
from urllib.parse import quote

from harness import processes, servers
from harness.client import scopes_of
from harness.processes import say

CLIENTS = 4
PUSH_LIMIT = 0.9  # of the pushes of a kontor without the trail
LAYER_BYTES = 4096
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
REPO = "demo/bench"
SETTINGS = (("as it comes", False, False), ("pulls audited", True, False), ("quotas", False, True),
            ("pulls audited, quotas", True, True))
FAR = 1 << 50  # a limit that is never reached


def descriptor(media_type, content):
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Subject:
    """One kontor with its settings, and its figures of the rounds: work -> values."""

    def __init__(self, name, directory, binary, settings=(False, False)):
        self.name, self.settings, self.values = name, settings, {}
        self.server = servers.Kontor(directory, binary)
        self.number = 0  # of images, so that none is pushed twice

    def prepare(self):
        self.server.start()
        self.push_image(self.server.client(), scopes_of(REPO), "v1")
        audited, limited = self.settings
        if audited:
            # The document as it is, with the member changed: it replaces the whole.
            document = json.loads(self.manage("GET", "accounts/demo").body)["account"]
            self.manage("PUT", "accounts/demo", {**document, "audit_pulls": True})
        if limited:
            self.manage("PUT", "accounts/demo/quota", {name: {"limit": FAR} for name in ("bytes", "manifests", "repositories")})

    def manage(self, method, path, document=None):
        body = None if document is None else json.dumps(document).encode()
        client = self.server.client(basic=True)
        answer = client.expect((200, 201), method, f"/api/v1/{path}", (), body, {"Content-Type": "application/json"})
        client.close()
        return answer

    def push_image(self, client, scopes, tag):
        """A config, a layer and their manifest, all of them new."""
        config, layer = json.dumps({"made": os.urandom(16).hex()}).encode(), os.urandom(LAYER_BYTES)
        for content in (config, layer):
            client.finish(client.start_upload(REPO, scopes), scopes, digest_of(content), content)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG_TYPE, config),
                    "layers": [descriptor(LAYER_TYPE, layer)]}
        client.put_manifest(REPO, tag, json.dumps(manifest).encode(), MANIFEST, scopes)

    # -- the works: what one client does again and again

    def push(self, client, number):
        self.push_image(client, scopes_of(REPO), f"t{number}-{self.number}")

    def pull(self, client, _number):
        client.expect((200,), "GET", f"/v2/{REPO}/manifests/v1", scopes_of(REPO, actions="pull"))

    def run(self, work, seconds):
        """How many a second all clients do together, and the processor time of each in the server."""
        self.number += 1
        done, failed = [0] * CLIENTS, []

        def go(number):
            client = self.server.client()
            try:
                client.authorization(scopes_of(REPO))
                client.authorization(scopes_of(REPO, actions="pull"))
                start.wait()
                while time.perf_counter() < end[0]:
                    self.once(work, client, number, done)
            except Exception as error:  # noqa: BLE001 - reported by the main thread
                failed.append(error)
                start.abort()
            finally:
                client.close()

        start, end = threading.Barrier(CLIENTS + 1), [float("inf")]
        threads = [threading.Thread(target=go, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        end[0] = time.perf_counter() + seconds + 60
        with contextlib.suppress(threading.BrokenBarrierError):
            start.wait(60)
        before, began = processes.cpu_seconds(self.server.pid), time.perf_counter()
        end[0] = began + seconds
        for thread in threads:
            thread.join(seconds + 60)
        took, used = time.perf_counter() - began, processes.cpu_seconds(self.server.pid) - before
        if failed:
            raise RuntimeError(f"{self.name}: {work}: {failed[0]!r}")
        return sum(done) / took, used * 1000 / max(sum(done), 1)

    def once(self, work, client, number, done):
        if work == "push":
            self.push(client, f"{number}-{done[number]}")
        else:
            self.pull(client, number)
        done[number] += 1

    def measure(self, work, seconds):
        rate, cpu = self.run(work, seconds)
        self.values.setdefault(work, []).append((rate, cpu))

    def events(self, action):
        """How many of the last 1,000 events of an action there are."""
        answer = self.manage("GET", f"audit?limit=1000&action={quote(action)}")
        return len(json.loads(answer.body)["events"])

    def median(self, work, part):
        return statistics.median(values[part] for values in self.values[work])


@contextlib.contextmanager
def alone(subject, subjects):
    """The other servers stand still."""
    others = [other for other in subjects if other is not subject]
    for other in others:
        other.server.child.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            other.server.child.send(signal.SIGCONT)


def check(subject):
    """That the trail was on, and pull auditing as it was meant: or the figures would mean something else."""
    # Written about once a second, and sealed then.
    if not processes.wait_until(lambda: subject.events("manifest.push") > 0, 30, 0.2):
        raise RuntimeError(f"{subject.name}: no push is in the audit trail")
    if subject.settings[0]:
        if not processes.wait_until(lambda: subject.events("manifest.pull") > 0, 30, 0.2):
            raise RuntimeError(f"{subject.name}: no pull is in the audit trail")
    elif subject.events("manifest.pull"):
        raise RuntimeError(f"{subject.name}: pulls are in the audit trail")


def rows_of(subjects, first):
    """Figures of each subject and work, with the median of the rounds' ratios to `first`."""
    rows = []
    for subject in subjects:
        for work in ("push", "pull"):
            pairs = list(zip(subject.values[work], first.values[work], strict=True))
            rows.append({
                "kontor": subject.name, "work": work,
                "per_second": round(subject.median(work, 0), 1), "cpu_ms_each": round(subject.median(work, 1), 3),
                "ratio": round(statistics.median(mine[0] / theirs[0] for mine, theirs in pairs), 3),
                "cpu_ratio": round(statistics.median(mine[1] / theirs[1] for mine, theirs in pairs if theirs[1]), 3)
                if any(theirs[1] for _, theirs in pairs) else None,
            })
    return rows


def table(rows, first):
    lines = [f"| kontor | work | a second | ratio to {first.name} | processor ms each | ratio |", "|---|---|---|---|---|---|"]
    lines += [f"| {row['kontor']} | {row['work']} | {row['per_second']:,.1f} | {row['ratio']:.2f} | {row['cpu_ms_each']:.2f} "
              f"| {row['cpu_ratio'] or 0:.2f} |" for row in rows]
    return "\n".join(lines)


def run(options, out):
    with processes.work_dir(out) as directory:
        subjects = [Subject(name, directory / f"kontor{number}", options.binary, settings)
                    for number, (name, *settings) in enumerate(SETTINGS)]
        if options.base:
            subjects.insert(0, Subject("base", directory / "base", options.base))
        audited = subjects[1:] if options.base else subjects
        for subject in subjects:
            subject.prepare()
        for work in ("push", "pull"):
            for number in range(options.rounds):
                say(f"  {work}, round {number + 1} of {options.rounds}")
                for subject in subjects if number % 2 == 0 else subjects[::-1]:
                    with alone(subject, subjects):
                        if number == 0:
                            subject.run(work, 1)
                        subject.measure(work, options.seconds)
        for subject in audited:
            check(subject)
        head = "\n".join([f"machine: {processes.machine()}, {processes.file_system(directory)}; the clients run on it too",
                          *sorted({subject.server.version() for subject in subjects}),
                          f"{options.rounds} rounds of {options.seconds} s, {CLIENTS} clients; medians"])
        for subject in subjects:
            subject.server.stop()
    first = subjects[0]
    rows = rows_of(subjects, first)
    passed = not options.base or all(
        row["ratio"] >= PUSH_LIMIT for row in rows if row["work"] == "push" and row["kontor"] == SETTINGS[0][0])
    figures = {"machine": processes.machine(), "against": first.name, "rows": rows, "passed": passed}
    (out / "audit.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "audit.md").write_text(f"{head}\n\n{table(rows, first)}\n")
    print(f"{head}\n\n{table(rows, first)}\n\nwritten: {out / 'audit.json'}")
    return 0 if passed else 1
