"""The command line as people and scripts use it: every command, with its output and its exit code.

Each function named `check_...` is one story; it fails by an exception. The stories follow one another on one registry,
so a later one may use what an earlier one has made.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from harness import processes
from harness.processes import free_port, say
from harness.servers import PASSWORD, Kontor

DONE, FAILED, USAGE, NOT_FOUND, DENIED, CONFLICT, UNAVAILABLE = range(7)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ANN, CARLA = "anns-long-password", "carlas-long-password"
SEAL_SECONDS = 30


def need(condition, what):
    if not condition:
        raise AssertionError(what)


def same(seen, expected):
    need(seen == expected, f"{seen!r}, not {expected!r}")


class Stage:
    """The registry, and the homes of those who use it."""

    def __init__(self, directory, binary, database_url):
        self.dir = Path(directory)
        self.kontor = Kontor(self.dir / "kontor", binary, database_url)
        self.kontor.start()
        self.host = f"127.0.0.1:{self.kontor.port}"
        self.url = f"http://{self.host}"
        self.docker_login("admin", "admin", PASSWORD)

    def docker_login(self, home, user, secret):
        """What `docker login` stores."""
        folder = self.dir / home
        folder.mkdir(exist_ok=True)
        auth = base64.b64encode(f"{user}:{secret}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))

    def run(self, *words, code=DONE, home="admin", stdin="", **variables):
        """Runs a command with what docker stored in that home; its exit code must be the one. Gives what it printed."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("KONTOR", "OS_"))}
        env = {**clean, "HOME": str(self.dir), "KONTOR_SERVER": self.url, "DOCKER_CONFIG": str(self.dir / home),
               **variables}
        done = subprocess.run([self.kontor.binary, *map(str, words)], input=stdin, capture_output=True, text=True,
                              timeout=60, env=env, cwd=self.dir)
        need(done.returncode == code,
             f"kontor {' '.join(map(str, words))}: {done.returncode}, not {code}: {done.stdout}{done.stderr}")
        self.errors = done.stderr
        return done.stdout

    def json(self, *words, **options):
        return json.loads(self.run(*words, "--output", "json", **options))

    def local(self, *words, code=DONE):
        """A command on the machine of the registry, with its configuration."""
        return self.run(*words, "--data-dir", self.kontor.data, code=code, **self.kontor.environment())

    def write(self, name, text):
        (self.dir / name).write_text(text)
        return self.dir / name

    def request(self, method, path, content, kind="application/octet-stream"):
        login = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(self.url + path, content, method=method, headers={
            "Authorization": f"Basic {login}", "Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def push(self, repo, tag, text="{}"):
        """Pushes an image without layers; gives the status and the digest of the manifest."""
        config = text.encode()
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        status, _ = self.request("POST", f"/v2/{repo}/blobs/uploads/?digest={digest}", config)
        if status != 201:
            return status, None
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}}).encode()
        status, _ = self.request("PUT", f"/v2/{repo}/manifests/{tag}", manifest, MANIFEST)
        return status, f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def check_who_one_is(stage):
    same(stage.json("whoami")["identity"], "static:admin")
    need("static:admin" in stage.run("whoami"), "a table")
    stage.docker_login("wrong", "admin", "wrong-password")
    same(stage.run("whoami", home="wrong", code=DENIED), "")
    need("401" in stage.errors, stage.errors)
    stage.run("account", "list", home="wrong", code=DENIED)
    # What is given beats what is stored, for better and for worse.
    same(stage.json("whoami", home="wrong", KONTOR_PASSWORD=PASSWORD)["identity"], "static:admin")
    stage.run("whoami", code=DENIED, KONTOR_PASSWORD="wrong-password")
    stage.run("whoami", home="nobody", code=DENIED)
    need("not logged in" in stage.errors, stage.errors)
    stage.run("whoami", "--server", f"http://127.0.0.1:{free_port()}", code=UNAVAILABLE, KONTOR_PASSWORD=PASSWORD)
    stage.run("whoami", "--server", "registry.example", code=USAGE)
    stage.run("frobnicate", code=USAGE)


