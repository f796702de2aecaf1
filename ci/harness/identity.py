"""Logins of real clients at a kontor that knows a real Keystone, a real OpenID provider and local users.

Each function named `check_...` is one story; it fails by an exception. Clients are skopeo and buildah, docker's command
line where there is one, and kontor itself; requests that no client makes go out by hand.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlencode

from harness import oidc, processes
from harness.cloud import keystone, rest
from harness.cloud import identity as people
from harness.processes import run, say
from harness.servers import PASSWORD, Kontor

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
LOGIN_SECONDS = 60


def need(condition, what):
    if not condition:
        raise AssertionError(what)


def settings(facts, issuer):
    """kontor's configuration. The policy lets readers pull and members push, as the built-in one does."""
    service = facts["service"]
    return f"""
[openstack]
auth_url = "{facts['auth_url']}"
user = "{service['user']}"
user_domain = "{service['domain']}"
password = "{service['password']}"
project = "{service['project']}"
project_domain = "{service['domain']}"

[auth.keystone]
cache_seconds = 2

[auth.oidc.people]
issuer = "{issuer}"
audiences = ["kontor-cli"]
client_id = "kontor-cli"
user = "claims.preferred_username"
allow_http = true
allow_private_addresses = true

[auth.oidc.machines]
issuer = "{issuer}"
audiences = ["kontor"]
people = false
allow_http = true
allow_private_addresses = true
"""


