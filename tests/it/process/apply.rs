//! `kontor apply`: what files say comes true, once; and what is somebody else's stays.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    command_line::{as_user, command, parsed},
    mode,
};
use crate::support::{PASSWORD, TestRegistry};

/// A registry, and a folder for files.
struct Stage {
    registry: TestRegistry,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn start() -> Self {
        Self {
            registry: TestRegistry::start().await,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Applies a document as `admin`; gives the exit code, and standard output and error.
    fn apply(&self, document: &str, more: &[&str]) -> (i32, String, String) {
        self.write("accounts.yaml", document);
        let file = self.path("accounts.yaml");
        let all = ["apply", "-f", file.to_str().unwrap()];
        let all: Vec<&str> = all.iter().chain(more).copied().collect();
        command(&self.registry.url(""), &all)
    }

    /// Applies without asking; it must succeed.
    fn applied(&self, document: &str, more: &[&str]) -> String {
        let all: Vec<&str> = ["--yes"].iter().chain(more).copied().collect();
        let (code, out, err) = self.apply(document, &all);
        assert_eq!(code, 0, "{err}");
        out
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.registry.api(Method::GET, path, Value::Null).await
    }

    async fn account_names(&self) -> Vec<String> {
        let (_, listed) = self.get("accounts").await;
        let accounts = listed["accounts"].as_array().unwrap().iter();
        accounts
            .map(|account| account["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

const ACCOUNTS: &str = "accounts:
  - name: team
    auth_tenant_id: t1
    rbac_policies:
      - match_repository: pub/.*
        permissions: [anonymous_pull]
  - name: demo
    allow_sparse_manifests: true
";

#[tokio::test(flavor = "multi_thread")]
async fn files_are_applied_once_and_the_second_time_nothing_changes() {
    let stage = Stage::start().await;
    let before = stage.get("accounts").await;
    let (code, out, err) = stage.apply(ACCOUNTS, &["--adopt", "--dry-run", "--detailed-exitcode"]);
    assert_eq!(code, 2, "{err}");
    assert!(out.contains("+ account team\n"), "{out}");
    assert!(
        out.contains("~ account demo\n    ~ allow_sparse_manifests: false -> true\n"),
        "{out}"
    );
    assert_eq!(stage.apply(ACCOUNTS, &["--adopt", "--dry-run"]).0, 0);
    // Nobody can be asked, and nothing happens.
    let (code, _, err) = stage.apply(ACCOUNTS, &["--adopt"]);
    assert_eq!(code, 2);
    assert!(err.contains("--yes"), "{err}");
    assert_eq!(stage.get("accounts").await, before);

    stage.applied(ACCOUNTS, &["--adopt"]);
    for more in [&["--yes"][..], &["--dry-run", "--detailed-exitcode"]] {
        let (code, out, err) = stage.apply(ACCOUNTS, more);
        assert_eq!((code, out.as_str()), (0, "nothing to do\n"), "{err}");
    }
    let (_, shown) = stage.get("accounts/demo").await;
    assert_eq!(shown["account"]["allow_sparse_manifests"], true);
    assert_eq!(
        shown["account"]["auth_tenant_id"], "demo",
        "what is not named stays"
    );
    assert_eq!(
        shown["account"]["metadata"],
        json!({ "kontor.io/managed-by": "default" })
    );

    // What somebody has changed by hand is brought back, and said.
    let mut changed = shown["account"].clone();
    changed["allow_sparse_manifests"] = json!(false);
    stage.registry.account("demo", changed).await;
    let out = stage.applied(ACCOUNTS, &["-o", "json"]);
    let difference = json!([{ "path": "allow_sparse_manifests", "before": false, "after": true }]);
    let change = json!({ "account": "demo", "action": "update", "differences": difference });
    assert_eq!(
        parsed(&out),
        json!({ "set": "default", "changes": [change] })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_registry_writes_in_another_way_is_no_change() {
    let stage = Stage::start().await;
    let document =
        "accounts:\n- name: team\n  auth_tenant_id: t1\n  proxy_networks: ['FD00:0::/8']\n";
    stage.applied(document, &[]);
    let (_, shown) = stage.get("accounts/team").await;
    // Otherwise this shows nothing.
    assert_ne!(shown["account"]["proxy_networks"], json!(["FD00:0::/8"]));
    assert_eq!(stage.applied(document, &[]), "nothing to do\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_wrong_changes_nothing() {
    let stage = Stage::start().await;
    let new = "accounts:\n- name: team\n  auth_tenant_id: t1\n";
    for (text, word) in [
        ("accounts: [".to_owned(), "accounts.yaml"),
        ("acounts: []".to_owned(), "acounts"),
        (format!("{new}- name: team\n"), "twice"),
        (
            format!(
                "{new}- name: other\n  auth_tenant_id: t1\n  allow_sparse_manifests: perhaps\n"
            ),
            "allow_sparse_manifests",
        ),
        (
            format!(
                "{new}  robots:\n  - name: ci\n    permissions: [pull]\n    repositories: ['(']\n"
            ),
            "repositories[0]",
        ),
        (
            format!("{new}  robots:\n  - name: ci\n    permissions: [change]\n"),
            "change is not for machines",
        ),
        (format!("{new}users:\n- name: zoe\n"), "password_file"),
        (
            format!("{new}users:\n- name: zoe\n  password_env: KONTOR_TEST_NOT_SET\n"),
            "KONTOR_TEST_NOT_SET",
        ),
        (
            format!("{new}users:\n- name: zoe\n  password_file: missing\n"),
            "missing",
        ),
    ] {
        let (code, _, err) = stage.apply(&text, &["--yes"]);
        assert_eq!(code, 2, "{text}: {err}");
        assert!(err.contains(word), "{err}");
    }
    assert_eq!(stage.account_names().await, ["demo"]);
    // Somebody who may not change the account learns that, and changes nothing.
    let url = stage.registry.url("");
    stage.write(
        "mine.yaml",
        "accounts:\n- name: demo\n  allow_sparse_manifests: true\n",
    );
    let file = stage.path("mine.yaml");
    let apply = ["apply", "-f", file.to_str().unwrap(), "--yes", "--adopt"];
    let reader = [("KONTOR_USER", "reader"), ("KONTOR_PASSWORD", PASSWORD)];
    assert_eq!(as_user(&url, &reader, &apply).0, 4);
    let (_, shown) = stage.get("accounts/demo").await;
    assert_eq!(shown["account"]["allow_sparse_manifests"], false);
}

const TEAM: &str = "set: platform
accounts:
  - name: team
    auth_tenant_id: t1
    robots:
      - name: ci
        description: builds
        permissions: [push, pull]
        repositories: [app]
        expires_at: 2099-01-31T01:00:00+01:00
        secret_file: ci.secret
      - name: deploy
        permissions: [pull]
";

#[tokio::test(flavor = "multi_thread")]
async fn robots_come_with_their_account_and_their_secret_goes_into_a_file() {
    let stage = Stage::start().await;
    let out = stage.applied(TEAM, &[]);
    assert!(out.contains("+ robot team+ci\n"), "{out}");
    let file = stage.path("ci.secret");
    assert_eq!(mode(&file), 0o600);
    let secret = fs::read_to_string(&file).unwrap();
    assert!(!out.contains(secret.trim()));
    let robot = [
        ("KONTOR_USER", "team+ci"),
        ("KONTOR_PASSWORD", secret.trim()),
    ];
    let (code, out, err) = as_user(&stage.registry.url(""), &robot, &["whoami", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(parsed(&out)["identity"], "robot:team+ci");
    assert_eq!(stage.applied(TEAM, &[]), "nothing to do\n");

    // Members that the file does not name stay.
    let url = stage.registry.url("");
    assert_eq!(command(&url, &["robot", "disable", "team", "deploy"]).0, 0);
    let out = stage.applied(&TEAM.replace("[pull]", "[view, pull]"), &[]);
    assert_eq!(
        out,
        "~ robot team+deploy\n    ~ permissions: [\"pull\"] -> [\"view\",\"pull\"]\n"
    );
    let (_, shown) = stage.get("accounts/team/robots/deploy").await;
    assert_eq!(shown["robot"]["is_disabled"], true);
    // A file that is there is not written over.
    let other = TEAM.replace("name: ci", "name: ci-2");
    let (code, _, err) = stage.apply(&other, &["--yes"]);
    assert_eq!(code, 2);
    assert!(err.contains("ci.secret"), "{err}");
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_made_and_changed_and_no_password_is_shown() {
    let stage = Stage::start().await;
    stage.write("zoe.password", "zoes long password\n");
    let document = "users:
  - name: zoe
    password_file: zoe.password
    grants:
      - auth_tenant_id: t1
        permissions: view,pull
";
    let (code, out, err) = stage.apply(document, &["--yes"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("+ user zoe\n    + grants: "), "{out}");
    assert!(!format!("{out}{err}").contains("zoes long password"));
    // The password is read for a new user only.
    fs::remove_file(stage.path("zoe.password")).unwrap();
    assert_eq!(stage.applied(document, &[]), "nothing to do\n");
    let zoe = [
        ("KONTOR_USER", "zoe"),
        ("KONTOR_PASSWORD", "zoes long password"),
    ];
    let url = stage.registry.url("");
    assert_eq!(as_user(&url, &zoe, &["whoami"]).0, 0);
    let out = stage.applied(&document.replace("view,pull", "all"), &["-o", "json"]);
    let out = parsed(&out);
    assert_eq!(out["changes"][0]["user"], "zoe");
    assert_eq!(out["changes"][0]["action"], "update");
    // No user is ever deleted.
    let empty = "set: platform\nusers: []\n";
    assert_eq!(stage.applied(empty, &["--prune"]), "nothing to do\n");
    assert_eq!(as_user(&url, &zoe, &["whoami"]).0, 0);
    // Only operators make users.
    let mine = stage.path("accounts.yaml");
    stage.write("accounts.yaml", &document.replace("name: zoe", "name: mia"));
    let apply = ["apply", "-f", mine.to_str().unwrap(), "--yes"];
    let reader = [("KONTOR_USER", "reader"), ("KONTOR_PASSWORD", PASSWORD)];
    assert_eq!(as_user(&url, &reader, &apply).0, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_set_owns_and_no_file_names_is_deleted_on_demand() {
    let stage = Stage::start().await;
    let other = "set: other\naccounts:\n- name: theirs\n  auth_tenant_id: t1\n";
    stage.applied(other, &[]);
    let both = format!("{TEAM}  - name: old\n    auth_tenant_id: t1\n");
    stage.applied(&both, &[]);
    let less = "set: platform\naccounts:\n- name: team\n  robots:\n  - name: ci\n    permissions: [pull, push]\n";
    // Without the word, all stays.
    assert_eq!(stage.applied(less, &[]), "nothing to do\n");
    let (code, out, err) = stage.apply(less, &["--prune", "--dry-run"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "- account old\n- robot team+deploy\n")
    );
    assert!(err.contains("which stay: 2\n"), "{err}");
    assert_eq!(
        stage.account_names().await,
        ["demo", "old", "team", "theirs"]
    );
    let out = stage.applied(less, &["--prune", "-o", "json"]);
    let deletion = json!({ "account": "old", "action": "delete", "differences": [] });
    assert_eq!(parsed(&out)["changes"][0], deletion);
    assert_eq!(stage.account_names().await, ["demo", "team", "theirs"]);
    let (_, robots) = stage.get("accounts/team/robots").await;
    assert_eq!(robots["robots"].as_array().unwrap().len(), 1);
    assert_eq!(stage.applied(less, &["--prune"]), "nothing to do\n");
    // A file that is silent about robots does not delete them.
    let silent = "set: platform\naccounts:\n- name: team\n";
    assert_eq!(stage.applied(silent, &["--prune"]), "nothing to do\n");
    // Files without a set own what all such files own.
    let nameless = stage.apply("accounts: []\n", &["--prune", "--yes"]);
    assert_eq!(nameless.0, 2);
    assert!(nameless.2.contains("set: NAME"), "{}", nameless.2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_others_is_neither_changed_nor_deleted() {
    let stage = Stage::start().await;
    let other = "set: other\naccounts:\n- name: theirs\n  auth_tenant_id: t1\n  robots:\n  - name: ci\n    permissions: [pull]\n";
    stage.applied(other, &[]);
    let before = stage.get("accounts").await;
    let ours = "set: platform
accounts:
- name: theirs
  allow_sparse_manifests: true
  robots: []
- name: demo
- name: new
  auth_tenant_id: t1
";
    for more in [&["--yes"][..], &["--yes", "--prune"], &["--dry-run"]] {
        let (code, out, err) = stage.apply(ours, more);
        assert_eq!((code, out.as_str()), (5, ""), "{err}");
        assert!(err.contains("theirs is of the set other"), "{err}");
        assert!(err.contains("demo is of no set"), "{err}");
        assert!(err.contains("--adopt"), "{err}");
    }
    assert_eq!(stage.get("accounts").await, before);
    // Taking over and deleting are two decisions.
    assert_eq!(stage.apply(ours, &["--yes", "--prune", "--adopt"]).0, 2);
    assert_eq!(stage.get("accounts").await, before);
    stage.applied(ours, &["--adopt"]);
    let (_, robots) = stage.get("accounts/theirs/robots").await;
    assert_eq!(robots["robots"].as_array().unwrap().len(), 1);
    assert_eq!(stage.applied(ours, &["--prune"]), "- robot theirs+ci\n");
    assert_eq!(stage.apply(other, &["--yes"]).0, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_holds_images_is_not_pruned() {
    let stage = Stage::start().await;
    stage.applied("set: platform\naccounts:\n- name: demo\n", &["--adopt"]);
    stage.registry.push_image("demo/app", "v1", 1).await;
    let empty = "set: platform\naccounts:\n- name: new\n  auth_tenant_id: t1\n";
    let (code, out, err) = stage.apply(empty, &["--yes", "--prune"]);
    assert_eq!((code, out.as_str()), (5, ""));
    assert!(err.contains("account demo holds 1 manifests"), "{err}");
    assert_eq!(stage.account_names().await, ["demo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_files_start_from_the_folder_of_the_document() {
    let stage = Stage::start().await;
    fs::create_dir(stage.path("files")).unwrap();
    stage.write("files/zoe.password", "zoes long password");
    stage.write(
        "files/users.yaml",
        "users:\n- name: zoe\n  password_file: zoe.password\n",
    );
    let apply = |path: &Path| {
        let path = path.to_str().unwrap();
        command(&stage.registry.url(""), &["apply", "-f", path, "--yes"])
    };
    let (code, out, err) = apply(&stage.path("files"));
    assert_eq!((code, out.as_str()), (0, "+ user zoe\n"), "{err}");
}
