//! Legal holds.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use super::{digest_of, start};
use crate::support::{TestRegistry, assert_oci_error, image::bytes};

const REPO_HOLD: &str = "demo/repositories/app/_hold";
const TAG_HOLD: &str = "demo/repositories/app/_tags/v1/_hold";

/// Holds something for some days as somebody.
async fn hold(registry: &TestRegistry, user: &str, path: &str, days: i64) -> (u16, Value) {
    let until = registry.now() + TimeDelta::days(days);
    let order = json!({ "until": until, "reason": "case 7" });
    registry.ask(user, (Method::POST, path), Some(order)).await
}

#[tokio::test]
async fn of_a_held_repository_nothing_goes_and_nothing_moves() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let loose = registry.push_blob("demo/app", &bytes(77, 10)).await;
    let old = registry.push_image("demo/app", "old", 11).await;
    registry.delete_manifest(&digest_of(&old)).await;
    let (status, shown) = hold(&registry, "owner", REPO_HOLD, 30).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(shown["repository"], "app");
    assert_eq!(shown["tag"], json!(null));
    assert_eq!(shown["placed_by"], "static:owner");
    let event = registry.audit_last("action=hold.place").await;
    assert_eq!(event["target"]["repository"], "demo/app");
    assert!(event["reason"].as_str().unwrap().contains("case 7"));

    let digest = digest_of(&image);
    for path in [
        "/v2/demo/app/manifests/v1".to_owned(),
        format!("/v2/demo/app/manifests/{digest}"),
        format!("/v2/demo/app/blobs/{loose}"),
    ] {
        let body = assert_oci_error(registry.delete(&path).await, 403, "DENIED").await;
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("legal hold until"), "{message}");
        assert!(message.contains("case 7"), "{message}");
    }
    for path in [
        format!("demo/repositories/app/_manifests/{digest}"),
        "demo/repositories/app/_tags/v1".to_owned(),
    ] {
        assert_eq!(
            registry.ask("admin", (Method::DELETE, &path), None).await.0,
            403
        );
    }
    for path in ["demo/repositories/app", "demo"] {
        let (status, _) = registry.ask("admin", (Method::DELETE, path), None).await;
        assert_eq!(status, 409);
    }
    let order = json!({ "repository": "app", "digest": digest_of(&old) });
    let purge = (Method::POST, "demo/trash/purge");
    assert_eq!(registry.ask("admin", purge, Some(order)).await.0, 403);
    // A move is refused; new content and new tags are not.
    let next = registry.push_image("demo/app", "v2", 21).await;
    let content = serde_json::to_vec(&next).unwrap();
    let answer = registry
        .put_manifest("/v2/demo/app/manifests/v1", None, &content)
        .await;
    assert_oci_error(answer, 403, "DENIED").await;
    registry.push_manifest("demo/app", "v3", &next).await;
    // What is due waits for the end of the hold.
    registry.days_pass(8);
    registry.purge_and_sweep().await;
    assert_eq!(registry.trashed().await, [digest_of(&old)]);
    assert_eq!(registry.restore(&digest_of(&old)).await.0, 200);
    registry.assert_books().await;
    registry.days_pass(30);
    assert_eq!(registry.delete_manifest(&digest).await, 202);
}

#[tokio::test]
async fn an_empty_repository_that_is_held_stays_until_the_end() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.delete_manifest(&digest_of(&image)).await;
    assert_eq!(hold(&registry, "owner", REPO_HOLD, 10).await.0, 200);
    for path in ["demo/repositories/app", "demo"] {
        let (status, problem) = registry.ask("admin", (Method::DELETE, path), None).await;
        assert_eq!(status, 409);
        assert!(
            problem["detail"].as_str().unwrap().contains("legal hold"),
            "{problem}"
        );
    }
    registry.days_pass(8);
    assert!(registry.registry.trash_purge().await.unwrap());
    assert_eq!(registry.trashed().await, [digest_of(&image)]);
    assert!(
        !registry.registry.trash_purge().await.unwrap(),
        "it was put off"
    );
    registry.days_pass(2);
    registry.purge_and_sweep().await;
    assert_eq!(registry.trash().await, Vec::<Value>::new());
    let (status, _) = registry.ask("admin", (Method::DELETE, "demo"), None).await;
    assert_eq!(status, 204);
    registry.assert_books().await;
}

#[tokio::test]
async fn what_a_hold_has_put_off_goes_when_it_is_lifted_even_if_it_was_made_longer() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.delete_manifest(&digest_of(&image)).await;
    assert_eq!(hold(&registry, "owner", REPO_HOLD, 10).await.0, 200);
    registry.days_pass(8);
    assert!(registry.registry.trash_purge().await.unwrap());
    assert_eq!(hold(&registry, "owner", REPO_HOLD, 10).await.0, 200);
    let lifted = registry.ask("admin", (Method::DELETE, REPO_HOLD), None);
    assert_eq!(lifted.await.0, 204);
    registry.purge_and_sweep().await;
    assert_eq!(registry.trashed().await, Vec::<String>::new());
    registry.assert_books().await;
}

