//! `GET` and `HEAD /v2/<name>/manifests/<reference>`

use chrono::{DateTime, TimeDelta, Utc};
use kontor::{
    db::{manifests::manifest_last_pulled_at, repos::repo_get},
    oci::{Digest, FullRepoName},
};
use reqwest::Method;
use serde_json::json;

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_INDEX, OCI_MANIFEST, bytes, descriptor, digest},
};

async fn last_pull(registry: &TestRegistry, manifest: &Digest) -> Option<DateTime<Utc>> {
    registry.registry.pulls_flush().await.unwrap();
    let (name, manifest): (FullRepoName, Digest) = (REPO.parse().unwrap(), manifest.clone());
    let query = move |conn: &mut kontor::db::Conn| {
        let repo = repo_get(conn, &name)?;
        manifest_last_pulled_at(conn, repo.id, &manifest)
    };
    registry.db.read(query).await.unwrap()
}

async fn push_image(registry: &TestRegistry) -> (Digest, Vec<u8>) {
    let content = serde_json::to_vec(&registry.push_image(REPO, "v1", 1).await).unwrap();
    (digest(&content), content)
}

#[tokio::test]
async fn a_manifest_is_found_by_tag_and_by_digest() {
    let registry = TestRegistry::start().await;
    let (manifest, content) = push_image(&registry).await;
    for reference in ["v1", manifest.as_str()] {
        let answer = registry
            .get(&format!("/v2/{REPO}/manifests/{reference}"))
            .await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), OCI_MANIFEST);
        assert_eq!(header(&answer, "docker-content-digest"), manifest.as_str());
        assert_eq!(header(&answer, "content-length"), content.len().to_string());
        assert_eq!(answer.bytes().await.unwrap(), content);
    }
}

