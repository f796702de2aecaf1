//! `DELETE /v2/<name>/blobs/uploads/<upload>`

use reqwest::Method;

use super::helpers::REPO;
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{bytes, digest},
};

#[tokio::test]
async fn a_cancelled_upload_is_gone_and_so_are_its_bytes() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    registry.append(&location, &bytes(1, 100)).await;
    registry.append(&location, &bytes(2, 100)).await;
    assert_eq!(registry.object_count("demo").await, 2);
    assert_eq!(registry.delete(&location).await.status(), 204);
    assert_eq!(registry.object_count("demo").await, 0);
    for answer in [
        registry.delete(&location).await,
        registry.get(&location).await,
        registry.append(&location, b"abc").await,
        registry.finish(&location, &digest(b"abc"), b"abc").await,
    ] {
        assert_oci_error(answer, 404, "BLOB_UPLOAD_UNKNOWN").await;
    }
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn an_upload_without_bytes_can_be_cancelled() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    assert_eq!(registry.delete(&location).await.status(), 204);
    assert_eq!(registry.delete(&location).await.status(), 404);
}

#[tokio::test]
async fn cancelling_one_upload_leaves_the_others() {
    let registry = TestRegistry::start().await;
    let (first, second) = (
        registry.begin_upload(REPO).await,
        registry.begin_upload(REPO).await,
    );
    registry.append(&first, b"abc").await;
    registry.append(&second, b"abc").await;
    assert_eq!(registry.delete(&first).await.status(), 204);
    assert_eq!(
        registry
            .finish(&second, &digest(b"abc"), b"")
            .await
            .status(),
        201
    );
    assert_eq!(registry.object_count("demo").await, 1);
}

#[tokio::test]
async fn a_chunk_on_its_way_into_a_cancelled_upload_is_not_kept() {
    use storage_drivers::Op;
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    let gate = registry.faults.hold(Op::Write);
    let request = registry.admin(Method::PATCH, &location).body("abc");
    let chunk = tokio::spawn(async move { request.send().await.unwrap().status().as_u16() });
    registry.faults.calls_reached(Op::Write, 1).await;
    assert_eq!(registry.delete(&location).await.status(), 204);
    gate.open();
    assert_eq!(chunk.await.unwrap(), 416);
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn cancelling_needs_push() {
    let registry = TestRegistry::start().await;
    let location = registry.begin_upload(REPO).await;
    let answer = registry
        .as_user("reader", Method::DELETE, &location)
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 403, "DENIED").await;
    assert_eq!(registry.get(&location).await.status(), 204);
}
