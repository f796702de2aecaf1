//! Tag policies.

use reqwest::Method;
use serde_json::{Value, json};

use super::sent;
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_INDEX, OCI_MANIFEST, descriptor, digest},
};

const REPO: &str = "demo/app";

fn path(reference: &str) -> String {
    format!("/v2/{REPO}/manifests/{reference}")
}

fn digest_of(manifest: &Value) -> String {
    digest(&serde_json::to_vec(manifest).unwrap()).to_string()
}

async fn put(registry: &TestRegistry, path: &str, manifest: &Value) -> u16 {
    let content = serde_json::to_vec(manifest).unwrap();
    let answer = registry
        .put_manifest(path, Some(OCI_MANIFEST), &content)
        .await;
    answer.status().as_u16()
}

async fn tags(registry: &TestRegistry) -> Value {
    let request = registry.admin(Method::GET, &format!("/v2/{REPO}/tags/list"));
    sent(request).await.1["tags"].take()
}

async fn policies(registry: &TestRegistry, policy: Value) {
    registry.settings(json!({ "tag_policies": [policy] })).await;
}

#[tokio::test]
async fn a_tag_that_cannot_be_overwritten_stays_where_it_is() {
    let registry = TestRegistry::start().await;
    let policy = json!({ "match_repository": "app", "match_tag": "v.*", "except_tag": ".*-rc", "block_overwrite": true });
    policies(&registry, policy.clone()).await;
    let first = registry.push_image(REPO, "v1", 1).await;
    let second = registry.push_image(REPO, "free", 5).await;
    // Known and new manifests alike.
    let third = {
        let mut manifest = second.clone();
        manifest["annotations"] = json!({ "a": "b" });
        manifest
    };
    let objects = registry.object_count("demo").await;
    for manifest in [&second, &third] {
        let content = serde_json::to_vec(manifest).unwrap();
        let answer = registry
            .put_manifest(&path("v1"), Some(OCI_MANIFEST), &content)
            .await;
        let body = assert_oci_error(answer, 403, "DENIED").await;
        let error = &body["errors"][0];
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("tag_policies[0]"),
            "{error}"
        );
        assert_eq!(error["detail"]["policy"], policy);
        assert_eq!(error["detail"]["tag"], "v1");
    }
    // What is refused stores nothing, no other tag of the same push either.
    let refused = format!(
        "/v2/{REPO}/manifests/{}?tag=fresh&tag=v1",
        digest_of(&third)
    );
    assert_eq!(put(&registry, &refused, &third).await, 403);
    assert_eq!(registry.object_count("demo").await, objects);
    assert_eq!(registry.get(&path(&digest_of(&third))).await.status(), 404);
    assert_eq!(tags(&registry).await, json!(["free", "v1"]));

    // The same again is no overwrite, and neither is what the policy is not about.
    assert_eq!(put(&registry, &path("v1"), &first).await, 201);
    assert_eq!(put(&registry, &path("v2"), &second).await, 201);
    assert_eq!(put(&registry, &path("v1-rc"), &first).await, 201);
    assert_eq!(put(&registry, &path("v1-rc"), &second).await, 201);
    assert_eq!(put(&registry, &path("free"), &first).await, 201);
    assert_eq!(put(&registry, &path(&digest_of(&third)), &third).await, 201);
    let v1 = registry.get(&path("v1")).await;
    assert_eq!(v1.headers()["docker-content-digest"], digest_of(&first));
    // It may be deleted and set anew.
    assert_eq!(registry.delete(&path("v1")).await.status(), 202);
    assert_eq!(put(&registry, &path("v1"), &second).await, 201);
}

#[tokio::test]
async fn a_tag_that_cannot_be_deleted_keeps_its_manifest() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "v1", 1).await;
    registry.push_manifest(REPO, "free", &image).await;
    let policy = json!({ "match_repository": "app", "match_tag": "v1", "block_delete": true });
    policies(&registry, policy).await;
    for reference in ["v1", &digest_of(&image)] {
        let answer = registry.delete(&path(reference)).await;
        let body = assert_oci_error(answer, 403, "DENIED").await;
        assert!(
            body.to_string().contains("tag v1 cannot be deleted"),
            "{body}"
        );
    }
    assert_eq!(registry.delete(&path("free")).await.status(), 202);
    assert_oci_error(
        registry.delete(&path("absent")).await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
    // An overwrite is no deletion; then the manifest has no such tag any more.
    let other = registry.push_image(REPO, "v1", 5).await;
    assert_eq!(
        registry.delete(&path(&digest_of(&image))).await.status(),
        202
    );
    // What an index with such a tag needs stays as well.
    let content = serde_json::to_vec(&other).unwrap();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, &content)] });
    registry.push_manifest(REPO, "v1", &index).await;
    assert_eq!(
        registry.delete(&path(&digest_of(&other))).await.status(),
        409
    );
    assert_eq!(
        registry.delete(&path(&digest_of(&index))).await.status(),
        403
    );
    // Another repository is not meant.
    let image = registry.push_image("demo/app2", "v1", 1).await;
    let path = format!("/v2/demo/app2/manifests/{}", digest_of(&image));
    assert_eq!(registry.delete(&path).await.status(), 202);
}

