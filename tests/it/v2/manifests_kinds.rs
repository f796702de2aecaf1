//! `PUT /v2/<name>/manifests/<reference>`: which manifests are accepted.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, bytes, descriptor, digest, manifest},
};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

async fn put(registry: &TestRegistry, content_type: &str, content: &[u8]) -> Response {
    registry
        .put_manifest(
            &format!("/v2/{REPO}/manifests/v1"),
            Some(content_type),
            content,
        )
        .await
}

async fn put_json(registry: &TestRegistry, manifest: &Value) -> Response {
    let content_type = manifest["mediaType"].as_str().unwrap_or(OCI_MANIFEST);
    put(
        registry,
        content_type,
        &serde_json::to_vec(manifest).unwrap(),
    )
    .await
}

fn index(media_type: &str, children: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": children })
}

fn child(manifest: &Value) -> Value {
    descriptor(
        manifest["mediaType"].as_str().unwrap(),
        &serde_json::to_vec(manifest).unwrap(),
    )
}

#[tokio::test]
async fn a_blob_that_is_not_in_the_repository_is_named_and_nothing_is_stored() {
    let registry = TestRegistry::start().await;
    let (config, layer, missing) = (bytes(1, 10), bytes(2, 10), bytes(3, 10));
    registry.push_blob(REPO, &config).await;
    registry.push_blob(REPO, &layer).await;
    // That another repository has it does not help.
    registry.push_blob("demo/other", &missing).await;
    let count = registry.object_count("demo").await;
    for manifest in [
        manifest(&config, &[&layer, &missing]),
        manifest(&missing, &[&layer]),
    ] {
        let body = assert_oci_error(
            put_json(&registry, &manifest).await,
            400,
            "MANIFEST_BLOB_UNKNOWN",
        )
        .await;
        assert_eq!(
            body["errors"][0]["detail"]["digest"],
            digest(&missing).as_str()
        );
    }
    assert_eq!(
        registry
            .get(&format!("/v2/{REPO}/manifests/v1"))
            .await
            .status(),
        404
    );
    assert_eq!(registry.object_count("demo").await, count);
}

#[tokio::test]
async fn a_descriptor_of_the_wrong_size_is_400() {
    let registry = TestRegistry::start().await;
    let (config, layer) = (bytes(1, 10), bytes(2, 10));
    registry.push_blob(REPO, &config).await;
    registry.push_blob(REPO, &layer).await;
    for size in [
        json!(9),
        json!(11),
        json!(0),
        json!(-1),
        json!(10.5),
        json!("10"),
        json!(u64::MAX),
    ] {
        let mut manifest = manifest(&config, &[&layer]);
        manifest["layers"][0]["size"] = size;
        assert_oci_error(
            put_json(&registry, &manifest).await,
            400,
            "MANIFEST_INVALID",
        )
        .await;
    }
}

#[tokio::test]
async fn a_subject_is_answered_whether_or_not_it_exists() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "image", 1).await;
    for subject in [child(&image), descriptor(OCI_MANIFEST, b"not there")] {
        let mut manifest = image.clone();
        manifest["subject"] = subject.clone();
        let answer = put_json(&registry, &manifest).await;
        assert_eq!(answer.status(), 201);
        assert_eq!(
            header(&answer, "oci-subject"),
            subject["digest"].as_str().unwrap()
        );
        // Pushed again, it is answered again.
        let answer = put_json(&registry, &manifest).await;
        assert_eq!(
            header(&answer, "oci-subject"),
            subject["digest"].as_str().unwrap()
        );
    }
}

#[tokio::test]
async fn lists_and_nested_indexes_are_accepted() {
    let registry = TestRegistry::start().await;
    let (config, layer) = (bytes(1, 10), bytes(2, 10));
    registry.push_blob(REPO, &config).await;
    registry.push_blob(REPO, &layer).await;
    let mut docker = manifest(&config, &[&layer]);
    docker["mediaType"] = json!(DOCKER_MANIFEST);
    let oci = manifest(&config, &[&layer]);
    let list = index(DOCKER_LIST, &[child(&docker)]);
    let inner = index(OCI_INDEX, &[child(&oci), child(&docker)]);
    let outer = index(OCI_INDEX, &[child(&inner), child(&list), child(&oci)]);
    for manifest in [
        docker,
        oci,
        list,
        inner,
        outer.clone(),
        index(OCI_INDEX, &[]),
    ] {
        let answer = put_json(&registry, &manifest).await;
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }
    let outer_digest = digest(&serde_json::to_vec(&outer).unwrap());
    let answer = registry
        .get(&format!("/v2/{REPO}/manifests/{outer_digest}"))
        .await;
    assert_eq!(answer.json::<Value>().await.unwrap(), outer);
}

