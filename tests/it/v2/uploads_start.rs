//! `POST /v2/<name>/blobs/uploads/`

use bytes::Bytes;
use futures::stream;
use kontor::oci::{Algorithm, Digest};
use reqwest::{Body, Method};

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{bytes, digest},
};

#[tokio::test]
async fn an_upload_begins_with_a_relative_location_and_no_bytes() {
    let registry = TestRegistry::start().await;
    for path in [
        format!("/v2/{REPO}/blobs/uploads/"),
        format!("/v2/{REPO}/blobs/uploads"),
    ] {
        let answer = registry.admin(Method::POST, &path).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        assert_eq!(header(&answer, "range"), "0-0");
        let id = header(&answer, "docker-upload-uuid");
        assert_eq!(
            header(&answer, "location"),
            format!("/v2/{REPO}/blobs/uploads/{id}")
        );
        assert_eq!(header(&answer, "content-length"), "0");
    }
}

#[tokio::test]
async fn forwarded_headers_of_a_stranger_do_not_change_the_location() {
    let registry = TestRegistry::start().await;
    let path = format!("/v2/{REPO}/blobs/uploads/");
    let answer = registry
        .admin(Method::POST, &path)
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.test")
        .send()
        .await
        .unwrap();
    assert!(header(&answer, "location").starts_with(&path));
}

#[tokio::test]
async fn two_uploads_of_one_repository_do_not_meet() {
    let registry = TestRegistry::start().await;
    let (first, second) = (
        registry.begin_upload(REPO).await,
        registry.begin_upload(REPO).await,
    );
    assert_ne!(first, second);
    registry.append(&first, b"one").await;
    registry.append(&second, b"two").await;
    assert_eq!(
        registry.finish(&first, &digest(b"one"), b"").await.status(),
        201
    );
    assert_eq!(
        registry
            .finish(&second, &digest(b"two"), b"")
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn a_single_post_stores_the_blob() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 1000);
    let digests =
        [Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| Digest::of(algorithm, &content));
    for digest in digests {
        let path = format!("/v2/{REPO}/blobs/uploads/?digest={digest}");
        let answer = registry
            .admin(Method::POST, &path)
            .body(content.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
        assert_eq!(header(&answer, "docker-content-digest"), digest.as_str());
        let location = header(&answer, "location").to_owned();
        assert_eq!(location, format!("/v2/{REPO}/blobs/{digest}"));
        assert_eq!(
            registry.get(&location).await.bytes().await.unwrap(),
            content
        );
    }
}

#[tokio::test]
async fn a_single_post_may_be_chunked() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 100_000);
    let pieces: Vec<std::io::Result<Bytes>> = content
        .chunks(33_333)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", digest(&content));
    let body = Body::wrap_stream(stream::iter(pieces));
    let answer = registry
        .admin(Method::POST, &path)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let answer = registry
        .get(&format!("/v2/{REPO}/blobs/{}", digest(&content)))
        .await;
    assert!(answer.bytes().await.unwrap() == content);
}

#[tokio::test]
async fn the_same_blob_pushed_twice_is_stored_once() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 1000);
    registry.push_blob(REPO, &content).await;
    registry.push_blob(REPO, &content).await;
    registry.push_blob("demo/other", &content).await;
    assert_eq!(registry.object_count("demo").await, 1);
}

#[tokio::test]
async fn a_single_post_with_a_wrong_digest_leaves_nothing() {
    let registry = TestRegistry::start().await;
    let wrong = digest(b"something else");
    let path = format!("/v2/{REPO}/blobs/uploads/?digest={wrong}");
    let answer = registry
        .admin(Method::POST, &path)
        .body("content")
        .send()
        .await
        .unwrap();
    let body = assert_oci_error(answer, 400, "DIGEST_INVALID").await;
    assert_eq!(body["errors"][0]["detail"]["expected"], wrong.as_str());
    assert_eq!(
        body["errors"][0]["detail"]["actual"],
        digest(b"content").as_str()
    );
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(
        registry
            .head(&format!("/v2/{REPO}/blobs/{wrong}"))
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn a_bad_digest_or_algorithm_is_400() {
    let registry = TestRegistry::start().await;
    for query in [
        "digest=nonsense",
        "digest=sha256:abc",
        "digest=",
        "digest=md5:d41d8cd98f00b204e9800998ecf8427e",
        "digest-algorithm=md5",
        "digest-algorithm=SHA256",
        "digest-algorithm=",
    ] {
        let path = format!("/v2/{REPO}/blobs/uploads/?{query}");
        let answer = registry
            .admin(Method::POST, &path)
            .body("content")
            .send()
            .await
            .unwrap();
        assert_oci_error(answer, 400, "DIGEST_INVALID").await;
    }
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn an_account_that_does_not_exist_is_404() {
    let registry = TestRegistry::start().await;
    for query in [String::new(), format!("?digest={}", digest(b"x"))] {
        let path = format!("/v2/unknown/app/blobs/uploads/{query}");
        let answer = registry
            .admin(Method::POST, &path)
            .body("x")
            .send()
            .await
            .unwrap();
        assert_oci_error(answer, 404, "NAME_UNKNOWN").await;
    }
}

#[tokio::test]
async fn pushing_needs_push_on_the_repository() {
    let registry = TestRegistry::start().await;
    registry.allow_anonymous_pull(".*").await;
    let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", digest(b"x"));
    let answer = registry
        .as_user("reader", Method::POST, &path)
        .body("x")
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 403, "DENIED").await;
    let answer = registry
        .anonymous(Method::POST, &path)
        .body("x")
        .send()
        .await
        .unwrap();
    assert!(
        header(&answer, "www-authenticate").ends_with("scope=\"repository:demo/app:pull,push\"")
    );
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    let token = registry
        .token("reader", &["repository:demo/app:pull,push"])
        .await;
    let answer = registry
        .bearer(&token, Method::POST, &path)
        .body("x")
        .send()
        .await
        .unwrap();
    assert!(header(&answer, "www-authenticate").ends_with("error=\"insufficient_scope\""));
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn a_blob_larger_than_the_limit_is_413_and_leaves_nothing() {
    let setup = crate::support::Setup::default().config(|config| config.limits.blob_bytes = 1000);
    let registry = setup.start().await;
    let (fits, too_large) = (bytes(1, 1000), bytes(2, 1001));
    registry.push_blob(REPO, &fits).await;
    let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", digest(&too_large));
    let answer = registry
        .admin(Method::POST, &path)
        .body(too_large.clone())
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 413, "SIZE_INVALID").await;
    let pieces: Vec<std::io::Result<Bytes>> = vec![Ok(Bytes::from(too_large.clone()))];
    let body = Body::wrap_stream(stream::iter(pieces));
    let answer = registry
        .admin(Method::POST, &path)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 413, "SIZE_INVALID").await;
    // Nor can it be brought in pieces, and the upload stays as it is.
    let location = registry.begin_upload(REPO).await;
    registry.append(&location, &too_large[..600]).await;
    assert_oci_error(
        registry.append(&location, &too_large[600..]).await,
        413,
        "SIZE_INVALID",
    )
    .await;
    assert_eq!(header(&registry.get(&location).await, "range"), "0-599");
    assert_eq!(registry.delete(&location).await.status(), 204);
    assert_eq!(registry.object_count("demo").await, 1);
}
