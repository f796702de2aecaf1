//! What scripts rely on: exit codes, JSON, and where credentials come from.

use std::fs;

use serde_json::{Value, json};

use super::{printed, row, run, text};
use crate::support::{PASSWORD, TestRegistry};

/// Runs a command as `admin`; gives the exit code, and standard output and error.
pub fn command(url: &str, arguments: &[&str]) -> (i32, String, String) {
    as_user(url, &[("KONTOR_PASSWORD", PASSWORD)], arguments)
}

pub fn as_user(url: &str, variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let mut all = vec![("KONTOR_SERVER", url), ("DOCKER_CONFIG", "/nonexistent")];
    all.extend(variables);
    let output = run(arguments, &all, "");
    let code = output.status.code().unwrap();
    (code, text(&output.stdout), text(&output.stderr))
}

pub fn parsed(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_can_tell_failures_apart() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let url = registry.url("");
    let password = ("KONTOR_PASSWORD", PASSWORD);
    let ann = [("KONTOR_USER", "ann"), password];
    let wrong = [("KONTOR_PASSWORD", "wrong")];
    assert_eq!(command(&url, &["account", "list"]).0, 0);
    assert_eq!(command(&url, &["account", "frobnicate"]).0, 2);
    let bad = ["account", "update", "demo", "--anonymous-pull", "("];
    assert_eq!(command(&url, &bad).0, 2);
    assert_eq!(command(&url, &["account", "show", "nothing"]).0, 3);
    assert_eq!(command(&url, &["tag", "show", "demo/app", "v2"]).0, 3);
    assert_eq!(as_user(&url, &wrong, &["account", "list"]).0, 4);
    let forbidden = ["account", "create", "mine", "--auth-tenant", "demo"];
    assert_eq!(as_user(&url, &ann, &forbidden).0, 4);
    let (code, _, err) = as_user(&url, &[], &["account", "list"]);
    assert_eq!(code, 4);
    assert!(err.contains("you are not logged in at 127.0.0.1:"), "{err}");
    assert_eq!(command(&url, &["account", "delete", "demo"]).0, 5);
    let (code, _, err) = command("http://127.0.0.1:1", &["account", "list"]);
    assert_eq!(code, 6);
    assert!(err.contains("is it running"), "{err}");
    let (code, _, err) = command("registry.test", &["account", "list"]);
    assert_eq!(code, 2);
    assert!(err.contains("https://registry.example.org"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_all_that_a_program_gets() {
    let registry = TestRegistry::start().await;
    let url = registry.url("");
    let json_of = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
        let (code, out, err) = command(&url, &all);
        assert_eq!(code, 0, "{err}");
        parsed(&out)
    };
    assert_eq!(json_of(&["account", "list"])[0]["name"], "demo");
    assert_eq!(json_of(&["account", "show", "demo"])["state"], "ready");
    assert_eq!(json_of(&["robot", "list", "demo"]), json!([]));
    let made = json_of(&["robot", "create", "demo", "ci"]);
    assert!(
        made["secret"]
            .as_str()
            .unwrap()
            .starts_with("kontor_robot_")
    );
    assert_eq!(json_of(&["whoami"])["identity"], "static:admin");
    let (code, out, err) = command(&url, &["robot", "delete", "demo", "ci", "-o", "json"]);
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.contains("was deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_and_tags_are_listed_shown_and_deleted() {
    let registry = TestRegistry::start().await;
    let url = registry.url("");
    registry.push_image("demo/app", "v1", 1).await;
    registry.push_image("demo/team/tool", "v1", 2).await;
    registry.push_image("demo/app", "v2", 3).await;
    let out = |arguments: &[&str]| {
        let (code, out, err) = command(&url, arguments);
        assert_eq!(code, 0, "{err}");
        out
    };
    assert_eq!(out(&["repo", "list"]), "NAME\ndemo/app\ndemo/team/tool\n");
    assert_eq!(out(&["repo", "list", "other"]), "");
    assert_eq!(out(&["tag", "list", "demo/app"]), "NAME\nv1\nv2\n");
    let shown = parsed(&out(&["tag", "show", "demo/app", "v1", "-o", "json"]));
    let head = registry.head("/v2/demo/app/manifests/v1").await;
    assert_eq!(
        shown["digest"],
        head.headers()["docker-content-digest"].to_str().unwrap()
    );
    assert_eq!(
        shown["size_bytes"].to_string(),
        head.headers()["content-length"].to_str().unwrap()
    );
    out(&["tag", "delete", "demo/app", "v1"]);
    assert_eq!(out(&["tag", "list", "demo/app"]), "NAME\nv2\n");
    // Somebody else sees nothing of it.
    let other = [("KONTOR_USER", "other"), ("KONTOR_PASSWORD", PASSWORD)];
    assert_eq!(as_user(&url, &other, &["repo", "list"]).1, "");
    assert_eq!(as_user(&url, &other, &["tag", "list", "demo/app"]).0, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_shown_and_replaced() {
    let registry = TestRegistry::start().await;
    let url = registry.url("");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policies.yaml");
    fs::write(
        &file,
        "- match_repository: pub/.*\n  permissions: [anonymous_pull]\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let (code, out, err) = command(&url, &["policy", "set", "demo", "rbac", "-f", file]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(parsed(&out)[0]["match_repository"], "pub/.*");
    let (_, shown, _) = command(&url, &["policy", "show", "demo"]);
    assert_eq!(parsed(&shown), parsed(&out));
    assert_eq!(command(&url, &["policy", "show", "demo", "nonsense"]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_stored_is_used_for_its_host_alone() {
    let registry = TestRegistry::start().await;
    let url = registry.url("");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let login = |host: &str| {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let auth = BASE64_STANDARD.encode(format!("ann:{PASSWORD}"));
        let config = json!({ "auths": { host: { "auth": auth } } });
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    };
    let docker = ("DOCKER_CONFIG", path);
    login(&registry.address.to_string());
    let who = |variables: &[(&str, &str)], more: &[&str]| {
        let all: Vec<&str> = ["whoami", "-o", "json"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        let (code, out, _) = as_user(&url, variables, &all);
        (code == 0).then(|| parsed(&out)["identity"].as_str().unwrap().to_owned())
    };
    assert_eq!(who(&[docker], &[]).as_deref(), Some("static:ann"));
    assert_eq!(
        who(&[docker], &["--user", "ann"]).as_deref(),
        Some("static:ann")
    );
    // It is not somebody else's password.
    assert_eq!(who(&[docker], &["--user", "admin"]), None);
    // What is given beats what is stored.
    let given = [docker, ("KONTOR_PASSWORD", PASSWORD)];
    assert_eq!(who(&given, &[]).as_deref(), Some("static:admin"));
    // Before the variables of OpenStack, which point nowhere.
    let cloud = [
        docker,
        ("OS_AUTH_URL", "http://127.0.0.1:1"),
        ("OS_USER_ID", "x"),
        ("OS_PASSWORD", "y"),
    ];
    assert_eq!(who(&cloud, &[]).as_deref(), Some("static:ann"));
    login("127.0.0.1");
    assert_eq!(who(&[docker], &[]), None);
    let (code, _, err) = as_user(&url, &cloud, &["whoami"]);
    assert_eq!(code, 6);
    assert!(err.contains("cannot reach Keystone"), "{err}");
}

#[test]
fn completions_and_man_pages_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completion", shell], &[], "");
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("apply"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man");
    let output = run(&["man", "--dir", path.to_str().unwrap()], &[], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = fs::read_to_string(path.join("kontor-account-create.1")).unwrap();
    assert!(page.contains("auth\\-tenant"), "{page}");
    // No value of the environment gets into a page.
    let secret = [("KONTOR_PASSWORD", "s3cr3t-word")];
    run(&["man", "--dir", path.to_str().unwrap()], &secret, "");
    for entry in fs::read_dir(&path).unwrap() {
        let page = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!page.contains("s3cr3t-word"));
    }
    let help = run(&["account", "list", "--help"], &secret, "");
    assert!(!text(&help.stdout).contains("s3cr3t-word"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_for_people() {
    let registry = TestRegistry::start().await;
    let url = registry.url("");
    let out = printed(&url, ("admin", PASSWORD), &["account", "list"], "");
    assert_eq!(
        row(&out, "NAME"),
        ["NAME", "AUTH_TENANT_ID", "STORAGE", "STATE"]
    );
}
