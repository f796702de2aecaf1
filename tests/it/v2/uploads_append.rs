//! `PATCH` and `GET /v2/<name>/blobs/uploads/<upload>`

use bytes::Bytes;
use futures::stream;
use reqwest::{Body, Method, Response};
use storage_drivers::Op;

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{bytes, digest},
};

async fn append_range(
    registry: &TestRegistry,
    location: &str,
    range: &str,
    content: &[u8],
) -> Response {
    let request = registry
        .admin(Method::PATCH, location)
        .header("Content-Range", range);
    request.body(content.to_vec()).send().await.unwrap()
}

/// The number of the last byte that an upload has, as its status says.
async fn held(registry: &TestRegistry, location: &str) -> String {
    let answer = registry.get(location).await;
    assert_eq!(answer.status(), 204);
    assert_eq!(header(&answer, "location"), location);
    header(&answer, "range").to_owned()
}

#[tokio::test]
async fn a_chunk_is_answered_with_the_bytes_held_and_where_to_go_on() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    for (chunk, range) in [(&b"hello"[..], "0-4"), (b" ", "0-5"), (b"world", "0-10")] {
        let answer = registry.append(&location, chunk).await;
        assert_eq!(answer.status(), 202);
        assert_eq!(header(&answer, "range"), range);
        assert_eq!(header(&answer, "location"), location);
        assert_eq!(held(&registry, &location).await, range);
    }
    assert_eq!(
        registry
            .finish(&location, &digest(b"hello world"), b"")
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn the_status_of_a_fresh_upload_is_204() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    assert_eq!(held(&registry, &location).await, "0-0");
}

#[tokio::test]
async fn a_chunk_without_a_length_is_taken() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    let content = bytes(1, 300_000);
    let pieces: Vec<std::io::Result<Bytes>> = content
        .chunks(10_000)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let body = Body::wrap_stream(stream::iter(pieces));
    let answer = registry
        .admin(Method::PATCH, &location)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(header(&answer, "range"), "0-299999");
    let digest = digest(&content);
    assert_eq!(registry.finish(&location, &digest, b"").await.status(), 201);
    let answer = registry.get(&format!("/v2/{REPO}/blobs/{digest}")).await;
    assert!(answer.bytes().await.unwrap() == content);
}

#[tokio::test]
async fn chunks_with_their_range_are_taken_in_order() {
    let registry = TestRegistry::start().await;
    let content = bytes(2, 25);
    let location = registry.begin_upload(REPO).await;
    for (range, chunk) in [
        ("0-9", &content[..10]),
        ("bytes 10-19/*", &content[10..20]),
        ("bytes 20-24/25", &content[20..]),
    ] {
        assert_eq!(
            append_range(&registry, &location, range, chunk)
                .await
                .status(),
            202,
            "{range}"
        );
    }
    assert_eq!(
        registry
            .finish(&location, &digest(&content), b"")
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn an_empty_chunk_changes_nothing() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    registry.append(&location, b"abc").await;
    let answer = registry.append(&location, b"").await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "range")),
        (202, "0-2")
    );
    assert_eq!(registry.object_count("demo").await, 1);
    assert_eq!(
        registry
            .finish(&location, &digest(b"abc"), b"")
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn a_chunk_out_of_order_is_416_and_the_upload_goes_on() {
    let registry = TestRegistry::start().await;
    let content = bytes(3, 20);
    let location = registry.begin_upload(REPO).await;
    assert_oci_error(
        append_range(&registry, &location, "10-19", &content[10..]).await,
        416,
        "BLOB_UPLOAD_INVALID",
    )
    .await;
    assert_eq!(
        append_range(&registry, &location, "0-9", &content[..10])
            .await
            .status(),
        202
    );
    // Again, with a gap, and overlapping.
    for (range, chunk) in [
        ("0-9", &content[..10]),
        ("15-19", &content[15..]),
        ("5-14", &content[5..15]),
    ] {
        let answer = append_range(&registry, &location, range, chunk).await;
        assert_eq!(header(&answer, "range"), "0-9", "{range}");
        assert_eq!(header(&answer, "location"), location, "{range}");
        assert_oci_error(answer, 416, "BLOB_UPLOAD_INVALID").await;
        assert_eq!(held(&registry, &location).await, "0-9", "{range}");
    }
    assert_eq!(registry.object_count("demo").await, 1);
    assert_eq!(
        append_range(&registry, &location, "10-19", &content[10..])
            .await
            .status(),
        202
    );
    let digest = digest(&content);
    assert_eq!(registry.finish(&location, &digest, b"").await.status(), 201);
    assert_eq!(
        registry
            .get(&format!("/v2/{REPO}/blobs/{digest}"))
            .await
            .bytes()
            .await
            .unwrap(),
        content
    );
}

#[tokio::test]
async fn a_content_range_that_is_not_one_is_416_and_the_upload_goes_on() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    for range in [
        "",
        "abc",
        "0",
        "0-",
        "-5",
        "5-0",
        "0-4,5-9",
        "bytes=0-4",
        "items 0-4/5",
        "0-99999999999999999999",
    ] {
        let answer = append_range(&registry, &location, range, b"hello").await;
        assert_oci_error(answer, 416, "BLOB_UPLOAD_INVALID").await;
    }
    assert_eq!(registry.append(&location, b"hello").await.status(), 202);
    assert_eq!(
        registry
            .finish(&location, &digest(b"hello"), b"")
            .await
            .status(),
        201
    );
    assert_eq!(registry.object_count("demo").await, 1);
}

