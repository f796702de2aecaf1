//! A client that works beside others, and knows what must be there of its own manifests and tags.

mod trash;

use std::collections::{BTreeMap, BTreeSet};

use kontor::{error::Code, ids::UploadId, model::job::Job};

use super::{
    expected::{Place, with_referrers},
    made::{Made, blob_content, manifests, third},
    plan::{MANIFESTS, Recipe, Step, UPLOADS},
};
use crate::{
    janitor::direct::{Answer, Direct, Repo},
    support::image::digest,
};

/// How often a client begins a push again whose blobs were taken away before its manifest came.
const ATTEMPTS: usize = 50;

/// What others can do to somebody's request.
const DISTURBED: [Code; 6] = [
    Code::BlobUnknown,
    Code::BlobUploadUnknown,
    Code::ManifestBlobUnknown,
    Code::RangeInvalid,
    Code::InUse,
    Code::Swept,
];

/// Whether a request has done what it should; all it may be refused for is what others do.
fn is_done<T>(answer: Answer<T>) -> bool {
    match answer {
        Ok(_) => true,
        Err(code) => {
            assert!(DISTURBED.contains(&code), "{code:?}");
            false
        }
    }
}

/// Who pushes, pulls and deletes beside others.
pub struct Client<'a> {
    number: usize,
    pub direct: &'a Direct,
    pub repos: &'a [Repo],
    pub manifests: Vec<Made>,
    /// Those that were acknowledged and not deleted since, each with its repository before it.
    pub stored: BTreeSet<Place>,
    pub tags: BTreeMap<Place, usize>,
    /// Those that may be in the trash: janitors and others purge them.
    trashed: BTreeSet<Place>,
    /// What tags pointed at last.
    history: BTreeMap<Place, usize>,
    /// Tags that are held.
    holds: BTreeSet<Place>,
    uploads: [Option<(UploadId, usize, usize)>; UPLOADS],
}

impl<'a> Client<'a> {
    pub fn new(
        number: usize,
        (direct, repos): (&'a Direct, &'a [Repo]),
        recipes: &[Recipe],
    ) -> Self {
        Self {
            number,
            direct,
            repos,
            manifests: manifests(recipes, &format!("client {number}, ")),
            stored: BTreeSet::new(),
            tags: BTreeMap::new(),
            trashed: BTreeSet::new(),
            history: BTreeMap::new(),
            holds: BTreeSet::new(),
            uploads: [None; UPLOADS],
        }
    }

    fn tag_name(&self, tag: usize) -> String {
        format!("c{}-t{tag}", self.number)
    }

    pub async fn step(&mut self, step: Step) {
        let (direct, repos) = (self.direct, self.repos);
        let of = |blob| digest(&blob_content(blob));
        match step {
            Step::PushBlob { repo, blob } => {
                is_done(direct.push_blob(&repos[repo], &blob_content(blob)).await);
            }
            Step::Mount { repo, from, blob } => {
                let from = from.map(|from| &repos[from]);
                is_done(direct.mount(&repos[repo], &of(blob), from).await);
            }
            Step::LookUp { repo, blob } => {
                is_done(direct.look_up(&repos[repo], &of(blob)).await);
            }
            Step::PushManifest {
                repo,
                manifest,
                tag,
            } => {
                self.push_manifest(repo, manifest, tag).await;
            }
            Step::PushImage {
                repo,
                manifest,
                tag,
            } => self.push_image(repo, manifest, tag).await,
            Step::Pull { repo, tag } => self.pull(repo, tag).await,
            Step::Untag { repo, tag } => {
                let name = self.tag_name(tag);
                let untagged = direct.delete_manifest(&repos[repo], &name).await;
                if self.holds.contains(&(repo, tag)) {
                    assert_eq!(untagged, Err(Code::Denied));
                    return;
                }
                let removed = self.tags.remove(&(repo, tag)).map(|_| ());
                assert_eq!(untagged, removed.ok_or(Code::ManifestUnknown));
            }
            Step::DeleteManifest { repo, manifest } => self.delete_manifest(repo, manifest).await,
            Step::DeleteSome { pick } => {
                let place = self.stored.iter().nth(pick % self.stored.len().max(1));
                if let Some((repo, manifest)) = place.copied() {
                    self.delete_manifest(repo, manifest).await;
                }
            }
            Step::DeleteBlob { repo, blob } => {
                is_done(direct.delete_blob(&repos[repo], &of(blob)).await);
            }
            Step::Restore {
                repo,
                manifest,
                tag,
            } => self.restore((repo, manifest), tag).await,
            Step::RestoreSome { pick, tag } => {
                if let Some(place) = self.some_trashed(pick) {
                    self.restore(place, tag).await;
                }
            }
            Step::Purge { repo, manifest } => self.purge((repo, manifest)).await,
            Step::PurgeSome { pick } => {
                if let Some(place) = self.some_trashed(pick) {
                    self.purge(place).await;
                }
            }
            Step::RestoreTag { repo, tag } => self.restore_tag((repo, tag)).await,
            Step::Hold { held, .. } => {
                if let (repo, Some(tag)) = held {
                    self.hold((repo, tag)).await;
                }
            }
            Step::Lift { held } => {
                if let (repo, Some(tag)) = held {
                    self.lift((repo, tag)).await;
                }
            }
            Step::Upload { slot, repo, blob } => self.upload(slot, repo, blob).await,
            Step::Finish { slot } => self.finish(slot).await,
            Step::Cancel { slot } => {
                if let Some((id, repo, _)) = self.uploads[slot].take() {
                    is_done(direct.cancel(&repos[repo], id).await);
                }
            }
            Step::Run(job) => run(direct, job).await,
            Step::RunAll => {
                for job in Job::ALL {
                    run(direct, *job).await;
                }
            }
            Step::Wait(time) => direct.node.wait(time),
        }
    }