class Stage:
    """The registry, who lives there, and an image to push."""

    def __init__(self, directory, binary, facts, issuer):
        self.dir, self.facts, self.issuer = Path(directory), facts, issuer
        config = self.dir / "kontor.toml"
        config.write_text(settings(facts, issuer))
        self.kontor = Kontor(self.dir / "kontor", binary, log_level="debug", config=config)
        self.image = self.dir / "image"
        self.secrets = [PASSWORD]

    def start(self):
        self.kontor.start()
        self.host = f"127.0.0.1:{self.kontor.port}"
        self.url = f"http://{self.host}"
        self._make_image()
        project = self.facts["projects"]["project-one"]
        self.kontor.admin("account", "create", "acme", "--auth-tenant", project)
        other = self.facts["projects"]["project-two"]
        self.kontor.admin("account", "create", "other", "--auth-tenant", other)

    def _make_image(self):
        """An image without layers, as an OCI layout."""
        blobs = self.image / "blobs" / "sha256"
        blobs.mkdir(parents=True)

        def add(document, kind):
            content = json.dumps(document).encode()
            digest = hashlib.sha256(content).hexdigest()
            (blobs / digest).write_bytes(content)
            return {"mediaType": f"application/vnd.oci.image.{kind}.v1+json", "digest": f"sha256:{digest}",
                    "size": len(content)}

        config = add({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}, "config")
        manifest = add({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "config": config, "layers": []}, "manifest")
        manifest["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
        (self.image / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (self.image / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))

    def secret(self, text):
        """One that must not stand in the log."""
        self.secrets.append(text)
        return text

    # -- clients

    def copy(self, target, creds=None, authfile=None, pull=False):
        """skopeo pushes the image to a repository, or pulls it; returns whether it could, and what it said."""
        ours, theirs = f"oci:{self.image}:v1", f"docker://{self.host}/{target}"
        place = f"dir:{self.dir}/pulled-{time.monotonic_ns()}"
        kind = "src" if pull else "dest"
        words = ["skopeo", "copy", f"--{kind}-tls-verify=false"]
        words += [f"--{kind}-creds", ":".join(creds)] if creds else []
        words += ["--authfile", str(authfile or self.dir / "no-auth.json")]
        done = run([*words, *((theirs, place) if pull else (ours, theirs))])
        return done.returncode == 0, done.stdout + done.stderr

    def push(self, target, creds=None, **options):
        ok, text = self.copy(target, creds, **options)
        need(ok, f"pushing to {target} as {creds and creds[0]}: {text}")

    def pull(self, target, creds=None, **options):
        ok, text = self.copy(target, creds, pull=True, **options)
        need(ok, f"pulling from {target} as {creds and creds[0]}: {text}")

    def refused(self, target, creds, pull=False):
        ok, text = self.copy(target, creds, pull=pull)
        need(not ok, f"{creds[0]} may {'pull' if pull else 'push'} {target}")
        return text

    def call(self, method, path, headers=None, body=None):
        return rest.call(method, self.url + path, headers, body)

    def token(self, form):
        """`POST /token`; returns the status and the answer."""
        answer = rest.call("POST", f"{self.url}/token", {"Content-Type": "application/x-www-form-urlencoded"},
                           urlencode(form))
        return answer.status, json.loads(answer.body or b"{}")

    def kontor_as(self, creds, *words):
        done = run([self.kontor.binary, *words, "--server", self.url, "--user", creds[0]],
                   env={**os.environ, "KONTOR_PASSWORD": creds[1]})
        return done.returncode == 0, done.stdout.strip(), done.stderr


def basic(creds):
    return {"Authorization": "Basic " + base64.b64encode(":".join(creds).encode()).decode()}


# -- Keystone

def alice(stage):
    password, project, _ = keystone.TENANTS["alice"]
    return f"alice@{keystone.TENANT_DOMAIN}/{project}", stage.secret(password)


def check_command_line_of_the_cloud(stage):
    """`kontor` with the variables of the OpenStack client, and with a cloud of clouds.yaml."""
    name, password = alice(stage)
    user, project = name.split("@")[0], name.split("/")[1].split("@")[0]
    auth = {"auth_url": stage.facts["auth_url"], "username": user, "password": password, "project_name": project,
            "user_domain_name": keystone.TENANT_DOMAIN, "project_domain_name": keystone.TENANT_DOMAIN}
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OS_", "KONTOR_"))}
    clean |= {"DOCKER_CONFIG": str(stage.dir / "no-docker"), "KONTOR_SERVER": stage.url, "KONTOR_OUTPUT": "json"}

    def kontor(variables, *words):
        done = run([stage.kontor.binary, *words], env={**clean, **variables})
        return done.returncode, done.stdout, done.stderr

    variables = {f"OS_{key.upper()}": value for key, value in auth.items()}
    code, out, err = kontor(variables, "whoami")
    need(code == 0 and json.loads(out)["identity"].startswith(f"keystone:{user}@"), f"OS_*: {code} {out} {err}")
    code, out, err = kontor(variables, "account", "list")
    need(code == 0 and [account["name"] for account in json.loads(out)] == ["acme"], f"accounts: {code} {out} {err}")
    code, out, err = kontor(variables, "repo", "list")
    need(code == 0, f"the catalog: {code} {out} {err}")
    clouds, secure = stage.dir / "clouds.yaml", stage.dir / "secure.yaml"
    secure.write_text(json.dumps({"clouds": {"test": {"auth": {"password": auth.pop("password")}}}}))
    clouds.write_text(json.dumps({"clouds": {"test": {"auth": auth}}}))
    code, out, err = kontor({"OS_CLIENT_CONFIG_FILE": str(clouds)}, "whoami", "--os-cloud", "test")
    need(code == 0 and json.loads(out)["identity"].startswith(f"keystone:{user}@"), f"--os-cloud: {code} {out} {err}")
    code, out, err = kontor({**variables, "OS_PASSWORD": "wrong"}, "whoami")
    need(code == 4 and "Keystone refused" in err and "wrong" not in err, f"a wrong password: {code} {err}")


def check_keystone_users(stage):
    stage.push("acme/keystone:v1", alice(stage))
    stage.pull("acme/keystone:v1", alice(stage))
    password, project, _ = keystone.TENANTS["reader"]
    reader = (f"reader@{keystone.TENANT_DOMAIN}/{project}@{keystone.TENANT_DOMAIN}", password)
    stage.pull("acme/keystone:v1", reader)
    stage.refused("acme/keystone:v2", reader)
    password, project, _ = keystone.TENANTS["bob"]
    bob = (f"bob@{keystone.TENANT_DOMAIN}/{project}", password)
    stage.refused("acme/keystone:v1", bob, pull=True)
    stage.push("other/keystone:v1", bob)
    text = stage.refused("acme/keystone:v1", (alice(stage)[0], "wrong"), pull=True)
    need(re.search("unauthorized|authentication required|wrong", text, re.I), text)
    disabled = (f"dave@{keystone.TENANT_DOMAIN}/project-one", people.PASSWORD)
    stage.refused("acme/keystone:v1", disabled, pull=True)


def check_application_credentials(stage):
    credentials = stage.facts["credentials"]
    for name in ("push", "pull"):
        made = credentials[name]
        login = (f"applicationcredential-{made['id']}", stage.secret(made["secret"]))
        stage.pull("acme/keystone:v1", login)
        if name == "push":
            stage.push("acme/keystone:v3", login)
        else:
            stage.refused("acme/keystone:v3", login)


def check_keystone_tokens(stage):
    password, project, _ = keystone.TENANTS["alice"]
    body = {"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": "alice", "domain": {"name": keystone.TENANT_DOMAIN}, "password": password}}},
        "scope": {"project": {"name": project, "domain": {"name": keystone.TENANT_DOMAIN}}}}}
    answer = rest.call("POST", f"{stage.facts['auth_url']}/auth/tokens", body=body, statuses=(201,))
    token = stage.secret(answer.headers["X-Subject-Token"])
    shown = stage.call("GET", "/api/v1/accounts/acme", {"X-Auth-Token": token})
    need(shown.status == 200, shown.body)
    need(stage.call("GET", "/api/v1/accounts/other", {"X-Auth-Token": token}).status == 404, "another tenant's account")
    path = "/v2/acme/keystone/manifests/v1"
    need(stage.call("GET", path, {"Authorization": "keppel", "X-Auth-Token": token}).status == 200, path)
    need(stage.call("GET", path, {"X-Auth-Token": token}).status == 401, "X-Auth-Token alone counts on /v2/")
    need(stage.call("GET", path, {"Authorization": "keppel"}).status == 401, "keppel without a token")
    headers = {"X-Auth-Token": token, "X-Subject-Token": token}
    rest.call("DELETE", f"{stage.facts['auth_url']}/auth/tokens", headers, statuses=(204,))
    end = time.monotonic() + 30
    while stage.call("GET", path, {"Authorization": "keppel", "X-Auth-Token": token}).status != 401:
        need(time.monotonic() < end, "a revoked token is still accepted")
        time.sleep(0.2)


