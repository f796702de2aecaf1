//! Each storage call of each use case and of each job fails once, and everything comes right by itself: what was
//! acknowledged is there, and what is left over goes.
//!
//! Moves of accounts have such a test in `admin/storage_migrate.rs`; the jobs of the audit trail use no storage.

use bytes::Bytes;
use chrono::TimeDelta;
use futures::{StreamExt as _, stream};
use kontor::{ids::UploadId, model::job::Job};
use storage_drivers::{ObjectKey, Op, faulty::Fault};

use super::direct::{Direct, Repo};
use crate::support::{
    image::{bytes, digest, manifest},
    tenant,
};

/// What is done while a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    MakeAccount,
    PushBlob,
    /// A blob that the account has already.
    PushKnownBlob,
    PushChunks,
    CancelUpload,
    Mount,
    PushManifest,
    DeleteManifest,
    DeleteBlob,
    DeleteAccount,
    Run(Job),
}

const OPS: [Op; 9] = [
    Op::Write,
    Op::Read,
    Op::Delete,
    Op::List,
    Op::DownloadUrl,
    Op::UsedBytes,
    Op::PrepareAccount,
    Op::ReleaseAccount,
    Op::Check,
];

/// How a call goes wrong.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Fails(Fault),
    /// The body of a read breaks off.
    Cut,
}

fn wrongs(op: Op) -> &'static [Wrong] {
    match op {
        Op::Write => &[Wrong::Fails(Fault::Permanent), Wrong::Fails(Fault::Full)],
        Op::Read => &[Wrong::Fails(Fault::Permanent), Wrong::Cut],
        _ => &[Wrong::Fails(Fault::Permanent)],
    }
}

fn pieces() -> Vec<Vec<u8>> {
    (20..23).map(|seed| bytes(seed, 400)).collect()
}

/// An account with an image that was acknowledged, and with what an act needs.
struct Scene<'a> {
    direct: &'a Direct,
    act: Act,
    account: String,
    repo: Repo,
    other: Repo,
    upload: Option<UploadId>,
}

impl<'a> Scene<'a> {
    async fn new(direct: &'a Direct, act: Act, number: usize) -> Self {
        let account = format!("scene{number}");
        assert_eq!(direct.account_make(&account).await, Ok(()));
        let mut scene = Self {
            direct,
            act,
            repo: direct.repo(&format!("{account}/app")).await,
            other: direct.repo(&format!("{account}/other")).await,
            account,
            upload: None,
        };
        if !scene.loses_account() {
            scene.push_image().await;
        }
        scene.prepare().await;
        scene
    }

    fn loses_account(&self) -> bool {
        matches!(self.act, Act::DeleteAccount | Act::Run(Job::DeleteAccount))
    }