def check_accounts(stage):
    # The one that a new registry has.
    need("was deleted" in stage.run("account", "delete", "demo"), "said")
    stage.run("account", "delete", "demo", code=NOT_FOUND)
    same(stage.json("account", "list"), [])
    same(stage.run("account", "list"), "")
    made = stage.json("account", "create", "acme", "--auth-tenant", "t1", "--anonymous-pull", "pub/.*")
    same((made["name"], made["state"]), ("acme", "ready"))
    lines = stage.run("account", "list").splitlines()
    same([line.split() for line in lines],
         [["NAME", "AUTH_TENANT_ID", "STORAGE", "STATE"], ["acme", "t1", made["storage"], "ready"]])
    stage.run("account", "create", "acme", "--auth-tenant", "t1", code=CONFLICT)
    stage.run("account", "create", "Bad Name", "--auth-tenant", "t1", code=USAGE)
    stage.run("account", "update", "acme", "--anonymous-pull", "(", code=USAGE)
    changed = stage.json("account", "update", "acme", "--proxy-downloads", "true")
    same((changed["proxy_downloads"], len(changed["rbac_policies"])), (True, 1))
    same(stage.json("account", "show", "acme"), changed)
    stage.run("account", "show", "nothing", code=NOT_FOUND)


def check_users(stage):
    stage.run("user", "create", "ann", "--password-stdin", stdin=f"{ANN}\n")
    stage.run("user", "create", "ann", "--password-stdin", stdin=ANN, code=CONFLICT)
    random = stage.run("user", "create", "bob").strip()
    same(stage.json("whoami", KONTOR_USER="bob", KONTOR_PASSWORD=random)["identity"], "static:bob")
    stage.docker_login("ann", "ann", ANN)
    same(stage.json("account", "list", home="ann"), [])
    granted = stage.json("user", "grant", "ann", "t1", "view,pull,push")
    same(granted["grants"], [{"auth_tenant_id": "t1", "permissions": ["view", "pull", "push"]}])
    same([account["name"] for account in stage.json("account", "list", home="ann")], ["acme"])
    stage.run("account", "update", "acme", "--proxy-downloads", "false", home="ann", code=DENIED)
    stage.run("user", "list", home="ann", code=DENIED)
    same({user["name"] for user in stage.json("user", "list")}, {"admin", "ann", "bob"})
    stage.run("user", "disable", "bob")
    stage.run("whoami", code=DENIED, KONTOR_USER="bob", KONTOR_PASSWORD=random)
    stage.run("user", "enable", "bob")
    stage.run("user", "passwd", "bob", stdin="bobs-new-password")
    stage.run("whoami", code=DENIED, KONTOR_USER="bob", KONTOR_PASSWORD=random)
    stage.run("whoami", KONTOR_USER="bob", KONTOR_PASSWORD="bobs-new-password")
    stage.run("user", "delete", "bob")
    stage.run("user", "delete", "bob", code=NOT_FOUND)
    need(stage.run("user", "hash-password", stdin=ANN).startswith("$argon2id$"), "a hash")


