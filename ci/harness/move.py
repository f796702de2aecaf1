"""An account moves from store to store while clients pull and push: `ci/move --help` tells how to call it.

The registry may make nobody wait and lose nothing: each pull must be answered with the right bytes, from wherever
they lie at that moment, and each push that was acknowledged must be there in the end.
"""

import json
import os
import random
import time

from harness import cloud, processes
from harness.client import Unexpected, scopes_of
from harness.cloud import stores
from harness.content import KIB, MANIFEST_TYPE, MIB, Maker, digest_of, image_of
from harness.crash import Arena, kept_log
from harness.ledger import Push
from harness.processes import Child, say
from harness.pushers import Pusher, Reader
from harness.servers import Kontor
from harness.verify import verify_all, verify_blob

ACCOUNT = "demo"
REPO = f"{ACCOUNT}/move"
GRACE_SECONDS = 5
MOVE_SECONDS = 300  # the limit of one move
FIELDS = {"to", "state", "progress", "moved_objects", "remaining_objects", "moved_bytes", "remaining_bytes", "error"}
STATES = ("copying", "waiting", "removing", "done")
# Larger than what drivers send in one piece.
BIG = (("put", 17 * MIB), ("stream", 21 * MIB), ("chunks", 33 * MIB))
SMALL_IMAGES = 12

CONFIGURATION = """\
default_storage = "local"

[moves]
grace_seconds = {grace}

[storage.local]
kind = "filesystem"
path = "{path}"

{cloud}"""


class BigMaker(Maker):
    POOL = 40 * MIB


class MovePusher(Pusher):
    """At the pace of a busy team rather than as fast as possible: the move has to come to an end on two cores."""

    def turn(self):
        super().turn()
        self.arena.stop.wait(self.random.uniform(0.3, 0.8))

    def on_unexpected(self, odd):
        if odd.status == 503:
            self.ledger.count("pushes told to come back (503)")
        else:
            super().on_unexpected(odd)


class Puller(Reader):
    """Pulls what was acknowledged, in every way. Any answer but the right bytes is a failed pull."""

    def __init__(self, number, arena):
        super().__init__(number, arena)
        self.generation = 0

    def turn(self):
        self.generation = self.arena.generation
        act = self.random.choice((self.read_seed, self.read_known, self.read_late, self.read_range, self.read_manifest))
        if act():
            self.ledger.count("pulls")
        self.arena.stop.wait(0.02)

    def on_unexpected(self, odd):
        self.arena.failed_pull(f"{odd.what}: {odd.status}", odd)

    def on_cut_without_kill(self, cut):
        # The main thread may be about to note the kill that caused this.
        time.sleep(0.5)
        if self.generation == self.arena.generation and self.arena.up.is_set():
            self.arena.failed_pull("cut", cut)

    def read_seed(self):
        blob = self.random.choice(self.arena.seeds)
        verify_blob(self.ledger, self.client, REPO, blob.digest, blob.size)
        return blob

    def read_late(self):
        """A client that takes its time between the redirect and the download: the object must still be there."""
        repo, blob = self.ledger.any_blob(self.random) or (REPO, self.random.choice(self.arena.seeds))
        algorithm, target = blob.digest.split(":")[0], f"/v2/{repo}/blobs/{blob.digest}"
        answer = self.client.request("GET", target, scopes_of(repo))
        if answer.status == 307:
            self.client.close()  # by then, the registry has hung up
            self.arena.stop.wait(self.random.uniform(0, GRACE_SECONDS / 2))
            answer, got, length = self.client.download_there(answer.header("Location"), algorithm=algorithm)
        else:
            got, length = digest_of(answer.body, algorithm), len(answer.body)
        if answer.status != 200:
            raise Unexpected("GET blob, its redirect followed late", answer)
        if (got, length) != (blob.digest, blob.size):
            self.ledger.note_corrupt(f"blob {repo}@{blob.digest}", f"{got}, {length} bytes")
        return blob


