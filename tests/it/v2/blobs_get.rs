//! `GET` and `HEAD /v2/<name>/blobs/<digest>`

use kontor::oci::{Algorithm, Digest};
use reqwest::{Method, Response};

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{bytes, digest},
};

async fn get_range(registry: &TestRegistry, blob: &Digest, range: &str) -> Response {
    let path = format!("/v2/{REPO}/blobs/{blob}");
    registry
        .admin(Method::GET, &path)
        .header("Range", range)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_blob_comes_back_as_it_was_pushed_with_its_headers() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 3000);
    let blob = registry.push_blob(REPO, &content).await;
    let answer = registry.get(&format!("/v2/{REPO}/blobs/{blob}")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "docker-content-digest"), blob.as_str());
    assert_eq!(header(&answer, "content-length"), "3000");
    assert_eq!(header(&answer, "accept-ranges"), "bytes");
    assert_eq!(header(&answer, "content-type"), "application/octet-stream");
    assert!(answer.headers().get("content-range").is_none());
    assert_eq!(answer.bytes().await.unwrap(), content);
}

#[tokio::test]
async fn head_gives_the_headers_without_the_bytes() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob(REPO, &bytes(1, 3000)).await;
    let answer = registry.head(&format!("/v2/{REPO}/blobs/{blob}")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "docker-content-digest"), blob.as_str());
    assert_eq!(header(&answer, "content-length"), "3000");
    assert_eq!(header(&answer, "accept-ranges"), "bytes");
    assert!(answer.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_large_blob_comes_back_whole() {
    let registry = TestRegistry::start().await;
    let content = bytes(2, 3_000_001);
    let blob = registry.push_blob(REPO, &content).await;
    let answer = registry.get(&format!("/v2/{REPO}/blobs/{blob}")).await;
    assert!(answer.bytes().await.unwrap() == content);
}

#[tokio::test]
async fn a_blob_under_a_sha512_digest_is_served_and_described() {
    let registry = TestRegistry::start().await;
    let content = bytes(3, 500);
    let blob = Digest::of(Algorithm::Sha512, &content);
    let path = format!("/v2/{REPO}/blobs/uploads/?digest={blob}");
    let answer = registry
        .admin(Method::POST, &path)
        .body(content.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let path = format!("/v2/{REPO}/blobs/{blob}");
    assert_eq!(
        header(&registry.head(&path).await, "docker-content-digest"),
        blob.as_str()
    );
    assert_eq!(registry.get(&path).await.bytes().await.unwrap(), content);
    // It is another blob than the one of the same content under SHA-256.
    let answer = registry
        .get(&format!("/v2/{REPO}/blobs/{}", digest(&content)))
        .await;
    assert_oci_error(answer, 404, "BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn an_empty_blob_has_no_bytes_and_no_satisfiable_range() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob(REPO, b"").await;
    assert_eq!(registry.object_count("demo").await, 0);
    let answer = registry.get(&format!("/v2/{REPO}/blobs/{blob}")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-length"), "0");
    assert!(answer.bytes().await.unwrap().is_empty());
    let answer = registry.head(&format!("/v2/{REPO}/blobs/{blob}")).await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "content-length")),
        (200, "0")
    );
    let answer = get_range(&registry, &blob, "bytes=0-").await;
    assert_eq!(header(&answer, "content-range"), "bytes */0");
    assert_eq!(answer.status(), 416);
    assert_eq!(get_range(&registry, &blob, "bytes=-5").await.status(), 200);
}

#[tokio::test]
async fn a_range_gives_exactly_the_bytes_it_names_whatever_the_chunks() {
    let registry = TestRegistry::start().await;
    let content = bytes(4, 1000);
    let in_one = registry.push_blob(REPO, &content).await;
    // The same content in an account of its own, cut into chunks of 400, 1 and 599 bytes.
    let registry_in_chunks = TestRegistry::start().await;
    let chunks = [&content[..400], &content[400..401], &content[401..]];
    let in_chunks = registry_in_chunks.push_chunks(REPO, &chunks).await;
    assert_eq!(registry_in_chunks.object_count("demo").await, 3);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-399", 0, 399),
        ("bytes=399-400", 399, 400),
        ("bytes=400-400", 400, 400),
        ("bytes=400-401", 400, 401),
        ("bytes=399-401", 399, 401),
        ("bytes=401-500", 401, 500),
        ("bytes=100-", 100, 999),
        ("bytes=999-", 999, 999),
        ("bytes=0-", 0, 999),
        ("bytes=-1", 999, 999),
        ("bytes=-600", 400, 999),
        ("bytes=-1000", 0, 999),
        ("bytes=-5000", 0, 999),
        ("bytes=990-2000", 990, 999),
        ("bytes=0-99999999999999999999999", 0, 999),
        ("Bytes=5-6", 5, 6),
        ("  bytes= 5-6 ", 5, 6),
    ] {
        for (registry, blob) in [(&registry, &in_one), (&registry_in_chunks, &in_chunks)] {
            let answer = get_range(registry, blob, range).await;
            assert_eq!(answer.status(), 206, "{range}");
            assert_eq!(
                header(&answer, "content-range"),
                format!("bytes {first}-{last}/1000"),
                "{range}"
            );
            assert_eq!(
                header(&answer, "content-length"),
                (last - first + 1).to_string(),
                "{range}"
            );
            assert_eq!(header(&answer, "accept-ranges"), "bytes", "{range}");
            assert_eq!(
                header(&answer, "docker-content-digest"),
                blob.as_str(),
                "{range}"
            );
            assert_eq!(
                answer.bytes().await.unwrap(),
                content[first..=last],
                "{range}"
            );
        }
    }
}

