//! Compares a registry with the model, all along and at the end of a case.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use kontor::model::{job::Job, quota::Amounts};

use super::{ACCOUNT, World, tag_name};
use crate::{
    janitor::model::{
        expected::{GRACE, Place},
        made::blob_content,
    },
    support::image::digest,
};

fn almost(time: TimeDelta) -> TimeDelta {
    time - TimeDelta::seconds(1)
}

/// The jobs that take something away; of several chunks what is merged, of the audit trail what is sealed.
const TAKES_AWAY: [Job; 10] = [
    Job::DeleteAccount,
    Job::AbandonUploads,
    Job::SweepBlobs,
    Job::SweepObjects,
    Job::MergeChunks,
    Job::ImageGc,
    Job::PurgeTrash,
    Job::PruneTagHistory,
    Job::SealAudit,
    Job::PruneAudit,
];

impl World<'_> {
    /// What is there, and in which repositories.
    pub(super) async fn compare(&self) {
        let inventory = self.direct.inventory(ACCOUNT, self.repos).await;
        let expected = &self.expected;
        for (repo, contents) in inventory.0.into_iter().enumerate() {
            let images = contents.images.into_iter().map(|(digest, image)| {
                let manifest = self.number(&digest);
                (manifest, (image.pushed_at, image.tags))
            });
            let manifests = expected.manifests.iter();
            let manifests = manifests.filter(|((there, _), _)| *there == repo);
            let wanted = manifests.map(|((_, manifest), pushed_at)| {
                let tags = expected.tags_of((repo, *manifest));
                let tags: BTreeSet<String> = tags.into_iter().map(tag_name).collect();
                (*manifest, (*pushed_at, tags))
            });
            let images: BTreeMap<_, _> = images.collect();
            assert_eq!(images, wanted.collect());
            let blobs = expected.blobs.keys().filter(|(there, _)| *there == repo);
            let wanted = blobs.map(|(_, blob)| digest(&blob_content(*blob)));
            assert_eq!(contents.blobs, wanted.collect());
        }
        self.compare_trash(inventory.1);
    }

    /// A client gets all that is there.
    async fn pull_all(&self) {
        for (repo, manifest) in self.expected.manifests.keys() {
            let (name, made) = (&self.repos[*repo], &self.manifests[*manifest]);
            let pulled = self.direct.pull_manifest(name, made.digest.as_str()).await;
            assert_eq!(pulled.as_ref(), Ok(&made.content));
        }
        for (repo, tag) in self.expected.tags.keys() {
            self.pull(*repo, *tag).await;
        }
        for (repo, blob) in self.expected.blobs.keys() {
            let (name, content) = (&self.repos[*repo], blob_content(*blob));
            let pulled = self.direct.pull_blob(name, &digest(&content)).await;
            assert_eq!(pulled, Ok(content), "blob {blob} of {}", name.name);
        }
    }

    fn wait(&mut self, time: TimeDelta) {
        self.direct.node.wait(time);
        self.expected.now = self.direct.node.now();
    }

    /// What nobody needs is gone after the times that are stated for it, and the books agree.
    pub(super) async fn end(mut self) {
        self.compare().await;
        self.pull_all().await;
        self.wait(TimeDelta::zero());
        self.lift_all().await;
        // What uploads and policies leave goes first, then what of it was in the trash, then the blobs of that.
        for hours in [27, 51] {
            self.wait(TimeDelta::hours(hours));
            self.run_jobs(&TAKES_AWAY).await;
        }
        self.wait(GRACE);
        self.run_one(Job::SweepBlobs).await;
        assert!(self.uploads.iter().all(Option::is_none));
        let expected = &self.expected;
        let mut blobs = expected.blobs.keys();
        assert!(blobs.all(|(repo, blob)| expected.is_needed(*repo, *blob)));
        self.compare().await;
        self.assert_exact().await;
        assert_eq!(self.direct.node.assert_sound().await, 0);
        // What lists something has a higher number.
        while let Some((repo, manifest)) = self.last_manifest() {
            self.delete_manifest(repo, manifest).await;
        }
        assert!(self.expected.manifests.is_empty());
        self.assert_exact().await;
        // An account can go with its trash, or after it.
        if self.expected.trash_time.is_none() || self.number.is_multiple_of(2) {
            self.empty().await;
        }
        assert_eq!(self.direct.account_delete(ACCOUNT).await, Ok(()));
        assert_eq!(self.direct.node.object_count(ACCOUNT).await, 0);
    }

    fn last_manifest(&self) -> Option<Place> {
        let places = self.expected.manifests.keys().copied();
        places.max_by_key(|(_, manifest)| *manifest)
    }

    /// Minutes after the manifests, or their time in the trash, their blobs are freed: nobody has asked for them since.
    async fn empty(&mut self) {
        if let Some(time) = self.expected.trash_time {
            for time in [almost(time), time - almost(time)] {
                self.wait(time);
                self.run_one(Job::PurgeTrash).await;
                self.compare().await;
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
        let objects = self.direct.node.object_count(ACCOUNT).await;
        assert_eq!(objects, with_objects + self.expected.manifests.len());
        let of_blobs: usize = stored.iter().map(Vec::len).sum();
        let size = |(_, manifest): &Place| self.manifests[*manifest].content.len();
        let of_manifests: usize = self.expected.manifests.keys().map(size).sum();
        let of_trash: usize = self.expected.trash.keys().map(size).sum();
        let used = self.direct.used(ACCOUNT).await;
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
        let held_by_trash = self.direct.trash_bytes(ACCOUNT).await;
        assert_eq!(held_by_trash, (of_trash + of_blobs) as i64);
    }
}
