//! `kontor audit verify`, `export` and `head`, as a process, on a database and on a copy of it.

use std::{
    fs,
    process::{Command, Output},
};

use reqwest::Method;

use crate::support::{Setup, TestRegistry};

fn kontor(registry: &TestRegistry, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kontor"));
    command.arg("audit").args(arguments);
    if !arguments.contains(&"--file") {
        command.arg("--data-dir").arg(&registry.config.data_dir);
    }
    if let Some(url) = &registry.config.database.url {
        command.env("KONTOR__DATABASE__URL", url.expose());
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).unwrap()
}

#[tokio::test]
async fn a_database_and_its_copy_are_verified() {
    let registry = Setup::default().start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry.audit_settle().await;
    let found = kontor(&registry, &["verify"]);
    assert!(found.status.success(), "{}", text(&found));
    assert!(text(&found).contains("events are as they were sealed"));
    let path = |name: &str| registry.folder.path().join(name);
    let words = |name: &str| path(name).to_str().unwrap().to_owned();
    let (copy, jwks, head) = (words("copy"), words("jwks"), words("head"));
    let export = kontor(&registry, &["export"]);
    assert!(export.status.success(), "{}", text(&export));
    fs::write(&copy, &export.stdout).unwrap();
    fs::write(&head, kontor(&registry, &["head"]).stdout).unwrap();
    let keys = registry.anonymous(Method::GET, "/.well-known/jwks.json");
    fs::write(&jwks, keys.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let verify = ["verify", "--file", &copy, "--jwks", &jwks, "--head", &head];
    let found = kontor(&registry, &verify);
    assert!(found.status.success(), "{}", text(&found));
    // What somebody does to the copy.
    let whole = fs::read_to_string(&copy).unwrap();
    let mut lines: Vec<&str> = whole.lines().collect();
    let place = lines.iter().position(|line| line.contains("\"seq\":3,"));
    lines.remove(place.unwrap());
    fs::write(&copy, lines.join("\n")).unwrap();
    let found = kontor(&registry, &verify);
    assert!(!found.status.success());
    assert!(
        text(&found).contains("event 3 is missing"),
        "{}",
        text(&found)
    );
    fs::write(&copy, whole.replace("blob.push", "blob.pull")).unwrap();
    let found = kontor(&registry, &verify);
    assert!(!found.status.success());
    assert!(text(&found).contains("was altered"), "{}", text(&found));
    // Cut off behind a head that fits: the head that was kept tells.
    let altered =
        "UPDATE audit_events SET event = REPLACE(event, 'v1', 'v9') WHERE action = 'manifest.push'";
    let done = registry.db.execute_for_tests(altered.into()).await;
    assert_eq!(done.unwrap(), 1);
    let found = kontor(&registry, &["verify", "--head", &head]);
    assert!(!found.status.success());
    assert!(text(&found).contains("was altered"), "{}", text(&found));
}
