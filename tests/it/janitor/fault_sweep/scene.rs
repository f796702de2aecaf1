//! An account in which something is done while a call of its storage fails.

use bytes::Bytes;
use chrono::TimeDelta;
use futures::{StreamExt as _, stream};
use kontor::{error::Code, ids::UploadId, model::job::Job, oci::Digest};
use serde_json::json;
use storage_drivers::{ObjectKey, Op, faulty::Fault};

use super::Act;
use crate::{
    janitor::{
        deletes,
        direct::{Direct, Repo},
        trash_off,
    },
    support::{
        image::{bytes, digest, manifest},
        tenant,
    },
};

fn pieces() -> Vec<Vec<u8>> {
    (20..23).map(|seed| bytes(seed, 400)).collect()
}

/// An account with an image that was acknowledged, and with what an act needs.
pub(super) struct Scene<'a> {
    direct: &'a Direct,
    act: Act,
    account: String,
    repo: Repo,
    other: Repo,
    upload: Option<UploadId>,
    /// An image that goes.
    old: Option<Digest>,
}

impl<'a> Scene<'a> {
    pub(super) async fn new(direct: &'a Direct, act: Act, number: usize) -> Self {
        let account = format!("scene{number}");
        let settings = match act {
            Act::Restore | Act::Purge => json!({ "trash_days": 2 }),
            Act::Run(Job::ImageGc) => json!({ "trash_days": 0, "gc_policies": [deletes("old")] }),
            _ => trash_off(),
        };
        let made = direct.account_make_with(&account, settings).await;
        assert_eq!(made, Ok(()));
        let mut scene = Self {
            direct,
            act,
            repo: direct.repo(&format!("{account}/app")).await,
            other: direct.repo(&format!("{account}/other")).await,
            account,
            upload: None,
            old: None,
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

    /// An image with a layer of its own.
    async fn push_old(&self) -> Digest {
        let (config, layer) = (bytes(1, 100), bytes(6, 300));
        assert_eq!(self.direct.push_blob(&self.repo, &layer).await, Ok(()));
        let content = serde_json::to_vec(&manifest(&config, &[&layer])).unwrap();
        let pushed = self
            .direct
            .push_manifest(&self.repo, (&content, Some("old")));
        assert_eq!(pushed.await, Ok(()));
        digest(&content)
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
            Act::Restore => {
                let pushed = (&*Self::small(), Some("small"));
                let pushed = direct.push_manifest(&self.repo, pushed).await;
                assert_eq!(pushed, Ok(()));
                let name = digest(&Self::small());
                let deleted = direct.delete_manifest(&self.repo, name.as_str()).await;
                assert_eq!(deleted, Ok(()));
            }
            Act::Purge => {
                let old = self.push_old().await;
                let deleted = direct.delete_manifest(&self.repo, old.as_str()).await;
                assert_eq!(deleted, Ok(()));
                self.old = Some(old);
            }
            Act::Run(Job::ImageGc) => {
                self.old = Some(self.push_old().await);
                node.wait(TimeDelta::hours(1));
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
    pub(super) async fn act(&self) -> bool {
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
            Act::Restore => {
                let small = digest(&Self::small());
                let restored = direct.restore(repo, &small, None).await;
                restored.map(|back| assert_eq!(back, [small]))
            }
            Act::Purge => {
                let purged = direct.purge(repo, self.old.as_ref().unwrap()).await;
                purged.map(|count| assert_eq!(count, 1))
            }
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
    pub(super) async fn end(self, is_done: bool) {
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
        if let Some(old) = &self.old {
            let pulled = direct.pull_manifest(&self.repo, old.as_str()).await;
            assert_eq!(pulled, Err(Code::ManifestUnknown));
        }
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
        let more = usize::from(matches!(self.act, Act::PushManifest | Act::Restore));
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
        if self.manifests().1 > 0 {
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