#[tokio::test]
async fn head_gives_the_headers_without_the_bytes() {
    let registry = TestRegistry::start().await;
    let (manifest, content) = push_image(&registry).await;
    for reference in ["v1", manifest.as_str()] {
        let answer = registry
            .head(&format!("/v2/{REPO}/manifests/{reference}"))
            .await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), OCI_MANIFEST);
        assert_eq!(header(&answer, "docker-content-digest"), manifest.as_str());
        assert_eq!(header(&answer, "content-length"), content.len().to_string());
        assert!(answer.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn get_counts_as_a_pull_and_head_does_not() {
    let registry = TestRegistry::start().await;
    let (manifest, _) = push_image(&registry).await;
    assert_eq!(last_pull(&registry, &manifest).await, None);
    for reference in ["v1", manifest.as_str()] {
        registry
            .head(&format!("/v2/{REPO}/manifests/{reference}"))
            .await;
    }
    assert_eq!(last_pull(&registry, &manifest).await, None);
    for reference in ["v1", manifest.as_str()] {
        registry.clock.advance(TimeDelta::minutes(1));
        registry
            .get(&format!("/v2/{REPO}/manifests/{reference}"))
            .await;
        assert_eq!(
            last_pull(&registry, &manifest).await,
            Some(registry.now()),
            "{reference}"
        );
    }
}

#[tokio::test]
async fn a_refused_pull_does_not_count() {
    let registry = TestRegistry::start().await;
    let (manifest, _) = push_image(&registry).await;
    let path = format!("/v2/{REPO}/manifests/v1");
    assert_eq!(
        registry
            .as_user("other", Method::GET, &path)
            .send()
            .await
            .unwrap()
            .status(),
        403
    );
    assert_eq!(
        registry
            .anonymous(Method::GET, &path)
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    assert_eq!(last_pull(&registry, &manifest).await, None);
}

#[tokio::test]
async fn accept_never_changes_what_is_served() {
    let registry = TestRegistry::start().await;
    let (manifest, content) = push_image(&registry).await;
    let both = format!("{OCI_INDEX}, {OCI_MANIFEST};q=0.5");
    for accept in [
        &[][..],
        &["*/*"],
        &["application/*"],
        &[""],
        &[OCI_MANIFEST],
        &[OCI_INDEX, OCI_MANIFEST],
        &[both.as_str()],
        &[OCI_INDEX],
        &["application/vnd.docker.distribution.manifest.v2+json"],
        &["application/vnd.docker.distribution.manifest.v1+prettyjws"],
        &["text/html"],
        &["not a media type"],
    ] {
        let mut request = registry.admin(Method::GET, &format!("/v2/{REPO}/manifests/v1"));
        for value in accept {
            request = request.header("Accept", *value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{accept:?}");
        assert_eq!(header(&answer, "content-type"), OCI_MANIFEST, "{accept:?}");
        assert_eq!(
            header(&answer, "docker-content-digest"),
            manifest.as_str(),
            "{accept:?}"
        );
        assert_eq!(answer.bytes().await.unwrap(), content, "{accept:?}");
    }
}

#[tokio::test]
async fn each_media_type_is_served_as_it_was_pushed() {
    let registry = TestRegistry::start().await;
    let (config, layer) = (bytes(1, 10), bytes(2, 10));
    registry.push_blob(REPO, &config).await;
    registry.push_blob(REPO, &layer).await;
    for (tag, media_type, body) in [
        (
            "docker",
            "application/vnd.docker.distribution.manifest.v2+json",
            json!({ "config": descriptor("x/config", &config), "layers": [descriptor("x/layer", &layer)] }),
        ),
        (
            "docker-list",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            json!({ "manifests": [] }),
        ),
        ("index", OCI_INDEX, json!({ "manifests": [] })),
        (
            "artifact",
            "application/vnd.oci.artifact.manifest.v1+json",
            json!({ "blobs": [] }),
        ),
    ] {
        let mut body = body;
        body["mediaType"] = json!(media_type);
        body["schemaVersion"] = json!(2);
        let manifest = registry.push_manifest(REPO, tag, &body).await;
        let answer = registry
            .get(&format!("/v2/{REPO}/manifests/{manifest}"))
            .await;
        assert_eq!(header(&answer, "content-type"), media_type);
        assert_eq!(
            answer.bytes().await.unwrap(),
            serde_json::to_vec(&body).unwrap()
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let registry = TestRegistry::start().await;
    let (manifest, _) = push_image(&registry).await;
    registry.push_blob("demo/other", &bytes(1, 10)).await;
    let unknown = digest(b"unknown");
    for path in [
        format!("/v2/{REPO}/manifests/v2"),
        format!("/v2/{REPO}/manifests/V1"),
        format!("/v2/{REPO}/manifests/{unknown}"),
        format!("/v2/demo/other/manifests/{manifest}"),
        "/v2/demo/other/manifests/v1".to_owned(),
        "/v2/demo/unknown/manifests/v1".to_owned(),
        "/v2/unknown/app/manifests/v1".to_owned(),
    ] {
        assert_oci_error(registry.get(&path).await, 404, "MANIFEST_UNKNOWN").await;
        let answer = registry.head(&path).await;
        assert_eq!(answer.status(), 404, "{path}");
        assert!(answer.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_blob_is_not_a_manifest_and_a_manifest_not_a_blob() {
    let registry = TestRegistry::start().await;
    let (manifest, _) = push_image(&registry).await;
    let layer = digest(&bytes(2, 1000));
    let answer = registry.get(&format!("/v2/{REPO}/manifests/{layer}")).await;
    assert_oci_error(answer, 404, "MANIFEST_UNKNOWN").await;
    let answer = registry.get(&format!("/v2/{REPO}/blobs/{manifest}")).await;
    assert_oci_error(answer, 404, "BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn a_reference_that_can_be_none_is_400() {
    let registry = TestRegistry::start().await;
    push_image(&registry).await;
    let too_long = "a".repeat(129);
    for (reference, code) in [
        ("-v1", "TAG_INVALID"),
        (".v1", "TAG_INVALID"),
        ("v1+build", "TAG_INVALID"),
        ("v%201", "TAG_INVALID"),
        ("v%C3%A9", "TAG_INVALID"),
        (too_long.as_str(), "TAG_INVALID"),
        ("sha256:abc", "DIGEST_INVALID"),
        ("sha256:", "DIGEST_INVALID"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID"),
    ] {
        let answer = registry
            .get(&format!("/v2/{REPO}/manifests/{reference}"))
            .await;
        assert_oci_error(answer, 400, code).await;
    }
}

#[tokio::test]
async fn a_digest_may_be_percent_encoded() {
    let registry = TestRegistry::start().await;
    let (manifest, _) = push_image(&registry).await;
    let encoded = manifest.as_str().replace(':', "%3A");
    assert_eq!(
        registry
            .raw("GET", &format!("/v2/{REPO}/manifests/{encoded}"))
            .0,
        200
    );
}
