//! What keeps a blob.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::{digest_of, sent};
use crate::support::{TestRegistry, image::bytes};

fn path(digest: &str) -> String {
    format!("/api/v1/accounts/demo/blobs/{digest}")
}

#[tokio::test]
async fn a_blob_is_explained_by_what_needs_it() {
    let registry = TestRegistry::start().await;
    let manifest = registry.push_image("demo/app", "v1", 1).await;
    let layer = registry
        .push_blob("demo/waiting", &bytes(2, 1000))
        .await
        .to_string();
    let now = registry.now();
    for (repo, tag, days) in [("app", "v1", 2), ("app", "other", 2), ("waiting", "", 3)] {
        let until = now + TimeDelta::days(days);
        let statement = format!(
            "INSERT INTO legal_holds (repo_id, tag, hold_until, reason, placed_by, placed_at)
             SELECT id, '{tag}', '{until}', '', '', '{now}' FROM repos WHERE name = '{repo}'",
            until = until.format("%Y-%m-%d %H:%M:%S%.6f"),
            now = now.format("%Y-%m-%d %H:%M:%S"),
        );
        assert_eq!(registry.db.execute_for_tests(statement).await.unwrap(), 1);
    }
    let (status, answer) = sent(registry.admin(Method::GET, &path(&layer))).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["digest"], &answer["size_bytes"]),
        (&json!(layer), &json!(1000))
    );
    assert_eq!(
        answer["pushed_at"]
            .as_str()
            .unwrap()
            .parse::<DateTime<Utc>>()
            .unwrap(),
        now
    );
    let keepers = answer["kept_by"].as_array().unwrap();
    assert_eq!(keepers.len(), 2);
    let app = &keepers[0];
    assert_eq!(
        (&app["repository"], &app["is_used"]),
        (&json!("app"), &json!(true))
    );
    assert_eq!(
        (&app["kept_until"], &app["has_more_manifests"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(app["manifests"], json!([digest_of(&manifest)]));
    // The hold on another tag is not about this blob.
    assert_eq!(app["holds"].as_array().unwrap().len(), 1);
    assert_eq!(app["holds"][0]["tag"], "v1");
    let waiting = &keepers[1];
    assert_eq!(
        (&waiting["repository"], &waiting["is_used"]),
        (&json!("waiting"), &json!(false))
    );
    assert!(
        waiting["kept_until"]
            .as_str()
            .unwrap()
            .parse::<DateTime<Utc>>()
            .unwrap()
            > now
    );
    assert_eq!(
        (&waiting["manifests"], &waiting["holds"][0]["tag"]),
        (&json!([]), &Value::Null)
    );

    let (_, first) = sent(registry.admin(Method::GET, &format!("{}?limit=1", path(&layer)))).await;
    assert_eq!(
        (&first["next"], first["kept_by"].as_array().unwrap().len()),
        (&json!("app"), 1)
    );
    let (_, second) =
        sent(registry.admin(Method::GET, &format!("{}?limit=1&last=app", path(&layer)))).await;
    assert_eq!(
        (&second["next"], &second["kept_by"][0]["repository"]),
        (&Value::Null, &json!("waiting"))
    );
}

#[tokio::test]
async fn many_manifests_and_those_in_the_trash_are_named_ten_at_a_time() {
    let registry = TestRegistry::start().await;
    let mut manifest = registry.push_image("demo/app", "v1", 1).await;
    for number in 0..11 {
        manifest["annotations"] = json!({ "number": number.to_string() });
        registry.push_manifest("demo/app", "v1", &manifest).await;
    }
    let layer = registry
        .push_blob("demo/app", &bytes(2, 1000))
        .await
        .to_string();
    let purge_at = registry.now() + TimeDelta::days(7);
    let statements = [
        format!(
            "INSERT INTO trash_manifests (repo_id, digest, media_type, content, pushed_at, tags, deleted_at, deleted_by, purge_at)
             SELECT repo_id, digest, media_type, content, pushed_at, '[]', pushed_at, '', '{}' FROM manifests",
            purge_at.format("%Y-%m-%d %H:%M:%S%.6f")
        ),
        "INSERT INTO trash_blob_refs (repo_id, digest, blob_id) SELECT repo_id, digest, blob_id FROM manifest_blob_refs".to_owned(),
    ];
    for statement in statements {
        registry.db.execute_for_tests(statement).await.unwrap();
    }
    let (_, answer) = sent(registry.admin(Method::GET, &path(&layer))).await;
    let keeper = &answer["kept_by"][0];
    assert_eq!(keeper["manifests"].as_array().unwrap().len(), 10);
    assert_eq!(keeper["trash"].as_array().unwrap().len(), 10);
    assert_eq!(
        (&keeper["has_more_manifests"], &keeper["has_more_in_trash"]),
        (&json!(true), &json!(true))
    );
    let shown = keeper["trash"][0]["purge_at"].as_str().unwrap();
    assert_eq!(shown.parse::<DateTime<Utc>>().unwrap(), purge_at);
}

#[tokio::test]
async fn blobs_of_others_are_not_told() {
    let registry = TestRegistry::start().await;
    let answer = registry
        .account("theirs", json!({ "auth_tenant_id": "other" }))
        .await;
    assert!(answer.status().is_success());
    let theirs = registry
        .push_blob("theirs/app", &bytes(7, 100))
        .await
        .to_string();
    let ours = registry
        .push_blob("demo/app", &bytes(8, 100))
        .await
        .to_string();
    for (user, digest, expected) in [
        ("reader", &ours, 200),
        ("reader", &theirs, 404),
        ("admin", &theirs, 404),
        ("other", &ours, 404),
        ("nobody", &ours, 404),
    ] {
        let (status, _) = sent(registry.as_user(user, Method::GET, &path(digest))).await;
        assert_eq!(status, expected, "{user}");
    }
    assert_eq!(
        sent(registry.anonymous(Method::GET, &path(&ours))).await.0,
        401
    );
    let (status, _) = sent(registry.admin(Method::GET, &path("sha256:abc"))).await;
    assert_eq!(status, 400);
}