def check_robots(stage):
    made = stage.json("robot", "create", "acme", "ci", "--permissions", "pull,push", "--repository", "app")
    same((made["robot"]["login"], made["robot"]["repositories"]), ("acme+ci", ["app"]))
    same(stage.json("whoami", KONTOR_USER="acme+ci", KONTOR_PASSWORD=made["secret"])["identity"], "robot:acme+ci")
    second = stage.run("robot", "rotate", "acme", "ci", "--overlap-seconds", "0").strip()
    stage.run("whoami", KONTOR_USER="acme+ci", KONTOR_PASSWORD=made["secret"], code=DENIED)
    stage.run("whoami", KONTOR_USER="acme+ci", KONTOR_PASSWORD=second)
    same([robot["login"] for robot in stage.json("robot", "list", "acme")], ["acme+ci"])
    stage.run("robot", "disable", "acme", "ci")
    same(stage.json("robot", "show", "acme", "ci")["is_disabled"], True)
    stage.run("robot", "create", "acme", "other", home="ann", code=DENIED)
    same(stage.json("robot", "list", "acme", home="ann")[0]["name"], "ci")
    same(stage.run("robot", "delete", "acme", "ci", "--output", "json"), "")
    same(stage.json("robot", "list", "acme"), [])


def check_repositories_and_tags(stage):
    status, digest = stage.push("acme/app", "v1")
    same(status, 201)
    same(stage.push("acme/app", "v2", '{"os": "linux"}')[0], 201)
    same(stage.push("acme/pub/tool", "v1")[0], 201)
    same(stage.run("repo", "list"), "NAME\nacme/app\nacme/pub/tool\n")
    same(stage.json("repo", "list", "acme", home="ann"), [{"name": "acme/app"}, {"name": "acme/pub/tool"}])
    same(stage.json("tag", "list", "acme/app"), [{"name": "v1"}, {"name": "v2"}])
    shown = stage.json("tag", "show", "acme/app", "v1")
    same((shown["digest"], shown["media_type"]), (digest, MANIFEST))
    stage.run("tag", "show", "acme/app", "v9", code=NOT_FOUND)
    stage.run("tag", "delete", "acme/app", "v2", home="ann", code=DENIED)
    stage.run("tag", "delete", "acme/app", "v2")
    same(stage.run("tag", "list", "acme/app"), "NAME\nv1\n")
    stage.run("account", "delete", "acme", code=CONFLICT)


def check_quotas(stage):
    stage.run("quota", "set", "acme", "--manifests", "3", "--bytes", "1GiB")
    rows = {row["resource"]: row for row in stage.json("quota", "show", "acme")}
    same((rows["manifests"]["limit"], rows["manifests"]["used"]), (3, 3))
    same((rows["bytes"]["limit"], rows["repositories"]["limit"]), (1 << 30, None))
    same(stage.push("acme/app", "v3", '{"os": "plan9"}')[0], 403)
    stage.run("quota", "set", "acme", "--manifests", "none")
    same(stage.push("acme/app", "v3", '{"os": "plan9"}')[0], 201)
    need(re.search(r"^manifests +- +4\b", stage.run("quota", "show", "acme"), re.M), "a table")
    stage.run("quota", "set", "acme", "--bytes", "many", code=USAGE)
    stage.run("quota", "set", "acme", "--bytes", "1", home="ann", code=DENIED)
    stage.run("quota", "set", "--auth-tenant", "t1", "--repositories", "7")
    same(stage.json("quota", "show", "--auth-tenant", "t1")[2]["limit"], 7)


def check_policies_and_explain(stage):
    same(json.loads(stage.run("policy", "show", "acme", "tag")), [])
    file = stage.write("policies.yaml", "- match_repository: app\n  match_tag: v.*\n  block_overwrite: true\n")
    same(json.loads(stage.run("policy", "set", "acme", "tag", "--file", file))[0]["match_tag"], "v.*")
    same(json.loads(stage.run("policy", "show", "acme", "tag"))[0]["block_overwrite"], True)
    stage.run("policy", "set", "acme", "rbac", "--file", "-", stdin="- permissions: [fly]\n", code=USAGE)
    stage.run("policy", "show", "acme", "nonsense", code=USAGE)
    people = stage.write("people.yaml", "- match_repository: app\n  match_username: static:dora\n  permissions: [pull]\n")
    stage.run("policy", "set", "acme", "rbac", "--file", people)
    for action, who, allowed, because in [
            ("pull", "static:dora", True, "policy"), ("push", "static:dora", False, "nothing_allows_it"),
            ("push", "static:ann", True, "grant"), ("pull", "", False, "nothing_allows_it")]:
        answer = stage.json("explain", action, "acme/app", "--for", who)
        same((action, who, answer["allowed"], answer["because"]), (action, who, allowed, because))
    rule = stage.json("explain", "pull", "acme/app", "--for", "static:dora")["rule"]
    same((rule["number"], rule["policy"]["match_username"]), (0, "static:dora"))
    same(stage.json("explain", "delete", "acme/app", "--for", "static:ann", home="ann")["allowed"], False)
    stage.run("explain", "pull", "acme/app", "--for", "static:dora", home="ann", code=DENIED)
    stage.run("explain", "fly", "acme/app", code=USAGE)
    stage.run("explain", "pull", "nothing/app", code=NOT_FOUND)


