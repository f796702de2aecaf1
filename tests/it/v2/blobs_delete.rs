//! `DELETE /v2/<name>/blobs/<digest>`

use reqwest::Method;

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{bytes, digest, manifest},
};

#[tokio::test]
async fn a_deleted_blob_is_gone_and_so_are_its_bytes() {
    let registry = TestRegistry::start().await;
    let blob = registry
        .push_chunks(REPO, &[&bytes(1, 10), &bytes(2, 10)])
        .await;
    assert_eq!(registry.object_count("demo").await, 2);
    let path = format!("/v2/{REPO}/blobs/{blob}");
    let answer = registry.delete(&path).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(header(&answer, "docker-content-digest"), blob.as_str());
    assert_eq!(registry.head(&path).await.status(), 404);
    assert_eq!(registry.object_count("demo").await, 0);
    assert_oci_error(registry.delete(&path).await, 404, "BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn a_blob_that_a_manifest_needs_is_409_until_the_manifest_is_gone() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "v1", 1).await;
    let (config, layer) = (&image["config"]["digest"], &image["layers"][0]["digest"]);
    for blob in [config, layer] {
        let path = format!("/v2/{REPO}/blobs/{}", blob.as_str().unwrap());
        assert_oci_error(registry.delete(&path).await, 409, "DENIED").await;
        assert_eq!(registry.head(&path).await.status(), 200);
    }
    let image = digest(&serde_json::to_vec(&image).unwrap());
    assert_eq!(
        registry
            .delete(&format!("/v2/{REPO}/manifests/{image}"))
            .await
            .status(),
        202
    );
    for blob in [config, layer] {
        let path = format!("/v2/{REPO}/blobs/{}", blob.as_str().unwrap());
        assert_eq!(registry.delete(&path).await.status(), 202);
    }
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn the_bytes_stay_until_the_last_repository_lets_go() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 10);
    let blob = registry.push_blob("demo/a", &content).await;
    registry.push_blob("demo/b", &content).await;
    assert_eq!(registry.object_count("demo").await, 1);
    assert_eq!(
        registry
            .delete(&format!("/v2/demo/a/blobs/{blob}"))
            .await
            .status(),
        202
    );
    assert_eq!(
        registry
            .head(&format!("/v2/demo/a/blobs/{blob}"))
            .await
            .status(),
        404
    );
    let answer = registry.get(&format!("/v2/demo/b/blobs/{blob}")).await;
    assert_eq!(answer.bytes().await.unwrap(), content);
    assert_eq!(registry.object_count("demo").await, 1);
    assert_eq!(
        registry
            .delete(&format!("/v2/demo/b/blobs/{blob}"))
            .await
            .status(),
        202
    );
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn a_manifest_of_another_repository_does_not_hold_the_blob_here() {
    let registry = TestRegistry::start().await;
    let (config, layer) = (bytes(1, 10), bytes(2, 10));
    for repo in ["demo/a", "demo/b"] {
        registry.push_blob(repo, &config).await;
        registry.push_blob(repo, &layer).await;
    }
    registry
        .push_manifest("demo/b", "v1", &manifest(&config, &[&layer]))
        .await;
    let blob = digest(&layer);
    assert_eq!(
        registry
            .delete(&format!("/v2/demo/a/blobs/{blob}"))
            .await
            .status(),
        202
    );
    assert_eq!(
        registry
            .get(&format!("/v2/demo/b/blobs/{blob}"))
            .await
            .bytes()
            .await
            .unwrap(),
        layer
    );
}

#[tokio::test]
async fn a_deleted_blob_can_be_pushed_again() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 10);
    let blob = registry.push_blob(REPO, &content).await;
    registry.delete(&format!("/v2/{REPO}/blobs/{blob}")).await;
    registry.push_blob(REPO, &content).await;
    assert_eq!(
        registry
            .get(&format!("/v2/{REPO}/blobs/{blob}"))
            .await
            .bytes()
            .await
            .unwrap(),
        content
    );
}

#[tokio::test]
async fn what_is_not_there_is_404_and_a_bad_digest_400() {
    let registry = TestRegistry::start().await;
    registry.push_blob("demo/a", &bytes(1, 10)).await;
    registry.push_blob(REPO, &bytes(2, 10)).await;
    let elsewhere = digest(&bytes(1, 10));
    for path in [
        format!("/v2/{REPO}/blobs/{}", digest(b"unknown")),
        format!("/v2/{REPO}/blobs/{elsewhere}"),
        format!("/v2/demo/unknown/blobs/{elsewhere}"),
        format!("/v2/unknown/app/blobs/{elsewhere}"),
    ] {
        assert_oci_error(registry.delete(&path).await, 404, "BLOB_UNKNOWN").await;
    }
    let answer = registry
        .delete(&format!("/v2/{REPO}/blobs/sha256:abc"))
        .await;
    assert_oci_error(answer, 400, "DIGEST_INVALID").await;
    assert_eq!(registry.object_count("demo").await, 2);
}

#[tokio::test]
async fn deleting_needs_its_own_permission() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob(REPO, &bytes(1, 10)).await;
    let path = format!("/v2/{REPO}/blobs/{blob}");
    let answer = registry
        .as_user("reader", Method::DELETE, &path)
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 403, "DENIED").await;
    let token = registry
        .token("ann", &["repository:demo/app:pull,push"])
        .await;
    let answer = registry
        .bearer(&token, Method::DELETE, &path)
        .send()
        .await
        .unwrap();
    let challenge = header(&answer, "www-authenticate").to_owned();
    assert!(
        challenge.contains(",scope=\"repository:demo/app:delete\",error=\"insufficient_scope\""),
        "{challenge}"
    );
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    assert_eq!(registry.head(&path).await.status(), 200);
    let token = registry.token("ann", &["repository:demo/app:delete"]).await;
    let answer = registry
        .bearer(&token, Method::DELETE, &path)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
}
