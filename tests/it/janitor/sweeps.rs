//! What nobody needs goes: uploads, blobs, objects.

use bytes::Bytes;
use chrono::TimeDelta;
use futures::{StreamExt as _, stream};
use kontor::model::job::Job;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use storage_drivers::{ObjectKey, Op, faulty::Fault};
use uuid::Uuid;

use crate::{
    support::{
        Setup, TestRegistry, assert_oci_error,
        image::{bytes, digest, manifest},
        tenant,
    },
    v2::helpers::REPO,
};

fn almost(time: TimeDelta) -> TimeDelta {
    time - TimeDelta::seconds(1)
}

const DAY: TimeDelta = TimeDelta::days(1);
const GRACE: TimeDelta = TimeDelta::minutes(5);

async fn image(registry: &TestRegistry, repo: &str, layers: &[u64]) -> String {
    let config = bytes(layers.iter().sum(), 100);
    let layers: Vec<Vec<u8>> = layers.iter().map(|seed| bytes(*seed, 1000)).collect();
    registry.push_blob(repo, &config).await;
    for layer in &layers {
        registry.push_blob(repo, layer).await;
    }
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let digest = registry
        .push_manifest(repo, "latest", &manifest(&config, &layers))
        .await;
    format!("/v2/{repo}/manifests/{digest}")
}

#[tokio::test]
async fn an_upload_that_nobody_goes_on_with_ends_after_a_day() {
    let registry = TestRegistry::start().await;
    let (old, young) = (
        registry.begin_upload(REPO).await,
        registry.begin_upload(REPO).await,
    );
    registry.append(&old, &bytes(1, 100)).await;
    registry.append(&young, &bytes(2, 100)).await;
    registry.wait(almost(DAY));
    assert_eq!(registry.run_job(Job::AbandonUploads).await, 0);
    // It is the last bytes that count.
    registry.append(&young, &bytes(3, 100)).await;
    registry.wait(TimeDelta::seconds(1));
    assert_eq!(registry.run_job(Job::AbandonUploads).await, 1);
    assert_oci_error(registry.get(&old).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    assert_eq!(registry.get(&young).await.status(), 204);
    assert_eq!(registry.object_count("demo").await, 2);
    assert_eq!(registry.used_bytes("demo").await, 200);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn a_blob_that_no_manifest_ever_needed_goes_after_a_day() {
    let registry = TestRegistry::start().await;
    registry.push_blob(REPO, &bytes(1, 100)).await;
    registry.wait(almost(DAY));
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 0);
    registry.wait(TimeDelta::seconds(1));
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 1);
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(registry.used_bytes("demo").await, 0);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn blobs_of_a_deleted_manifest_go_after_minutes_but_not_those_that_others_need() {
    let registry = TestRegistry::start().await;
    registry.without_trash().await;
    let first = image(&registry, REPO, &[10, 11]).await;
    let second = image(&registry, REPO, &[11, 12]).await;
    assert_eq!(registry.object_count("demo").await, 3 + 2 + 2);
    assert_eq!(registry.delete(&first).await.status(), 202);
    // Its manifest goes at once.
    assert_eq!(registry.object_count("demo").await, 3 + 2 + 1);
    registry.wait(almost(GRACE));
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 0);
    registry.wait(TimeDelta::seconds(1));
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 1);
    // The config and the layer of its own.
    assert_eq!(registry.object_count("demo").await, 2 + 1 + 1);
    assert_eq!(registry.get(&second).await.status(), 200);
    registry.wait(DAY);
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 0);
    assert_eq!(registry.delete(&second).await.status(), 202);
    registry.wait(GRACE);
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 1);
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(registry.used_bytes("demo").await, 0);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn an_upload_that_receives_for_long_goes_on() {
    // The node says each second that it goes on.
    let registry = Setup::default()
        .config(|config| config.janitor.abandoned_uploads_seconds = 3)
        .start()
        .await;
    let location = registry.begin_upload(REPO).await;
    let gate = registry.faults.hold(Op::Write);
    let append = async { registry.append(&location, &bytes(1, 100)).await.status() };
    let long = async {
        registry.faults.calls_reached(Op::Write, 1).await;
        for _ in 0..3 {
            registry.wait(TimeDelta::seconds(2));
            registry.upload_touched_now().await;
            assert_eq!(registry.run_job(Job::AbandonUploads).await, 0);
        }
        gate.open();
    };
    let (status, ()) = tokio::join!(append, long);
    assert_eq!(status, 202);
    registry.wait(TimeDelta::seconds(3));
    assert_eq!(registry.run_job(Job::AbandonUploads).await, 1);
}

