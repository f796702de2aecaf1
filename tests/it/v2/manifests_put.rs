//! `PUT /v2/<name>/manifests/<reference>`: how it is stored and tagged. What is stored: `manifests_kinds`.

use bytes::Bytes;
use futures::stream;
use kontor::oci::{Algorithm, Digest};
use reqwest::{Body, Method};
use serde_json::{Value, json};

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_INDEX, OCI_MANIFEST, bytes, digest, manifest},
};

/// A manifest whose blobs are there.
async fn with_blobs(registry: &TestRegistry, seed: u64) -> Value {
    let (config, layer) = (bytes(seed, 10), bytes(seed + 1, 10));
    registry.push_blob(REPO, &config).await;
    registry.push_blob(REPO, &layer).await;
    manifest(&config, &[&layer])
}

#[tokio::test]
async fn the_bytes_are_kept_exactly() {
    let registry = TestRegistry::start().await;
    let manifest = with_blobs(&registry, 1).await;
    let pretty = serde_json::to_string_pretty(&manifest).unwrap();
    let content =
        format!("\n  {pretty}\r\n\t ").replacen("schemaVersion", "schema\\u0056ersion", 1);
    let path = format!("/v2/{REPO}/manifests/v1");
    let answer = registry
        .put_manifest(&path, Some(OCI_MANIFEST), content.as_bytes())
        .await;
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    let digest = digest(content.as_bytes());
    assert_eq!(header(&answer, "docker-content-digest"), digest.as_str());
    let location = header(&answer, "location").to_owned();
    assert_eq!(location, format!("/v2/{REPO}/manifests/{digest}"));
    assert!(answer.headers().get("oci-subject").is_none());
    assert!(answer.headers().get("oci-tag").is_none());
    assert_eq!(registry.get(&location).await.text().await.unwrap(), content);
    assert_eq!(registry.get(&path).await.text().await.unwrap(), content);
}

#[tokio::test]
async fn a_content_type_is_taken_in_every_spelling_or_from_the_body() {
    let registry = TestRegistry::start().await;
    let manifest = with_blobs(&registry, 1).await;
    for (number, content_type) in [
        Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
        Some("application/vnd.oci.image.manifest.v1+json;q=1;foo=\"bar\""),
        Some("Application/Vnd.OCI.image.manifest.v1+JSON"),
        Some(""),
        None,
    ]
    .into_iter()
    .enumerate()
    {
        let mut manifest = manifest.clone();
        manifest["annotations"] = json!({ "number": number.to_string() });
        let path = format!("/v2/{REPO}/manifests/v{number}");
        let content = serde_json::to_vec(&manifest).unwrap();
        let answer = registry.put_manifest(&path, content_type, &content).await;
        assert_eq!(
            answer.status(),
            201,
            "{content_type:?}: {}",
            answer.text().await.unwrap()
        );
        // It is served without parameters.
        assert_eq!(
            header(&registry.get(&path).await, "content-type"),
            OCI_MANIFEST
        );
    }
}