#[tokio::test]
async fn a_held_tag_stays_with_its_manifest_and_others_go() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.push_manifest("demo/app", "v2", &image).await;
    let other = registry.push_image("demo/app", "v3", 11).await;
    assert_eq!(hold(&registry, "owner", TAG_HOLD, 30).await.0, 200);
    let none = "demo/repositories/app/_tags/none/_hold";
    assert_eq!(hold(&registry, "owner", none, 30).await.0, 404);
    assert_eq!(registry.delete_manifest("v1").await, 403);
    assert_eq!(registry.delete_manifest(&digest_of(&image)).await, 403);
    let content = serde_json::to_vec(&other).unwrap();
    let answer = registry
        .put_manifest("/v2/demo/app/manifests/v1", None, &content)
        .await;
    assert_oci_error(answer, 403, "DENIED").await;
    registry.push_manifest("demo/app", "v1", &image).await;
    assert_eq!(registry.delete_manifest("v2").await, 202);
    assert_eq!(registry.delete_manifest(&digest_of(&other)).await, 202);
    let (status, _) = registry
        .ask("admin", (Method::DELETE, TAG_HOLD), None)
        .await;
    assert_eq!(status, 204);
    assert_eq!(registry.delete_manifest(&digest_of(&image)).await, 202);
    let event = registry.audit_last("action=hold.lift").await;
    assert_eq!(event["target"]["tags"], json!(["v1"]));
}

#[tokio::test]
async fn who_owns_the_account_makes_holds_longer_and_operators_shorter() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.delete_manifest(&digest_of(&image)).await;
    for (user, status) in [
        ("ann", 403),
        ("reader", 403),
        ("other", 404),
        ("nobody", 404),
    ] {
        assert_eq!(
            hold(&registry, user, REPO_HOLD, 10).await.0,
            status,
            "{user}"
        );
        let lift = (Method::DELETE, REPO_HOLD);
        assert_eq!(registry.ask(user, lift, None).await.0, status, "{user}");
        let list = if status == 404 { 404 } else { 200 };
        let holds = (Method::GET, "demo/holds");
        assert_eq!(registry.ask(user, holds, None).await.0, list, "{user}");
    }
    assert_eq!(hold(&registry, "owner", REPO_HOLD, 10).await.0, 200);
    assert_eq!(hold(&registry, "owner", REPO_HOLD, 20).await.0, 200);
    assert_eq!(hold(&registry, "owner", REPO_HOLD, 19).await.0, 403);
    let lift = (Method::DELETE, REPO_HOLD);
    assert_eq!(registry.ask("owner", lift.clone(), None).await.0, 403);
    // What was put off until the end goes when the hold does.
    registry.days_pass(8);
    assert!(registry.registry.trash_purge().await.unwrap());
    assert!(!registry.registry.trash_purge().await.unwrap());
    assert_eq!(hold(&registry, "admin", REPO_HOLD, 2).await.0, 200);
    registry.days_pass(1);
    assert!(!registry.registry.trash_purge().await.unwrap());
    assert_eq!(registry.ask("admin", lift.clone(), None).await.0, 204);
    assert_eq!(registry.ask("admin", lift, None).await.0, 404);
    assert!(registry.registry.trash_purge().await.unwrap());
    assert_eq!(registry.trash().await, Vec::<Value>::new());
}

#[tokio::test]
async fn holds_are_listed_while_they_are_in_force() {
    let registry = start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry.push_image("demo/zoo", "v1", 1).await;
    for (path, days) in [
        (REPO_HOLD, 3),
        (TAG_HOLD, 5),
        ("demo/repositories/zoo/_hold", 5),
    ] {
        assert_eq!(hold(&registry, "owner", path, days).await.0, 200);
    }
    let list = async |query: &str| {
        let path = format!("demo/holds?{query}");
        let (status, page) = registry.ask("reader", (Method::GET, &path), None).await;
        assert_eq!(status, 200);
        let holds = page["holds"].as_array().unwrap().clone();
        let names: Vec<String> = holds
            .iter()
            .map(|hold| format!("{}:{}", hold["repository"].as_str().unwrap(), hold["tag"]))
            .collect();
        (names, page["next"].as_str().map(ToOwned::to_owned))
    };
    assert_eq!(list("").await.0, ["app:null", "app:\"v1\"", "zoo:null"]);
    let (first, next) = list("limit=2").await;
    assert_eq!(first.len(), 2);
    let (second, end) = list(&format!("last={}", next.unwrap())).await;
    assert_eq!((second, end), (vec!["zoo:null".to_owned()], None));
    registry.days_pass(4);
    assert_eq!(list("").await.0, ["app:\"v1\"", "zoo:null"]);
    for (order, path) in [
        (json!({ "until": registry.now(), "reason": "x" }), "$.until"),
        (
            json!({ "until": registry.now() + TimeDelta::days(1), "reason": " " }),
            "$.reason",
        ),
        (json!({ "until": "soon", "reason": "x" }), "$.until"),
        (
            json!({ "until": registry.now() + TimeDelta::days(1), "reason": "x".repeat(1001) }),
            "$.reason",
        ),
    ] {
        let put = (Method::POST, REPO_HOLD);
        let (status, problem) = registry.ask("owner", put, Some(order)).await;
        assert_eq!((status, problem["path"].as_str()), (422, Some(path)));
    }
}