#[tokio::test]
async fn a_content_range_of_another_length_than_the_body_is_400_and_the_upload_goes_on() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    for range in ["0-9", "0-0", "0-3"] {
        assert_oci_error(
            append_range(&registry, &location, range, b"hello").await,
            400,
            "SIZE_INVALID",
        )
        .await;
        // The same when the body has no announced length.
        for content in ["hello", ""] {
            let pieces: Vec<std::io::Result<Bytes>> =
                vec![Ok(Bytes::from_static(content.as_bytes()))];
            let request = registry
                .admin(Method::PATCH, &location)
                .header("Content-Range", range);
            let answer = request
                .body(Body::wrap_stream(stream::iter(pieces)))
                .send()
                .await
                .unwrap();
            assert_oci_error(answer, 400, "SIZE_INVALID").await;
        }
    }
    assert_eq!(held(&registry, &location).await, "0-0");
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(
        append_range(&registry, &location, "0-4", b"hello")
            .await
            .status(),
        202
    );
    assert_eq!(
        registry
            .finish(&location, &digest(b"hello"), b"")
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn of_two_chunks_at_once_one_wins_and_the_blob_is_right() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    let gate = registry.faults.hold(Op::Write);
    let send = |content: &'static [u8]| {
        let request = registry
            .admin(Method::PATCH, &location)
            .header("Content-Range", "0-4")
            .body(content);
        tokio::spawn(async move { request.send().await.unwrap() })
    };
    let (first, second) = (send(b"hello"), send(b"world"));
    registry.faults.calls_reached(Op::Write, 2).await;
    gate.open();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let (winner, loser) = match first.status().as_u16() {
        202 => (&b"hello"[..], second),
        _ => {
            assert_eq!(second.status(), 202);
            (&b"world"[..], first)
        }
    };
    assert_eq!(header(&loser, "location"), location);
    assert_oci_error(loser, 416, "BLOB_UPLOAD_INVALID").await;
    assert_eq!(held(&registry, &location).await, "0-4");
    assert_eq!(registry.append(&location, b"!").await.status(), 202);
    let content = [winner, b"!"].concat();
    let digest = digest(&content);
    assert_eq!(registry.finish(&location, &digest, b"").await.status(), 201);
    assert_eq!(
        registry
            .get(&format!("/v2/{REPO}/blobs/{digest}"))
            .await
            .bytes()
            .await
            .unwrap(),
        content
    );
    assert_eq!(registry.object_count("demo").await, 2);
}

#[tokio::test]
async fn an_upload_is_not_reachable_through_another_repository() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    registry.begin_upload("demo/other").await;
    registry.append(&location, b"abc").await;
    let id = location.rsplit('/').next().unwrap();
    for repo in ["demo/other", "demo/unknown", "unknown/app"] {
        let elsewhere = format!("/v2/{repo}/blobs/uploads/{id}");
        for answer in [
            registry.get(&elsewhere).await,
            registry.append(&elsewhere, b"def").await,
            registry.finish(&elsewhere, &digest(b"abc"), b"").await,
            registry.delete(&elsewhere).await,
        ] {
            assert_oci_error(answer, 404, "BLOB_UPLOAD_UNKNOWN").await;
        }
    }
    assert_eq!(held(&registry, &location).await, "0-2");
    assert_eq!(registry.object_count("demo").await, 1);
}

#[tokio::test]
async fn an_upload_that_does_not_exist_is_404() {
    let registry = TestRegistry::start().await;
    registry.begin_upload(REPO).await;
    for id in [
        "00000000-0000-4000-8000-000000000000",
        "nonsense",
        "..",
        "%2e%2e",
        "a%20b",
    ] {
        let path = format!("/v2/{REPO}/blobs/uploads/{id}");
        for method in ["GET", "PATCH", "DELETE"] {
            let (status, body) = registry.raw(method, &path);
            assert_eq!(status, 404, "{method} {id}");
            assert!(
                body.contains("BLOB_UPLOAD_UNKNOWN"),
                "{method} {id}: {body}"
            );
        }
    }
}

#[tokio::test]
async fn appending_needs_push() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    let answer = registry
        .as_user("reader", Method::PATCH, &location)
        .body("abc")
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 403, "DENIED").await;
    let answer = registry
        .anonymous(Method::PATCH, &location)
        .body("abc")
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    assert_eq!(held(&registry, &location).await, "0-0");
}