#[tokio::test]
async fn an_index_without_its_children_is_refused_unless_the_account_allows_it() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "image", 1).await;
    let missing = descriptor(OCI_MANIFEST, b"not there");
    let sparse = index(OCI_INDEX, &[child(&image), missing.clone()]);
    let body = assert_oci_error(
        put_json(&registry, &sparse).await,
        400,
        "MANIFEST_BLOB_UNKNOWN",
    )
    .await;
    assert_eq!(body["errors"][0]["detail"]["digest"], missing["digest"]);
    assert_eq!(
        registry
            .account("demo", json!({ "allow_sparse_manifests": true }))
            .await
            .status(),
        200
    );
    assert_eq!(put_json(&registry, &sparse).await.status(), 201);
    // The same for the blobs of an image.
    let mut image = image;
    image["layers"][0] = descriptor(OCI_LAYER, b"not there either");
    assert_eq!(put_json(&registry, &image).await.status(), 201);
    assert_eq!(registry.account("demo", json!({})).await.status(), 200);
    image["annotations"] = json!({ "another": "manifest" });
    assert_oci_error(
        put_json(&registry, &image).await,
        400,
        "MANIFEST_BLOB_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn a_manifest_of_another_repository_is_not_a_child_here() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image("demo/other", "v1", 1).await;
    let answer = put_json(&registry, &index(OCI_INDEX, &[child(&image)])).await;
    assert_oci_error(answer, 400, "MANIFEST_BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn a_buildkit_cache_that_lists_blobs_in_an_index_is_accepted() {
    let registry = TestRegistry::start().await;
    let (layer, config) = (bytes(1, 100), bytes(2, 10));
    registry.push_blob(REPO, &layer).await;
    registry.push_blob(REPO, &config).await;
    let cache = index(
        OCI_INDEX,
        &[
            descriptor(OCI_LAYER, &layer),
            descriptor("application/vnd.buildkit.cacheconfig.v0", &config),
        ],
    );
    assert_eq!(put_json(&registry, &cache).await.status(), 201);
    // The index needs its blobs as an image does.
    let answer = registry
        .delete(&format!("/v2/{REPO}/blobs/{}", digest(&layer)))
        .await;
    assert_oci_error(answer, 409, "DENIED").await;
    let mut wrong = cache;
    wrong["manifests"][0]["size"] = json!(99);
    assert_oci_error(put_json(&registry, &wrong).await, 400, "MANIFEST_INVALID").await;
}

#[tokio::test]
async fn foreign_layers_need_not_be_there() {
    let registry = TestRegistry::start().await;
    let config = bytes(1, 10);
    registry.push_blob(REPO, &config).await;
    let mut by_urls = descriptor("application/x-anything", b"far away");
    by_urls["urls"] = json!(["https://example.test/layer"]);
    for layer in [
        by_urls,
        descriptor(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            b"far away",
        ),
        descriptor(
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            b"far away",
        ),
    ] {
        let mut manifest = manifest(&config, &[]);
        manifest["layers"] = json!([layer]);
        assert_eq!(
            put_json(&registry, &manifest).await.status(),
            201,
            "{layer}"
        );
    }
    let mut empty_urls = descriptor(OCI_LAYER, b"far away");
    empty_urls["urls"] = json!([]);
    let mut manifest = manifest(&config, &[]);
    manifest["layers"] = json!([empty_urls]);
    assert_oci_error(
        put_json(&registry, &manifest).await,
        400,
        "MANIFEST_BLOB_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn artifacts_are_accepted_in_all_their_forms() {
    let registry = TestRegistry::start().await;
    registry.push_blob(REPO, b"{}").await;
    registry.push_blob(REPO, b"content").await;
    let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    let mut with_data = empty.clone();
    with_data["data"] = json!("e30=");
    let content = descriptor("application/x-unknown", b"content");
    for (content_type, artifact) in [
        // With the empty descriptor as config, and as the only layer.
        (
            OCI_MANIFEST,
            json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "x/y",
            "config": with_data, "layers": [empty] }),
        ),
        // Without mediaType.
        (
            OCI_MANIFEST,
            json!({ "schemaVersion": 2, "artifactType": "x/y", "config": empty, "layers": [content] }),
        ),
        // With an unknown config and fields that nobody knows.
        (
            OCI_MANIFEST,
            json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": content,
            "layers": [], "x-extension": { "deep": [1, null] } }),
        ),
        // Without layers, as `null`.
        (
            OCI_MANIFEST,
            json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": empty, "layers": null }),
        ),
        // The artifact manifest that was never released.
        (
            OCI_ARTIFACT,
            json!({ "mediaType": OCI_ARTIFACT, "artifactType": "x/y", "blobs": [content] }),
        ),
    ] {
        let bytes = serde_json::to_vec(&artifact).unwrap();
        let answer = put(&registry, content_type, &bytes).await;
        assert_eq!(
            answer.status(),
            201,
            "{artifact}: {}",
            answer.text().await.unwrap()
        );
        let answer = registry.get(&format!("/v2/{REPO}/manifests/v1")).await;
        assert_eq!(header(&answer, "content-type"), content_type);
        assert_eq!(answer.bytes().await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn the_same_blob_may_stand_in_a_manifest_twice() {
    let registry = TestRegistry::start().await;
    let layer = bytes(1, 10);
    registry.push_blob(REPO, &layer).await;
    let mut twice = manifest(&layer, &[&layer, &layer]);
    assert_eq!(twice["config"]["mediaType"], OCI_CONFIG);
    twice["layers"][1]["mediaType"] = json!("x/other");
    assert_eq!(put_json(&registry, &twice).await.status(), 201);
}

#[tokio::test]
async fn an_index_with_a_wrong_size_for_a_child_is_refused() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image("demo/app", "image", 7).await;
    let content = serde_json::to_vec(&image).unwrap();
    let mut child = descriptor(OCI_MANIFEST, &content);
    child["size"] = json!(content.len() + 1);
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child] });
    let answer = registry
        .admin(Method::PUT, "/v2/demo/app/manifests/index")
        .header("Content-Type", OCI_INDEX)
        .body(index.to_string())
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 400, "MANIFEST_INVALID").await;
}