#[tokio::test]
async fn tags_that_cannot_be_pushed_are_neither_made_nor_moved() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "latest", 1).await;
    let other = registry.push_image(REPO, "v1", 5).await;
    policies(
        &registry,
        json!({ "match_repository": ".*", "match_tag": "latest|new", "block_push": true }),
    )
    .await;
    assert_eq!(put(&registry, &path("new"), &image).await, 403);
    assert_eq!(put(&registry, &path("latest"), &other).await, 403);
    assert_eq!(put(&registry, &path("latest"), &image).await, 201);
    assert_eq!(put(&registry, &path("v2"), &image).await, 201);
    let by_parameter = format!("{}?tag=new", path(&digest_of(&image)));
    assert_eq!(put(&registry, &by_parameter, &image).await, 403);
    assert_eq!(tags(&registry).await, json!(["latest", "v1", "v2"]));
    assert_eq!(registry.delete(&path("latest")).await.status(), 202);
}

#[tokio::test]
async fn of_many_pushes_at_once_one_gets_the_tag() {
    let registry = TestRegistry::start().await;
    let other = registry.second_node().await;
    let base = registry.push_image(REPO, "base", 1).await;
    policies(
        &registry,
        json!({ "match_repository": ".*", "match_tag": "v.*", "block_overwrite": true }),
    )
    .await;
    for round in 0..4 {
        let tag = format!("v{round}");
        let manifests: Vec<Value> = (0..8)
            .map(|number| {
                let mut manifest = base.clone();
                manifest["annotations"] = json!({ "n": format!("{round} {number}") });
                manifest
            })
            .collect();
        if round % 2 == 1 {
            // Known manifests take another way.
            for manifest in &manifests {
                assert_eq!(
                    put(&registry, &path(&digest_of(manifest)), manifest).await,
                    201
                );
            }
        }
        let pushes = manifests.iter().enumerate().map(|(number, manifest)| {
            let node = if number % 2 == 0 { &registry } else { &other };
            let path = path(&tag);
            async move { put(node, &path, manifest).await }
        });
        let statuses = futures::future::join_all(pushes).await;
        let winners: Vec<_> = statuses
            .iter()
            .zip(&manifests)
            .filter(|(status, _)| **status == 201)
            .collect();
        assert_eq!(winners.len(), 1, "{statuses:?}");
        assert!(
            statuses.iter().all(|status| matches!(status, 201 | 403)),
            "{statuses:?}"
        );
        let pulled = registry.get(&path(&tag)).await;
        assert_eq!(
            pulled.headers()["docker-content-digest"],
            digest_of(winners[0].1)
        );
    }
}

#[tokio::test]
async fn a_manifest_is_never_deleted_under_a_tag_that_protects_it() {
    let registry = TestRegistry::start().await;
    let base = registry.push_image(REPO, "base", 1).await;
    policies(
        &registry,
        json!({ "match_repository": ".*", "match_tag": "v.*", "block_delete": true }),
    )
    .await;
    for round in 0..8 {
        let mut manifest = base.clone();
        manifest["annotations"] = json!({ "n": round.to_string() });
        assert_eq!(
            put(&registry, &path(&digest_of(&manifest)), &manifest).await,
            201
        );
        let tag = path(&format!("v{round}"));
        let by_digest = path(&digest_of(&manifest));
        let (pushed, deleted) = futures::future::join(put(&registry, &tag, &manifest), async {
            registry.delete(&by_digest).await.status().as_u16()
        })
        .await;
        // Either the tag came first, or the push stored the manifest once more.
        assert_eq!(pushed, 201);
        assert!(matches!(deleted, 202 | 403), "{deleted}");
        assert_eq!(registry.get(&tag).await.status(), 200, "{deleted}");
    }
}