# -- OpenID Connect

def check_people_by_device_login(stage):
    docker_config = stage.dir / "docker" / "config.json"
    command = [stage.kontor.binary, "login", "--server", stage.url, "--docker-config", docker_config]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as login:
        line = login.stderr.readline()
        code = re.search(r"code ([A-Z0-9-]+)", line)
        need(code, f"no code in {line!r}")
        rest.call("POST", f"{stage.issuer}/test/approve?" + urlencode({"user_code": code[1], "login": "ann"}),
                  statuses=(204,))
        with contextlib.suppress(subprocess.TimeoutExpired):
            login.wait(LOGIN_SECONDS)
        need(login.returncode == 0, f"kontor login: {login.poll()} {login.stderr.read()}")
    stored = json.loads(docker_config.read_text())["auths"][stage.host]["auth"]
    user, secret = base64.b64decode(stored).decode().split(":", 1)
    need(user == "ann" and secret.startswith("kontor_pat_"), user)
    creds = (user, stage.secret(secret))
    ok, shown, _ = stage.kontor_as(creds, "whoami")
    need(ok and "oidc.people:ann" in shown, shown)
    stage.refused("acme/keystone:v1", creds, pull=True)
    policy = [{"match_repository": "team/.*", "match_username": "oidc\\.people:ann", "permissions": ["pull", "push"]}]
    stage.kontor.admin("account", "update", "acme", "--rbac-policies", json.dumps(policy))
    stage.push("acme/team/app:v1", authfile=docker_config)
    stage.pull("acme/team/app:v1", authfile=docker_config)
    stage.refused("acme/elsewhere:v1", creds)