def check_jobs(stage):
    jobs = {job["name"]: job for job in stage.json("jobs", "list")}
    need({"image_gc", "purge_trash"} <= jobs.keys(), jobs.keys())
    need("OVERDUE_SECONDS" in stage.run("jobs", "list"), "a table")
    need("are due now" in stage.run("jobs", "run", "image_gc"), "said")
    stage.run("jobs", "run", "nonsense", code=NOT_FOUND)
    stage.run("jobs", "list", home="ann", code=DENIED)


def check_retention(stage):
    status, digest = stage.push("acme/attic", "v1", '{"os": "haiku"}')
    same(status, 201)
    stage.push("acme/attic", "v2", '{"os": "beos"}')
    file = stage.write("gc.yaml", "- match_repository: attic\n  match_tag: v1\n  action: delete\n")
    preview = stage.json("gc", "preview", "acme", "--policies", file, "--repository", "attic")
    same((preview["summary"]["images"], preview["summary"]["deleted_images"]), (2, 0))
    # What was pushed a moment ago stays, whatever policies say.
    same({image["status"]["rule"] for image in preview["repositories"][0]["keep"]}, {"protected_by_recent_upload"})
    need(re.search(rf"^keep +attic +{digest} +v1 .*pushed a moment ago$",
                   stage.run("gc", "preview", "acme", "--policies", file, "--all"), re.M), "a table")
    same(stage.run("gc", "preview", "acme", "--repository", "attic").split(",")[0], "0 of 2 images would go")
    same(json.loads(stage.run("policy", "show", "acme", "gc")), [])
    stage.run("gc", "preview", "acme", "--policies", "-", stdin="- action: fly\n", code=USAGE)
    stage.run("gc", "preview", "nothing", code=NOT_FOUND)
    config = "sha256:" + hashlib.sha256(b'{"os": "haiku"}').hexdigest()
    same(stage.json("gc", "explain", "acme", config)["kept_by"][0]["manifests"], [digest])
    need(f"manifest {digest}" in stage.run("gc", "explain", "acme", config), "a table")
    stage.run("gc", "explain", "acme", digest.replace("sha256", "md5"), code=USAGE)


