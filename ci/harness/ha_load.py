"""The clients of ci/ha: they push, pull, move tags and delete through HAProxy, and forgive only what the phase allows.

A request is one HTTP request. An operation is what a client repeats as a whole when a request of it did not come
through: an upload from its first POST on, a manifest, a deletion, a pull.
"""

import random
import threading
import time
from dataclasses import dataclass, field

from harness.client import Client, Disconnected, Unexpected, scopes_of
from harness.content import KIB, MANIFEST_TYPE, Maker, image_of
from harness.ledger import Ledger, Push
from harness.verify import verify_manifest, verify_push

KEPT_IMAGES = 8  # of each pusher; older ones are deleted
OUTAGE_SECONDS = 45  # how long an operation goes on asking while the database restarts
CUT_PAUSE_SECONDS = 0.5  # before the second try; clients wait for longer
BASE = "demo/ha-base"  # its blobs are mounted from there
UPLOADS = ("put", "stream", "chunks", "mount")


@dataclass
class Phase:
    """What happens meanwhile, and what a client may notice of it."""

    name: str
    allows_cuts: bool = False  # connections to a node that is killed
    allows_outage: bool = False  # 503 with Retry-After
    seconds: float = 0.0
    latencies: list = field(default_factory=list)
    cuts: int = 0
    outages: int = 0
    failures: dict = field(default_factory=dict)  # what -> [how often, an example]

    def tolerance(self):
        return self.allows_cuts + 2 * self.allows_outage

    def failed(self):
        return sum(count for count, _ in self.failures.values())

    def line(self):
        ordered = sorted(self.latencies) or [0.0]
        p99 = ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
        return (f"{self.name}: {self.seconds:.0f} s, {len(self.latencies)} requests, {self.failed()} failed, "
                f"{self.cuts} cut, {self.outages} told to come back (503), p99 {p99 * 1000:.0f} ms, "
                f"longest {ordered[-1] * 1000:.0f} ms")


class Floor:
    """What the clients share."""

    def __init__(self, port, login, seed):
        self.port, self.login, self.seed = port, login, seed
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.ledger, self.maker = Ledger(seed), Maker(seed, largest=1024 * KIB)
        self.phase = Phase("before")
        self.live = {}  # Push -> how many read it just now
        self.deleted = []
        self.base = []  # blobs of an image that stays
        self.moving = {}  # tag -> the Push that it must stand at
        self.open_uploads = []  # locations of uploads that nobody goes on with

    def any_live(self, rng):
        """Some image that is not deleted before `release`."""
        with self.lock:
            if not self.live:
                return None
            push = rng.choice(list(self.live))
            self.live[push] += 1
            return push

    def release(self, push):
        with self.lock:
            self.live[push] -= 1

    def take(self, pushes):
        """The first of these that nobody reads; from now on nobody will."""
        with self.lock:
            for push in pushes:
                if self.live[push] == 0:
                    del self.live[push]
                    return push
        return None


class TimedClient(Client):
    """Counts what it sends and measures until the head of the answer is there, for the phase of the request."""

    def __init__(self, floor):
        super().__init__(floor.port, floor.login, timeout=60)
        self.floor = floor

    def _send(self, method, target, body, headers):
        begun, phase = time.monotonic(), self.floor.phase
        try:
            return super()._send(method, target, body, headers)
        finally:
            with self.floor.lock:
                phase.latencies.append(time.monotonic() - begun)


class PullingClient(TimedClient):
    """May not push: what somebody who may push looks up is kept for a while, as part of an image to come."""

    def open(self, method, target, scopes, body=None, headers=None):
        scopes = tuple(scope.replace(":pull,push", ":pull") for scope in scopes)
        return super().open(method, target, scopes, body, headers)