#[tokio::test]
async fn a_content_type_that_contradicts_the_body_is_400() {
    let registry = TestRegistry::start().await;
    let content = serde_json::to_vec(&with_blobs(&registry, 1).await).unwrap();
    for content_type in [
        OCI_INDEX,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/json",
        "application/octet-stream",
        "text/plain; charset=utf-8",
    ] {
        let answer = registry
            .put_manifest(
                &format!("/v2/{REPO}/manifests/v1"),
                Some(content_type),
                &content,
            )
            .await;
        assert_oci_error(answer, 400, "MANIFEST_INVALID").await;
    }
    assert_eq!(
        registry
            .get(&format!("/v2/{REPO}/manifests/v1"))
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn a_manifest_may_have_4_mib_and_no_byte_more() {
    let registry = TestRegistry::start().await;
    let mut manifest = with_blobs(&registry, 1).await;
    manifest["annotations"] = json!({ "padding": "" });
    let padding = (4 << 20) - serde_json::to_vec(&manifest).unwrap().len();
    let padded = |padding: usize| {
        let mut manifest = manifest.clone();
        manifest["annotations"]["padding"] = json!("x".repeat(padding));
        serde_json::to_vec(&manifest).unwrap()
    };
    let (fits, too_large) = (padded(padding), padded(padding + 1));
    assert_eq!(fits.len(), 4_194_304);
    let path = format!("/v2/{REPO}/manifests/large");
    let answer = registry
        .put_manifest(&path, Some(OCI_MANIFEST), &too_large)
        .await;
    assert_oci_error(answer, 413, "MANIFEST_INVALID").await;
    assert_eq!(registry.get(&path).await.status(), 404);
    // Without an announced length the bytes are counted.
    let pieces: Vec<std::io::Result<Bytes>> = vec![Ok(Bytes::from(too_large))];
    let request = registry
        .admin(Method::PUT, &path)
        .header("Content-Type", OCI_MANIFEST);
    let answer = request
        .body(Body::wrap_stream(stream::iter(pieces)))
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 413, "MANIFEST_INVALID").await;
    assert_eq!(
        registry
            .put_manifest(&path, Some(OCI_MANIFEST), &fits)
            .await
            .status(),
        201
    );
    assert!(registry.get(&path).await.bytes().await.unwrap() == fits);
}

#[tokio::test]
async fn a_manifest_pushed_again_is_stored_once() {
    let registry = TestRegistry::start().await;
    let manifest = with_blobs(&registry, 1).await;
    registry.push_manifest(REPO, "v1", &manifest).await;
    let count = registry.object_count("demo").await;
    let digest = registry.push_manifest(REPO, "v2", &manifest).await;
    registry
        .push_manifest(REPO, digest.as_str(), &manifest)
        .await;
    assert_eq!(registry.object_count("demo").await, count);
    for tag in ["v1", "v2"] {
        let answer = registry.head(&format!("/v2/{REPO}/manifests/{tag}")).await;
        assert_eq!(header(&answer, "docker-content-digest"), digest.as_str());
    }
}

#[tokio::test]
async fn a_digest_that_is_not_that_of_the_content_is_400_and_nothing_is_stored() {
    let registry = TestRegistry::start().await;
    let content = serde_json::to_vec(&with_blobs(&registry, 1).await).unwrap();
    let count = registry.object_count("demo").await;
    for wrong in [digest(b"else"), Digest::of(Algorithm::Sha512, b"else")] {
        let path = format!("/v2/{REPO}/manifests/{wrong}?tag=v1");
        let answer = registry
            .put_manifest(&path, Some(OCI_MANIFEST), &content)
            .await;
        let body = assert_oci_error(answer, 400, "DIGEST_INVALID").await;
        assert_eq!(body["errors"][0]["detail"]["expected"], wrong.as_str());
        assert_eq!(
            registry
                .head(&format!("/v2/{REPO}/manifests/{wrong}"))
                .await
                .status(),
            404
        );
    }
    assert_eq!(
        registry
            .head(&format!("/v2/{REPO}/manifests/v1"))
            .await
            .status(),
        404
    );
    assert_eq!(registry.object_count("demo").await, count);
}

#[tokio::test]
async fn a_manifest_may_be_pushed_under_its_sha512_digest() {
    let registry = TestRegistry::start().await;
    let content = serde_json::to_vec(&with_blobs(&registry, 1).await).unwrap();
    let sha512 = Digest::of(Algorithm::Sha512, &content);
    let path = format!("/v2/{REPO}/manifests/{sha512}?tag=v1");
    let answer = registry
        .put_manifest(&path, Some(OCI_MANIFEST), &content)
        .await;
    assert_eq!(answer.status(), 201);
    assert_eq!(header(&answer, "docker-content-digest"), sha512.as_str());
    for reference in ["v1", sha512.as_str()] {
        let answer = registry
            .get(&format!("/v2/{REPO}/manifests/{reference}"))
            .await;
        assert_eq!(header(&answer, "docker-content-digest"), sha512.as_str());
        assert_eq!(answer.bytes().await.unwrap(), content);
    }
}

#[tokio::test]
async fn pushing_needs_push_on_the_repository() {
    let registry = TestRegistry::start().await;
    registry.allow_anonymous_pull(".*").await;
    let content = serde_json::to_vec(&with_blobs(&registry, 1).await).unwrap();
    let path = format!("/v2/{REPO}/manifests/v1");
    let request = |request: reqwest::RequestBuilder| {
        request
            .header("Content-Type", OCI_MANIFEST)
            .body(content.clone())
    };
    let answer = request(registry.as_user("reader", Method::PUT, &path))
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 403, "DENIED").await;
    let answer = request(registry.anonymous(Method::PUT, &path))
        .send()
        .await
        .unwrap();
    assert!(
        header(&answer, "www-authenticate").ends_with("scope=\"repository:demo/app:pull,push\"")
    );
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    let token = registry.token("ann", &["repository:demo/app:pull"]).await;
    let answer = request(registry.bearer(&token, Method::PUT, &path))
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    assert_eq!(registry.head(&path).await.status(), 404);
    let token = registry
        .token("ann", &["repository:demo/app:pull,push"])
        .await;
    let answer = request(registry.bearer(&token, Method::PUT, &path))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
}