def check_trash_and_tag_history(stage):
    digest = stage.json("tag", "show", "acme/attic", "v1")["digest"]
    then = stage.json("tag", "history", "acme/attic", "v1")[0]
    same((then["digest"], then["changed_by"]), (digest, "static:admin"))
    stage.run("tag", "delete", "acme/attic", "v1")
    same([change["digest"] for change in stage.json("tag", "history", "acme/attic", "v1")], [None, digest])
    same(stage.json("tag", "show", "acme/attic", "v1", "--at", then["changed_at"])["digest"], digest)
    stage.run("tag", "show", "acme/attic", "v1", "--at", "yesterday", code=USAGE)
    same(stage.json("tag", "restore", "acme/attic", "v1", home="ann"), {"name": "v1", "digest": digest})
    stage.run("tag", "restore", "acme/attic", "v1", code=CONFLICT)
    same(stage.json("trash", "list", "acme"), [])
    same(stage.request("DELETE", f"/v2/acme/attic/manifests/{digest}", None)[0], 202)
    same([(entry["repository"], entry["digest"], entry["tags"]) for entry in stage.json("trash", "list", "acme")],
         [("attic", digest, ["v1"])])
    need(digest in stage.run("trash", "list", "acme"), "a table")
    same(stage.json("trash", "restore", "acme/attic", digest, "--tag", "back", home="ann"),
         [{"digest": digest, "tags": ["back"]}])
    same(stage.json("tag", "show", "acme/attic", "back")["digest"], digest)
    same(stage.request("DELETE", f"/v2/acme/attic/manifests/{digest}", None)[0], 202)
    stage.run("trash", "purge", "acme/attic", digest, home="ann", code=DENIED)
    same(stage.json("trash", "purge", "acme/attic", digest), {"purged": 1})
    stage.run("trash", "restore", "acme/attic", digest, code=NOT_FOUND)


def check_holds(stage):
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
    place = ["hold", "place", "acme/attic", "--tag", "v2", "--until", until, "--reason", "case 4711"]
    stage.run(*place, home="ann", code=DENIED)
    same(stage.json(*place)["reason"], "case 4711")
    same([(hold["repository"], hold["tag"]) for hold in stage.json("hold", "list", "acme")], [("attic", "v2")])
    need("case 4711" in stage.run("hold", "list", "acme"), "a table")
    stage.run("tag", "delete", "acme/attic", "v2", code=DENIED)
    need("case 4711" in stage.errors, stage.errors)
    stage.run("hold", "lift", "acme/attic", "--tag", "v2", home="ann", code=DENIED)
    need("was lifted" in stage.run("hold", "lift", "acme/attic", "--tag", "v2"), "said")
    stage.run("hold", "lift", "acme/attic", "--tag", "v2", code=NOT_FOUND)
    stage.run("tag", "delete", "acme/attic", "v2")
    same(stage.run("hold", "list", "acme"), "")


SET = """set: platform
accounts:
  - name: team
    auth_tenant_id: t2
    rbac_policies:
      - match_repository: pub/.*
        permissions: [anonymous_pull]
    quota: {bytes: 10GiB, manifests: 500}
    robots:
      - name: ci
        permissions: [push, pull]
        secret_file: ci.secret
      - name: deploy
        permissions: [pull]
"""
MORE = """  - name: old
    auth_tenant_id: t2
users:
  - name: carla
    password_env: CARLAS_PASSWORD
    grants:
      - auth_tenant_id: t2
        permissions: view,pull
"""
LESS = SET[:SET.index("      - name: deploy")]


