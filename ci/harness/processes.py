"""Child processes, ports, memory figures, the description of the machine.

Why not `subprocess` alone: a test that kills servers all day must not leave one behind when it fails itself, so every
child is remembered here and ended on the way out, whichever way that is.
"""

import atexit
import contextlib
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

_children = []


def say(text):
    """One line to standard error; results go to standard output."""
    print(text, file=sys.stderr, flush=True)


class Child:
    """A started process with its log file. `session`: it is out of reach of the terminal's Ctrl-C."""

    def __init__(self, name, argv, env=None, log=None, cwd=None, session=False):
        self.name, self.log = name, log
        with open(log, "ab") if log else contextlib.nullcontext(subprocess.DEVNULL) as out:
            self.popen = subprocess.Popen(
                [str(a) for a in argv], env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=session
            )
        self.pid = self.popen.pid
        _children.append(self)

    def running(self):
        return self.popen.poll() is None

    def send(self, number):
        # poll() first: a reaped process's id may belong to somebody else by now.
        if self.running():
            self.popen.send_signal(number)

    def kill(self):
        """SIGKILL, and wait until it is really gone (its port and its files are free then)."""
        self.send(signal.SIGKILL)
        self.popen.wait(30)
        self._forget()

    def stop(self, seconds=20, number=signal.SIGTERM):
        """Asks politely. Returns the exit code, or None if it had to be killed."""
        self.send(number)
        try:
            code = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            say(f"{self.name} ({self.pid}) did not stop within {seconds} s, killed")
            self.kill()
            return None
        self._forget()
        return code

    def leave(self):
        """Lets it live on when this script ends."""
        self._forget()

    def _forget(self):
        if self in _children:
            _children.remove(self)

    def log_tail(self, lines=15):
        if not self.log or not os.path.exists(self.log):
            return ""
        with open(self.log, "rb") as file:
            file.seek(max(0, os.path.getsize(self.log) - 16384))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


@atexit.register
def end_all():
    for child in reversed(list(_children)):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            child.send(signal.SIGCONT)  # a frozen process cannot act on SIGTERM
            child.stop(5)


def bound(seconds):
    """Ends this script after `seconds`, and on SIGTERM, through the ordinary clean-up."""

    def end(number, _frame):
        reason = f"took longer than {seconds} s" if number == signal.SIGALRM else "terminated"
        raise SystemExit(f"error: {reason}")

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)


@contextlib.contextmanager
def work_dir(parent=None):
    """A temporary directory that other users may pass through (PostgreSQL runs as one). CI_KEEP=1 keeps it."""
    if parent:
        Path(parent).mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="kontor-ci.", dir=parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        if os.environ.get("CI_KEEP"):
            say(f"kept: {path}")
        else:
            end_all()
            shutil.rmtree(path, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_ports(count):
    """Several ports at once, below those that the system gives to outgoing connections: a server that takes long to
    start still finds its port free."""
    lowest_given_out = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports, candidates = [], random.SystemRandom().sample(range(10240, max(lowest_given_out, 12288)), 2000)
    while len(ports) < count:
        with contextlib.suppress(OSError), socket.socket() as probe:
            port = candidates.pop()
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def answers(port):
    """Whether something listens on the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False


def run(argv, seconds=120, **options):
    """Runs a command to its end and returns it with its output as text, whatever the exit code."""
    return subprocess.run(
        [str(a) for a in argv], timeout=seconds, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options
    )


def wait_until(condition, seconds, pause=0.005):
    """True as soon as the condition holds, False when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def _status_kib(pid, field):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise RuntimeError(f"no {field} in /proc/{pid}/status")


def resident_mib(pid):
    return _status_kib(pid, "VmRSS") / 1024


def resident_peak_mib(pid):
    """The highest resident size since `reset_peak`; the kernel keeps it, so no sample can miss it."""
    return _status_kib(pid, "VmHWM") / 1024


def reset_peak(pid):
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid):
    """The processor time that a process has used so far, in the kernel and out of it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine():
    """The line that must stand above every measurement."""
    cpu = "unknown CPU"
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, {platform.system()} {platform.release()}"


def file_system(path):
    found = run(["findmnt", "-no", "FSTYPE", "-T", path]) if shutil.which("findmnt") else None
    return (found and found.stdout.strip()) or "unknown file system"
