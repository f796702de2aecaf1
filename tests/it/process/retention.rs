//! What goes by itself, what can come back, and what must stay.

use std::fs;

use chrono::{SecondsFormat, TimeDelta};
use serde_json::{Value, json};

use super::command_line::{as_user, command, parsed};
use crate::support::{
    PASSWORD, TestRegistry,
    image::{OCI_INDEX, bytes, digest},
};

fn digest_of(manifest: &Value) -> String {
    digest(&serde_json::to_vec(manifest).unwrap()).to_string()
}

/// Runs a command as `admin`, which must succeed.
fn out(registry: &TestRegistry, arguments: &[&str]) -> String {
    let (code, out, err) = command(&registry.url(""), arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out
}

fn json_of(registry: &TestRegistry, arguments: &[&str]) -> Value {
    let all: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
    parsed(&out(registry, &all))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_what_would_go_and_why_the_rest_stays() {
    let registry = TestRegistry::start().await;
    let dev = registry.push_image("demo/app", "dev", 1).await;
    let kept = registry.push_image("demo/app", "v1", 5).await;
    // More repositories than a page has.
    let nothing = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    for number in 0..100 {
        let repo = format!("demo/many/{number:03}");
        registry.push_manifest(&repo, "v1", &nothing).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gc.yaml");
    let policy = "- match_repository: .*\n  match_tag: dev\n  action: delete\n";
    fs::write(&file, policy).unwrap();
    let file = file.to_str().unwrap();
    let tried = ["gc", "preview", "demo", "--policies", file];
    let recent = out(&registry, &tried);
    assert!(recent.starts_with("0 of 102 images would go"), "{recent}");
    registry.clock.advance(TimeDelta::minutes(11));

    let size = serde_json::to_vec(&dev).unwrap().len();
    let digest = digest_of(&dev);
    let table = out(&registry, &tried);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[..2],
        [
            vec!["REPOSITORY", "DIGEST", "TAGS", "MANIFEST_BYTES", "REASON"],
            vec!["app", &digest, "dev", &size.to_string(), "gc_policies[0]"],
        ]
    );
    let summary = format!(
        "1 of 102 images would go, with {size} bytes in manifests and 1100 bytes in blobs\n"
    );
    assert!(table.ends_with(&summary), "{table}");
    assert_eq!(lines.len(), 3, "{table}");
    let all: Vec<&str> = tried.into_iter().chain(["--all"]).collect();
    let table = out(&registry, &all);
    assert_eq!(table.lines().count(), 104);
    let line = table.lines().find(|line| line.contains(&digest_of(&kept)));
    let line = line.unwrap();
    assert!(line.starts_with("keep ") && line.ends_with("none matches"));
    // Nothing was stored, nothing has gone, and one repository is looked at alone.
    let one = json_of(&registry, &["gc", "preview", "demo", "--repository", "app"]);
    assert_eq!(one["repositories"][0]["keep"].as_array().unwrap().len(), 2);
    assert_eq!(one["summary"]["images"], 2);
    let preview = json_of(&registry, &tried);
    assert_eq!(preview["repositories"].as_array().unwrap().len(), 101);
    assert_eq!(preview["summary"]["freed_blob_bytes"], 1100);

    fs::write(file, "- match_repository: (\n  action: delete\n").unwrap();
    let url = registry.url("");
    assert_eq!(command(&url, &tried).0, 2);
    let none = ["gc", "preview", "demo", "--repository", "none"];
    assert_eq!(command(&url, &none).0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_explained() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let layer = digest(&bytes(2, 1000)).to_string();
    // More repositories than a page has.
    for number in 0..100 {
        let repo = format!("demo/many/{number:03}");
        registry.push_blob(&repo, &bytes(2, 1000)).await;
    }
    let explain = ["gc", "explain", "demo", &layer];
    let told = out(&registry, &explain);
    assert!(told.starts_with(&format!("{layer}, 1000 bytes, ")));
    let rows: Vec<&str> = told.lines().skip(2).collect();
    assert_eq!(rows.len(), 101, "{told}");
    let words: Vec<&str> = rows[0].split_whitespace().collect();
    assert_eq!(words, ["app", "manifest", &digest_of(&image)]);
    assert!(rows[100].starts_with("many/099"), "{told}");
    assert!(rows[100].contains("no manifest; it stays until "), "{told}");
    let blob = json_of(&registry, &explain);
    assert_eq!(blob["kept_by"].as_array().unwrap().len(), 101);
    assert_eq!(blob["kept_by"][0]["manifests"][0], digest_of(&image));
    let unknown = digest(b"unknown").to_string();
    let url = registry.url("");
    assert_eq!(command(&url, &["gc", "explain", "demo", &unknown]).0, 3);
    assert_eq!(command(&url, &["gc", "explain", "demo", "layer"]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_comes_back_or_goes_for_good() {
    let registry = TestRegistry::start().await;
    let first = digest_of(&registry.push_image("demo/app", "v1", 1).await);
    let before = registry.now();
    registry.clock.advance(TimeDelta::hours(1));
    let second = digest_of(&registry.push_image("demo/app", "v1", 5).await);
    let history = json_of(&registry, &["tag", "history", "demo/app", "v1"]);
    let changes = history.as_array().unwrap().iter();
    let points: Vec<&Value> = changes.map(|change| &change["digest"]).collect();
    assert_eq!(points, [&json!(second), &json!(first)]);
    let at = before.to_rfc3339_opts(SecondsFormat::Micros, true);
    let show = ["tag", "show", "demo/app", "v1", "--at", &at];
    let then = json_of(&registry, &show);
    assert_eq!(then["digest"], json!(first));
    assert_eq!(then["manifest"], "present");
    let url = registry.url("");
    let early = [
        "tag",
        "show",
        "demo/app",
        "v1",
        "--at",
        "2001-01-01T00:00:00Z",
    ];
    assert_eq!(command(&url, &early).0, 3);

    // A tag alone.
    let restore_tag = ["tag", "restore", "demo/app", "v1"];
    assert_eq!(command(&url, &restore_tag).0, 5);
    registry.clock.advance(TimeDelta::hours(1));
    out(&registry, &["tag", "delete", "demo/app", "v1"]);
    let table = out(&registry, &["tag", "history", "demo/app", "v1"]);
    let newest = table.lines().nth(1).unwrap();
    assert!(newest.ends_with(" static:admin  -"), "{table}");
    let said = out(&registry, &restore_tag);
    assert!(said.contains(&format!("points to {second} again")));

    // A manifest with its tags.
    assert_eq!(out(&registry, &["trash", "list", "demo"]), "");
    let path = format!("/v2/demo/app/manifests/{second}");
    let answer = registry.admin(reqwest::Method::DELETE, &path).send().await;
    assert_eq!(answer.unwrap().status(), 202);
    let table = out(&registry, &["trash", "list", "demo"]);
    let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[..3], ["app", &second, "v1"]);
    let reader = [("KONTOR_USER", "reader"), ("KONTOR_PASSWORD", PASSWORD)];
    let restore = ["trash", "restore", "demo/app", &second];
    assert_eq!(as_user(&url, &reader, &restore).0, 4);
    let tagged: Vec<&str> = restore
        .into_iter()
        .chain(["--tag", "v2", "--tag", "v3"])
        .collect();
    let back = json_of(&registry, &tagged);
    assert_eq!(back, json!([{ "digest": second, "tags": ["v2", "v3"] }]));
    assert_eq!(
        out(&registry, &["tag", "list", "demo/app"]),
        "NAME\nv2\nv3\n"
    );
    let answer = registry.admin(reqwest::Method::DELETE, &path).send().await;
    assert_eq!(answer.unwrap().status(), 202);
    let purge = ["trash", "purge", "demo/app", &second];
    assert_eq!(json_of(&registry, &purge), json!({ "purged": 1 }));
    assert_eq!(command(&url, &restore).0, 3);
    assert_eq!(json_of(&registry, &["trash", "list", "demo"]), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_placed_listed_and_lifted() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let until = registry.now() + TimeDelta::days(30);
    let until = until.to_rfc3339_opts(SecondsFormat::Micros, true);
    let terms = ["--until", &until, "--reason", "case 7"];
    let place = |more: &[&'static str]| {
        let mut words = vec!["hold", "place", "demo/app"];
        words.extend(more.iter().chain(&terms));
        json_of(&registry, &words)
    };
    let whole = place(&[]);
    assert_eq!(
        (&whole["repository"], &whole["tag"]),
        (&json!("app"), &Value::Null)
    );
    let tag = place(&["--tag", "v1"]);
    assert_eq!(
        (&tag["tag"], &tag["reason"]),
        (&json!("v1"), &json!("case 7"))
    );
    assert_eq!(tag["until"], json!(until));
    let listed = json_of(&registry, &["hold", "list", "demo"]);
    assert_eq!(listed, json!([whole, tag]));
    let table = out(&registry, &["hold", "list", "demo"]);
    assert!(
        table
            .lines()
            .nth(2)
            .unwrap()
            .ends_with("static:admin  case 7"),
        "{table}"
    );

    let url = registry.url("");
    let delete = ["tag", "delete", "demo/app", "v1"];
    let (code, _, err) = command(&url, &delete);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("case 7"), "{err}");
    let lift = ["hold", "lift", "demo/app", "--tag", "v1"];
    let ann = [("KONTOR_USER", "ann"), ("KONTOR_PASSWORD", PASSWORD)];
    assert_eq!(as_user(&url, &ann, &lift).0, 4);
    out(&registry, &lift);
    assert_eq!(command(&url, &lift).0, 3);
    assert_eq!(command(&url, &delete).0, 4, "the repository is still held");
    out(&registry, &["hold", "lift", "demo/app"]);
    assert_eq!(command(&url, &delete).0, 0);
    let past = [
        "hold",
        "place",
        "demo/app",
        "--until",
        "2001-01-01T00:00:00Z",
        "--reason",
        "x",
    ];
    assert_eq!(command(&url, &past).0, 2);
}
