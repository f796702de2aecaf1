//! `PUT /v2/<name>/manifests/<reference>`: the tags that it sets.

use serde_json::{Value, json};

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_MANIFEST, bytes, digest, manifest},
};

/// A manifest whose blobs are there.
async fn with_blobs(registry: &TestRegistry, seed: u64) -> Value {
    let (config, layer) = (bytes(seed, 10), bytes(seed + 1, 10));
    registry.push_blob(REPO, &config).await;
    registry.push_blob(REPO, &layer).await;
    manifest(&config, &[&layer])
}

#[tokio::test]
async fn a_tag_moves_and_the_manifest_it_left_stays() {
    let registry = TestRegistry::start().await;
    let first = registry
        .push_manifest(REPO, "v1", &with_blobs(&registry, 1).await)
        .await;
    let second = registry
        .push_manifest(REPO, "v1", &with_blobs(&registry, 5).await)
        .await;
    let path = format!("/v2/{REPO}/manifests/v1");
    assert_eq!(
        header(&registry.head(&path).await, "docker-content-digest"),
        second.as_str()
    );
    assert_eq!(
        registry
            .head(&format!("/v2/{REPO}/manifests/{first}"))
            .await
            .status(),
        200
    );
    // And back again.
    registry
        .push_manifest(REPO, "v1", &with_blobs(&registry, 1).await)
        .await;
    assert_eq!(
        header(&registry.head(&path).await, "docker-content-digest"),
        first.as_str()
    );
}

#[tokio::test]
async fn a_push_by_digest_makes_no_tag() {
    let registry = TestRegistry::start().await;
    let manifest = with_blobs(&registry, 1).await;
    let reference = digest(&serde_json::to_vec(&manifest).unwrap());
    registry
        .push_manifest(REPO, reference.as_str(), &manifest)
        .await;
    let tags: Value = registry
        .get(&format!("/v2/{REPO}/tags/list"))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(tags["tags"], json!([]));
    assert_eq!(
        registry
            .head(&format!("/v2/{REPO}/manifests/{reference}"))
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn a_push_by_digest_sets_ten_tags_and_names_each() {
    let registry = TestRegistry::start().await;
    let content = serde_json::to_vec(&with_blobs(&registry, 1).await).unwrap();
    let manifest = digest(&content);
    let tags: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let path = format!("/v2/{REPO}/manifests/{manifest}?{}", query.join("&"));
    let answer = registry
        .put_manifest(&path, Some(OCI_MANIFEST), &content)
        .await;
    assert_eq!(answer.status(), 201);
    let named: Vec<&str> = answer
        .headers()
        .get_all("oci-tag")
        .iter()
        .map(|tag| tag.to_str().unwrap())
        .collect();
    assert_eq!(named, tags);
    for tag in &tags {
        let answer = registry.head(&format!("/v2/{REPO}/manifests/{tag}")).await;
        assert_eq!(header(&answer, "docker-content-digest"), manifest.as_str());
    }
    // The same for a manifest that is there already.
    let path = format!("/v2/{REPO}/manifests/{manifest}?tag=again");
    let answer = registry
        .put_manifest(&path, Some(OCI_MANIFEST), &content)
        .await;
    assert_eq!(header(&answer, "oci-tag"), "again");
    assert_eq!(
        registry
            .head(&format!("/v2/{REPO}/manifests/again"))
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn one_bad_tag_or_too_many_are_400_and_nothing_is_stored() {
    let registry = TestRegistry::start().await;
    let content = serde_json::to_vec(&with_blobs(&registry, 1).await).unwrap();
    let manifest = digest(&content);
    let many: Vec<String> = (0..51).map(|number| format!("tag=t{number}")).collect();
    for query in [
        "tag=good&tag=-bad",
        "tag=good&tag=",
        "tag=good&tag=a%2Fb",
        &many.join("&"),
    ] {
        let path = format!("/v2/{REPO}/manifests/{manifest}?{query}");
        let answer = registry
            .put_manifest(&path, Some(OCI_MANIFEST), &content)
            .await;
        assert_oci_error(answer, 400, "TAG_INVALID").await;
    }
    for reference in ["good", "t0", manifest.as_str()] {
        assert_eq!(
            registry
                .head(&format!("/v2/{REPO}/manifests/{reference}"))
                .await
                .status(),
            404
        );
    }
}

#[tokio::test]
async fn tags_have_128_characters_at_most_and_their_own_grammar() {
    let registry = TestRegistry::start().await;
    let content = serde_json::to_vec(&with_blobs(&registry, 1).await).unwrap();
    let longest = "a".repeat(128);
    for tag in [
        "v1",
        "1.0_build",
        "_",
        "UPPER",
        "a.-_b",
        "manifests",
        "list",
        &longest,
    ] {
        let path = format!("/v2/{REPO}/manifests/{tag}");
        assert_eq!(
            registry
                .put_manifest(&path, Some(OCI_MANIFEST), &content)
                .await
                .status(),
            201,
            "{tag}"
        );
        assert_eq!(registry.get(&path).await.status(), 200, "{tag}");
    }
    for tag in ["-a", ".a", "a+b", "a%20b", &"a".repeat(129)] {
        let path = format!("/v2/{REPO}/manifests/{tag}");
        let answer = registry
            .put_manifest(&path, Some(OCI_MANIFEST), &content)
            .await;
        assert_oci_error(answer, 400, "TAG_INVALID").await;
    }
}
