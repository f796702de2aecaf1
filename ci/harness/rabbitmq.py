"""A RabbitMQ of Debian as a child process on loopback, with its own directory and its own port mapper; and a reader."""

import glob
import os
import shutil
import sys

from harness import processes
from harness.cloud import venvs
from harness.processes import Child, free_ports, run, say

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
START_SECONDS = 120


class NotInstalled(RuntimeError):
    """The broker or the reader's library cannot be had; the message says why."""


def _install():
    if os.path.exists(SERVER):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NotInstalled("missing Debian package: rabbitmq-server")
    say("installing rabbitmq-server")
    run(["apt-get", "update"], 300)
    run(["apt-get", "install", "-y", "--no-install-recommends", "rabbitmq-server"], 600,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if not os.path.exists(SERVER):
        raise NotInstalled("apt-get could not install rabbitmq-server")


def load_pika():
    """The module `pika`, from an environment of its own."""
    try:
        folder = venvs.pika()
    except venvs.NotInstalled as error:
        raise NotInstalled(str(error)) from error
    sys.path[:0] = glob.glob(str(folder / "lib" / "python3*" / "site-packages"))
    import pika
    return pika


class RabbitMq:
    """`start` may be called again after `stop` or `kill`: same port, same data."""

    def __init__(self, directory):
        _install()
        self.dir = directory
        self.port, distribution, self.epmd = free_ports(3)
        for folder in ("mnesia", "log"):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        cookie = directory / ".erlang.cookie"
        cookie.write_text("KONTORCI")
        cookie.chmod(0o400)
        (directory / "plugins").write_text("[].")
        self.environment = {
            **os.environ,
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "kontor@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self.child = None

    @property
    def url(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2f"

    def start(self):
        self.child = Child("rabbitmq", [SERVER], env=self.environment, log=self.dir / "out")
        ready = lambda: processes.answers(self.port) or not self.child.running()
        if not processes.wait_until(ready, START_SECONDS, 0.1) or not self.child.running():
            raise RuntimeError(f"rabbitmq did not start:\n{self.child.log_tail()}")

    def stop(self):
        self.child.stop(60)
        if not processes.wait_until(lambda: not processes.answers(self.port), 60, 0.1):
            raise RuntimeError("rabbitmq still listens")

    def end(self):
        """Stops it, and the port mapper that Erlang leaves behind."""
        if self.child and self.child.running():
            self.stop()
        mapper = shutil.which("epmd")
        if mapper:
            run([mapper, "-kill"], env=self.environment)