#[tokio::test]
async fn a_range_outside_the_blob_is_416_with_its_length() {
    let registry = TestRegistry::start().await;
    let blob = registry
        .push_chunks(REPO, &[&bytes(5, 60), &bytes(6, 40)])
        .await;
    for range in [
        "bytes=100-",
        "bytes=100-200",
        "bytes=99999999999999999999-",
        "bytes=-0",
        "bytes=20-10",
    ] {
        let answer = get_range(&registry, &blob, range).await;
        assert_eq!(header(&answer, "content-range"), "bytes */100", "{range}");
        assert_oci_error(answer, 416, "UNSUPPORTED").await;
    }
}

#[tokio::test]
async fn a_range_that_is_not_understood_is_ignored() {
    let registry = TestRegistry::start().await;
    let content = bytes(7, 100);
    let blob = registry
        .push_chunks(REPO, &[&content[..50], &content[50..]])
        .await;
    for range in [
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1-b",
        "bytes=+1-5",
        "bytes=1-5x",
        "bytes=--5",
        "items=0-5",
        "0-5",
        "bytes=0-1,5-6",
        "bytes=0-1, -1",
        "bytes 0-5",
    ] {
        let answer = get_range(&registry, &blob, range).await;
        assert_eq!(answer.status(), 200, "{range}");
        assert!(answer.headers().get("content-range").is_none(), "{range}");
        assert_eq!(answer.bytes().await.unwrap(), content, "{range}");
    }
}

#[tokio::test]
async fn parallel_ranges_put_together_are_the_blob() {
    let registry = TestRegistry::start().await;
    let content = bytes(8, 200_000);
    let chunks: Vec<&[u8]> = content.chunks(70_000).collect();
    let blob = registry.push_chunks(REPO, &chunks).await;
    let parts = (0..8).map(|number| {
        let (registry, blob) = (&registry, &blob);
        let range = format!("bytes={}-{}", number * 25_000, (number + 1) * 25_000 - 1);
        async move {
            get_range(registry, blob, &range)
                .await
                .bytes()
                .await
                .unwrap()
        }
    });
    let parts = futures::future::join_all(parts).await;
    assert!(parts.concat() == content);
}

#[tokio::test]
async fn what_is_not_there_is_404_and_a_bad_digest_400() {
    let registry = TestRegistry::start().await;
    registry.push_blob(REPO, &bytes(1, 10)).await;
    let unknown = digest(b"unknown");
    for repo in [REPO, "demo/unknown", "unknown/app"] {
        let answer = registry.get(&format!("/v2/{repo}/blobs/{unknown}")).await;
        assert_oci_error(answer, 404, "BLOB_UNKNOWN").await;
        assert_eq!(
            registry
                .head(&format!("/v2/{repo}/blobs/{unknown}"))
                .await
                .status(),
            404
        );
    }
    for bad in [
        "sha256:abc",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "nonsense",
        "sha256:",
    ] {
        let answer = registry.get(&format!("/v2/{REPO}/blobs/{bad}")).await;
        assert_oci_error(answer, 400, "DIGEST_INVALID").await;
    }
}

#[tokio::test]
async fn a_blob_is_reachable_only_through_its_own_repository() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob("demo/a", &bytes(9, 10)).await;
    registry.push_blob("demo/b", &bytes(10, 10)).await;
    let answer = registry.get(&format!("/v2/demo/b/blobs/{blob}")).await;
    assert_oci_error(answer, 404, "BLOB_UNKNOWN").await;
    assert_eq!(
        registry
            .head(&format!("/v2/demo/b/blobs/{blob}"))
            .await
            .status(),
        404
    );
}