class MoveArena(Arena):
    def __init__(self, server, seed, directory):
        super().__init__(server, seed, directory)
        self.maker = BigMaker(seed)
        self.seeds = []
        self.failed = {}  # kind -> [how often, an example]

    def failed_pull(self, kind, detail):
        with self.ledger.lock:
            known = self.failed.setdefault(kind, [0, str(detail)[:300]])
            known[0] += 1

    def failed_pulls(self):
        return sum(count for count, _ in self.failed.values())


class OpenUpload:
    """An upload that is begun before a move, goes on while it runs, and is finished after it."""

    def __init__(self, arena, rng):
        self.arena, self.blob, self.offset = arena, arena.maker.blob_of(13 * MIB + 5, rng), 0
        self.scopes, self.client = scopes_of(REPO), arena.server.client()
        self.location = self.client.start_upload(REPO, self.scopes)

    def go_on(self, length):
        data = self.arena.maker.content(self.blob)[self.offset : self.offset + length]
        self.client.close()  # it was idle for long
        self.location = self.client.append(self.location, self.scopes, data, self.offset, len(data))
        self.offset += len(data)

    def finish(self):
        data = self.arena.maker.content(self.blob)[self.offset :]
        self.client.close()
        self.client.finish(self.location, self.scopes, self.blob.digest, data)
        self.client.close()
        self.arena.ledger.blob_acknowledged(REPO, self.blob, "open during a move")
        self.arena.seeds.append(self.blob)


