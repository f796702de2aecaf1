//! What GC policies would do.

use reqwest::Method;
use serde_json::{Value, json};

use super::{deletes, digest_of, sent};
use crate::support::{TestRegistry, image::bytes};

const PREVIEW: &str = "/api/v1/accounts/demo/gc/preview";

async fn preview(registry: &TestRegistry, query: &str, order: &Value) -> Value {
    let request = registry.admin(Method::POST, &format!("{PREVIEW}{query}"));
    let (status, answer) = sent(request.json(order)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn digests(images: &Value) -> Vec<String> {
    let images = images.as_array().unwrap().iter();
    images
        .map(|image| image["digest"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_preview_shows_what_the_run_then_does() {
    let registry = TestRegistry::start().await;
    let dev = registry.push_image("demo/app", "dev", 1).await;
    let kept = registry.push_image("demo/app", "v1", 2).await;
    registry.push_image("demo/other", "v1", 1).await;
    registry.wait_out_recent();
    let policies = json!([deletes("dev")]);
    registry.settings(json!({ "gc_policies": policies })).await;
    // Without a document, and with an empty one.
    let (status, without) = sent(registry.admin(Method::POST, PREVIEW)).await;
    assert_eq!(status, 200);
    let answer = preview(&registry, "", &json!({})).await;
    assert_eq!(answer, without);
    let app = &answer["repositories"][0];
    assert_eq!(
        (&app["name"], &app["has_more_images"]),
        (&json!("app"), &json!(false))
    );
    let size = serde_json::to_vec(&dev).unwrap().len();
    let gone = json!([{ "digest": digest_of(&dev), "tags": ["dev"], "size_bytes": size,
        "status": { "rule": "delete", "number": 0, "policy": policies[0] } }]);
    assert_eq!(app["delete"], gone);
    assert_eq!(app["keep"][0]["digest"], json!(digest_of(&kept)));
    assert_eq!(app["keep"][0]["status"], json!({ "rule": "kept" }));
    // The other repository has the same image, so that its blobs stay.
    let expected = json!({ "images": 3, "deleted_images": 1, "deleted_manifest_bytes": size, "freed_blob_bytes": 0 });
    assert_eq!(answer["summary"], expected);
    assert_eq!(answer["next"], Value::Null);

    registry.gc().await;
    assert_eq!(registry.gc_status("app", &digest_of(&dev)).await, None);
    let after = preview(&registry, "", &json!({})).await;
    assert_eq!(after["summary"]["deleted_images"], 0);
    assert_eq!(
        registry.gc_status("app", &digest_of(&kept)).await,
        Some(json!({ "rule": "kept" }))
    );
}

#[tokio::test]
async fn other_policies_can_be_tried_and_are_checked_as_in_the_account() {
    let registry = TestRegistry::start().await;
    // Two images that share a layer: seed + 1 is the layer of one and the config of the other.
    registry.push_image("demo/app", "a", 1).await;
    registry.push_image("demo/app", "b", 2).await;
    registry.wait_out_recent();
    let answer = preview(&registry, "", &json!({ "gc_policies": [deletes("a")] })).await;
    assert_eq!(answer["summary"]["deleted_images"], 1);
    let freed = bytes(1, 100).len() + bytes(2, 1000).len();
    assert_eq!(answer["summary"]["freed_blob_bytes"], json!(freed));
    let answer = preview(&registry, "", &json!({ "gc_policies": [deletes(".*")] })).await;
    assert_eq!(answer["summary"]["freed_blob_bytes"], json!(2 * freed));
    // Nothing was stored.
    let (_, account) = sent(registry.admin(Method::GET, "/api/v1/accounts/demo")).await;
    assert_eq!(account["gc_policies"], Value::Null);
    assert_eq!(registry.registry.image_gc_due_since().await.unwrap(), None);

    let timed = |constraint: Value| json!({ "gc_policies": [{ "match_repository": ".*", "action": "protect", "time_constraint": constraint }] });
    for (order, path) in [
        (
            json!({ "gc_policies": [deletes("(")] }),
            "$.gc_policies[0].match_tag",
        ),
        (
            json!({ "gc_policies": vec![deletes("a"); 65] }),
            "$.gc_policies",
        ),
        (json!({ "policies": [] }), "$.policies"),
        (json!({ "repository": "UPPER" }), "$.repository"),
        (
            timed(json!({ "on": "semver", "older_than": { "value": 1, "unit": "d" } })),
            "$.gc_policies[0].time_constraint.on",
        ),
    ] {
        let (status, problem) = sent(registry.admin(Method::POST, PREVIEW).json(&order)).await;
        assert_eq!(status, 422, "{order} {problem}");
        assert_eq!(problem["path"], path, "{problem}");
    }
    let newest = timed(json!({ "on": "semver", "newest": 1 }));
    assert_eq!(
        sent(registry.admin(Method::POST, PREVIEW).json(&newest))
            .await
            .0,
        200
    );
    let (status, _) = sent(
        registry
            .admin(Method::POST, PREVIEW)
            .json(&json!({ "repository": "nothing" })),
    )
    .await;
    assert_eq!(status, 404);
    let (status, _) = sent(registry.admin(Method::POST, &format!("{PREVIEW}?limit=0"))).await;
    assert_eq!(status, 422);
    let (status, _) = sent(registry.admin(Method::POST, PREVIEW).body("{")).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn previews_come_in_pages() {
    let registry = TestRegistry::start().await;
    for repo in ["a", "b", "c"] {
        registry.push_image(&format!("demo/{repo}"), "v1", 1).await;
    }
    for seed in 2..6 {
        registry
            .push_image("demo/b", &format!("dev-{seed}"), seed)
            .await;
    }
    registry.wait_out_recent();
    let order = json!({ "gc_policies": [deletes("dev-[23]")] });
    let first = preview(&registry, "?limit=2", &order).await;
    let names = |page: &Value| -> Vec<String> {
        let repos = page["repositories"].as_array().unwrap().iter();
        repos
            .map(|repo| repo["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        (names(&first), &first["next"]),
        (vec!["a".to_owned(), "b".to_owned()], &json!("b"))
    );
    assert_eq!(first["summary"]["images"], 6);
    let second = preview(&registry, "?limit=2&last=b", &order).await;
    assert_eq!(
        (names(&second), &second["next"]),
        (vec!["c".to_owned()], &Value::Null)
    );

    // The images of one repository, with the sums of all of it on each page.
    let order = json!({ "gc_policies": order["gc_policies"], "repository": "b" });
    let (mut found, mut deleted, mut last) = (Vec::new(), 0, String::new());
    loop {
        let page = preview(&registry, &format!("?limit=2&last={last}"), &order).await;
        let repo = &page["repositories"][0];
        assert_eq!(repo["summary"]["deleted_images"], 2);
        let mut shown = [digests(&repo["delete"]), digests(&repo["keep"])].concat();
        shown.sort();
        assert!(shown.len() <= 2);
        deleted += repo["delete"].as_array().unwrap().len();
        found.extend(shown);
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut last),
            None => break,
        }
    }
    let all = registry.listed("b").await;
    let all: Vec<&str> = all
        .iter()
        .map(|manifest| manifest["digest"].as_str().unwrap())
        .collect();
    assert_eq!(
        (
            found.iter().map(String::as_str).collect::<Vec<_>>(),
            deleted
        ),
        (all, 2)
    );
}

#[tokio::test]
async fn a_preview_is_for_those_who_see_the_account() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    for (user, expected) in [
        ("admin", 200),
        ("ann", 200),
        ("reader", 200),
        ("other", 404),
        ("nobody", 404),
    ] {
        let (status, _) = sent(registry.as_user(user, Method::POST, PREVIEW)).await;
        assert_eq!(status, expected, "{user}");
        // Also with a document that is wrong: it is not looked at before.
        let wrong = json!({ "gc_policies": [deletes("(")] });
        let (status, _) = sent(registry.as_user(user, Method::POST, PREVIEW).json(&wrong)).await;
        assert_eq!(status, if expected == 200 { 422 } else { 404 }, "{user}");
    }
    assert_eq!(sent(registry.anonymous(Method::POST, PREVIEW)).await.0, 401);
}
