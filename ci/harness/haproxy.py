"""A plain HAProxy with the configuration that the documentation recommends: docs/operate/haproxy.cfg."""

import os
import shutil
import socket
import time
from pathlib import Path

from harness import processes
from harness.processes import Child, answers, run

CONFIGURATION = processes.ROOT / "docs" / "operate" / "haproxy.cfg"

# What belongs to the machine and not to the registry.
GLOBAL = """\
global
    log stdout format raw local0
    stats socket {socket} mode 600
"""


def find_binary():
    """The program, or None. Debian keeps it where the path of ordinary users does not lead."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class HaProxy:
    def __init__(self, directory, port, nodes):
        """`nodes` are the ports of two servers."""
        self.dir, self.port, self.child = Path(directory), port, None
        self.dir.mkdir()
        self.log, self.socket = self.dir / "log", self.dir / "socket"
        text = CONFIGURATION.read_text()
        places = {":80\n": f"127.0.0.1:{self.port}\n", "10.0.0.11:8080": f"127.0.0.1:{nodes[0]}",
                  "10.0.0.12:8080": f"127.0.0.1:{nodes[1]}"}
        for written, ours in places.items():
            if text.count(written) != 1:
                raise RuntimeError(f"{CONFIGURATION} does not name {written!r} once")
            text = text.replace(written, ours)
        self.config, self.globals = self.dir / "haproxy.cfg", self.dir / "global.cfg"
        self.config.write_text(text)
        self.globals.write_text(GLOBAL.format(socket=self.socket))

    def start(self):
        argv = [find_binary(), "-db", "-f", self.globals, "-f", self.config]
        checked = run([*argv, "-c"])
        if checked.returncode or "[WARNING]" in checked.stderr:
            raise RuntimeError(f"haproxy does not like {CONFIGURATION}:\n{checked.stderr}")
        self.child = Child("haproxy", argv, log=self.log)
        if not processes.wait_until(lambda: answers(self.port), 20):
            raise RuntimeError(f"haproxy did not start:\n{self.child.log_tail()}")

    def states(self):
        """What it thinks of each node, such as `{"node1": "UP"}`."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket))
            connection.sendall(b"show stat\n")
            text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line]
        status = rows[0].index("status")
        return {row[1]: row[status].split()[0] for row in rows[1:] if row[0] == "nodes" and row[1] != "BACKEND"}

    def await_state(self, node, is_up, seconds=30):
        """Until it sends requests to a node, or does not any more; gives the seconds."""
        began = time.monotonic()
        if not processes.wait_until(lambda: (self.states()[node] == "UP") == is_up, seconds, 0.05):
            raise RuntimeError(f"haproxy still says {self.states()} after {seconds} s")
        return time.monotonic() - began

    def stop(self):
        if self.child and self.child.running():
            self.child.stop()
