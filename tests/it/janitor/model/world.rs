//! Carries out a case on a registry and on the model, and compares them.

mod compare;
mod trash;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use kontor::{error::Code, ids::UploadId, model::job::Job};
use serde_json::json;

use super::{
    expected::{ABANDONED, Expected},
    made::{Made, blob_content, manifests, third},
    plan::{Plan, Rule, Step, UPLOADS},
};
use crate::{
    janitor::direct::{Direct, Repo},
    support::image::digest,
};

/// An upload that goes on: a third of a blob comes with each request.
#[derive(Debug, Clone)]
struct Upload {
    id: UploadId,
    repo: usize,
    blob: usize,
    thirds: usize,
    touched_at: DateTime<Utc>,
}

/// The account of a case. The next one makes it anew.
pub const ACCOUNT: &str = "case";

/// A registry, what must be there, and everything by its number.
pub struct World<'a> {
    direct: &'a Direct,
    number: u32,
    rules: Vec<Rule>,
    repos: &'a [Repo],
    manifests: Vec<Made>,
    uploads: [Option<Upload>; UPLOADS],
    expected: Expected,
}

fn tag_name(tag: usize) -> String {
    format!("t{tag}")
}

impl<'a> World<'a> {
    /// `repos` are those of `ACCOUNT`; `number` is the case's.
    pub async fn new((direct, repos): (&'a Direct, &'a [Repo]), number: u32, plan: &Plan) -> Self {
        let policies: Vec<_> = plan.rules.iter().map(trash::policy).collect();
        let settings = json!({ "trash_days": plan.trash_days, "gc_policies": policies });
        assert_eq!(direct.account_make_with(ACCOUNT, settings).await, Ok(()));
        let manifests = manifests(&plan.recipes, "");
        Self {
            direct,
            number,
            repos,
            expected: Expected::new(direct.node.now(), &manifests, plan.trash_days),
            rules: plan.rules.clone(),
            manifests,
            uploads: [const { None }; UPLOADS],
        }
    }

    pub async fn run(mut self, steps: &[Step]) {
        for (number, step) in steps.iter().enumerate() {
            self.step(*step).await;
            let takes_away = matches!(step, Step::Run(Job::SweepBlobs) | Step::RunAll);
            if takes_away || number % 16 == 15 {
                self.compare().await;
            }
        }
        self.end().await;
    }

