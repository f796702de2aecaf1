"""A real Keystone (Fernet tokens, SQLite, one process), set up for a registry and a Swift.

Making the database takes twenty seconds, so a template of it is kept in target/ci/cloud; only the addresses in the
catalogue change from start to start.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from harness import processes
from harness.cloud import identity, rest, venvs
from harness.processes import Child, run

REGION = "RegionOne"
ADMIN, ADMIN_PASSWORD = "admin", "admin-password-of-the-cloud"
SWIFT, SWIFT_PASSWORD = "swift", "swift-password-of-the-cloud"
# The registry's own user. `service`: it may have others' tokens checked; `ResellerAdmin`: it reaches every account.
REGISTRY, REGISTRY_PASSWORD = "registry", "registry-password-of-the-cloud"
SERVICE_PROJECT = "service"
TENANT_DOMAIN = "tenants"
# Tenants, each with one project of their own: name -> (password, project, role).
TENANTS = {
    "alice": ("alice-password-of-the-cloud", "project-one", "member"),
    "bob": ("bob-password-of-the-cloud", "project-two", "member"),
    "reader": ("reader-password-of-the-cloud", "project-one", "reader"),
}

CONFIGURATION = """\
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{directory}/keystone.db
[token]
provider = fernet
expiration = {token_seconds}
[fernet_tokens]
key_repository = {directory}/fernet
[credential]
key_repository = {directory}/credential
# Without a cache a token's validation takes a second. One process, so the cache is never wrong.
[cache]
enabled = true
backend = dogpile.cache.memory
[identity]
password_hash_rounds = 4
[oslo_messaging_notifications]
driver = noop
"""


class Keystone:
    def __init__(self, directory, port, environment, token_seconds=3600):
        self.dir, self.port, self.venv, self.token_seconds = Path(directory), port, environment, token_seconds
        self.url = f"http://127.0.0.1:{port}/v3"
        self.log = self.dir / "log"
        self.facts = {}  # what the set-up gave: ids, EC2 keys, endpoint ids
        self.child = None

    def _settings(self):
        path = f"{self.venv / 'bin'}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "OS_KEYSTONE_CONFIG_DIR": str(self.dir),
                "OS_KEYSTONE_CONFIG_FILES": "keystone.conf"}

    @staticmethod
    def _template(venv):
        """The folder of the template; another one when this file or the installed packages change."""
        files = (__file__, identity.__file__, Path(__file__).with_name("openstack.txt"))
        made_of = b"".join(Path(file).read_bytes() for file in files) + str(venv).encode()
        return venvs.ROOT / f"keystone-{hashlib.sha256(made_of).hexdigest()[:12]}"

    def start(self):
        template = self._template(self.venv)
        from_template = (template / "facts.json").exists()
        if from_template:
            shutil.copytree(template, self.dir)
        else:
            self.dir.mkdir(parents=True)
        (self.dir / "keystone.conf").write_text(
            CONFIGURATION.format(directory=self.dir, token_seconds=self.token_seconds))
        if not from_template:
            self._make_database()
        self.child = Child("keystone", [self.venv / "bin" / "python", Path(__file__).with_name("inside") / "serve_keystone.py",
                                        self.port], env=self._settings(), log=self.log, session=True)
        if not processes.wait_until(self._ready, 90, 0.05):
            raise RuntimeError(f"Keystone did not start:\n{self.child.log_tail()}")
        if from_template:
            self.facts = json.loads((self.dir / "facts.json").read_text())
        else:
            self._set_up()
            self._keep(template)

    def _ready(self):
        if not self.child.running():
            raise RuntimeError(f"Keystone ended:\n{self.child.log_tail()}")
        try:
            return rest.call("GET", self.url).status == 200
        except OSError:
            return False

    def _make_database(self):
        owner = ["--keystone-user", str(os.geteuid()), "--keystone-group", str(os.getegid())]
        for name in ("fernet", "credential"):
            (self.dir / name).mkdir(mode=0o700)
        for words in (["db_sync"], ["fernet_setup", *owner], ["credential_setup", *owner],
                      ["bootstrap", "--bootstrap-password", ADMIN_PASSWORD, "--bootstrap-region-id", REGION,
                       *(f"--bootstrap-{kind}-url={self.url}" for kind in ("public", "internal", "admin"))]):
            done = run([self.venv / "bin" / "keystone-manage", "--config-file", self.dir / "keystone.conf", *words],
                       120, env=self._settings())
            if done.returncode:
                raise RuntimeError(f"keystone-manage {words[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")

    def token(self, user, password, project, domain="Default"):
        """A project's token and what stands in it."""
        answer = rest.call("POST", f"{self.url}/auth/tokens", body={"auth": {
            "identity": {"methods": ["password"], "password": {
                "user": {"name": user, "password": password, "domain": {"name": domain}}}},
            "scope": {"project": {"name": project, "domain": {"name": domain}}}}}, statuses=(201,))
        return answer.headers["X-Subject-Token"], answer.json()["token"]

    def _admin(self):
        headers = {"X-Auth-Token": self.token(ADMIN, ADMIN_PASSWORD, "admin")[0]}

        def ask(method, path, body=None):
            answer = rest.call(method, self.url + path, headers, body, statuses=(200, 201, 204))
            return answer.json() if answer.body else None

        return ask

    def _set_up(self):
        """Roles, the service project with its users, the catalogue's Swift, tenants, EC2 keys."""
        ask = self._admin()

        def make(kind, **fields):
            return ask("POST", f"/{kind}s", {kind: fields})[kind]["id"]

        roles = {role["name"]: role["id"] for role in ask("GET", "/roles")["roles"]}
        roles["ResellerAdmin"] = make("role", name="ResellerAdmin")

        def grant(project, user, *names):
            for name in names:
                ask("PUT", f"/projects/{project}/users/{user}/roles/{roles[name]}")

        service = make("project", name=SERVICE_PROJECT, domain_id="default")
        swift = make("user", name=SWIFT, password=SWIFT_PASSWORD, domain_id="default")
        registry = make("user", name=REGISTRY, password=REGISTRY_PASSWORD, domain_id="default")
        grant(service, swift, "service")
        grant(service, registry, "service", "ResellerAdmin")
        ec2 = ask("POST", f"/users/{registry}/credentials/OS-EC2", {"tenant_id": service})["credential"]

        domain = make("domain", name=TENANT_DOMAIN)
        projects = {name: make("project", name=name, domain_id=domain) for name in
                    dict.fromkeys(project for _, project, _ in TENANTS.values())}
        for name, (password, project, role) in TENANTS.items():
            grant(projects[project], make("user", name=name, password=password, domain_id=domain), role)

        object_store = make("service", name="swift", type="object-store")
        for interface in ("public", "internal", "admin"):
            make("endpoint", service_id=object_store, interface=interface, url="http://127.0.0.1/", region_id=REGION)
        self.facts = {"service_project": service, "projects": projects,
                      "ec2": {"access": ec2["access"], "secret": ec2["secret"]},
                      "identity": identity.populate(self, ask, (domain, projects, roles))}

    def identity(self):
        """What the tests of the driver `keystone` need to know."""
        return {"auth_url": self.url, "domain": TENANT_DOMAIN, "projects": self.facts["projects"],
                "admin": {"user": ADMIN, "password": ADMIN_PASSWORD, "project": "admin", "domain": "Default"},
                "service": {"user": REGISTRY, "password": REGISTRY_PASSWORD, "project": SERVICE_PROJECT, "domain": "Default"},
                "passwords": {name: password for name, (password, _, _) in TENANTS.items()},
                **self.facts["identity"]}

    def _keep(self, template):
        """Another script may do the same at the same time: the first one to rename wins."""
        template.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="keystone.", dir=template.parent))
        with closing(sqlite3.connect(self.dir / "keystone.db")) as live, \
                closing(sqlite3.connect(folder / "keystone.db")) as copy:
            live.backup(copy)
        for name in ("fernet", "credential"):
            shutil.copytree(self.dir / name, folder / name)
        (folder / "facts.json").write_text(json.dumps(self.facts))
        try:
            folder.rename(template)
        except OSError:
            shutil.rmtree(folder)

    def publish(self, swift_url):
        """Writes today's addresses into the catalogue."""
        ask = self._admin()
        kinds = {service["id"]: service["type"] for service in ask("GET", "/services")["services"]}
        for endpoint in ask("GET", "/endpoints")["endpoints"]:
            if not swift_url and kinds[endpoint["service_id"]] != "identity":
                continue
            kind, admin = kinds[endpoint["service_id"]], endpoint["interface"] == "admin"
            url = self.url if kind == "identity" else swift_url if admin else f"{swift_url}/v1/AUTH_$(project_id)s"
            ask("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"url": url}})
