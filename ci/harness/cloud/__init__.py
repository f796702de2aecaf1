"""A cloud on the loopback interface: a real Keystone, a real Swift (with its S3 interface), and SeaweedFS for S3.

Whoever needs it calls `given_or_started`: inside `ci/cloud run` that is the cloud which already runs.
"""

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

from harness.cloud import keystone, seaweed, swift, venvs
from harness.processes import free_ports, say

STOP_SECONDS = 5
FOLDERS = ("keystone", "swift", "seaweed")
FILES = ("env", "storage.toml", "identity.json")

# For kontor --config. The buckets and containers start with kontor-, so that a script can put its own name there.
STORAGE = """\
[storage.swift]
kind = "swift"
auth_url = "{KONTOR_TEST_SWIFT_AUTH_URL}"
user = "{KONTOR_TEST_SWIFT_USER}"
user_domain = "{KONTOR_TEST_SWIFT_DOMAIN}"
password = "{KONTOR_TEST_SWIFT_PASSWORD}"
project = "{KONTOR_TEST_SWIFT_PROJECT}"
project_domain = "{KONTOR_TEST_SWIFT_DOMAIN}"
region = "{KONTOR_TEST_SWIFT_REGION}"
interface = "public"
container_project = "service"
container_prefix = "{name}-"

[storage.s3]
kind = "s3"
endpoint = "{KONTOR_TEST_S3_ENDPOINT}"
region = "{KONTOR_TEST_S3_REGION}"
access_key_id = "{KONTOR_TEST_S3_ACCESS_KEY_ID}"
secret_access_key = "{KONTOR_TEST_S3_SECRET_ACCESS_KEY}"
bucket = "{name}-{{account}}"
create_buckets = true

[storage.swift-s3]
kind = "s3"
endpoint = "{KONTOR_TEST_SWIFT_S3_ENDPOINT}"
region = "{KONTOR_TEST_SWIFT_S3_REGION}"
access_key_id = "{KONTOR_TEST_SWIFT_S3_ACCESS_KEY_ID}"
secret_access_key = "{KONTOR_TEST_SWIFT_S3_SECRET_ACCESS_KEY}"
bucket = "{name}-s3-{{account}}"
create_buckets = true
"""
BACKENDS = ("swift", "s3", "swift-s3")


def storage_toml(environment, name="kontor"):
    """The object-store backends for a kontor's configuration file. Two kontors in one cloud need two names."""
    return STORAGE.format(name=name, **environment)


