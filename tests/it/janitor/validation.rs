//! Content is read again; what is broken is shown, and healed.

use bytes::Bytes;
use chrono::TimeDelta;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kontor::model::job::Job;
use reqwest::Method;
use storage_drivers::{ObjectKey, Op, faulty::Fault};

use crate::{
    support::{
        TestRegistry, assert_oci_error,
        image::{bytes, digest},
        tenant,
    },
    v2::helpers::REPO,
};

const WEEK: TimeDelta = TimeDelta::days(8);

/// The only object of a kind in the storage of `demo`.
async fn object(registry: &TestRegistry, is_chunk: bool) -> ObjectKey {
    let objects = registry.storage.list(&tenant("demo")).await.unwrap();
    let objects: Vec<_> = objects.try_collect().await.unwrap();
    let mut found = objects
        .iter()
        .map(|object| object.key)
        .filter(|key| matches!(key, ObjectKey::Chunk(_)) == is_chunk);
    let key = found.next().unwrap();
    assert_eq!(found.next(), None);
    key
}

/// Gives an object other bytes.
async fn overwrite(registry: &TestRegistry, key: ObjectKey, content: Vec<u8>) {
    let tenant = tenant("demo");
    registry.storage.delete(&tenant, &key).await.unwrap();
    let size = content.len() as u64;
    let body = stream::iter([Ok(Bytes::from(content))]).boxed();
    let written = registry.storage.write(&tenant, &key, Some(size), body);
    written.await.unwrap();
}

/// What is known to be wrong with blobs.
async fn broken(registry: &TestRegistry) -> usize {
    let touch = "UPDATE blobs SET pushed_at = pushed_at WHERE validation_error IS NOT NULL";
    let touched = registry.db.execute_for_tests(touch.to_owned()).await;
    touched.unwrap()
}

#[tokio::test]
async fn whole_content_is_read_once_a_week() {
    let registry = TestRegistry::start().await;
    registry.push_blob(REPO, &bytes(1, 100)).await;
    assert_eq!(registry.run_job(Job::ValidateBlobs).await, 0);
    let reads = registry.faults.calls(Op::Read);
    registry.wait(WEEK);
    assert_eq!(registry.run_job(Job::ValidateBlobs).await, 1);
    assert_eq!(registry.faults.calls(Op::Read), reads + 1);
    assert_eq!(broken(&registry).await, 0);
    assert_eq!(registry.run_job(Job::ValidateBlobs).await, 0);
}

#[tokio::test]
async fn a_broken_blob_is_sent_again_by_the_next_push_and_is_whole_then() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 100);
    registry.push_blob(REPO, &content).await;
    let used = registry.used_bytes("demo").await;
    overwrite(&registry, object(&registry, true).await, bytes(2, 100)).await;
    registry.wait(WEEK);
    assert_eq!(registry.run_job(Job::ValidateBlobs).await, 1);
    assert_eq!(broken(&registry).await, 1);
    // Who pushes is told to send it, and nothing of it can be mounted.
    let path = format!("/v2/{REPO}/blobs/{}", digest(&content));
    assert_eq!(registry.head(&path).await.status(), 404);
    let mount = format!(
        "/v2/demo/other/blobs/uploads/?mount={}&from={REPO}",
        digest(&content)
    );
    let answer = registry.admin(Method::POST, &mount).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    registry.push_blob(REPO, &content).await;
    assert_eq!(broken(&registry).await, 0);
    assert_eq!(registry.get(&path).await.bytes().await.unwrap(), content);
    assert_eq!(registry.used_bytes("demo").await, used);
    // What was broken is rubbish.
    assert_eq!(registry.object_count("demo").await, 2);
    registry.wait(TimeDelta::hours(1));
    registry.run_job(Job::SweepObjects).await;
    assert_eq!(registry.object_count("demo").await, 1);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn a_blob_whose_object_comes_back_is_whole_again() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 100);
    registry.push_blob(REPO, &content).await;
    let key = object(&registry, true).await;
    registry
        .storage
        .delete(&tenant("demo"), &key)
        .await
        .unwrap();
    registry.wait(WEEK);
    assert_eq!(registry.run_job(Job::ValidateBlobs).await, 1);
    assert_eq!(broken(&registry).await, 1);
    overwrite(&registry, key, content).await;
    registry.wait(WEEK);
    assert_eq!(registry.run_job(Job::ValidateBlobs).await, 1);
    assert_eq!(broken(&registry).await, 0);
}

#[tokio::test]
async fn a_backend_that_is_away_breaks_nothing() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "latest", 1).await;
    registry.wait(WEEK);
    registry.faults.fail_next(Op::Read, 1, Fault::Permanent);
    assert!(
        registry
            .registry
            .job_run_one(Job::ValidateBlobs)
            .await
            .is_err()
    );
    registry.faults.cut_next_read(10);
    assert!(
        registry
            .registry
            .job_run_one(Job::ValidateBlobs)
            .await
            .is_err()
    );
    registry.faults.fail_next(Op::Read, 1, Fault::Permanent);
    assert!(
        registry
            .registry
            .job_run_one(Job::ValidateManifests)
            .await
            .is_err()
    );
    assert_eq!(broken(&registry).await, 0);
    // They are tried again soon.
    registry.wait(TimeDelta::minutes(11));
    assert_eq!(registry.run_job(Job::ValidateBlobs).await, 2);
    assert_eq!(registry.run_job(Job::ValidateManifests).await, 1);
    assert_eq!(broken(&registry).await, 0);
}

#[tokio::test]
async fn the_object_of_a_manifest_is_written_anew() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "latest", 1).await;
    for content in [None, Some(bytes(9, 10))] {
        let key = object(&registry, false).await;
        match content {
            None => registry
                .storage
                .delete(&tenant("demo"), &key)
                .await
                .unwrap(),
            Some(content) => overwrite(&registry, key, content).await,
        }
        registry.wait(WEEK);
        assert_eq!(registry.run_job(Job::ValidateManifests).await, 1);
        registry.wait(TimeDelta::hours(1));
        registry.run_job(Job::SweepObjects).await;
        assert_ne!(object(&registry, false).await, key);
        assert_eq!(registry.assert_sound().await, 0);
    }
}

#[tokio::test]
async fn a_manifest_whose_blob_is_broken_says_so_until_it_is_whole() {
    let registry = TestRegistry::start().await;
    let manifest = registry.push_image(REPO, "latest", 1).await;
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let statement = |error: &str| {
        format!("UPDATE blobs SET validation_error = {error} WHERE digest = '{layer}'")
    };
    let shown = async || {
        let path = "/api/v1/accounts/demo/repositories/app/_manifests";
        let answer = registry.admin(Method::GET, path).send().await.unwrap();
        let page: serde_json::Value = answer.json().await.unwrap();
        page["manifests"][0]["validation_error"].clone()
    };
    registry
        .db
        .execute_for_tests(statement("'lost'"))
        .await
        .unwrap();
    registry.wait(WEEK);
    registry.run_job(Job::ValidateManifests).await;
    assert_eq!(shown().await, format!("blob {layer} is broken"));
    registry
        .db
        .execute_for_tests(statement("NULL"))
        .await
        .unwrap();
    registry.wait(WEEK);
    registry.run_job(Job::ValidateManifests).await;
    assert!(shown().await.is_null());
    assert_oci_error(
        registry.get("/v2/demo/app/manifests/none").await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
}