def machine_token(stage):
    form = {"grant_type": "client_credentials", "client_id": oidc.ROBOT, "client_secret": oidc.ROBOT_SECRET}
    answer = rest.call("POST", f"{stage.issuer}/token", {"Content-Type": "application/x-www-form-urlencoded"},
                       urlencode(form), statuses=(200,))
    return stage.secret(answer.json()["access_token"])


def check_machines_with_a_token_of_theirs(stage):
    account = stage.call("GET", "/api/v1/accounts/acme", basic(("admin", PASSWORD))).json()["account"]
    account["service_identities"] = [
        {"name": "deploy", "issuer": "machines", "match_claims": {"client_id": oidc.ROBOT},
         "permissions": ["pull", "push"], "repositories": ["deploy/.*"]},
        {"name": "someone", "issuer": "machines", "match_claims": {"client_id": "another"}, "permissions": ["pull"]},
    ]
    changed = stage.call("PUT", "/api/v1/accounts/acme", basic(("admin", PASSWORD)), account)
    need(changed.status == 200, changed.body)
    token = machine_token(stage)
    stage.push("acme/deploy/app:v1", ("acme+deploy", token))
    stage.refused("acme/elsewhere:v1", ("acme+deploy", token))
    stage.refused("acme/deploy/app:v1", ("acme+someone", token), pull=True)
    stage.refused("other/deploy/app:v1", ("other+deploy", token), pull=True)
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": JWT, "service": stage.host,
            "scope": "repository:acme/deploy/app:pull,push repository:acme/keystone:pull"}
    status, answer = stage.token({**form, "username": "acme+deploy"})
    need(status == 200 and answer["scope"] == "repository:acme/deploy/app:pull,push", answer)
    stage.secret(answer["access_token"])
    bearer = {"Authorization": f"Bearer {answer['access_token']}"}
    need(stage.call("GET", "/v2/acme/deploy/app/manifests/v1", bearer).status == 200, "the exchanged token")
    status, answer = stage.token(form)
    need(status == 401 and "account" in json.dumps(answer), answer)
    unknown = [{"name": "x", "issuer": "nobody", "match_claims": {"sub": "x"}, "permissions": ["pull"]}]
    refused = stage.call("PUT", "/api/v1/accounts/acme", basic(("admin", PASSWORD)),
                         {**account, "service_identities": unknown})
    need(refused.status == 422 and b"auth.oidc.nobody" in refused.body, refused.body)


def check_kubelet_credential_provider(stage):
    """The plugin of docs/clients/kubernetes.md, as the kubelet calls it (KEP-4412)."""
    page = (processes.ROOT / "docs/clients/kubernetes.md").read_text()
    script = re.search(r"```sh\n(#!/bin/sh\n.*?)```", page, re.S)[1].replace("registry.example", stage.host)
    plugin = stage.dir / "kontor-credentials"
    plugin.write_text(script)
    plugin.chmod(0o755)
    request = {"kind": "CredentialProviderRequest", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
               "image": f"{stage.host}/acme/deploy/app:v1", "serviceAccountToken": machine_token(stage),
               "serviceAccountAnnotations": {"kontor.example/identity": "acme+deploy"}}
    done = subprocess.run([plugin], input=json.dumps(request), capture_output=True, text=True, timeout=30)
    need(done.returncode == 0, done.stderr)
    answer = json.loads(done.stdout)
    need(answer["kind"] == "CredentialProviderResponse" and answer["cacheKeyType"] == "Image", answer)
    found = answer["auth"][stage.host]
    stage.pull("acme/deploy/app:v1", (found["username"], found["password"]))


# -- what the registry issues

