//! Validation rules.

use serde_json::{Value, json};

use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_INDEX, OCI_MANIFEST, bytes, descriptor, digest, manifest},
};

/// Pushes the blobs of an image whose config has these labels; gives the manifest.
async fn image(registry: &TestRegistry, labels: Value) -> Value {
    let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Labels": labels } });
    let config = serde_json::to_vec(&config).unwrap();
    let layer = bytes(1, 1000);
    registry.push_blob("demo/app", &config).await;
    registry.push_blob("demo/app", &layer).await;
    manifest(&config, &[&layer])
}

async fn put(registry: &TestRegistry, tag: &str, manifest: &Value) -> reqwest::Response {
    let content = serde_json::to_vec(manifest).unwrap();
    let media_type = manifest["mediaType"].as_str();
    let path = format!("/v2/demo/app/manifests/{tag}");
    registry.put_manifest(&path, media_type, &content).await
}

async fn rule(registry: &TestRegistry, rule: Value) {
    registry.settings(json!({ "validation": rule })).await;
}

#[tokio::test]
async fn required_labels_keep_images_without_them_out() {
    let registry = TestRegistry::start().await;
    rule(
        &registry,
        json!({ "required_labels": ["owner", "license"] }),
    )
    .await;
    let objects = async || registry.object_count("demo").await;
    let half = image(&registry, json!({ "owner": "ann" })).await;
    let before = objects().await;
    let body = assert_oci_error(put(&registry, "v1", &half).await, 403, "DENIED").await;
    let message = body["errors"][0]["message"].as_str().unwrap();
    assert!(message.ends_with(": license"), "{message}");
    assert_eq!(objects().await, before);
    for labels in [json!({}), Value::Null] {
        let bare = image(&registry, labels).await;
        assert_oci_error(put(&registry, "v1", &bare).await, 403, "DENIED").await;
    }
    let whole = image(&registry, json!({ "owner": "ann", "license": "" })).await;
    assert_eq!(put(&registry, "v1", &whole).await.status(), 201);
    // An artifact has no labels, so it cannot have these: a config of another type is no way around.
    let mut other = half.clone();
    other["config"]["mediaType"] = json!("application/vnd.example");
    assert_oci_error(put(&registry, "v2", &other).await, 403, "DENIED").await;
    // The manifests of an index were judged when they came.
    let child = serde_json::to_vec(&whole).unwrap();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, &child)] });
    assert_eq!(put(&registry, "multi", &index).await.status(), 201);
}

#[tokio::test]
async fn a_rule_judges_every_push_of_a_manifest() {
    let registry = TestRegistry::start().await;
    let image = image(&registry, json!({ "stage": "test" })).await;
    assert_eq!(put(&registry, "v1", &image).await.status(), 201);
    let text = "repo_name != 'app' || has(labels.stage) && labels.stage == 'prod'";
    rule(&registry, json!({ "rule_for_manifest": text })).await;
    // A manifest that is there is judged as well when a tag is set.
    for tag in ["v1", "v2"] {
        let body = assert_oci_error(put(&registry, tag, &image).await, 403, "DENIED").await;
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert!(
            message.contains("rule_for_manifest") && message.contains(text),
            "{message}"
        );
    }
    for (text, status) in [
        (
            "labels.stage == 'test' && size(layers) == 1 && layers[0].size == 1000",
            201,
        ),
        ("labels.owner == 'ann'", 403),
        ("layers.all(l, l.size < 10)", 403),
    ] {
        rule(&registry, json!({ "rule_for_manifest": text })).await;
        assert_eq!(
            put(&registry, "v1", &image).await.status(),
            status,
            "{text}"
        );
    }
}

#[tokio::test]
async fn configs_that_cannot_be_read_are_refused() {
    let registry = TestRegistry::start().await;
    rule(&registry, json!({ "rule_for_manifest": "true" })).await;
    let layer = bytes(1, 10);
    registry.push_blob("demo/app", &layer).await;
    let no_json = b"not json".to_vec();
    registry.push_blob("demo/app", &no_json).await;
    let answer = put(&registry, "v1", &manifest(&no_json, &[&layer])).await;
    assert_oci_error(answer, 400, "MANIFEST_INVALID").await;
    let absent = manifest(b"{}", &[&layer]);
    let body = assert_oci_error(
        put(&registry, "v1", &absent).await,
        400,
        "MANIFEST_BLOB_UNKNOWN",
    )
    .await;
    assert_eq!(
        body["errors"][0]["detail"]["digest"],
        digest(b"{}").to_string()
    );
    // The blob of another repository of the account is not this repository's.
    registry.push_blob("demo/other", b"{}").await;
    assert_oci_error(
        put(&registry, "v1", &absent).await,
        400,
        "MANIFEST_BLOB_UNKNOWN",
    )
    .await;
    let mut large = b"{}".to_vec();
    large.resize((4 << 20) + 1, b' ');
    registry.push_blob("demo/app", &large).await;
    let answer = put(&registry, "v1", &manifest(&large, &[&layer])).await;
    assert_oci_error(answer, 403, "DENIED").await;
    let settings =
        json!({ "allow_sparse_manifests": true, "validation": { "required_labels": ["a"] } });
    registry.settings(settings).await;
    assert_oci_error(put(&registry, "v1", &absent).await, 403, "DENIED").await;
}