    fn image() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (config, layer) = (bytes(1, 100), bytes(2, 1000));
        let content = serde_json::to_vec(&manifest(&config, &[&layer])).unwrap();
        (config, layer, content)
    }

    async fn push_image(&self) {
        let (config, layer, content) = Self::image();
        for blob in [&config, &layer] {
            assert_eq!(self.direct.push_blob(&self.repo, blob).await, Ok(()));
        }
        let pushed = self
            .direct
            .push_manifest(&self.repo, (&content, Some("latest")));
        assert_eq!(pushed.await, Ok(()));
    }

    /// A manifest of the config alone.
    fn small() -> Vec<u8> {
        serde_json::to_vec(&manifest(&bytes(1, 100), &[])).unwrap()
    }

    async fn prepare(&mut self) {
        let (direct, node) = (self.direct, &self.direct.node);
        match self.act {
            Act::CancelUpload | Act::Run(Job::AbandonUploads) => {
                let id = direct.begin_upload(&self.repo).await.unwrap();
                for piece in pieces() {
                    direct.append(&self.repo, id, &piece).await.unwrap();
                }
                self.upload = Some(id);
                node.wait(TimeDelta::hours(if self.act == Act::CancelUpload {
                    0
                } else {
                    24
                }));
            }
            Act::DeleteManifest => {
                let pushed = direct
                    .push_manifest(&self.repo, (&Self::small(), None))
                    .await;
                assert_eq!(pushed, Ok(()));
            }
            Act::DeleteBlob | Act::Run(Job::MergeChunks) => self.push_chunks().await,
            Act::DeleteAccount => {
                self.push_chunks().await;
                direct.begin_upload(&self.repo).await.unwrap();
            }
            Act::Run(Job::DeleteAccount) => {
                self.push_chunks().await;
                node.faults.fail_next(Op::Delete, 1, Fault::Permanent);
                assert!(direct.account_delete(&self.account).await.is_err());
                node.wait(TimeDelta::minutes(1));
            }
            Act::Run(Job::SweepBlobs) => {
                self.push_chunks().await;
                node.wait(TimeDelta::days(1));
            }
            Act::Run(Job::SweepObjects) => {
                self.push_chunks().await;
                node.faults.fail_next(Op::Delete, 3, Fault::Permanent);
                let blob = digest(&pieces().concat());
                assert_eq!(direct.delete_blob(&self.repo, &blob).await, Ok(()));
                node.wait(TimeDelta::hours(1));
            }
            Act::Run(Job::SweepStorage) => self.litter().await,
            Act::Run(Job::ValidateBlobs) => {
                self.push_chunks().await;
                node.wait(TimeDelta::days(8));
            }
            Act::Run(Job::ValidateManifests) => {
                // Its object is lost, and written anew.
                let tenant = tenant(&self.account);
                let mut objects = node.storage.list(&tenant).await.unwrap();
                while let Some(object) = objects.next().await {
                    let key = object.unwrap().key;
                    if matches!(key, ObjectKey::Manifest(_)) {
                        node.storage.delete(&tenant, &key).await.unwrap();
                    }
                }
                node.wait(TimeDelta::days(2));
            }
            _ => {}
        }
    }

    async fn push_chunks(&self) {
        let id = self.direct.begin_upload(&self.repo).await.unwrap();
        let pieces = pieces();
        for piece in &pieces {
            self.direct.append(&self.repo, id, piece).await.unwrap();
        }
        let whole = pieces.concat();
        let finished = self.direct.finish(&self.repo, id, (&whole, b"")).await;
        assert_eq!(finished, Ok(()));
    }

    /// Objects that nobody knows, and that one sweep has found.
    async fn litter(&self) {
        let (node, tenant) = (&self.direct.node, tenant(&self.account));
        for _ in 0..3 {
            let key = ObjectKey::Chunk(kontor::ids::Ids::Random.fresh());
            let body = stream::iter([Ok(Bytes::from_static(b"abc"))]).boxed();
            let written = node.storage.write(&tenant, &key, Some(3), body);
            written.await.unwrap();
        }
        node.wait(TimeDelta::days(2));
        assert!(node.run_job(Job::SweepStorage).await > 0);
        node.wait(TimeDelta::days(2));
    }

    /// Does it; whether it has succeeded.
    async fn act(&self) -> bool {
        let (direct, repo) = (self.direct, &self.repo);
        let answer = match self.act {
            Act::MakeAccount => direct.account_make(&format!("{}-new", self.account)).await,
            Act::PushBlob => direct.push_blob(repo, &bytes(5, 500)).await,
            Act::PushKnownBlob => direct.push_blob(&self.other, &bytes(2, 1000)).await,
            Act::PushChunks => {
                let (pieces, whole) = (pieces(), pieces().concat());
                let id = direct.begin_upload(repo).await.unwrap();
                for piece in &pieces[..2] {
                    if direct.append(repo, id, piece).await.is_err() {
                        return false;
                    }
                }
                direct.finish(repo, id, (&whole, &pieces[2])).await
            }
            Act::CancelUpload => direct.cancel(repo, self.upload.unwrap()).await,
            Act::Mount => {
                let blob = digest(&bytes(2, 1000));
                let mounted = direct.mount(&self.other, &blob, Some(repo)).await;
                mounted.map(|is_mounted| assert!(is_mounted))
            }
            Act::PushManifest => {
                direct
                    .push_manifest(repo, (&Self::small(), Some("small")))
                    .await
            }
            Act::DeleteManifest => {
                let name = digest(&Self::small());
                direct.delete_manifest(repo, name.as_str()).await
            }
            Act::DeleteBlob => direct.delete_blob(repo, &digest(&pieces().concat())).await,
            Act::DeleteAccount => direct.account_delete(&self.account).await,
            Act::Run(job) => {
                let mut is_done = true;
                loop {
                    match direct.node.registry.job_run_one(job).await {
                        Ok(true) => {}
                        Ok(false) => return is_done,
                        Err(_) => is_done = false,
                    }
                }
            }
        };
        answer.is_ok()
    }

    /// What was acknowledged is there at once.
    async fn acknowledged(&self) {
        let pulled = match self.act {
            Act::PushBlob => (&self.repo, bytes(5, 500)),
            Act::PushKnownBlob | Act::Mount => (&self.other, bytes(2, 1000)),
            Act::PushChunks => (&self.repo, pieces().concat()),
            _ => return,
        };
        let content = self.direct.pull_blob(pulled.0, &digest(&pulled.1)).await;
        assert_eq!(content, Ok(pulled.1));
    }

    /// Time passes, and the jobs do the rest.
    async fn end(self, is_done: bool) {
        let (direct, node) = (self.direct, &self.direct.node);
        node.faults.clear();
        if is_done {
            self.acknowledged().await;
        } else if !matches!(self.act, Act::Run(_)) && self.act != Act::CancelUpload {
            // Who tries again succeeds.
            assert!(self.act().await, "{:?}", self.act);
            self.acknowledged().await;
        }
        direct.settle().await;
        if self.act == Act::MakeAccount {
            let made = format!("{}-new", self.account);
            assert_eq!(direct.account_delete(&made).await, Ok(()));
        }
        if !self.loses_account() {
            self.assert_image().await;
            let (with_manifest, _) = self.manifests();
            let objects = node.object_count(&self.account).await;
            assert_eq!(objects, with_manifest, "{:?}", self.act);
            assert_eq!(direct.used(&self.account).await.reserved_bytes, 0);
            assert_eq!(node.assert_sound().await, 0);
            self.delete_all().await;
        }
        assert_eq!(node.object_count(&self.account).await, 0);
        assert_eq!(node.assert_sound().await, 0);
    }

    /// The objects at the end, and the manifests besides the image.
    fn manifests(&self) -> (usize, usize) {
        let more = usize::from(self.act == Act::PushManifest);
        (3 + more, more)
    }

    async fn assert_image(&self) {
        let (config, layer, content) = Self::image();
        let pulled = self.direct.pull_manifest(&self.repo, "latest").await;
        assert_eq!(pulled, Ok(content));
        for blob in [config, layer] {
            let pulled = self.direct.pull_blob(&self.repo, &digest(&blob)).await;
            assert_eq!(pulled, Ok(blob));
        }
        if self.act == Act::PushManifest {
            let pulled = self.direct.pull_manifest(&self.repo, "small").await;
            assert_eq!(pulled, Ok(Self::small()));
        }
    }

    async fn delete_all(&self) {
        let (_, _, content) = Self::image();
        let mut names = vec![digest(&content)];
        if self.manifests().1 > 0 {
            names.push(digest(&Self::small()));
        }
        for name in names {
            let deleted = self.direct.delete_manifest(&self.repo, name.as_str()).await;
            assert_eq!(deleted, Ok(()));
        }
        assert_eq!(self.direct.account_delete(&self.account).await, Ok(()));
    }
}

