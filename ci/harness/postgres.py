"""A PostgreSQL server of our own that may be killed: the system's one is never touched."""

import glob
import os
import shutil
import signal
import time
from pathlib import Path

from harness.processes import Child, free_port, run


def find_binaries():
    """The directory with initdb and postgres of the newest installed version, or None."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[-2].split(".")[0]))
    if on_path := shutil.which("postgres"):
        found.insert(0, str(Path(on_path).resolve().parent))
    complete = [Path(p) for p in found if Path(p, "initdb").exists() and Path(p, "pg_isready").exists()]
    return complete[-1] if complete else None


class Postgres:
    """Durable settings (fsync on): a test of crashes is worth nothing without them."""

    def __init__(self, directory):
        self.bin = find_binaries()
        if not self.bin:
            raise RuntimeError("no PostgreSQL server found")
        self.dir, self.port, self.child = Path(directory), free_port(), None
        self.dir.mkdir()
        self.log = self.dir.parent / "postgres.log"
        self.become = []
        if os.geteuid() == 0:  # initdb refuses root
            shutil.chown(self.dir, "postgres")
            self.become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        done = run(
            [*self.become, self.bin / "initdb", "-D", self.dir / "data", "-A", "trust", "-U", "kontor", "-E", "UTF8",
             "--locale=C", "--no-sync"], cwd="/")
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")

    def url(self, database):
        return f"postgres://kontor@127.0.0.1:{self.port}/{database}"

    def start(self, seconds=60):
        """Starts, or starts again after a kill. The children of a killed postmaster live on for a moment and hold
        the shared memory, so the first tries may be refused."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.child = Child(
                "postgres",
                [*self.become, self.bin / "postgres", "-D", self.dir / "data", "-h", "127.0.0.1", "-p", self.port, "-k",
                 self.dir, "-c", "max_connections=200", "-c", "fsync=on", "-c", "synchronous_commit=on"],
                log=self.log, cwd="/")
            while self.child.running() and time.monotonic() < end:
                if run([self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", self.port]).returncode == 0:
                    return
                time.sleep(0.02)
            self.child.kill()
            time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL did not start:\n{self.child.log_tail()}")

    def create_database(self, name):
        done = run([self.bin / "createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "kontor", name])
        if done.returncode:
            raise RuntimeError(f"createdb failed: {done.stderr}")
        return self.url(name)

    def kill(self):
        """SIGKILL to the postmaster: its children notice and leave without a shutdown checkpoint."""
        self.child.kill()

    def stop(self):
        if self.child and self.child.running():
            self.child.stop(20, signal.SIGINT)  # "fast": does not wait for clients