def check_robots(stage):
    words = ("robot", "create", "acme", "ci", "--permissions", "pull,push", "--repository", "team/.*")
    first = stage.secret(stage.kontor.admin(*words).strip())
    login = "acme+ci"
    stage.push("acme/team/robot:v1", (login, first))
    stage.refused("acme/keystone:v1", (login, first), pull=True)
    second = stage.secret(stage.kontor.admin("robot", "rotate", "acme", "ci").strip())
    stage.pull("acme/team/robot:v1", (login, first))
    stage.pull("acme/team/robot:v1", (login, second))
    need("static:admin" in stage.kontor.admin("robot", "show", "acme", "ci"), "who made it")
    form = {"grant_type": "password", "username": login, "password": second, "service": stage.host,
            "scope": "repository:acme/team/robot:pull"}
    _, answer = stage.token(form)
    bearer = {"Authorization": f"Bearer {stage.secret(answer['access_token'])}"}
    path = "/v2/acme/team/robot/manifests/v1"
    need(stage.call("GET", path, bearer).status == 200, "the robot's token")
    stage.kontor.admin("robot", "disable", "acme", "ci")
    need(stage.call("GET", path, bearer).status == 401, "a disabled robot's token")
    stage.refused("acme/team/robot:v1", (login, second), pull=True)


def check_docker_login(stage):
    """docker's command line keeps a refresh token instead of the password; without docker by hand."""
    stage.secret(stage.kontor.admin("user", "create", "carla").strip())
    stage.kontor.admin("user", "grant", "carla", stage.facts["projects"]["project-one"], "view,pull,push")
    secret = "carlas-long-password"
    admin = basic(("admin", PASSWORD))
    changed = stage.call("PUT", "/api/v1/users/carla/password", admin, {"password": stage.secret(secret)})
    need(changed.status == 204, changed.body)
    folder = stage.dir / "docker-login"
    folder.mkdir()
    config = folder / "config.json"
    if shutil.which("docker"):
        done = subprocess.run(
            ["docker", "--config", str(folder), "login", "-u", "carla", "--password-stdin", stage.host],
            input=secret, capture_output=True, text=True, timeout=60)
    else:
        done = None
    if done is None or done.returncode:
        say(f"docker login by hand: {'there is no docker' if done is None else (done.stderr or done.stdout).strip()}")
        answer = stage.call("GET", "/token?" + urlencode({"service": stage.host, "offline_token": "true",
                                                         "account": "carla", "client_id": "docker"}),
                            basic(("carla", secret))).json()
        auth = base64.b64encode(b"carla:").decode()
        config.write_text(json.dumps({"auths": {stage.host: {"auth": auth, "identitytoken": answer["refresh_token"]}}}))
    entry = json.loads(config.read_text())["auths"][stage.host]
    need(entry.get("identitytoken", "").startswith("kontor_refresh_"), f"no refresh token: {list(entry)}")
    stage.secret(entry["identitytoken"])
    stage.pull("acme/keystone:v1", authfile=config)
    stage.push("acme/keystone:v4", authfile=config)
    stage.kontor.admin("token", "revoke", "--subject", "static:carla")
    ok, text = stage.copy("acme/keystone:v1", authfile=config, pull=True)
    need(not ok, f"a revoked refresh token still pulls: {text}")


def check_nothing_secret_is_logged(stage):
    """The last one: everything above was logged at the level `debug`."""
    log = stage.kontor.log.read_text(errors="replace")
    need("static:admin" in log, "the log says who asked")
    for secret in stage.secrets:
        need(secret not in log, f"a secret stands in the log: {secret[:12]}...")
    database = b"".join(path.read_bytes() for path in stage.kontor.data.glob("kontor.db*"))
    for secret in stage.secrets:
        need(secret.encode() not in database, f"a secret stands in the database: {secret[:12]}...")


CHECKS = [
    check_keystone_users, check_application_credentials, check_keystone_tokens,
    check_command_line_of_the_cloud, check_people_by_device_login,
    check_machines_with_a_token_of_theirs, check_kubelet_credential_provider, check_robots, check_docker_login,
    check_nothing_secret_is_logged,
]


def run_all(directory, binary, facts, issuer):
    """Runs every story and says how each ended; whether all went well."""
    stage = Stage(directory, binary, facts, issuer)
    stage.start()
    failed = 0
    for check in CHECKS:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            check(stage)
            say(f"identity {name}: ok")
        except Exception as error:  # noqa: BLE001 - one story must not keep the others from being told
            failed += 1
            say(f"identity {name}: failed: {type(error).__name__}: {error}")
    stage.kontor.stop()
    return failed == 0
