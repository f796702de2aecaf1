"""A real OpenID provider on the loopback interface: npm's oidc-provider, with device logins, tokens for machines and a
way to say yes without a browser (see server.mjs).

Its packages are installed once for each lock file, into target/ci/oidc; no script of a package is run.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from harness import processes
from harness.processes import Child, run, say

HERE = Path(__file__).resolve().parent
ROOT = processes.TARGET / "ci" / "oidc"
ROBOT, ROBOT_SECRET = "kontor-robot", "robot-secret-of-the-tests"
INSTALL_SECONDS, START_SECONDS = 300, 30


class NotInstalled(RuntimeError):
    """The provider cannot be had; the message says why."""


def packages():
    """The folder with node_modules."""
    for command in ("node", "npm"):
        if not shutil.which(command):
            raise NotInstalled(f"there is no {command} (Debian: nodejs, npm)")
    folder = ROOT / hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    if not folder.exists():
        say(f"installing oidc-provider into {folder}")
        ROOT.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=ROOT))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, made)
        done = run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], INSTALL_SECONDS, cwd=made)
        if done.returncode:
            shutil.rmtree(made, ignore_errors=True)
            raise NotInstalled(f"npm ci failed: {(done.stdout + done.stderr)[-1000:]}")
        # Another script may do the same at the same time: the first one to rename wins.
        with contextlib.suppress(OSError):
            made.rename(folder)
        shutil.rmtree(made, ignore_errors=True)
    return folder


class OidcProvider:
    """`start`, then `environment` says where it is. It does not outlive the script."""

    def __init__(self, directory):
        self.log = Path(directory) / "oidc.log"
        self.issuer = self.child = None

    def start(self):
        folder = packages()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.child = Child("oidc-provider", ["node", HERE / "server.mjs", folder], log=self.log)
        if not processes.wait_until(self._ready, START_SECONDS, 0.05):
            raise RuntimeError(f"the OpenID provider did not start:\n{self.child.log_tail()}")

    def _ready(self):
        if not self.child.running():
            raise RuntimeError(f"the OpenID provider ended:\n{self.child.log_tail()}")
        for line in self.log.read_text().splitlines():
            if line.startswith("ready "):
                self.issuer = line.split()[1]
        return self.issuer is not None

    def stop(self):
        self.child.stop()

    def environment(self):
        """The variables of the tests."""
        return {"KONTOR_TEST_OIDC_ISSUER": self.issuer, "KONTOR_TEST_OIDC_ROBOT": ROBOT,
                "KONTOR_TEST_OIDC_ROBOT_SECRET": ROBOT_SECRET}


@contextlib.contextmanager
def given_or_started(directory):
    """The variables of the provider that this script runs beside, or of one that lives as long as the block."""
    if os.environ.get("KONTOR_TEST_OIDC_ISSUER"):
        yield {name: value for name, value in os.environ.items() if name.startswith("KONTOR_TEST_OIDC_")}
        return
    provider = OidcProvider(directory)
    provider.start()
    try:
        yield provider.environment()
    finally:
        provider.stop()
