"""A real Swift: proxy, object, container and account server, one replica in one folder, Keystone for who may do what,
and its S3 interface with Keystone's EC2 keys.
"""

import os
from pathlib import Path

from harness import processes
from harness.cloud import keystone, rest
from harness.processes import Child, run

S3_REGION = "us-east-1"

# What stands between the servers must not give up on a busy machine: a container update that times out is only
# repeated by a daemon that does not run here, so a listing would lack the object for ever. And a server that is
# slow ten times is not asked for a minute: with only one of them that is an outage.
SERVER = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
devices = {devices}
mount_check = false
disable_fallocate = true
log_level = WARNING
conn_timeout = 10
node_timeout = 60
container_update_timeout = 60
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
[{kind}-replicator]
[{kind}-auditor]
[{kind}-updater]
"""

# authtoken stands before s3api: after it, it would take away the identity that s3token has found.
PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
log_level = INFO
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging listing_formats bulk tempurl authtoken s3api s3token \
keystoneauth copy container-quotas account-quotas slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
conn_timeout = 10
node_timeout = 60
recoverable_node_timeout = 60
error_suppression_limit = 1000000
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:tempurl]
use = egg:swift#tempurl
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {keystone}
{service_login}
delay_auth_decision = true
include_service_catalog = false
[filter:s3api]
use = egg:swift#s3api
location = {s3_region}
[filter:s3token]
use = egg:swift#s3token
auth_uri = {keystone}
{service_login}
delay_auth_decision = true
reseller_prefix = AUTH_
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
reseller_admin_role = ResellerAdmin
[filter:copy]
use = egg:swift#copy
[filter:container-quotas]
use = egg:swift#container_quotas
[filter:account-quotas]
use = egg:swift#account_quotas
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
"""

LOGIN = """\
auth_url = {keystone}
auth_type = password
username = {user}
password = {password}
project_name = {project}
user_domain_id = default
project_domain_id = default"""

CLUSTER = """\
[swift-hash]
swift_hash_path_prefix = of-the-tests
swift_hash_path_suffix = of-the-tests
[storage-policy:0]
name = Policy-0
default = yes
"""


class Swift:
    KINDS = ("account", "container", "object")

    def __init__(self, directory, ports, environment, keystone_url):
        self.dir, self.venv, self.keystone_url = Path(directory), environment, keystone_url
        self.port, *others = ports
        self.ports = dict(zip(self.KINDS, others))
        self.url = f"http://127.0.0.1:{self.port}"
        self.children = []

    def start(self):
        etc = self.dir / "etc"
        etc.mkdir(parents=True)
        (self.dir / "devices" / "d1").mkdir(parents=True)
        (etc / "swift.conf").write_text(CLUSTER)
        done = run([self.venv / "bin" / "python", Path(__file__).with_name("inside") / "make_rings.py", etc,
                    *(f"{kind}={port}" for kind, port in self.ports.items())])
        if done.returncode:
            raise RuntimeError(f"Swift's rings were not made: {done.stderr[-1000:]}")
        import pwd  # not on every system

        values = {"etc": etc, "devices": self.dir / "devices", "user": pwd.getpwuid(os.geteuid()).pw_name}
        for kind, port in self.ports.items():
            self._spawn(kind, SERVER.format(kind=kind, port=port, **values))
        login = LOGIN.format(keystone=self.keystone_url, user=keystone.SWIFT, password=keystone.SWIFT_PASSWORD,
                             project=keystone.SERVICE_PROJECT)
        self._spawn("proxy", PROXY.format(port=self.port, keystone=self.keystone_url, service_login=login,
                                          s3_region=S3_REGION, **values))
        if not processes.wait_until(self._ready, 90, 0.05):
            raise RuntimeError(f"Swift did not start:\n{self._tails()}")

    def _spawn(self, kind, configuration):
        path = self.dir / "etc" / f"{kind}-server.conf"
        path.write_text(configuration)
        self.children.append(Child(
            f"swift-{kind}", [self.venv / "bin" / f"swift-{kind}-server", path, "-v"],
            env={**os.environ, "PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}"},
            log=self.dir / f"{kind}.log", session=True))

    def _ready(self):
        if dead := [child for child in self.children if not child.running()]:
            raise RuntimeError(f"{dead[0].name} ended:\n{dead[0].log_tail()}")
        try:
            return rest.call("GET", f"{self.url}/healthcheck").status == 200 and \
                all(processes.answers(port) for port in self.ports.values())
        except OSError:
            return False

    def _tails(self):
        return "\n".join(f"{child.name}: {child.log_tail(5)}" for child in self.children)