#[tokio::test]
async fn a_blob_leaves_the_repository_that_does_not_need_it_and_stays_in_the_other() {
    let registry = TestRegistry::start().await;
    registry.without_trash().await;
    let first = image(&registry, REPO, &[10]).await;
    image(&registry, "demo/other", &[10]).await;
    registry.delete(&first).await;
    registry.wait(GRACE);
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 1);
    let layer = digest(&bytes(10, 1000));
    for (repo, status) in [(REPO, 404), ("demo/other", 200)] {
        let answer = registry.get(&format!("/v2/{repo}/blobs/{layer}")).await;
        assert_eq!(answer.status(), status);
    }
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn a_blob_that_a_pusher_has_looked_up_waits_for_the_manifest() {
    let registry = TestRegistry::start().await;
    registry.without_trash().await;
    let first = image(&registry, REPO, &[10]).await;
    let layer = format!("/v2/{REPO}/blobs/{}", digest(&bytes(10, 1000)));
    assert_eq!(registry.head(&layer).await.status(), 200);
    registry.registry.pulls_flush().await.unwrap();
    registry.delete(&first).await;
    registry.wait(TimeDelta::hours(20));
    // The config goes, which nobody has looked up.
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 1);
    assert_eq!(registry.object_count("demo").await, 1);
    let config = bytes(7, 50);
    registry.push_blob(REPO, &config).await;
    let pushed = manifest(&config, &[&bytes(10, 1000)]);
    let again = registry.push_manifest(REPO, "again", &pushed).await;
    // Now it is a blob like any other.
    let again = format!("/v2/{REPO}/manifests/{again}");
    assert_eq!(registry.delete(&again).await.status(), 202);
    registry.wait(GRACE);
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 1);
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn who_may_only_pull_keeps_nothing() {
    let registry = TestRegistry::start().await;
    registry.push_blob(REPO, &bytes(1, 100)).await;
    let path = format!("/v2/{REPO}/blobs/{}", digest(&bytes(1, 100)));
    let token = registry
        .token("reader", &["repository:demo/app:pull"])
        .await;
    for head in [
        registry.bearer(&token, Method::HEAD, &path),
        registry.as_user("reader", Method::HEAD, &path),
    ] {
        assert_eq!(head.send().await.unwrap().status(), 200);
    }
    registry.registry.pulls_flush().await.unwrap();
    registry.wait(DAY);
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 1);
}

/// A push of a manifest of one blob, and where the blob is.
fn small_push(registry: &TestRegistry, repo: &str, config: &[u8]) -> (RequestBuilder, String) {
    let pushed = manifest(config, &[]);
    let push = registry
        .admin(Method::PUT, &format!("/v2/{repo}/manifests/latest"))
        .header("Content-Type", pushed["mediaType"].as_str().unwrap())
        .body(serde_json::to_vec(&pushed).unwrap());
    (push, format!("/v2/{repo}/blobs/{}", digest(config)))
}

