"""The registries under test, started the way an operator would, each on its own port and data directory."""

import http.client
import os
import shutil
import subprocess
import time
from pathlib import Path

from harness import processes
from harness.client import Client
from harness.processes import Child, free_port, run, say

PASSWORD = "admin-password-of-the-tests"
START_SECONDS = 60


class Server:
    """What both have in common. `start` may be called again after `kill` or `stop`: same port, same data."""

    name = "?"
    login = None
    sha512 = True
    clean_exit = 0

    def __init__(self, directory):
        self.dir, self.port, self.child = Path(directory), free_port(), None
        self.dir.mkdir(parents=True, exist_ok=True)
        self.data = self.dir / "data"
        self.log = self.dir / "log"

    @property
    def pid(self):
        return self.child.pid

    def client(self, **options):
        return Client(self.port, self.login, **options)

    def spawn(self):
        """Starts the process and does not wait for it."""
        self.child = Child(self.name, self.argv(), env={**os.environ, **self.environment()}, log=self.log)

    def start(self, seconds=START_SECONDS):
        """Starts and waits until it is ready; returns the seconds that this took."""
        began = time.perf_counter()
        self.spawn()
        if not processes.wait_until(lambda: self.ready() or not self.child.running(), seconds, 0.001) \
                or not self.child.running():
            raise RuntimeError(f"{self.name} did not start:\n{self.child.log_tail()}")
        return time.perf_counter() - began

    def ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self):
        self.child.kill()

    def stop(self):
        return self.child.stop()

    def check(self, *_options, seconds=600):
        """The server's own check of its data: `(passed, output)`, or None where there is none."""
        return None


class Kontor(Server):
    """kontor with a bearer token checked at each request; SQLite unless a database is given, a folder unless a
    configuration file says otherwise."""

    name = "kontor"
    login = ("admin", PASSWORD)
    ready_path = "/readyz"
    namespace = "demo/"

    def __init__(self, directory, binary, database_url=None, log_level="warn", config=None):
        super().__init__(directory)
        self.binary, self.database_url, self.log_level, self.config = binary, database_url, log_level, config
        self.settings = {}  # more variables of the environment

    def argv(self):
        return [self.binary, "serve", "--data-dir", self.data]

    def admin(self, *words, seconds=60):
        """Runs `kontor WORDS...` as administrator of the running server; raises if it fails."""
        done = run([self.binary, *words, "--server", f"http://127.0.0.1:{self.port}", "--user", "admin"], seconds,
                   env={**os.environ, "KONTOR_PASSWORD": PASSWORD})
        if done.returncode:
            raise RuntimeError(f"kontor {' '.join(map(str, words))}: {(done.stdout + done.stderr).strip()}")
        return done.stdout

    def environment(self):
        settings = {
            "KONTOR__SERVER__LISTEN": f"127.0.0.1:{self.port}",
            "KONTOR__AUTH__INITIAL_ADMIN_PASSWORD": PASSWORD,
            "KONTOR__LOG__LEVEL": self.log_level,
            **self.settings,
        }
        if self.database_url:
            settings["KONTOR__DATABASE__URL"] = self.database_url
        if self.config:
            settings["KONTOR_CONFIG"] = str(self.config)
        return settings

    def check(self, *options, seconds=600):
        done = run([self.binary, "check", "--data-dir", self.data, *options], seconds,
                   env={**os.environ, **self.environment()})
        return done.returncode == 0, (done.stdout + done.stderr).strip()

    def version(self):
        return run([self.binary, "--version"]).stdout.strip()


class DockerRegistry(Server):
    """Debian's docker-registry 2.8: anonymous, no access log, deletes enabled, as its package caches descriptors."""

    name = "docker-registry"
    ready_path = "/v2/"
    namespace = "demo/"
    sha512 = False
    clean_exit = -15  # it does not catch SIGTERM
    binary = shutil.which("docker-registry")

    def argv(self):
        config = self.dir / "config.yml"
        config.write_text(
            "version: 0.1\n"
            "log: {level: warn, accesslog: {disabled: true}}\n"
            f"storage: {{cache: {{blobdescriptor: inmemory}}, delete: {{enabled: true}}, "
            f"filesystem: {{rootdirectory: {self.data}}}}}\n"
            f"http: {{addr: '127.0.0.1:{self.port}', secret: one-for-all-restarts}}\n")
        return [self.binary, "serve", config]

    def environment(self):
        # The variables of somebody's shell must not change the configuration.
        for name in [n for n in os.environ if n.startswith("REGISTRY_")]:
            del os.environ[name]
        return {"OTEL_TRACES_EXPORTER": "none"}

    def version(self):
        words = run([self.binary, "--version"]).stdout.split()
        return f"docker-registry {words[-1]}" if words else "docker-registry"


def kontor_binary(profile, build, given=None):
    """The binary to run: `given`, or the one of the profile, built with cargo if asked for or missing."""
    if given:
        if not os.access(given, os.X_OK):
            raise SystemExit(f"error: there is no {given}")
        return Path(given).resolve()
    path = processes.TARGET / profile / "kontor"
    if build or not path.exists():
        say(f"building kontor ({profile})")
        command = ["cargo", "build", "--locked", "--bin", "kontor", *(["--release"] if profile == "release" else [])]
        if subprocess.run(command, cwd=processes.ROOT).returncode:
            raise SystemExit("error: kontor does not build")
    return path