class Operator(threading.Thread):
    """A loop of turns. What went wrong beyond what the phase allows is noted there."""

    def __init__(self, name, floor):
        super().__init__(name=name, daemon=True)
        self.floor, self.ledger, self.maker = floor, floor.ledger, floor.maker
        self.random = random.Random(f"{floor.seed}-{name}")
        self.client = TimedClient(floor)
        self.failure = None  # a mistake in this script

    def run(self):
        try:
            while not self.floor.stop.is_set():
                self.turn()
                self.floor.stop.wait(self.random.uniform(0.02, 0.1))
        except BaseException as error:  # noqa: B902 - reported by the main thread
            self.failure = error
            raise
        finally:
            self.client.close()

    def turn(self):
        raise NotImplementedError

    def operation(self, act):
        """Does `act(is_again)`, once more after a cut, and for a while through an outage. `(came through, result)`."""
        begun, phase, cuts, is_again = time.monotonic(), self.floor.phase, 0, False
        while True:
            try:
                return True, act(is_again)
            except (Disconnected, Unexpected) as error:
                self.client.close()
                is_again = True
                # What was sent before a phase began may feel it, and what is sent as it ends too.
                phase = max(phase, self.floor.phase, key=Phase.tolerance)
                if is_cut(error):
                    cuts += 1
                    if phase.allows_cuts and cuts == 1:
                        self.note(phase, "cuts")
                        # A process that was killed closes its connections one after the other: at once, HAProxy may
                        # take another one of them.
                        self.floor.stop.wait(CUT_PAUSE_SECONDS)
                        continue
                elif is_outage(error) and phase.allows_outage and time.monotonic() < begun + OUTAGE_SECONDS:
                    self.note(phase, "outages")
                    self.floor.stop.wait(self.random.uniform(0.2, 0.6))
                    continue
                self.fail(phase, error, cuts)
                return False, None

    def note(self, phase, what):
        with self.floor.lock:
            setattr(phase, what, getattr(phase, what) + 1)

    def fail(self, phase, error, cuts):
        kind = f"{error.what}: {error.status}" if isinstance(error, Unexpected) else "cut"
        if cuts > 1:
            kind += ", twice"
        with self.floor.lock:
            known = phase.failures.setdefault(kind, [0, f"{error}"[:300]])
            known[0] += 1


def is_cut(error):
    """A connection that ended, as the client saw it or as HAProxy says it."""
    return isinstance(error, Disconnected) or error.status == 502


def is_outage(error):
    return isinstance(error, Unexpected) and error.status == 503 and error.answer.header("Retry-After")


