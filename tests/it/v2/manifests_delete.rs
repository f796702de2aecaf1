//! `DELETE /v2/<name>/manifests/<reference>`

use reqwest::Method;
use serde_json::{Value, json};

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_INDEX, OCI_MANIFEST, descriptor, digest},
};

fn path(reference: &str) -> String {
    format!("/v2/{REPO}/manifests/{reference}")
}

fn digest_of(manifest: &Value) -> String {
    digest(&serde_json::to_vec(manifest).unwrap()).to_string()
}

#[tokio::test]
async fn deleting_a_tag_leaves_the_manifest_and_its_other_tags() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "v1", 1).await;
    registry.push_manifest(REPO, "v2", &image).await;
    assert_eq!(registry.delete(&path("v1")).await.status(), 202);
    assert_oci_error(registry.get(&path("v1")).await, 404, "MANIFEST_UNKNOWN").await;
    assert_eq!(registry.get(&path("v2")).await.status(), 200);
    assert_eq!(registry.delete(&path("v2")).await.status(), 202);
    assert_eq!(registry.get(&path(&digest_of(&image))).await.status(), 200);
    assert_oci_error(registry.delete(&path("v2")).await, 404, "MANIFEST_UNKNOWN").await;
}

#[tokio::test]
async fn deleting_a_manifest_takes_its_tags_and_its_bytes_and_leaves_its_blobs() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "v1", 1).await;
    registry.push_manifest(REPO, "v2", &image).await;
    registry.push_image(REPO, "keep", 5).await;
    let count = registry.object_count("demo").await;
    assert_eq!(
        registry.delete(&path(&digest_of(&image))).await.status(),
        202
    );
    for reference in ["v1", "v2", &digest_of(&image)] {
        assert_oci_error(
            registry.get(&path(reference)).await,
            404,
            "MANIFEST_UNKNOWN",
        )
        .await;
        assert_oci_error(
            registry.delete(&path(reference)).await,
            404,
            "MANIFEST_UNKNOWN",
        )
        .await;
    }
    assert_eq!(registry.get(&path("keep")).await.status(), 200);
    assert_eq!(registry.object_count("demo").await, count - 1);
    let layer = image["layers"][0]["digest"].as_str().unwrap();
    assert_eq!(
        registry
            .head(&format!("/v2/{REPO}/blobs/{layer}"))
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn a_manifest_that_an_index_lists_is_409_until_the_index_is_gone() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "v1", 1).await;
    let child = descriptor(OCI_MANIFEST, &serde_json::to_vec(&image).unwrap());
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child] });
    let index_digest = registry.push_manifest(REPO, "index", &index).await;
    let child = digest_of(&image);
    let body = assert_oci_error(registry.delete(&path(&child)).await, 409, "DENIED").await;
    assert!(
        body["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains(index_digest.as_str())
    );
    assert_eq!(registry.get(&path("v1")).await.status(), 200);
    // Tags are free all the time, that of the index as well, which does not free the child.
    assert_eq!(registry.delete(&path("v1")).await.status(), 202);
    assert_eq!(registry.delete(&path("index")).await.status(), 202);
    assert_eq!(registry.delete(&path(&child)).await.status(), 409);
    assert_eq!(
        registry.delete(&path(index_digest.as_str())).await.status(),
        202
    );
    assert_eq!(registry.delete(&path(&child)).await.status(), 202);
}

#[tokio::test]
async fn a_subject_can_be_deleted_and_leaves_its_referrers() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "v1", 1).await;
    let mut signature = image.clone();
    signature["subject"] = descriptor(OCI_MANIFEST, &serde_json::to_vec(&image).unwrap());
    registry.push_manifest(REPO, "signature", &signature).await;
    assert_eq!(
        registry.delete(&path(&digest_of(&image))).await.status(),
        202
    );
    assert_eq!(registry.get(&path("signature")).await.status(), 200);
    let answer = registry
        .get(&format!("/v2/{REPO}/referrers/{}", digest_of(&image)))
        .await;
    let index: Value = answer.json().await.unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest_of(&signature));
}

#[tokio::test]
async fn the_same_manifest_in_another_repository_stays() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "v1", 1).await;
    registry.push_image("demo/other", "v1", 1).await;
    assert_eq!(
        registry.delete(&path(&digest_of(&image))).await.status(),
        202
    );
    let answer = registry.get("/v2/demo/other/manifests/v1").await;
    assert_eq!(answer.json::<Value>().await.unwrap(), image);
}

#[tokio::test]
async fn a_deleted_manifest_can_be_pushed_again() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "v1", 1).await;
    registry.delete(&path(&digest_of(&image))).await;
    registry.push_manifest(REPO, "v1", &image).await;
    assert_eq!(
        registry
            .get(&path("v1"))
            .await
            .json::<Value>()
            .await
            .unwrap(),
        image
    );
}

#[tokio::test]
async fn what_is_not_there_is_404_and_a_bad_reference_400() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "v1", 1).await;
    let unknown = digest(b"unknown");
    for path in [
        path("v2"),
        path(unknown.as_str()),
        "/v2/demo/unknown/manifests/v1".to_owned(),
        format!("/v2/demo/unknown/manifests/{unknown}"),
        "/v2/unknown/app/manifests/v1".to_owned(),
    ] {
        assert_oci_error(registry.delete(&path).await, 404, "MANIFEST_UNKNOWN").await;
    }
    assert_oci_error(registry.delete(&path("-v1")).await, 400, "TAG_INVALID").await;
    assert_oci_error(
        registry.delete(&path("sha256:abc")).await,
        400,
        "DIGEST_INVALID",
    )
    .await;
}

#[tokio::test]
async fn deleting_needs_its_own_permission() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "v1", 1).await;
    registry.allow_anonymous_pull(".*").await;
    let token = registry
        .token("ann", &["repository:demo/app:pull,push"])
        .await;
    for reference in ["v1", &digest_of(&image)] {
        let path = path(reference);
        let answer = registry
            .as_user("reader", Method::DELETE, &path)
            .send()
            .await
            .unwrap();
        assert_oci_error(answer, 403, "DENIED").await;
        let answer = registry
            .bearer(&token, Method::DELETE, &path)
            .send()
            .await
            .unwrap();
        assert_oci_error(answer, 401, "UNAUTHORIZED").await;
        let answer = registry
            .anonymous(Method::DELETE, &path)
            .send()
            .await
            .unwrap();
        assert!(
            header(&answer, "www-authenticate").ends_with("scope=\"repository:demo/app:delete\"")
        );
        assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    }
    assert_eq!(registry.get(&path("v1")).await.status(), 200);
    let answer = registry
        .as_user("ann", Method::DELETE, &path("v1"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
}
