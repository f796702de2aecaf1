//! Compares a registry with the model, all along and at the end of a case.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use kontor::{
    error::Code,
    model::{job::Job, quota::Amounts},
};

use super::World;
use crate::{
    janitor::model::{
        expected::{GRACE, Place},
        made::blob_content,
        plan::{BLOBS, MANIFESTS, REPOS, TAGS},
    },
    support::image::digest,
};

fn almost(time: TimeDelta) -> TimeDelta {
    time - TimeDelta::seconds(1)
}

impl World<'_> {
    /// Everything that a client can see.
    pub(super) async fn compare(&self) {
        for (repo, name) in self.repos.iter().enumerate() {
            for manifest in 0..MANIFESTS {
                let made = &self.manifests[manifest];
                let pulled = self.direct.pull_manifest(name, made.digest.as_str()).await;
                let is_there = self.expected.manifests.contains_key(&(repo, manifest));
                let wanted = is_there.then_some(&made.content);
                assert_eq!(pulled.as_ref(), wanted.ok_or(&Code::ManifestUnknown));
            }
            for tag in 0..TAGS {
                self.pull(repo, tag).await;
            }
            for blob in 0..BLOBS {
                let content = blob_content(blob);
                let pulled = self.direct.pull_blob(name, &digest(&content)).await;
                let is_there = self.expected.blobs.contains_key(&(repo, blob));
                let wanted = is_there.then_some(content).ok_or(Code::BlobUnknown);
                assert_eq!(pulled, wanted, "blob {blob} of {}", name.name);
            }
        }
        if self.expected.trash_time.is_some() {
            self.compare_trash().await;
        }
    }

    fn wait(&mut self, time: TimeDelta) {
        self.direct.node.wait(time);
        self.expected.now = self.direct.node.now();
    }

    /// What nobody needs is gone after the times that are stated for it, and the books agree.
    pub(super) async fn end(mut self) {
        self.compare().await;
        self.wait(TimeDelta::zero());
        self.lift_all().await;
        for hours in [27, 27, 27, 2] {
            self.wait(TimeDelta::hours(hours));
            self.run_all().await;
        }
        assert!(self.uploads.iter().all(Option::is_none));
        self.compare().await;
        self.assert_exact().await;
        assert_eq!(self.direct.node.assert_sound().await, 0);
        for manifest in (0..MANIFESTS).rev() {
            for repo in 0..REPOS {
                self.delete_manifest(repo, manifest).await;
            }
        }
        assert!(self.expected.manifests.is_empty());
        self.assert_exact().await;
        // An account can go with its trash, or after it.
        if self.expected.trash_time.is_none() || self.number.is_multiple_of(2) {
            self.empty().await;
        }
        assert_eq!(self.direct.account_delete(&self.account).await, Ok(()));
        assert_eq!(self.direct.node.object_count(&self.account).await, 0);
        assert_eq!(self.direct.node.assert_sound().await, 0);
    }

    /// Minutes after the manifests, or their time in the trash, their blobs are freed: nobody has asked for them since.
    async fn empty(&mut self) {
        if let Some(time) = self.expected.trash_time {
            for time in [almost(time), time - almost(time)] {
                self.wait(time);
                self.run_one(Job::PurgeTrash).await;
                self.compare_trash().await;
            }
            assert!(self.expected.trash.is_empty());
        }
        for time in [almost(GRACE), GRACE - almost(GRACE)] {
            self.wait(time);
            self.run_one(Job::SweepBlobs).await;
        }
        assert!(self.expected.blobs.is_empty());
        self.assert_exact().await;
    }

    /// Storage and books hold what is needed and nothing else.
    async fn assert_exact(&self) {
        let stored: Vec<Vec<u8>> = self.expected.stored_blobs().map(blob_content).collect();
        let with_objects = stored.iter().filter(|content| !content.is_empty()).count();
        let objects = self.direct.node.object_count(&self.account).await;
        assert_eq!(objects, with_objects + self.expected.manifests.len());
        let of_blobs: usize = stored.iter().map(Vec::len).sum();
        let size = |(_, manifest): &Place| self.manifests[*manifest].content.len();
        let of_manifests: usize = self.expected.manifests.keys().map(size).sum();
        let of_trash: usize = self.expected.trash.keys().map(size).sum();
        let used = self.direct.used(&self.account).await;
        let repos: BTreeSet<usize> = self.expected.manifests.keys().map(|(r, _)| *r).collect();
        let wanted = Amounts {
            bytes: (of_blobs + of_manifests + of_trash) as i64,
            reserved_bytes: 0,
            manifests: self.expected.manifests.len() as i64,
            repositories: repos.len() as i64,
        };
        assert_eq!(used, wanted);
        let needs = |(_, manifest): &Place| self.manifests[*manifest].needs.blobs.iter().copied();
        let mut blobs: BTreeSet<usize> = self.expected.trash.keys().flat_map(needs).collect();
        for blob in self.expected.manifests.keys().flat_map(needs) {
            blobs.remove(&blob);
        }
        let of_blobs: usize = blobs.into_iter().map(|blob| blob_content(blob).len()).sum();
        let held_by_trash = self.direct.trash_bytes(&self.account).await;
        assert_eq!(held_by_trash, (of_trash + of_blobs) as i64);
    }
}
