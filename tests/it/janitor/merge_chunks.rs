//! Blobs of several chunks become ones of a single chunk.

use chrono::TimeDelta;
use futures::TryStreamExt as _;
use kontor::model::job::Job;
use storage_drivers::{Op, faulty::Fault};

use super::direct::Direct;
use crate::{
    support::{
        Setup, TestRegistry,
        image::{bytes, digest},
    },
    v2::helpers::REPO,
};

async fn three_chunks(registry: &TestRegistry) -> (String, Vec<u8>) {
    let parts: Vec<Vec<u8>> = (1..4).map(|seed| bytes(seed, 1000)).collect();
    let pieces: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let digest = registry.push_chunks(REPO, &pieces).await;
    assert_eq!(registry.object_count("demo").await, 3);
    (format!("/v2/{REPO}/blobs/{digest}"), parts.concat())
}

#[tokio::test]
async fn chunks_are_merged_and_the_old_ones_go_when_nobody_reads_them() {
    let registry = TestRegistry::start().await;
    let (path, content) = three_chunks(&registry).await;
    let used = registry.used_bytes("demo").await;
    let reads = registry.faults.calls(Op::Read);
    assert_eq!(registry.run_job(Job::MergeChunks).await, 1);
    assert_eq!(registry.faults.calls(Op::Read), reads + 3);
    assert_eq!(registry.object_count("demo").await, 4);
    assert_eq!(registry.get(&path).await.bytes().await.unwrap(), content);
    assert_eq!(registry.used_bytes("demo").await, used);
    registry.wait(TimeDelta::hours(1));
    registry.run_job(Job::SweepObjects).await;
    assert_eq!(registry.object_count("demo").await, 1);
    assert_eq!(registry.get(&path).await.bytes().await.unwrap(), content);
    assert_eq!(registry.run_job(Job::MergeChunks).await, 0);
    assert_eq!(registry.assert_sound().await, 0);
}

#[tokio::test]
async fn who_reads_while_chunks_are_merged_gets_every_byte() {
    let direct = Direct::start().await;
    assert_eq!(direct.account_make("demo").await, Ok(()));
    let (node, repo) = (&direct.node, direct.repo(REPO).await);
    let parts: Vec<Vec<u8>> = (1..4).map(|seed| bytes(seed, 1000)).collect();
    let content = parts.concat();
    let id = direct.begin_upload(&repo).await.unwrap();
    for part in &parts {
        direct.append(&repo, id, part).await.unwrap();
    }
    let finished = direct.finish(&repo, id, (&content, b"")).await;
    assert_eq!(finished, Ok(()));

    let reads = node.faults.calls(Op::Read);
    let mut body = direct.open_blob(&repo, &digest(&content)).await.unwrap();
    // The reader has the first chunk and has not asked for another one when all three go.
    let mut read = body.try_next().await.unwrap().unwrap().to_vec();
    assert_eq!(read, parts[0]);
    assert_eq!(node.faults.calls(Op::Read), reads + 1);
    assert_eq!(node.run_job(Job::MergeChunks).await, 1);
    node.wait(TimeDelta::hours(1));
    node.run_job(Job::SweepObjects).await;
    assert_eq!(node.object_count("demo").await, 1);

    let reads = node.faults.calls(Op::Read);
    while let Some(piece) = body.try_next().await.unwrap() {
        read.extend_from_slice(&piece);
    }
    assert_eq!(read, content);
    // Two chunks are not where they were, and are found in the new one.
    assert_eq!(node.faults.calls(Op::Read), reads + 4);
}

#[tokio::test]
async fn a_merge_that_fails_leaves_the_blob_as_it_was() {
    let registry = TestRegistry::start().await;
    let (path, content) = three_chunks(&registry).await;
    registry.faults.fail_next(Op::Write, 1, Fault::Permanent);
    assert!(
        registry
            .registry
            .job_run_one(Job::MergeChunks)
            .await
            .is_err()
    );
    assert_eq!(registry.run_job(Job::MergeChunks).await, 0);
    registry.wait(TimeDelta::minutes(70));
    registry.faults.cut_next_read(10);
    assert!(
        registry
            .registry
            .job_run_one(Job::MergeChunks)
            .await
            .is_err()
    );
    assert_eq!(registry.object_count("demo").await, 3);
    assert_eq!(registry.get(&path).await.bytes().await.unwrap(), content);
    registry.wait(TimeDelta::minutes(70));
    assert_eq!(registry.run_job(Job::MergeChunks).await, 1);
    assert_eq!(registry.get(&path).await.bytes().await.unwrap(), content);
    registry.assert_sound().await;
}

#[tokio::test]
async fn a_blob_larger_than_an_object_may_be_keeps_its_chunks() {
    let registry = Setup::default()
        .config(|config| config.limits.chunk_bytes = 2500)
        .start()
        .await;
    let (path, content) = three_chunks(&registry).await;
    assert_eq!(registry.run_job(Job::MergeChunks).await, 1);
    registry.wait(TimeDelta::days(1));
    assert_eq!(registry.run_job(Job::MergeChunks).await, 0);
    assert_eq!(registry.object_count("demo").await, 3);
    assert_eq!(registry.get(&path).await.bytes().await.unwrap(), content);
}
