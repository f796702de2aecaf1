"""The crash test: kill, start again, look whether anything is missing. `ci/crash --help` tells how to call it."""

import random
import statistics
import threading
import time
from pathlib import Path

from harness import janitor, postgres, processes
from harness.content import Maker
from harness.ledger import Ledger
from harness.processes import say
from harness.pushers import Pusher, Reader, Skopeo
from harness.servers import DockerRegistry, Kontor
from harness.verify import verify_all

SECONDS_PER_KILL = 6  # the limit of a run; it needs about one


class Arena:
    """What the threads share: the server, whether it is up, and the ledger. `deletes`: the pushers also delete."""

    def __init__(self, server, seed, directory, deletes=False):
        self.server, self.seed, self.directory, self.deletes = server, seed, Path(directory), deletes
        self.ledger, self.maker = Ledger(seed, is_swept=deletes), Maker(seed)
        self.up, self.stop = threading.Event(), threading.Event()
        self.generation = 0  # starts so far; a thread that sees another number knows of a kill
        self.database_hurt = False
        self.random = random.Random(f"{seed}-kills")

    def wait_up(self, seconds=30):
        """For a thread in the middle of something. False if the run is over."""
        end = time.monotonic() + seconds
        while not self.stop.is_set() and time.monotonic() < end:
            if self.up.wait(0.1):
                return True
        return False