    async fn step(&mut self, step: Step) {
        self.expected.now = self.direct.node.now();
        match step {
            Step::PushBlob { repo, blob } => self.push_blob(repo, blob).await,
            Step::Mount { repo, from, blob } => {
                let (name, from_name) = (&self.repos[repo], from.map(|from| &self.repos[from]));
                let digest = digest(&blob_content(blob));
                let is_mounted = self.direct.mount(name, &digest, from_name).await;
                assert_eq!(is_mounted, Ok(self.expected.mount(repo, (from, blob))));
            }
            Step::LookUp { repo, blob } => {
                let digest = digest(&blob_content(blob));
                let found = self.direct.look_up(&self.repos[repo], &digest).await;
                assert_eq!(found, self.expected.look_up(repo, blob));
            }
            Step::PushManifest {
                repo,
                manifest,
                tag,
            } => self.push_manifest(repo, manifest, tag).await,
            Step::PushImage {
                repo,
                manifest,
                tag,
            } => self.push_image(repo, manifest, tag).await,
            Step::Pull { repo, tag } => {
                self.pull(repo, tag).await;
                self.direct.node.registry.pulls_flush().await.unwrap();
            }
            Step::Untag { repo, tag } => {
                let (name, tagged) = (&self.repos[repo], tag_name(tag));
                let untagged = self.direct.delete_manifest(name, &tagged).await;
                assert_eq!(untagged, self.expected.untag(repo, tag));
            }
            Step::DeleteManifest { repo, manifest } => self.delete_manifest(repo, manifest).await,
            Step::DeleteSome { pick } => {
                let there = &self.expected.manifests;
                let place = there.keys().nth(pick % there.len().max(1)).copied();
                if let Some((repo, manifest)) = place {
                    self.delete_manifest(repo, manifest).await;
                }
            }
            Step::DeleteBlob { repo, blob } => {
                let digest = digest(&blob_content(blob));
                let deleted = self.direct.delete_blob(&self.repos[repo], &digest).await;
                assert_eq!(deleted, self.expected.delete_blob(repo, blob));
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
            Step::Hold { held, time } => self.hold(held, time).await,
            Step::Lift { held } => self.lift(held).await,
            Step::Upload { slot, repo, blob } => self.upload(slot, repo, blob).await,
            Step::Finish { slot } => self.finish(slot).await,
            Step::Cancel { slot } => {
                if let Some(upload) = self.uploads[slot].take() {
                    let name = &self.repos[upload.repo];
                    assert_eq!(self.direct.cancel(name, upload.id).await, Ok(()));
                }
            }
            Step::Run(job) => self.run_one(job).await,
            Step::RunAll => self.run_jobs(Job::ALL).await,
            Step::Wait(time) => self.direct.node.wait(time),
        }
    }

    async fn push_blob(&mut self, repo: usize, blob: usize) {
        let (name, content) = (&self.repos[repo], blob_content(blob));
        assert_eq!(self.direct.push_blob(name, &content).await, Ok(()));
        self.expected.push_blob(repo, blob);
    }

    async fn push_manifest(&mut self, repo: usize, manifest: usize, tag: Option<usize>) {
        let (content, name) = (&self.manifests[manifest].content, tag.map(tag_name));
        let pushed = self
            .direct
            .push_manifest(&self.repos[repo], (content, name.as_deref()))
            .await;
        assert_eq!(pushed, self.expected.push_manifest(repo, (manifest, tag)));
    }

    /// What a client does: it asks for each blob, pushes those that are missing, then the manifests, children first.
    async fn push_image(&mut self, repo: usize, manifest: usize, tag: Option<usize>) {
        let mut listed = BTreeSet::from([manifest]);
        // Children have lower numbers.
        for other in (0..=manifest).rev() {
            if listed.contains(&other) {
                listed.extend(&self.manifests[other].needs.children);
            }
        }
        let blobs = listed
            .iter()
            .map(|other| &self.manifests[*other].needs.blobs);
        for blob in blobs.flatten().copied().collect::<BTreeSet<_>>() {
            let digest = digest(&blob_content(blob));
            let found = self.direct.ask_for(&self.repos[repo], &digest).await;
            assert_eq!(found, self.expected.look_up(repo, blob));
            if found.is_err() {
                self.push_blob(repo, blob).await;
            }
        }
        self.direct.node.registry.pulls_flush().await.unwrap();
        let is_held = tag.is_some_and(|tag| self.expected.moves_held((repo, tag), manifest));
        for other in listed {
            let tag = tag.filter(|_| other == manifest);
            self.push_manifest(repo, other, tag).await;
            let is_there = self.expected.manifests.contains_key(&(repo, other));
            let is_refused = other == manifest && is_held;
            assert!(
                is_there || is_refused,
                "a client that does everything succeeds"
            );
        }
    }

    async fn pull(&self, repo: usize, tag: usize) {
        let pulled = self
            .direct
            .pull_manifest(&self.repos[repo], &tag_name(tag))
            .await;
        let tagged = self.expected.tags.get(&(repo, tag));
        let content = tagged.map(|manifest| self.manifests[*manifest].content.clone());
        assert_eq!(pulled, content.ok_or(Code::ManifestUnknown));
    }

    async fn delete_manifest(&mut self, repo: usize, manifest: usize) {
        let digest = self.manifests[manifest].digest.as_str();
        let deleted = self.direct.delete_manifest(&self.repos[repo], digest).await;
        assert_eq!(deleted, self.expected.delete_manifest(repo, manifest));
    }

    async fn upload(&mut self, slot: usize, repo: usize, blob: usize) {
        let now = self.expected.now;
        let Some(upload) = &mut self.uploads[slot] else {
            let id = self.direct.begin_upload(&self.repos[repo]).await.unwrap();
            self.uploads[slot] = Some(Upload {
                id,
                repo,
                blob,
                thirds: 0,
                touched_at: now,
            });
            return;
        };
        if upload.thirds == 3 {
            self.finish(slot).await;
            return;
        }
        let content = blob_content(upload.blob);
        let piece = third(&content, upload.thirds);
        let (name, id) = (&self.repos[upload.repo], upload.id);
        upload.thirds += 1;
        if !piece.is_empty() {
            upload.touched_at = now;
        }
        let end = content.len() * upload.thirds / 3;
        let appended = self.direct.append(name, id, piece).await;
        assert_eq!(appended, Ok(end as u64));
    }

    async fn finish(&mut self, slot: usize) {
        let Some(upload) = self.uploads[slot].take() else {
            return;
        };
        let (name, content) = (&self.repos[upload.repo], blob_content(upload.blob));
        let last = &content[content.len() * upload.thirds / 3..];
        let finished = self.direct.finish(name, upload.id, (&content, last)).await;
        assert_eq!(finished, Ok(()));
        self.expected.push_blob(upload.repo, upload.blob);
    }

    async fn run_one(&mut self, job: Job) {
        if job == Job::ImageGc {
            self.gc().await;
            return;
        }
        let has_run = self.direct.node.registry.job_run_one(job).await.unwrap();
        match job {
            Job::SweepBlobs => assert_eq!(has_run, self.expected.sweep_blobs()),
            Job::AbandonUploads => {
                let is_due = self.uploads_due() > 0;
                assert_eq!(has_run, is_due);
                // Any of those that are due.
                assert_eq!(self.uploads_forget().await, usize::from(is_due));
            }
            Job::PurgeTrash => {
                // What is held is looked at once, and put off.
                assert!(!has_run || self.expected.is_some_overdue());
                assert!(!self.expected.purge_due() || has_run);
            }
            Job::PruneTagHistory => self.expected.forget_tags(),
            _ => {}
        }
    }

    /// Jobs do all that is due, in this order. Those that take something away must be among them.
    async fn run_jobs(&mut self, jobs: &[Job]) {
        self.hasten_gc().await;
        for job in jobs {
            self.direct.node.run_job(*job).await;
        }
        self.expected.now = self.direct.node.now();
        let due = self.uploads_due();
        assert_eq!(self.uploads_forget().await, due);
        self.expected.sweep_blobs();
        self.gc_expect().await;
        self.expected.purge_due();
        self.expected.forget_tags();
    }

    fn uploads_due(&self) -> usize {
        let before = self.expected.now - ABANDONED;
        let due = |upload: &&Upload| upload.touched_at <= before;
        self.uploads.iter().flatten().filter(due).count()
    }

    /// Forgets the uploads that have ended, which must have been due; says how many.
    async fn uploads_forget(&mut self) -> usize {
        let mut ended = 0;
        for slot in &mut self.uploads {
            let Some(upload) = slot.as_ref() else {
                continue;
            };
            let name = &self.repos[upload.repo];
            if self.direct.upload_size(name, upload.id).await == Err(Code::BlobUploadUnknown) {
                assert!(upload.touched_at + ABANDONED <= self.expected.now);
                *slot = None;
                ended += 1;
            }
        }
        ended
    }
}