    async fn push_manifest(&mut self, repo: usize, manifest: usize, tag: Option<usize>) -> bool {
        let name = tag.map(|tag| self.tag_name(tag));
        let content = &self.manifests[manifest].content;
        let pushed = self
            .direct
            .push_manifest(&self.repos[repo], (content, name.as_deref()))
            .await;
        let is_known = self.stored.contains(&(repo, manifest));
        if tag.is_some_and(|tag| self.moves_held((repo, tag), manifest)) && pushed.is_err() {
            assert!(pushed == Err(Code::Denied) || !is_known && !is_done(pushed));
            return pushed == Err(Code::Denied);
        }
        let is_pushed = is_done(pushed);
        assert!(is_pushed || !is_known, "what is there can be pushed again");
        if is_pushed {
            self.store((repo, manifest));
            if let Some(tag) = tag {
                self.point((repo, tag), manifest);
            }
        }
        is_pushed
    }

    async fn push_image(&mut self, repo: usize, manifest: usize, tag: Option<usize>) {
        let needs = self.manifests[manifest].needs.clone();
        for child in needs.children {
            Box::pin(self.push_image(repo, child, None)).await;
        }
        for _ in 0..ATTEMPTS {
            for blob in &needs.blobs {
                let content = blob_content(*blob);
                let place = &self.repos[repo];
                if !is_done(self.direct.look_up(place, &digest(&content)).await) {
                    is_done(self.direct.push_blob(place, &content).await);
                }
            }
            if self.push_manifest(repo, manifest, tag).await {
                return;
            }
        }
        panic!("a client that begins again succeeds");
    }

    pub async fn pull(&self, repo: usize, tag: usize) {
        let name = self.tag_name(tag);
        let pulled = self.direct.pull_manifest(&self.repos[repo], &name).await;
        let tagged = self.tags.get(&(repo, tag));
        let content = tagged.map(|manifest| self.manifests[*manifest].content.clone());
        assert_eq!(pulled, content.ok_or(Code::ManifestUnknown));
    }

    pub async fn delete_manifest(&mut self, repo: usize, manifest: usize) {
        let name = self.manifests[manifest].digest.as_str();
        let deleted = self.direct.delete_manifest(&self.repos[repo], name).await;
        let is_listed = (0..MANIFESTS).any(|parent| {
            self.stored.contains(&(repo, parent))
                && self.manifests[parent].needs.children.contains(&manifest)
        });
        let mut holds = self.holds.iter().filter(|(there, _)| *there == repo);
        let expected = match self.stored.contains(&(repo, manifest)) {
            _ if holds.any(|held| self.tags.get(held) == Some(&manifest)) => Err(Code::Denied),
            false => Err(Code::ManifestUnknown),
            true if is_listed => Err(Code::InUse),
            true => Ok(()),
        };
        assert_eq!(deleted, expected);
        if deleted.is_ok() {
            let needs = |manifest: usize| &self.manifests[manifest].needs;
            let is_there = |place| self.stored.contains(&place);
            let gone = with_referrers(needs, (is_there, &self.tags), (repo, manifest));
            self.trashed.extend(gone.iter().map(|gone| (repo, *gone)));
            self.stored
                .retain(|(there, stored)| *there != repo || !gone.contains(stored));
            self.tags
                .retain(|(there, _), tagged| *there != repo || !gone.contains(tagged));
        }
    }

    async fn upload(&mut self, slot: usize, repo: usize, blob: usize) {
        let Some((id, repo, blob)) = self.uploads[slot] else {
            let id = self.direct.begin_upload(&self.repos[repo]).await.unwrap();
            self.uploads[slot] = Some((id, repo, blob));
            return;
        };
        let content = blob_content(blob);
        is_done(
            self.direct
                .append(&self.repos[repo], id, third(&content, 0))
                .await,
        );
    }

    /// Ends an upload with what is missing, if it has come no further than its first third.
    async fn finish(&mut self, slot: usize) {
        let Some((id, repo, blob)) = self.uploads[slot].take() else {
            return;
        };
        let (content, place) = (blob_content(blob), &self.repos[repo]);
        let arrived = self.direct.upload_size(place, id).await.unwrap_or(0) as usize;
        if arrived <= content.len() {
            let bytes = (&content[..], &content[arrived..]);
            // It may have got its first third twice: then these are not the blob's bytes.
            let finished = self.direct.finish(place, id, bytes).await;
            if finished != Err(Code::DigestInvalid) {
                is_done(finished);
            }
        }
    }
}

/// One task, which others may disturb.
pub async fn run(direct: &Direct, job: Job) {
    if let Err(error) = direct.node.registry.job_run_one(job).await {
        let is_disturbed = matches!(error.code(), Code::Swept | Code::Unavailable);
        assert!(is_disturbed, "{job:?}: {error:?}");
    }
}
