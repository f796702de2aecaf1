//! `PUT /v2/<name>/manifests/<reference>`: what is no manifest.

use reqwest::Response;
use serde_json::json;

use super::helpers::REPO;
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_INDEX, OCI_MANIFEST, bytes, descriptor, digest, manifest},
};

async fn put(registry: &TestRegistry, content_type: &str, content: &[u8]) -> Response {
    registry
        .put_manifest(
            &format!("/v2/{REPO}/manifests/v1"),
            Some(content_type),
            content,
        )
        .await
}

#[tokio::test]
async fn schema_1_is_refused_with_a_plain_message() {
    let registry = TestRegistry::start().await;
    let schema1 = json!({ "schemaVersion": 1, "name": "demo/app", "tag": "v1", "fsLayers": [], "history": [] });
    let content = serde_json::to_vec(&schema1).unwrap();
    for content_type in [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v1+prettyjws; charset=utf-8",
        OCI_MANIFEST,
        "",
    ] {
        let body = assert_oci_error(
            put(&registry, content_type, &content).await,
            400,
            "MANIFEST_INVALID",
        )
        .await;
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert!(
            message.contains("schema version 1 are not accepted"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_body_that_could_be_read_in_two_ways_or_in_none_is_400() {
    let registry = TestRegistry::start().await;
    let (config, layer) = (bytes(1, 10), bytes(2, 10));
    registry.push_blob(REPO, &config).await;
    registry.push_blob(REPO, &layer).await;
    let count = registry.object_count("demo").await;
    let good = manifest(&config, &[&layer]);
    let text = good.to_string();
    assert!(text.starts_with('{'));
    let with = |members: &str| format!("{{{members},{}", &text[1..]).into_bytes();
    let mut no_config = good.clone();
    no_config.as_object_mut().unwrap().remove("config");
    let nested = |depth: usize| format!("\"x\":{}{}", "[".repeat(depth), "]".repeat(depth));
    let mut not_utf8 = with("\"x\":\"?\"");
    let question_mark = not_utf8.iter().position(|byte| *byte == b'?').unwrap();
    not_utf8[question_mark] = 0xff;
    for content in [
        with("\"manifests\":[]"),
        with("\"fsLayers\":[]"),
        with("\"blobs\":[]"),
        with("\"layers\":[]"),
        with("\"x\":{\"y\":1,\"y\":2}"),
        with("\"schema\\u0056ersion\":2"),
        with("\"Layers\":[]"),
        with("\"annotations\":{\"number\":1}"),
        with("\"annotations\":[]"),
        with("\"subject\":{\"digest\":\"sha256:abc\",\"size\":1}"),
        with("\"subject\":[]"),
        with(&nested(200)),
        with(&nested(100_000)),
        not_utf8,
        text.replace("\"schemaVersion\":2", "\"schemaVersion\":3")
            .into_bytes(),
        text.replace(digest(&layer).as_str(), "sha256:abc")
            .into_bytes(),
        no_config.to_string().into_bytes(),
        text.as_bytes()[..text.len() - 1].to_vec(),
        format!("{text}{{}}").into_bytes(),
        format!("[{text}]").into_bytes(),
        b"".to_vec(),
        b"null".to_vec(),
        b"7".to_vec(),
        b"\"text\"".to_vec(),
        b"{}".to_vec(),
        b"<html></html>".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&content[..content.len().min(60)]).into_owned();
        let answer = put(&registry, OCI_MANIFEST, &content).await;
        assert_eq!(answer.status(), 400, "{shown}");
        assert_oci_error(answer, 400, "MANIFEST_INVALID").await;
    }
    assert_eq!(registry.object_count("demo").await, count);
    for content in [with("\"x\":{\"y\":{\"y\":1}}"), with(&nested(100))] {
        assert_eq!(put(&registry, OCI_MANIFEST, &content).await.status(), 201);
    }
}

#[tokio::test]
async fn a_body_of_which_nobody_says_what_it_is_is_400() {
    let registry = TestRegistry::start().await;
    let path = format!("/v2/{REPO}/manifests/v1");
    let answer = registry
        .put_manifest(&path, None, b"{\"schemaVersion\":2}")
        .await;
    assert_oci_error(answer, 400, "MANIFEST_INVALID").await;
}

#[tokio::test]
async fn more_than_ten_thousand_descriptors_are_400() {
    let registry = TestRegistry::start().await;
    let one = descriptor(OCI_MANIFEST, b"x");
    let children = vec![one; 10_001];
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
    let answer = put(&registry, OCI_INDEX, &serde_json::to_vec(&index).unwrap()).await;
    assert_oci_error(answer, 400, "MANIFEST_INVALID").await;
}
