//! `PUT /v2/<name>/blobs/uploads/<upload>?digest=`

use bytes::Bytes;
use futures::stream;
use kontor::oci::{Algorithm, Digest};
use reqwest::{Body, Method, Response};

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{bytes, digest},
};

async fn assert_stored(registry: &TestRegistry, answer: Response, digest: &Digest, content: &[u8]) {
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    assert_eq!(header(&answer, "docker-content-digest"), digest.as_str());
    let location = header(&answer, "location").to_owned();
    assert_eq!(location, format!("/v2/{REPO}/blobs/{digest}"));
    assert!(registry.get(&location).await.bytes().await.unwrap() == content);
}

#[tokio::test]
async fn the_whole_blob_may_come_with_the_last_request() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 50_000);
    let location = registry.begin_upload(REPO).await;
    let answer = registry
        .finish(&location, &digest(&content), &content)
        .await;
    assert_stored(&registry, answer, &digest(&content), &content).await;
    assert_eq!(registry.object_count("demo").await, 1);
}

#[tokio::test]
async fn the_last_bytes_may_come_with_the_last_request() {
    let registry = TestRegistry::start().await;
    let content = bytes(2, 100);
    let location = registry.begin_upload(REPO).await;
    registry.append(&location, &content[..60]).await;
    let path = format!("{location}?digest={}", digest(&content));
    let request = registry
        .admin(Method::PUT, &path)
        .header("Content-Range", "60-99");
    let answer = request.body(content[60..].to_vec()).send().await.unwrap();
    assert_stored(&registry, answer, &digest(&content), &content).await;
}

#[tokio::test]
async fn the_last_bytes_may_come_without_a_length() {
    let registry = TestRegistry::start().await;
    let content = bytes(5, 100);
    let location = registry.begin_upload(REPO).await;
    registry.append(&location, &content[..60]).await;
    let pieces = content[60..].chunks(25).map(Bytes::copy_from_slice).map(Ok);
    let pieces: Vec<std::io::Result<Bytes>> = pieces.collect();
    let path = format!("{location}?digest={}", digest(&content));
    let request = registry.admin(Method::PUT, &path);
    let answer = request
        .body(Body::wrap_stream(stream::iter(pieces)))
        .send()
        .await
        .unwrap();
    assert_stored(&registry, answer, &digest(&content), &content).await;
}

#[tokio::test]
async fn an_upload_without_bytes_becomes_the_empty_blob() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    let answer = registry.finish(&location, &digest(b""), b"").await;
    assert_stored(&registry, answer, &digest(b""), b"").await;
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn a_finished_upload_is_gone() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    registry.finish(&location, &digest(b"abc"), b"abc").await;
    for answer in [
        registry.get(&location).await,
        registry.append(&location, b"abc").await,
        registry.finish(&location, &digest(b"abc"), b"abc").await,
        registry.delete(&location).await,
    ] {
        assert_oci_error(answer, 404, "BLOB_UPLOAD_UNKNOWN").await;
    }
    assert_eq!(registry.object_count("demo").await, 1);
}

#[tokio::test]
async fn a_wrong_digest_is_400_and_leaves_nothing() {
    let registry = TestRegistry::start().await;
    let wrong = digest(b"something else");
    for last in [&b""[..], b"def"] {
        let location = registry.begin_upload(REPO).await;
        registry.append(&location, b"abc").await;
        let body = assert_oci_error(
            registry.finish(&location, &wrong, last).await,
            400,
            "DIGEST_INVALID",
        )
        .await;
        let actual = digest(&[b"abc", last].concat());
        assert_eq!(body["errors"][0]["detail"]["actual"], actual.as_str());
        assert_eq!(registry.object_count("demo").await, 0);
        for digest in [&wrong, &actual] {
            assert_eq!(
                registry
                    .head(&format!("/v2/{REPO}/blobs/{digest}"))
                    .await
                    .status(),
                404
            );
        }
        assert_eq!(registry.get(&location).await.status(), 404);
    }
}