class CrashTest:
    """One database, N kills."""

    def __init__(self, options, database, directory):
        self.options, self.database, self.kills = options, database, 0
        self.restarts, self.problems, self.early_kills, self.database_kills = [], [], 0, 0
        self.postgres = None
        self.arena = Arena(self.make_server(directory), options.seed, directory, deletes=options.janitor)

    def make_server(self, directory):
        if self.options.server == "docker-registry":
            return DockerRegistry(directory / "server")
        url = None
        if self.database == "postgres":
            self.postgres = postgres.Postgres(directory / "postgres")
            self.postgres.start()
            url = self.postgres.create_database("kontor")
        server = Kontor(directory / "server", self.options.binary, url)
        if self.options.janitor:
            server.settings = janitor.SETTINGS
        return server

    def workers(self):
        made = [Pusher(n, self.arena, basic=n == 3) for n in range(4)]
        made += [Reader(n, self.arena) for n in range(2)]
        if Skopeo.available() and not self.options.no_skopeo:
            made.append(Skopeo(self.arena))
        return made

    def run(self):
        arena, server = self.arena, self.arena.server
        arena.server.start()
        arena.up.set()
        workers = self.workers()
        for worker in workers:
            worker.start()
        end = time.monotonic() + SECONDS_PER_KILL * self.options.kills + 60
        try:
            while self.kills < self.options.kills and time.monotonic() < end and not self.problems:
                self.one_round(workers)
        finally:
            arena.stop.set()
            arena.up.set()
            for worker in workers:
                worker.join(60)
        if any(worker.is_alive() for worker in workers):
            self.problems.append("a client did not come to an end")
        if not server.child.running():
            raise RuntimeError(f"{server.name} is gone:\n{server.child.log_tail()}")
        return self.finish()

    def one_round(self, workers):
        arena, rng = self.arena, self.arena.random
        if failed := [w for w in workers if w.failure]:
            raise RuntimeError(f"{failed[0].name} failed: {failed[0].failure!r}")
        time.sleep(rng.uniform(0.02, 0.5))
        if not arena.server.child.running():
            self.problems.append(f"{arena.server.name} ended by itself: {arena.server.child.log_tail(5)}")
            return
        self.kill()
        while self.kills < self.options.kills and rng.random() < 0.1:
            self.kill_while_starting()
        if self.kills % 10 == 0:
            self.check("after a kill", 120)
        self.restart()
        ledger = arena.ledger
        loose = [] if ledger.is_swept else ledger.sample_loose(8)
        verify_all(ledger, arena.server, ledger.sample(8, 8) + ledger.surplus(), loose)
        if self.kills % 20 == 0:
            say(f"  {self.kills} kills, {ledger.acknowledged} pushes, {ledger.acknowledged_blobs} blobs, "
                f"{len(ledger.lost)} lost, {len(ledger.corrupt)} corrupt")

    def kill(self):
        """SIGKILL to the server; with PostgreSQL, often its database a moment before."""
        arena = self.arena
        if self.postgres and arena.random.random() < self.options.database_kills:
            arena.database_hurt = True
            self.postgres.kill()
            self.database_kills += 1
            time.sleep(arena.random.choice((0, arena.random.uniform(0, 0.2))))
        arena.up.clear()
        arena.server.kill()
        self.kills += 1

    def kill_while_starting(self):
        """Migrations, recovery and the opening of files must survive it too."""
        self.revive_database()
        self.arena.server.spawn()
        time.sleep(self.arena.random.uniform(0, 0.08))
        self.arena.server.kill()
        self.kills += 1
        self.early_kills += 1

    def revive_database(self):
        if self.postgres and not self.postgres.child.running():
            self.postgres.start()

    def restart(self):
        self.revive_database()
        self.restarts.append(self.arena.server.start())
        self.arena.generation += 1
        self.arena.database_hurt = False
        self.arena.up.set()

    def check(self, when, seconds, *options):
        """`kontor check`, with the server down."""
        self.revive_database()
        found = self.arena.server.check(*options, seconds=seconds)
        if found and not found[0]:
            self.problems.append(f"check failed {when}:\n{found[1][-2000:]}")

    def finish(self):
        """Everything once more, a clean stop, and the server's own check of every digest."""
        arena, ledger = self.arena, self.arena.ledger
        if self.options.janitor:
            self.look_for_rubbish()
        everything, loose = list(ledger.pushes), [] if ledger.is_swept else list(ledger.loose)
        say(f"  verifying {len(everything)} pushes and {len(loose)} blobs")
        good = verify_all(ledger, arena.server, everything, loose)
        if good < len(everything) + len(loose) and not ledger.lost and not ledger.corrupt:
            self.problems.append("some pushes did not verify")
        if (code := arena.server.stop()) != arena.server.clean_exit:
            self.problems.append(f"{arena.server.name} ended with {code} when asked to stop")
        self.check("at the end", 600, "--digests")
        if self.postgres:
            self.postgres.stop()
        return self.report()

    def look_for_rubbish(self):
        """Hours pass, and what nobody needs is gone. Whatever was acknowledged is verified after that."""
        server, database = self.arena.server, janitor.Database(self.arena.server, self.postgres)
        # What one job takes away, such as the old chunks of a blob that was merged, is due only later for another.
        for _ in range(3):
            server.stop()
            database.age()
            server.start()
            if not (stays := janitor.rubbish_goes(database, 15)):
                break
        else:
            self.problems.append(f"rubbish stays: {stays}")
        if not self.arena.ledger.counts["deleted images"] or not self.arena.ledger.pushes:
            self.problems.append("nothing was deleted, or nothing was kept")

    def report(self):
        ledger = self.arena.ledger
        self.details()
        print(f"crash {self.database}: {self.kills} kills, {ledger.acknowledged} acknowledged pushes, "
              f"{len(ledger.lost)} lost, {len(ledger.corrupt)} corrupt", flush=True)
        return (not self.problems and not ledger.lost and not ledger.corrupt
                and self.kills >= self.options.kills and ledger.acknowledged > 0)

    def details(self):
        ledger, log, name = self.arena.ledger, self.arena.server.log, f"crash-{self.database}"
        if self.restarts:
            print(f"  restart: median {statistics.median(self.restarts) * 1000:.0f} ms, "
                  f"longest {max(self.restarts) * 1000:.0f} ms; {self.early_kills} kills while starting, "
                  f"{self.database_kills} with the database")
        print(f"  blobs acknowledged: {dict(ledger.styles)}")
        print(f"  {dict(ledger.counts)}")
        for kind, count in ledger.unexpected.most_common(10):
            print(f"  unexpected, {count} times: {kind}\n    e.g. {ledger.examples[kind]}")
        for what, found in (("LOST", ledger.lost), ("CORRUPT", ledger.corrupt)):
            for finding in list(found.values())[:10]:
                print(f"  {what}: {finding}")
        if panics := log.read_bytes().count(b"panicked at"):
            print(f"  the server's log holds {panics} panics, see {kept_log(log, name)}")
        if ledger.lost or ledger.corrupt or self.problems:
            print(f"  the server's log: {kept_log(log, name)}")
        for problem in self.problems:
            print(f"  PROBLEM: {problem}")


def kept_log(log, name):
    """The temporary directory goes away; a log that somebody has to read does not."""
    kept = processes.TARGET / "ci" / f"{name}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(log.read_bytes())
    return kept


def run_one(options, database):
    say(f"crash {database}: {options.kills} kills, seed {options.seed}")
    with processes.work_dir() as directory:
        return CrashTest(options, database, directory).run()