class Pusher(Operator):
    def __init__(self, number, floor):
        super().__init__(f"pusher-{number}", floor)
        self.repo, self.tag = f"demo/ha-{number}", f"moving-{number}"
        self.scopes = scopes_of(self.repo, BASE, actions="delete,pull,push")
        self.mine, self.serial, self.image = [], 0, None

    def turn(self):
        self.serial += 1
        if push := self.push(f"{self.name}-{self.serial}"):
            self.mine.append(push)
            if self.random.random() < 0.3:
                self.move_tag(push)
        if self.serial % 10 == 0:
            self.leave_an_upload()
        if len(self.mine) > KEPT_IMAGES:
            self.delete()

    def push(self, tag):
        blobs = [self.maker.config()]
        blobs += [self.maker.blob(self.random) for _ in range(self.random.randint(1, 2))]
        if not all([self.upload(blob, self.random.choice(UPLOADS[:3])) for blob in blobs]):
            return None
        if self.floor.base and self.random.random() < 0.5:
            shared = self.random.choice(self.floor.base)
            if not self.upload(shared, "mount"):
                return None
            blobs.append(shared)
        image = image_of(blobs[0], blobs[1:])
        push = Push(self.repo, tag, image.digest, len(image.manifest), tuple((b.digest, b.size) for b in image.blobs))
        if not self.operation(lambda _: self.client.put_manifest(
                self.repo, tag, image.manifest, MANIFEST_TYPE, self.scopes))[0]:
            return None
        with self.floor.lock:
            self.floor.live[push] = 0
        self.ledger.push_acknowledged(push)
        self.image = image
        return push

    def upload(self, blob, style):
        came_through, _ = self.operation(lambda _: getattr(self, f"upload_by_{style}")(blob, self.maker.content(blob)))
        if came_through:
            self.ledger.blob_acknowledged(self.repo, blob, style)
        return came_through

    def upload_by_put(self, blob, data):
        """POST, PUT: containerd."""
        self.client.finish(self.client.start_upload(self.repo, self.scopes), self.scopes, blob.digest, data)

    def upload_by_stream(self, blob, data):
        """POST, one PATCH in chunked transfer coding, PUT: docker."""
        location = self.client.start_upload(self.repo, self.scopes)
        pieces = [data[start : start + 64 * KIB] for start in range(0, len(data), 64 * KIB)]
        location = self.client.append(location, self.scopes, lambda: iter(pieces))
        self.client.finish(location, self.scopes, blob.digest)

    def upload_by_chunks(self, blob, data):
        """POST, PATCHes with Content-Range, PUT: each may reach another node."""
        location, step = self.client.start_upload(self.repo, self.scopes), len(data) // 3 + 1
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            location = self.client.append(location, self.scopes, piece, start, len(piece))
        self.client.finish(location, self.scopes, blob.digest)

    def upload_by_mount(self, blob, _data):
        target = f"/v2/{self.repo}/blobs/uploads/?mount={blob.digest}&from={BASE}"
        self.client.expect((201,), "POST", target, self.scopes, b"", {"Content-Length": "0"})

    def move_tag(self, push):
        manifest = self.image.manifest
        if self.operation(lambda _: self.client.put_manifest(
                self.repo, self.tag, manifest, MANIFEST_TYPE, self.scopes))[0]:
            self.floor.moving[self.tag] = Push(push.repo, self.tag, push.digest, push.size, ())
            moved = self.floor.moving[self.tag]
            self.operation(lambda _: verify_manifest(self.ledger, self.client, moved, self.tag))

    def leave_an_upload(self):
        def act(_):
            location = self.client.start_upload(self.repo, self.scopes)
            location = self.client.append(location, self.scopes, b"x" * 5000, 0, 5000)
            self.floor.open_uploads.append((location, self.scopes))

        self.operation(act)

    def delete(self):
        """The oldest image that is not read, with its tags; from the answer on, no node may show it."""
        standing = self.floor.moving.get(self.tag)
        old = [push for push in self.mine[:-2] if standing is None or push.digest != standing.digest]
        push = self.floor.take(old)
        if push is None:
            return
        self.mine.remove(push)
        target = f"/v2/{self.repo}/manifests/{push.digest}"
        # The first answer may have been lost and not the deletion.
        done, _ = self.operation(lambda again: self.client.expect(
            (202, 404) if again else (202,), "DELETE", target, self.scopes))
        if done:
            self.ledger.count("deletions")
            self.floor.deleted.append(push)
            self.operation(lambda _: self.client.expect((404,), "GET", target, self.scopes, None,
                                                        {"Accept": MANIFEST_TYPE}))


class Puller(Operator):
    def __init__(self, number, floor):
        super().__init__(f"puller-{number}", floor)
        self.client = PullingClient(floor)

    def turn(self):
        push = self.floor.any_live(self.random)
        if push is None:
            return
        try:
            if self.operation(lambda _: verify_push(self.ledger, self.client, push))[0]:
                self.ledger.count("pulls")
        finally:
            self.floor.release(push)


class Seeder(Pusher):
    """Pushes the image whose blobs are mounted elsewhere, before the others begin."""

    def __init__(self, floor):
        super().__init__("base", floor)
        self.repo = BASE

    def seed(self):
        blobs = [self.maker.blob_of(size * KIB, self.random) for size in (3, 90, 700)]
        config = self.maker.config()
        for blob in (config, *blobs):
            self.upload_by_chunks(blob, self.maker.content(blob))
        image = image_of(config, blobs)
        self.client.put_manifest(BASE, "base", image.manifest, MANIFEST_TYPE, self.scopes)
        push = Push(BASE, "base", image.digest, len(image.manifest), tuple((b.digest, b.size) for b in image.blobs))
        self.floor.live[push] = 0
        self.ledger.push_acknowledged(push)
        self.floor.base = blobs
        self.client.close()


def blob_is_gone(client, repo, digest):
    answer = client.request("HEAD", f"/v2/{repo}/blobs/{digest}", scopes_of(repo, actions="pull"))
    return answer.status == 404
