//! A body that is longer than an object may be becomes several chunks of its blob.

use bytes::Bytes;
use futures::stream;
use reqwest::{Body, Method};
use storage_drivers::{Op, faulty::Fault};

use super::helpers::{REPO, header};
use crate::support::{
    Setup, TestRegistry, assert_oci_error,
    image::{bytes, digest},
};

async fn registry() -> TestRegistry {
    Setup::default()
        .config(|config| config.limits.chunk_bytes = 1000)
        .start()
        .await
}

/// A body whose length is not announced, in pieces of 300 bytes.
fn streamed(content: &[u8]) -> Body {
    let pieces: Vec<std::io::Result<Bytes>> = content
        .chunks(300)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    Body::wrap_stream(stream::iter(pieces))
}

async fn assert_content(registry: &TestRegistry, content: &[u8]) {
    let path = format!("/v2/{REPO}/blobs/{}", digest(content));
    let answer = registry.get(&path).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-length"), content.len().to_string());
    assert!(answer.bytes().await.unwrap() == content);
    for (from, to) in [
        (0, 999),
        (999, 1000),
        (1000, 1999),
        (500, 2200),
        (2000, 2000),
    ] {
        let request = registry.admin(Method::GET, &path);
        let range = format!("bytes={from}-{to}");
        let answer = request.header("Range", &range).send().await.unwrap();
        assert_eq!(answer.status(), 206, "{range}");
        assert!(
            answer.bytes().await.unwrap() == content[from..=to],
            "{range}"
        );
    }
}

#[tokio::test]
async fn one_request_makes_as_many_chunks_as_it_takes() {
    let registry = registry().await;
    for (seed, len) in [(1, 2500), (2, 3000), (3, 3001)] {
        let content = bytes(seed, len);
        let before = registry.object_count("demo").await;
        registry.push_blob(REPO, &content).await;
        assert_eq!(
            registry.object_count("demo").await - before,
            len.div_ceil(1000)
        );
        assert_content(&registry, &content).await;
    }
}

#[tokio::test]
async fn so_do_bodies_of_unknown_length_and_several_requests() {
    let registry = registry().await;
    let content = bytes(4, 5500);
    let location = registry.begin_upload(REPO).await;
    for (part, range) in [(0..2500, "0-2499"), (2500..3000, "0-2999")] {
        let answer = registry
            .admin(Method::PATCH, &location)
            .body(streamed(&content[part]))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 202);
        assert_eq!(header(&answer, "range"), range);
    }
    let path = format!("{location}?digest={}", digest(&content));
    let put = registry
        .admin(Method::PUT, &path)
        .body(streamed(&content[3000..]));
    assert_eq!(put.send().await.unwrap().status(), 201);
    assert_eq!(registry.object_count("demo").await, 3 + 1 + 3);
    assert_content(&registry, &content).await;
    assert!(
        registry
            .registry
            .check(true)
            .await
            .unwrap()
            .problems
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_refused_leaves_none_of_its_chunks() {
    let registry = registry().await;
    let content = bytes(5, 2500);
    let wrong = digest(b"something else");
    let path = format!("/v2/{REPO}/blobs/uploads/?digest={wrong}");
    let answer = registry
        .admin(Method::POST, &path)
        .body(content.clone())
        .send()
        .await;
    assert_oci_error(answer.unwrap(), 400, "DIGEST_INVALID").await;
    assert_eq!(registry.object_count("demo").await, 0);
    // The third chunk cannot be written.
    let location = registry.begin_upload(REPO).await;
    registry.faults.pass_next(Op::Write, 2);
    registry.faults.fail_next(Op::Write, 1, Fault::Full);
    let answer = registry.append(&location, &content).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(registry.object_count("demo").await, 0);
    let status = registry.get(&location).await;
    assert_eq!(header(&status, "range"), "0-0");
    // The blob that is there already needs no second set of chunks.
    registry.push_blob(REPO, &content).await;
    registry.push_blob(REPO, &content).await;
    assert_eq!(registry.object_count("demo").await, 3);
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_is_named_as_a_whole() {
    use std::io::{Read as _, Write as _};
    let registry = registry().await;
    let location = registry.begin_upload(REPO).await;
    let token = registry
        .token("admin", &[&format!("repository:{REPO}:pull,push")])
        .await;
    // Content-Range announces 2500 bytes, chunked encoding brings 2000.
    let mut stream = std::net::TcpStream::connect(registry.address).unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
         Content-Range: 0-2499\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        registry.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..2 {
        stream.write_all(b"3e8\r\n").unwrap();
        stream.write_all(&bytes(6, 1000)).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains("announced 2500 bytes and brought 2000"),
        "{answer}"
    );
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_its_chunks_with_it() {
    use std::io::Write as _;
    let registry = registry().await;
    let location = registry.begin_upload(REPO).await;
    let token = registry
        .token("admin", &[&format!("repository:{REPO}:pull,push")])
        .await;
    let mut stream = std::net::TcpStream::connect(registry.address).unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 9000\r\n\r\n",
        registry.address
    );
    let writes = registry.faults.calls(Op::Write);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes(6, 2500)).unwrap();
    registry.faults.calls_reached(Op::Write, writes + 3).await;
    drop(stream);
    for _ in 0..400 {
        let loose = registry.registry.check(false).await.unwrap().loose_objects;
        if registry.object_count("demo").await == 0 && loose == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(registry.object_count("demo").await, 0);
    let status = registry.get(&location).await;
    assert_eq!(header(&status, "range"), "0-0");
}