def check_apply(stage):
    file = stage.write("accounts.yaml", SET + MORE)

    def apply(*words, **options):
        return stage.run("apply", "--file", file, *words, **options)

    password = {"CARLAS_PASSWORD": CARLA}
    apply("--yes", code=USAGE)  # nothing says the password
    apply("--dry-run", "--detailed-exitcode", code=USAGE, **password)
    apply(code=USAGE, **password)  # nobody can be asked
    same([account["name"] for account in stage.json("account", "list")], ["acme"])
    out = apply("--yes", **password)
    same([line for line in out.splitlines() if not line.startswith(" ")],
         ["+ account team", "+ robot team+ci", "+ robot team+deploy", "+ account old", "+ user carla"])
    need(CARLA not in out + stage.errors, "a password is shown")
    # The second time, nobody needs the password any more.
    same(apply("--yes"), "nothing to do\n")
    same(stage.json("apply", "--file", file, "--yes"), {"set": "platform", "changes": []})
    same(apply("--dry-run", "--detailed-exitcode"), "nothing to do\n")
    secret = (stage.dir / "ci.secret").read_text().strip()
    same(oct((stage.dir / "ci.secret").stat().st_mode & 0o777), "0o600")
    same(stage.json("whoami", KONTOR_USER="team+ci", KONTOR_PASSWORD=secret)["identity"], "robot:team+ci")
    stage.docker_login("carla", "carla", CARLA)
    same({account["name"] for account in stage.json("account", "list", home="carla")}, {"old", "team"})
    same({row["resource"]: row["limit"] for row in stage.json("quota", "show", "team")},
         {"bytes": 10 << 30, "manifests": 500, "repositories": None})
    # Somebody changes it by hand.
    stage.run("account", "update", "team", "--anonymous-pull", ".*")
    stage.run("quota", "set", "team", "--manifests", "none")
    changes = stage.json("apply", "--file", file, "--yes")["changes"]
    same([(change["account"], change["action"], [d["path"] for d in change["differences"]]) for change in changes],
         [("team", "update", ["rbac_policies", "quota.manifests"])])
    same(apply("--yes"), "nothing to do\n")
    # Nobody who may only look changes anything.
    stage.run("quota", "set", "team", "--manifests", "none")
    apply("--yes", home="carla", code=DENIED)
    apply("--yes")


def check_prune(stage):
    file = stage.write("accounts.yaml", LESS)

    def apply(*words, **options):
        return stage.run("apply", "--file", file, *words, **options)

    same(apply("--yes"), "nothing to do\n")
    same(apply("--prune", "--dry-run"), "- account old\n- robot team+deploy\n")
    need("which stay: 1" in stage.errors, stage.errors)
    same(apply("--prune", "--yes"), "- account old\n- robot team+deploy\n")
    same(apply("--prune", "--yes"), "nothing to do\n")
    same([account["name"] for account in stage.json("account", "list")], ["acme", "team"])
    same([robot["name"] for robot in stage.json("robot", "list", "team")], ["ci"])
    same({user["name"] for user in stage.json("user", "list")}, {"admin", "ann", "carla"})
    # An account that holds images is not deleted.
    same(stage.push("team/app", "v1")[0], 201)
    nothing = stage.write("nothing.yaml", "set: platform\naccounts: []\n")
    stage.run("apply", "--file", nothing, "--prune", "--yes", code=CONFLICT)
    need("team holds 1 manifests" in stage.errors, stage.errors)


def check_what_others_own(stage):
    before = stage.json("account", "list")
    file = stage.write("other.yaml", "set: other\naccounts:\n  - name: team\n    robots: []\n  - name: acme\n")
    for words in [["--yes"], ["--prune", "--yes"], ["--dry-run"]]:
        same(stage.run("apply", "--file", file, *words, code=CONFLICT), "")
        need("team is of the set platform" in stage.errors and "acme is of no set" in stage.errors, stage.errors)
    nameless = stage.write("nameless.yaml", "accounts: []\n")
    stage.run("apply", "--file", nameless, "--prune", "--yes", code=USAGE)
    stage.run("apply", "--file", file, "--prune", "--adopt", "--yes", code=USAGE)
    empty = stage.write("empty.yaml", "set: other\naccounts: []\n")
    same(stage.run("apply", "--file", empty, "--prune", "--yes"), "nothing to do\n")
    same(stage.json("account", "list"), before)
    stage.run("apply", "--file", file, "--adopt", "--yes")
    same({account["name"]: account["metadata"]["kontor.io/managed-by"] for account in stage.json("account", "list")},
         {"acme": "other", "team": "other"})
    # Nobody has deleted the robot by taking the account over.
    same([robot["name"] for robot in stage.json("robot", "list", "team")], ["ci"])
    stage.run("apply", "--file", stage.write("accounts.yaml", LESS), "--yes", code=CONFLICT)


