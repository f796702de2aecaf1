"""What the registry has acknowledged, and what was found wrong: the memory of a crash test.

It holds digests and recipes, never bytes, and at most `LARGEST` pushes: older ones are verified one last time and
forgotten, so that a run of any length fits.
"""

import collections
import random
import threading
from dataclasses import dataclass

LARGEST = 2000
LOOSE = 300
ATTEMPTED = 64


@dataclass(frozen=True, slots=True)
class Push:
    """An acknowledged manifest. `blobs` are `(digest, size)`."""

    repo: str
    tag: str
    digest: str
    size: int
    blobs: tuple


class Ledger:
    """`is_swept`: a janitor takes away what no manifest needs, so only manifests and their blobs must stay."""

    def __init__(self, seed, is_swept=False):
        self.lock = threading.Lock()
        self.is_swept = is_swept
        self.deleted = set()  # (repo, digest) of manifests whose deletion has at least begun
        self.random = random.Random(seed)
        self.pushes = []  # oldest first
        self.loose = collections.deque(maxlen=LOOSE)  # (repo, Blob): acknowledged, perhaps never in a manifest
        self.attempted = collections.deque(maxlen=ATTEMPTED)  # (repo, Blob) whose upload has at least begun
        self.acknowledged = 0
        self.acknowledged_blobs = 0
        self.styles = collections.Counter()  # upload style -> acknowledged blobs
        self.counts = collections.Counter()  # cuts, resumed uploads, reads ...
        self.unexpected = collections.Counter()  # kind of odd answer -> how often
        self.examples = {}
        self.lost = {}  # what -> first finding; a key each, so that one loss seen twice is one loss
        self.corrupt = {}

    # -- pushers

    def attempt(self, repo, blob):
        with self.lock:
            self.attempted.append((repo, blob))

    def blob_acknowledged(self, repo, blob, style):
        with self.lock:
            self.loose.append((repo, blob))
            self.acknowledged_blobs += 1
            self.styles[style] += 1

    def push_acknowledged(self, push, style=None):
        with self.lock:
            self.pushes.append(push)
            self.acknowledged += 1
            if style:
                self.styles[style] += len(push.blobs)

    def push_deleting(self, push):
        """A client is about to delete it: from now on nobody knows whether it is there."""
        with self.lock:
            self.deleted.add((push.repo, push.digest))
            self.pushes = [kept for kept in self.pushes if kept.digest != push.digest or kept.repo != push.repo]

    def must_exist(self, push):
        with self.lock:
            return (push.repo, push.digest) not in self.deleted

    # -- findings

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def odd(self, kind, detail):
        """Not a loss, but nothing that should happen either."""
        with self.lock:
            self.unexpected[kind] += 1
            self.examples.setdefault(kind, str(detail)[:300])

    def note_lost(self, key, finding):
        with self.lock:
            self.lost.setdefault(key, str(finding)[:300])

    def note_corrupt(self, key, finding):
        with self.lock:
            self.corrupt.setdefault(key, str(finding)[:300])

    # -- readers and verification

    def sample(self, newest, others):
        """The newest pushes (those that a kill endangers most) and a few of all the others."""
        with self.lock:
            recent = self.pushes[-newest:]
            rest = self.pushes[:-newest]
            return recent + self.random.sample(rest, min(others, len(rest)))

    def sample_loose(self, newest):
        with self.lock:
            return list(self.loose)[-newest:]

    def surplus(self):
        """Takes out what is beyond the limit; the caller verifies it for the last time."""
        with self.lock:
            count = max(0, len(self.pushes) - LARGEST)
            surplus, self.pushes = self.pushes[:count], self.pushes[count:]
            return surplus

    def any_blob(self, rng, repo=None):
        """Some `(repo, Blob)` that was acknowledged, or None."""
        with self.lock:
            known = [entry for entry in self.loose if repo in (None, entry[0])]
            return rng.choice(known) if known else None

    def any_attempt(self, rng):
        with self.lock:
            return rng.choice(self.attempted) if self.attempted else None

    def any_push(self, rng):
        with self.lock:
            return rng.choice(self.pushes) if self.pushes else None