fn calls(direct: &Direct) -> Vec<u64> {
    OPS.iter().map(|op| direct.node.faults.calls(*op)).collect()
}

/// Does it once to count the calls, and then once for each way in which each of them can go wrong.
async fn every_call_goes_wrong_once(act: Act) {
    let direct = Direct::start().await;
    let mut number = 0;
    let scene = Scene::new(&direct, act, number).await;
    let before = calls(&direct);
    assert!(scene.act().await, "{act:?} works");
    let made: Vec<u64> = calls(&direct)
        .into_iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    scene.end(true).await;
    assert_eq!(made.iter().sum::<u64>() == 0, act == Act::Mount);
    for (op, count) in OPS.into_iter().zip(made) {
        for nth in 0..count as u32 {
            for wrong in wrongs(op) {
                number += 1;
                let scene = Scene::new(&direct, act, number).await;
                let faults = &direct.node.faults;
                let reached = faults.calls(op) + u64::from(nth) + 1;
                match wrong {
                    Wrong::Fails(fault) => {
                        faults.pass_next(op, nth);
                        faults.fail_next(op, 1, *fault);
                    }
                    Wrong::Cut => {
                        faults.spare_next_reads(nth);
                        faults.cut_next_read(10);
                    }
                }
                let is_done = scene.act().await;
                assert!(faults.calls(op) >= reached, "{act:?}: {op:?} {nth}");
                scene.end(is_done).await;
            }
        }
    }
}

macro_rules! acts {
    ($($name:ident, $act:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            every_call_goes_wrong_once($act).await;
        }
    )*};
}

acts! {
    making_an_account, Act::MakeAccount;
    pushing_a_blob, Act::PushBlob;
    pushing_a_blob_that_is_there, Act::PushKnownBlob;
    pushing_a_blob_in_chunks, Act::PushChunks;
    cancelling_an_upload, Act::CancelUpload;
    mounting_a_blob, Act::Mount;
    pushing_a_manifest, Act::PushManifest;
    deleting_a_manifest, Act::DeleteManifest;
    deleting_a_blob, Act::DeleteBlob;
    deleting_an_account, Act::DeleteAccount;
    going_on_with_the_deletion_of_an_account, Act::Run(Job::DeleteAccount);
    ending_abandoned_uploads, Act::Run(Job::AbandonUploads);
    sweeping_blobs, Act::Run(Job::SweepBlobs);
    sweeping_objects, Act::Run(Job::SweepObjects);
    sweeping_storage, Act::Run(Job::SweepStorage);
    merging_chunks, Act::Run(Job::MergeChunks);
    validating_blobs, Act::Run(Job::ValidateBlobs);
    validating_manifests, Act::Run(Job::ValidateManifests);
}
