"""Python environments with the servers in them, made once under target/ci/cloud for each list of packages."""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import processes
from harness.processes import run, say

ROOT = processes.TARGET / "ci" / "cloud"
INSTALL_SECONDS = 1200


class NotInstalled(RuntimeError):
    """The servers cannot be had; the message says why."""


def _make(folder, requirements):
    shutil.rmtree(folder, ignore_errors=True)
    done = run(["python3", "-m", "venv", folder])
    if done.returncode and os.geteuid() == 0 and shutil.which("apt-get"):
        # Debian keeps venv apart from Python.
        run(["apt-get", "update"], 300)
        run(["apt-get", "install", "-y", "--no-install-recommends", "python3-venv"], 300,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        shutil.rmtree(folder, ignore_errors=True)
        done = run(["python3", "-m", "venv", folder])
    if done.returncode:
        raise NotInstalled(f"python3 -m venv failed (Debian: python3-venv): {(done.stdout + done.stderr)[-500:]}")
    done = run([folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
                "--requirement", requirements], INSTALL_SECONDS)
    if done.returncode:
        raise NotInstalled(f"pip could not install {requirements.name}: {(done.stdout + done.stderr)[-1000:]}")


def _find(name):
    """The environment for <name>.txt. KONTOR_CI_<NAME>_VENV names one that is used as it is."""
    if given := os.environ.get(f"KONTOR_CI_{name.upper()}_VENV"):
        return Path(given)
    requirements = Path(__file__).with_name(f"{name}.txt")
    folder = ROOT / f"{name}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    mark = folder / ".complete"
    if not mark.exists():
        say(f"installing {name} into {folder}")
        _make(folder, requirements)
        mark.touch()
    return folder


def openstack_and_seaweed():
    """Both, installed at the same time."""
    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(_find, ("openstack", "seaweed")))


def openstack():
    """Keystone and Swift."""
    return _find("openstack")


def pika():
    """A client of RabbitMQ."""
    return _find("pika")
