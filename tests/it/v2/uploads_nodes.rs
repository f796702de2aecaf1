//! An upload whose requests reach different nodes.

use kontor::oci::{Algorithm, Digest};
use reqwest::Method;

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry,
    image::{bytes, digest},
};

#[tokio::test]
async fn each_request_of_an_upload_may_reach_another_node() {
    let first = TestRegistry::start().await;
    let (second, third) = (first.second_node().await, first.second_node().await);
    let content = bytes(1, 1000);
    let location = first.begin_upload(REPO).await;
    assert_eq!(
        second.append(&location, &content[..333]).await.status(),
        202
    );
    let answer = third.append(&location, &content[333..700]).await;
    assert_eq!(header(&answer, "range"), "0-699");
    assert_eq!(header(&first.get(&location).await, "range"), "0-699");
    let digest = digest(&content);
    let answer = third.finish(&location, &digest, &content[700..]).await;
    assert_eq!(answer.status(), 201);
    for node in [&first, &second, &third] {
        let answer = node.get(&format!("/v2/{REPO}/blobs/{digest}")).await;
        assert_eq!(answer.bytes().await.unwrap(), content);
    }
    assert_eq!(second.get(&location).await.status(), 404);
}

#[tokio::test]
async fn a_sha512_upload_may_move_between_nodes_too() {
    let first = TestRegistry::start().await;
    let second = first.second_node().await;
    let content = bytes(2, 1000);
    let path = format!("/v2/{REPO}/blobs/uploads/?digest-algorithm=sha512");
    let answer = first.admin(Method::POST, &path).send().await.unwrap();
    let location = header(&answer, "location").to_owned();
    second.append(&location, &content[..500]).await;
    let digest = Digest::of(Algorithm::Sha512, &content);
    assert_eq!(
        first
            .finish(&location, &digest, &content[500..])
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn an_upload_can_be_cancelled_on_another_node() {
    let first = TestRegistry::start().await;
    let second = first.second_node().await;
    let location = first.begin_upload(REPO).await;
    first.append(&location, b"abc").await;
    assert_eq!(second.delete(&location).await.status(), 204);
    assert_eq!(first.get(&location).await.status(), 404);
    assert_eq!(first.object_count("demo").await, 0);
}

#[tokio::test]
async fn what_one_node_stored_the_other_serves_and_deletes() {
    let first = TestRegistry::start().await;
    let second = first.second_node().await;
    let image = first.push_image(REPO, "v1", 1).await;
    let manifest = digest(&serde_json::to_vec(&image).unwrap());
    let answer = second.get(&format!("/v2/{REPO}/manifests/v1")).await;
    assert_eq!(header(&answer, "docker-content-digest"), manifest.as_str());
    assert_eq!(
        second
            .delete(&format!("/v2/{REPO}/manifests/{manifest}"))
            .await
            .status(),
        202
    );
    assert_eq!(
        first
            .get(&format!("/v2/{REPO}/manifests/v1"))
            .await
            .status(),
        404
    );
}