class Cloud:
    """All three. `start`, then `environment` says where they are; nothing outlives the script unless `leave` is
    called."""

    def __init__(self, directory, token_seconds=None, keystone_only=False):
        self.keystone_only = keystone_only
        self.dir = Path(directory).resolve()
        self.token_seconds = int(token_seconds or os.environ.get("TOKEN_TTL") or 3600)
        self.keystone = self.swift = self.seaweed = None

    def start(self):
        if taken := [name for name in FOLDERS if (self.dir / name).exists()]:
            raise RuntimeError(f"there is something in {self.dir} already: {' '.join(taken)}")
        openstack, weed = (venvs.openstack(), None) if self.keystone_only else venvs.openstack_and_seaweed()
        self.dir.mkdir(parents=True, exist_ok=True)
        ports = free_ports(5 + len(seaweed.PORTS))
        self.keystone = keystone.Keystone(self.dir / "keystone", ports[0], openstack, self.token_seconds)
        if not self.keystone_only:
            self.swift = swift.Swift(self.dir / "swift", ports[1:5], openstack, self.keystone.url)
            self.seaweed = seaweed.Seaweed(self.dir / "seaweed", ports[5:], weed)
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(self._give_up)
            if self.seaweed:
                self.seaweed.start()
            self.keystone.start()
            if self.swift:
                self.swift.start()
            self.keystone.publish(self.swift.url if self.swift else None)
            stack.pop_all()
        (self.dir / "identity.json").write_text(json.dumps(self.keystone.identity(), indent=1))
        if not self.keystone_only:
            (self.dir / "storage.toml").write_text(storage_toml(self.environment()))
        (self.dir / "env").write_text("".join(f"{name}={value}\n" for name, value in self.environment().items()))
        say(f"the cloud runs after {time.monotonic() - began:.1f} s")

    def _give_up(self):
        self.stop()
        if not os.environ.get("CI_KEEP"):
            for name in FOLDERS:
                shutil.rmtree(self.dir / name, ignore_errors=True)

    def _children(self):
        """Each with the signal that ends it. On SIGTERM weed takes seventeen seconds; its data is thrown away anyway."""
        found = [(getattr(self.seaweed, "child", None), signal.SIGKILL), (getattr(self.keystone, "child", None), signal.SIGTERM)]
        found += [(child, signal.SIGTERM) for child in getattr(self.swift, "children", [])]
        return [(child, number) for child, number in found if child]

    def sockets(self):
        """Files that are left when the processes are gone."""
        return self.seaweed.sockets() if self.seaweed else []

    def leave(self):
        """They go on when the script ends. Returns them with their signals, for whoever is to stop them one day."""
        for child, _ in self._children():
            child.leave()
        return self._children()

    def stop(self):
        for child, number in self._children():
            child.send(number)
        end = time.monotonic() + STOP_SECONDS
        for child, number in self._children():
            child.stop(max(0.1, end - time.monotonic()), number)
        for path in self.sockets():
            Path(path).unlink(missing_ok=True)

    def environment(self):
        """The variables of the tests. More than one script and the Rust tests know their names."""
        identity = {"KONTOR_TEST_KEYSTONE_FILE": str(self.dir / "identity.json")}
        return identity if self.keystone_only else {**self._storage_environment(), **identity}

    def _storage_environment(self):
        tenant_password, tenant_project, _ = keystone.TENANTS["alice"]
        ec2 = self.keystone.facts["ec2"]
        return {
            "KONTOR_TEST_SWIFT_AUTH_URL": self.keystone.url,
            "KONTOR_TEST_SWIFT_USER": keystone.REGISTRY,
            "KONTOR_TEST_SWIFT_PASSWORD": keystone.REGISTRY_PASSWORD,
            "KONTOR_TEST_SWIFT_PROJECT": keystone.SERVICE_PROJECT,
            "KONTOR_TEST_SWIFT_DOMAIN": "Default",
            "KONTOR_TEST_SWIFT_REGION": keystone.REGION,
            # A tenant of the cloud with a project of its own, for `container_project = "tenant"`.
            "KONTOR_TEST_SWIFT_TENANT_DOMAIN": keystone.TENANT_DOMAIN,
            "KONTOR_TEST_SWIFT_TENANT_USER": "alice",
            "KONTOR_TEST_SWIFT_TENANT_PASSWORD": tenant_password,
            "KONTOR_TEST_SWIFT_TENANT_PROJECT": tenant_project,
            "KONTOR_TEST_SWIFT_TENANT_PROJECT_ID": self.keystone.facts["projects"][tenant_project],
            "KONTOR_TEST_S3_ENDPOINT": self.seaweed.url,
            "KONTOR_TEST_S3_ACCESS_KEY_ID": seaweed.ACCESS_KEY_ID,
            "KONTOR_TEST_S3_SECRET_ACCESS_KEY": seaweed.SECRET_ACCESS_KEY,
            "KONTOR_TEST_S3_REGION": seaweed.REGION,
            "KONTOR_TEST_SWIFT_S3_ENDPOINT": self.swift.url,
            "KONTOR_TEST_SWIFT_S3_ACCESS_KEY_ID": ec2["access"],
            "KONTOR_TEST_SWIFT_S3_SECRET_ACCESS_KEY": ec2["secret"],
            "KONTOR_TEST_SWIFT_S3_REGION": swift.S3_REGION,
            "KONTOR_CLOUD": str(self.dir),
        }


@contextlib.contextmanager
def given_or_started(directory):
    """The variables of the cloud that this script runs in, or of one that lives as long as the block."""
    if os.environ.get("KONTOR_CLOUD"):
        yield {name: value for name, value in os.environ.items() if name.startswith(("KONTOR_TEST_", "KONTOR_CLOUD"))}
        return
    cloud = Cloud(directory)
    cloud.start()
    try:
        yield cloud.environment()
    finally:
        cloud.stop()