def check_audit(stage):
    def actions(*words, **options):
        return [entry["event"]["action"] for entry in stage.json("audit", "list", *words, **options)]

    need("account.create" in actions("--account", "old"), actions("--account", "old"))
    need(set(actions("--action", "manifest.push", "--account", "acme")) == {"manifest.push"}, "a filter")
    need(actions("--outcome", "denied", "--by", "static:ann"), "what was denied to ann")
    need("static:admin" in stage.run("audit", "list", "--account", "team"), "a table")
    stage.run("audit", "list", "--outcome", "perhaps", code=USAGE)

    def is_sealed():
        found = [json.loads(line) for line in stage.local("audit", "export").splitlines()]
        return any("team" in json.dumps(line.get("event", "")) for line in found)

    need(processes.wait_until(is_sealed, SEAL_SECONDS, 0.2), "nothing was sealed")
    need("events are as they were sealed" in stage.local("audit", "verify"), "verified")
    copy = stage.write("audit.jsonl", stage.local("audit", "export"))
    head = stage.write("head", stage.local("audit", "head"))
    _, keys = stage.request("GET", "/.well-known/jwks.json", None)
    keys = stage.write("jwks.json", keys.decode())
    stage.run("audit", "verify", "--file", copy, "--jwks", keys)
    altered = stage.write("altered.jsonl", copy.read_text().replace("static:ann", "static:bob"))
    stage.run("audit", "verify", "--file", altered, "--jwks", keys, code=FAILED)
    lines = copy.read_text().splitlines()
    middle = next(number for number, line in enumerate(lines) if '"seq":3,' in line)
    shorter = stage.write("shorter.jsonl", "\n".join(lines[:middle] + lines[middle + 1:]))
    stage.run("audit", "verify", "--file", shorter, "--jwks", keys, "--head", head, code=FAILED)
    need("event 3 is missing" in stage.errors, stage.errors)


def check_help_files(stage):
    for shell in ["bash", "zsh", "fish"]:
        need("explain" in stage.run("completion", shell), shell)
    script = stage.write("completion.bash", stage.run("completion", "bash"))
    done = processes.run(["bash", "-n", script])
    same((done.returncode, done.stderr), (0, ""))
    done = processes.run(["bash", "-c", 'source "$1"; COMP_WORDS=(kontor acc) COMP_CWORD=1; '
                          '_kontor kontor acc kontor; echo "${COMPREPLY[@]}"', "bash", script])
    same(done.stdout, "account\n")
    stage.run("completion", "cmd", code=USAGE)
    stage.run("man", "--dir", stage.dir / "man")
    pages = {page.name for page in (stage.dir / "man").iterdir()}
    need({"kontor.1", "kontor-account-create.1", "kontor-apply.1", "kontor-audit-verify.1"} <= pages, pages)
    need("prune" in (stage.dir / "man" / "kontor-apply.1").read_text(), "the page of apply")
    need(stage.run("--version").startswith("kontor "), "a version")


CHECKS = [
    check_who_one_is, check_accounts, check_users, check_robots, check_repositories_and_tags, check_quotas,
    check_policies_and_explain, check_jobs, check_retention, check_trash_and_tag_history, check_holds, check_apply,
    check_prune, check_what_others_own, check_audit, check_help_files,
]


def run_all(directory, binary, database, database_url):
    """Runs every story and says how each ended, up to the first that fails: the next ones need what it makes."""
    began = time.monotonic()
    stage = Stage(directory, binary, database_url)
    try:
        for check in CHECKS:
            name = check.__name__.removeprefix("check_").replace("_", " ")
            try:
                check(stage)
            except Exception as error:  # noqa: BLE001 - it is told which story this was
                say(f"cli {database} {name}: failed: {type(error).__name__}: {error}\n{stage.kontor.child.log_tail()}")
                return False
            say(f"cli {database} {name}: ok")
    finally:
        stage.kontor.stop()
    say(f"cli {database}: {len(CHECKS)} stories in {time.monotonic() - began:.0f} s")
    return True