class MoveTest:
    def __init__(self, options, directory, environment):
        self.options, self.environment, self.problems, self.took, self.seen = options, environment, [], {}, []
        self.local = directory / "local"
        self.name = f"move-{os.getpid()}"  # of the buckets and containers
        config = directory / "kontor.toml"
        config.write_text(CONFIGURATION.format(
            grace=GRACE_SECONDS, path=self.local, cloud=cloud.storage_toml(environment, self.name)))
        self.server = Kontor(directory / "server", options.binary, log_level="info", config=config)
        self.arena = MoveArena(self.server, options.seed, directory)
        self.random = random.Random(f"{options.seed}-moves")
        self.workers = [MovePusher(number, self.arena) for number in range(2)]
        self.workers += [Puller(number, self.arena) for number in range(3)]

    def run(self):
        arena = self.arena
        self.server.start()
        self.seed()
        arena.up.set()
        for worker in self.workers:
            worker.start()
        try:
            arena.stop.wait(2)
            for number, target in enumerate(self.options.targets):
                self.one_move(target, kill=number == self.options.kill, proxied=number % 2 == 1)
                if self.problems:
                    break
        finally:
            arena.stop.set()
            arena.up.set()
            for worker in self.workers:
                worker.join(60)
        if any(worker.is_alive() for worker in self.workers):
            self.problems.append("a client did not come to an end")
        self.problems += [f"{worker.name} failed: {worker.failure!r}" for worker in self.workers if worker.failure]
        return self.finish()

    def seed(self):
        """Big blobs, each in its own way of uploading, and some images."""
        pusher = Pusher(0, self.arena)
        pusher.repo, pusher.scopes, pusher.client = REPO, scopes_of(REPO), self.server.client()
        maker, ledger = self.arena.maker, self.arena.ledger
        for style, size in BIG:
            blob = maker.blob_of(size, self.random)
            getattr(pusher, f"upload_by_{style}")(blob, maker.content(blob))
            self.arena.seeds.append(blob)
        for number in range(SMALL_IMAGES):
            blobs = [maker.config(), *(maker.blob_of(size, self.random) for size in
                                       (self.random.randint(1, 64 * KIB), self.random.randint(1, 3 * MIB)))]
            for index, blob in enumerate(blobs):
                style = ("put", "stream", "post")[(number + index) % 3]
                getattr(pusher, f"upload_by_{style}")(blob, maker.content(blob))
                ledger.blob_acknowledged(REPO, blob, style)
            image = image_of(blobs[0], [*blobs[1:], self.random.choice(self.arena.seeds)])
            pusher.client.put_manifest(REPO, f"seed-{number}", image.manifest, MANIFEST_TYPE, pusher.scopes)
            self.arena.seeds += blobs
            ledger.push_acknowledged(Push(REPO, f"seed-{number}", image.digest, len(image.manifest),
                                          tuple((blob.digest, blob.size) for blob in image.blobs)))
        pusher.client.close()

    # -- one move

    def one_move(self, target, kill, proxied):
        say(f"  to {target}{', killed on the way' if kill else ''}{', without redirects' if proxied else ''}")
        source = self.account()["storage"]
        self.server.admin("account", "update", ACCOUNT, "--proxy-downloads", str(proxied).lower())
        upload = OpenUpload(self.arena, self.random)
        upload.go_on(6 * MIB)
        began = time.monotonic()
        if kill:
            self.api((200, 201, 202), "POST", "/storage/migrate", {"to": target})
            self.kill_on_the_way()
            upload.go_on(3 * MIB)
            done = self.await_end(target, lambda: False)
        else:
            command = self.start_command(target)
            upload.go_on(3 * MIB)
            done = self.await_end(target, lambda: not command.running())
            processes.wait_until(lambda: not command.running(), 30, 0.05)  # it looks once a second
            if done and (code := command.stop(30)) != 0:
                self.problems.append(f"kontor account migrate --to {target} --wait: exit code {code}: {command.log_tail(5)}")
        self.took[target] = time.monotonic() - began
        upload.finish()
        verify_blob(self.arena.ledger, upload.client, REPO, upload.blob.digest, upload.blob.size)
        upload.client.close()
        if not done:
            return
        if (now := self.account()["storage"]) != target:
            self.problems.append(f"the account is on {now}, not on {target}")
        if left := self.leftovers(source):
            self.problems.append(f"left on {source} after the move to {target}: {left[:5]} ({len(left)})")
        self.arena.stop.wait(self.options.stay)

    def start_command(self, target):
        """What an operator types; it comes back when the move is done."""
        return Child(f"migrate to {target}", [
            self.server.binary, "account", "migrate", ACCOUNT, "--to", target, "--wait",
            "--server", f"http://127.0.0.1:{self.server.port}", "--user", self.server.login[0],
        ], env={**os.environ, "KONTOR_PASSWORD": self.server.login[1]}, log=self.arena.directory / f"migrate-{target}.log")

    def kill_on_the_way(self):
        """As soon as something is copied, or when that was too quick to be seen."""
        def is_on_the_way():
            move = self.migration()
            return move and (move["state"] != "copying" or move["moved_objects"] > 0)

        if not processes.wait_until(is_on_the_way, 60, 0.02):
            self.problems.append("the move does not begin")
        move = self.migration() or {}
        say(f"    killed while {move.get('state')}, {move.get('moved_objects')} objects moved, "
            f"{move.get('remaining_objects')} remaining")
        self.arena.up.clear()
        self.server.kill()
        self.server.start()
        self.arena.generation += 1
        self.arena.up.set()

    def await_end(self, target, is_over):
        """Until the registry calls the move done, or the command has ended. False, and a problem, if it takes too long."""
        states, move = [], None

        def is_done():
            nonlocal move
            over = is_over()  # before asking: afterwards, the answer may be older
            move = self.migration()
            if move and move["to"] == target and move["state"] not in states[-1:]:
                states.append(move["state"])
            return over or (states and states[-1] == "done")

        done = processes.wait_until(is_done, MOVE_SECONDS, 0.1)
        self.seen.append((target, states))
        if not done or states[-1:] != ["done"]:
            self.problems.append(f"the move to {target} is not done: {move}")
        if move and move["error"]:
            self.problems.append(f"the move to {target} says: {move['error']}")
        return done

    def migration(self):
        """How far the account's move is, or None."""
        move = self.api((200, 404), "GET", "/storage/migrate").get("migration")
        if move and (missing := FIELDS - move.keys()):
            raise RuntimeError(f"the answer about the move lacks {sorted(missing)}: {move}")
        if move and (move["state"] not in STATES or not 0 <= move["progress"] <= 1):
            raise RuntimeError(f"an odd answer about the move: {move}")
        return move

    def account(self):
        return self.api((200,), "GET", "")["account"]

    def api(self, statuses, method, path, body=None):
        client = self.server.client(basic=True)
        try:
            answer = client.expect(statuses, method, f"/api/v1/accounts/{ACCOUNT}{path}", (),
                                   json.dumps(body).encode() if body else None, {"Content-Type": "application/json"})
        finally:
            client.close()
        return json.loads(answer.body) if answer.status < 300 and answer.body else {}

    def leftovers(self, storage):
        """What is left on a store that the account has left."""
        if storage == "local":
            return [str(path.relative_to(self.local)) for path in self.local.rglob("*") if path.is_file()]
        found = stores.holders(self.environment, f"{self.name}-")
        of_s3_interface = f"{self.name}-s3-"
        return found["s3"] if storage == "s3" else \
            [name for name in found["swift"] if name.startswith(of_s3_interface) == (storage == "swift-s3")]

    # -- the end

    def finish(self):
        arena, ledger = self.arena, self.arena.ledger
        if not self.server.child.running():
            raise RuntimeError(f"kontor is gone:\n{self.server.child.log_tail()}")
        everything, loose = list(ledger.pushes), [*ledger.loose, *((REPO, blob) for blob in arena.seeds)]
        say(f"  verifying {len(everything)} pushes and {len(loose)} blobs")
        good = verify_all(ledger, self.server, everything, loose)
        if good < len(everything) + len(loose) and not ledger.lost and not ledger.corrupt:
            self.problems.append("some pushes did not verify")
        if (code := self.server.stop()) != self.server.clean_exit:
            self.problems.append(f"kontor ended with {code} when asked to stop")
        passed, output = self.server.check("--digests")
        if not passed:
            self.problems.append(f"check failed at the end:\n{output[-2000:]}")
        if not ledger.counts["pulls"] or not ledger.acknowledged:
            self.problems.append("nobody pulled, or nobody pushed")
        if self.options.targets and not self.problems and not self.redirects():
            self.problems.append("no pull was redirected")
        return self.report()

    def redirects(self):
        return sum(worker.client.redirects for worker in self.workers if worker.client)

    def report(self):
        arena, ledger, log = self.arena, self.arena.ledger, self.server.log
        for target, states in self.seen:
            print(f"  to {target}: {self.took.get(target, 0):.1f} s, {' -> '.join(states)}")
        print(f"  blobs acknowledged: {dict(ledger.styles)}")
        print(f"  {dict(ledger.counts)}, {self.redirects()} redirects followed")
        for kind, (count, example) in arena.failed.items():
            print(f"  FAILED PULLS, {count} times: {kind}\n    e.g. {example}")
        for kind, count in ledger.unexpected.most_common(10):
            print(f"  UNEXPECTED, {count} times: {kind}\n    e.g. {ledger.examples[kind]}")
        for what, found in (("LOST", ledger.lost), ("CORRUPT", ledger.corrupt)):
            for finding in list(found.values())[:10]:
                print(f"  {what}: {finding}")
        if panics := log.read_bytes().count(b"panicked at"):
            self.problems.append(f"the server's log holds {panics} panics")
        for problem in self.problems:
            print(f"  PROBLEM: {problem}")
        good = not (self.problems or arena.failed or ledger.unexpected or ledger.lost or ledger.corrupt)
        if not good:
            print(f"  the server's log: {kept_log(log, 'move')}")
        print(f"move: {len(self.took)} moves, {ledger.counts['pulls']} pulls, {arena.failed_pulls()} failed, "
              f"{ledger.acknowledged} acknowledged pushes, {len(ledger.lost)} lost, {len(ledger.corrupt)} corrupt", flush=True)
        return good


def run(options):
    say(f"move: {' -> '.join(['local', *options.targets])}, seed {options.seed}")
    with processes.work_dir() as directory, cloud.given_or_started(directory / "cloud") as environment:
        return MoveTest(options, directory, environment).run()