#[tokio::test]
async fn a_manifest_whose_blob_is_swept_while_it_is_pushed_is_refused() {
    let registry = TestRegistry::start().await;
    let config = bytes(1, 100);
    registry.push_blob(REPO, &config).await;
    registry.wait(DAY);
    let (push, blob) = small_push(&registry, REPO, &config);
    // The push has found the blob and writes the manifest's object.
    let gate = registry.faults.hold(Op::Write);
    let writes = registry.faults.calls(Op::Write);
    let sweep = async {
        registry.faults.calls_reached(Op::Write, writes + 1).await;
        assert_eq!(registry.get(&blob).await.status(), 200);
        assert_eq!(registry.run_job(Job::SweepBlobs).await, 1);
        gate.open();
    };
    let (answer, ()) = tokio::join!(push.send(), sweep);
    assert_oci_error(answer.unwrap(), 400, "MANIFEST_BLOB_UNKNOWN").await;
    assert_eq!(registry.get(&blob).await.status(), 404);
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(registry.assert_sound().await, 0);
    // The client sends the blob again.
    registry.push_blob(REPO, &config).await;
    let (push, _) = small_push(&registry, REPO, &config);
    assert_eq!(push.send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_blob_whose_manifest_comes_before_the_sweep_stays() {
    let registry = TestRegistry::start().await;
    let mine = json!({ "auth_tenant_id": "mine" });
    assert_eq!(registry.account("mine", mine).await.status(), 201);
    let (gone, kept) = (bytes(1, 100), bytes(2, 100));
    registry.push_blob(REPO, &gone).await;
    registry.wait(TimeDelta::seconds(1));
    registry.push_blob("mine/app", &kept).await;
    registry.wait(DAY);
    // Both are due. The sweep takes one account after the other and is busy with the first.
    let (push, blob) = small_push(&registry, "mine/app", &kept);
    let gate = registry.faults.hold(Op::Delete);
    let deletions = registry.faults.calls(Op::Delete);
    let pushing = async {
        let reached = registry.faults.calls_reached(Op::Delete, deletions + 1);
        reached.await;
        let status = push.send().await.unwrap().status();
        gate.open();
        status
    };
    let (swept, status) = tokio::join!(registry.run_job(Job::SweepBlobs), pushing);
    assert_eq!((swept, status.as_u16()), (1, 201));
    assert_eq!(registry.get(&blob).await.status(), 200);
    registry.wait(DAY);
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 0);
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(registry.object_count("mine").await, 2);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn a_blob_that_is_sent_again_while_its_object_is_deleted_stays() {
    let registry = TestRegistry::start().await;
    let config = bytes(1, 100);
    registry.push_blob(REPO, &config).await;
    registry.wait(DAY);
    let (push, blob) = small_push(&registry, REPO, &config);
    let gate = registry.faults.hold(Op::Delete);
    let deletions = registry.faults.calls(Op::Delete);
    let pushing = async {
        let reached = registry.faults.calls_reached(Op::Delete, deletions + 1);
        reached.await;
        // Its object is still there, but it is not the blob's any more.
        assert_eq!(registry.object_count("demo").await, 1);
        assert_eq!(registry.get(&blob).await.status(), 404);
        registry.push_blob(REPO, &config).await;
        assert_eq!(push.send().await.unwrap().status(), 201);
        gate.open();
    };
    let (swept, ()) = tokio::join!(registry.run_job(Job::SweepBlobs), pushing);
    assert_eq!(swept, 1);
    let pulled = registry.get(&blob).await.bytes().await.unwrap();
    assert_eq!(pulled, config);
    assert_eq!(registry.object_count("demo").await, 2);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn what_could_not_be_deleted_is_tried_again_after_an_hour() {
    let registry = TestRegistry::start().await;
    registry.push_blob(REPO, &bytes(1, 100)).await;
    registry.wait(DAY);
    registry.faults.fail_next(Op::Delete, 1, Fault::Permanent);
    assert_eq!(registry.run_job(Job::SweepBlobs).await, 1);
    assert_eq!(registry.object_count("demo").await, 1);
    assert_eq!(registry.used_bytes("demo").await, 0);
    let hour = TimeDelta::hours(1);
    registry.wait(almost(hour));
    assert_eq!(registry.run_job(Job::SweepObjects).await, 0);
    registry.wait(TimeDelta::seconds(1));
    registry.faults.fail_next(Op::Delete, 1, Fault::Permanent);
    assert_eq!(registry.run_job(Job::SweepObjects).await, 1);
    assert_eq!(registry.object_count("demo").await, 1);
    registry.wait(hour);
    assert_eq!(registry.run_job(Job::SweepObjects).await, 1);
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn a_write_that_died_leaves_nothing_but_gives_back_what_was_kept_for_it() {
    let registry = TestRegistry::start().await;
    // Nobody knows what the backend has done.
    registry.faults.fail_next(Op::Write, 1, Fault::Permanent);
    let location = registry.begin_upload(REPO).await;
    let answer = registry.append(&location, &bytes(1, 100)).await;
    assert!(answer.status().is_server_error());
    // Given back after the answer, by a task that holds the note; a sweep passes over notes that are held.
    registry.nothing_is_used("demo").await;
    registry.wait(TimeDelta::hours(1));
    assert_eq!(registry.run_job(Job::SweepObjects).await, 1);
    assert_eq!(registry.used_bytes("demo").await, 0);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn an_object_that_nobody_knows_goes_when_two_sweeps_have_found_it() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "latest", 1).await;
    let put = async |id: u128| {
        let key = ObjectKey::Chunk(Uuid::from_u128(id));
        let body = stream::iter([Ok(Bytes::from_static(b"abc"))]).boxed();
        let (storage, tenant) = (&registry.storage, tenant("demo"));
        storage.write(&tenant, &key, Some(3), body).await.unwrap();
    };
    put(1).await;
    assert_eq!(registry.run_job(Job::SweepStorage).await, 1);
    assert_eq!(registry.object_count("demo").await, 3 + 1);
    put(2).await;
    registry.wait(TimeDelta::days(2));
    assert_eq!(registry.run_job(Job::SweepStorage).await, 1);
    assert_eq!(registry.object_count("demo").await, 3 + 1);
    registry.wait(TimeDelta::days(2));
    assert_eq!(registry.run_job(Job::SweepStorage).await, 1);
    assert_eq!(registry.object_count("demo").await, 3);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn a_sweep_of_a_container_that_is_cut_off_begins_again() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "latest", 1).await;
    let gate = registry.faults.hold(Op::List);
    let node = std::sync::Arc::clone(&registry.registry);
    let sweep = tokio::spawn(async move { node.job_run_one(Job::SweepStorage).await });
    registry.faults.calls_reached(Op::List, 1).await;
    sweep.abort();
    assert!(sweep.await.unwrap_err().is_cancelled());
    gate.open();
    registry.wait(almost(TimeDelta::minutes(15)));
    assert_eq!(registry.run_job(Job::SweepStorage).await, 0);
    registry.wait(TimeDelta::seconds(1));
    assert_eq!(registry.run_job(Job::SweepStorage).await, 1);
}

#[tokio::test]
async fn an_object_that_was_unknown_once_is_forgotten() {
    let registry = TestRegistry::start().await;
    let key = ObjectKey::Chunk(Uuid::from_u128(1));
    let body = stream::iter([Ok(Bytes::from_static(b"abc"))]).boxed();
    let (storage, tenant) = (&registry.storage, tenant("demo"));
    storage.write(&tenant, &key, Some(3), body).await.unwrap();
    registry.run_job(Job::SweepStorage).await;
    storage.delete(&tenant, &key).await.unwrap();
    registry.wait(TimeDelta::days(2));
    registry.run_job(Job::SweepStorage).await;
    let count = "DELETE FROM unknown_objects".to_owned();
    assert_eq!(registry.db.execute_for_tests(count).await.unwrap(), 0);
}

#[tokio::test]
async fn a_deletion_that_broke_off_goes_on_by_itself() {
    let registry = Setup::default().second().start().await;
    let answer = registry
        .account("mine", json!({ "auth_tenant_id": "mine" }))
        .await;
    assert_eq!(answer.status(), 201);
    registry.push_blob("mine/app", &bytes(1, 100)).await;
    registry.faults.fail_next(Op::Delete, 1, Fault::Permanent);
    let path = "/api/v1/accounts/mine";
    let answer = registry.delete(path).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(registry.get(path).await.status(), 200);
    assert_eq!(registry.run_job(Job::DeleteAccount).await, 0);
    registry.wait(TimeDelta::minutes(1));
    assert_eq!(registry.run_job(Job::DeleteAccount).await, 1);
    assert_eq!(registry.get(path).await.status(), 404);
    assert_eq!(registry.object_count("mine").await, 0);
}