#[tokio::test]
async fn a_missing_or_bad_digest_is_400_and_the_upload_goes_on() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    registry.append(&location, b"abc").await;
    for query in [
        "",
        "?digest=",
        "?digest=nonsense",
        "?digest=sha256:abc",
        "?digest=md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let answer = registry
            .admin(Method::PUT, &format!("{location}{query}"))
            .send()
            .await
            .unwrap();
        assert_oci_error(answer, 400, "DIGEST_INVALID").await;
    }
    assert_eq!(
        registry
            .finish(&location, &digest(b"abc"), b"")
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn last_bytes_out_of_order_are_416_and_the_upload_goes_on() {
    let registry = TestRegistry::start().await;
    let content = bytes(3, 20);
    let location = registry.begin_upload(REPO).await;
    registry.append(&location, &content[..10]).await;
    let path = format!("{location}?digest={}", digest(&content));
    for (range, last) in [
        ("15-19", &content[15..]),
        ("0-9", &content[..10]),
        ("5-19", &content[5..]),
    ] {
        let request = registry
            .admin(Method::PUT, &path)
            .header("Content-Range", range);
        let answer = request.body(last.to_vec()).send().await.unwrap();
        assert_eq!(header(&answer, "range"), "0-9", "{range}");
        assert_eq!(header(&answer, "location"), location, "{range}");
        assert_oci_error(answer, 416, "BLOB_UPLOAD_INVALID").await;
    }
    assert_eq!(registry.object_count("demo").await, 1);
    let request = registry
        .admin(Method::PUT, &path)
        .header("Content-Range", "10-19");
    let answer = request.body(content[10..].to_vec()).send().await.unwrap();
    assert_stored(&registry, answer, &digest(&content), &content).await;
}

#[tokio::test]
async fn last_bytes_of_another_length_than_their_range_are_400_and_the_upload_goes_on() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    let path = format!("{location}?digest={}", digest(b"hello"));
    let request = registry
        .admin(Method::PUT, &path)
        .header("Content-Range", "0-9");
    let answer = request.body("hello").send().await.unwrap();
    assert_oci_error(answer, 400, "SIZE_INVALID").await;
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(
        registry
            .finish(&location, &digest(b"hello"), b"hello")
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn sha512_works_whether_or_not_it_was_announced() {
    let registry = TestRegistry::start().await;
    for (number, query) in ["?digest-algorithm=sha512", "", "?digest-algorithm=sha256"]
        .into_iter()
        .enumerate()
    {
        let content = bytes(number as u64, 1000);
        let digest = Digest::of(Algorithm::Sha512, &content);
        let path = format!("/v2/{REPO}/blobs/uploads/{query}");
        let answer = registry.admin(Method::POST, &path).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let location = header(&answer, "location").to_owned();
        registry.append(&location, &content[..400]).await;
        registry.append(&location, &content[400..700]).await;
        let answer = registry.finish(&location, &digest, &content[700..]).await;
        assert_stored(&registry, answer, &digest, &content).await;
    }
}

#[tokio::test]
async fn an_upload_announced_as_sha512_may_end_with_sha256() {
    let registry = TestRegistry::start().await;
    let content = bytes(9, 1000);
    let path = format!("/v2/{REPO}/blobs/uploads/?digest-algorithm=sha512");
    let answer = registry.admin(Method::POST, &path).send().await.unwrap();
    let location = header(&answer, "location").to_owned();
    registry.append(&location, &content[..400]).await;
    let answer = registry
        .finish(&location, &digest(&content), &content[400..])
        .await;
    assert_stored(&registry, answer, &digest(&content), &content).await;
}

#[tokio::test]
async fn a_wrong_sha512_digest_is_400() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    registry.append(&location, b"abc").await;
    let wrong = Digest::of(Algorithm::Sha512, b"something else");
    assert_oci_error(
        registry.finish(&location, &wrong, b"").await,
        400,
        "DIGEST_INVALID",
    )
    .await;
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn a_blob_that_the_account_has_already_is_stored_once() {
    let registry = TestRegistry::start().await;
    let content = bytes(4, 100);
    registry.push_blob("demo/other", &content).await;
    assert_eq!(registry.object_count("demo").await, 1);
    // All of its chunks, the early ones and the last one, are given up again.
    let location = registry.begin_upload(REPO).await;
    registry.append(&location, &content[..50]).await;
    let answer = registry
        .finish(&location, &digest(&content), &content[50..])
        .await;
    assert_stored(&registry, answer, &digest(&content), &content).await;
    assert_eq!(registry.object_count("demo").await, 1);
}

#[tokio::test]
async fn of_two_who_finish_at_once_one_wins_and_the_blob_is_right() {
    use storage_drivers::Op;
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    let gate = registry.faults.hold(Op::Write);
    let send = || {
        let path = format!("{location}?digest={}", digest(b"hello"));
        let request = registry.admin(Method::PUT, &path).body("hello");
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    };
    let (first, second) = (send(), send());
    registry.faults.calls_reached(Op::Write, 2).await;
    gate.open();
    let mut answers = [first.await.unwrap(), second.await.unwrap()];
    answers.sort_unstable();
    assert_eq!(answers, [201, 416]);
    assert_eq!(registry.object_count("demo").await, 1);
    let answer = registry
        .get(&format!("/v2/{REPO}/blobs/{}", digest(b"hello")))
        .await;
    assert_eq!(answer.text().await.unwrap(), "hello");
}
