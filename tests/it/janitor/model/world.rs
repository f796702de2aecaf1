//! Carries out a case on a registry and on the model, and compares them.

use chrono::{DateTime, TimeDelta, Utc};
use kontor::{
    error::Code,
    ids::UploadId,
    model::{job::Job, quota::Amounts},
    oci::Digest,
};
use serde_json::{Value, json};

use super::{
    expected::{ABANDONED, Expected, GRACE, Needs},
    plan::{BLOBS, MANIFESTS, REPOS, Recipe, Step, TAGS, UPLOADS},
};
use crate::{
    janitor::direct::{Direct, Repo},
    support::image::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, bytes, descriptor, digest},
};

/// The content of a blob. The last one is empty.
pub fn blob_content(blob: usize) -> Vec<u8> {
    bytes(blob as u64 + 1, 300 * (BLOBS - 1 - blob))
}

/// An upload that goes on: a third of a blob comes with each request.
#[derive(Debug, Clone)]
struct Upload {
    id: UploadId,
    repo: usize,
    blob: usize,
    thirds: usize,
    touched_at: DateTime<Utc>,
}

/// Where the thirds of a blob begin and end.
pub fn third(content: &[u8], number: usize) -> &[u8] {
    &content[content.len() * number / 3..content.len() * (number + 1) / 3]
}

/// A manifest: its media type and its bytes, and what it needs.
pub struct Made {
    media_type: &'static str,
    pub content: Vec<u8>,
    pub digest: Digest,
    pub needs: Needs,
}

/// Makes the manifests of a case. `label` makes them others than those of another label.
pub fn manifests(recipes: &[Recipe], label: &str) -> Vec<Made> {
    let mut made: Vec<Made> = Vec::new();
    for (number, recipe) in recipes.iter().enumerate() {
        let has = |bits: u8, bit: &usize| bits & (1 << bit) != 0;
        let blobs: Vec<usize> = (0..BLOBS).filter(|blob| has(recipe.blobs, blob)).collect();
        let children: Vec<usize> = (0..number)
            .filter(|child| has(recipe.children, child))
            .collect();
        let of_blob = |blob: &usize| descriptor(OCI_LAYER, &blob_content(*blob));
        let of_manifest = |made: &Made| descriptor(made.media_type, &made.content);
        let mut document =
            json!({ "schemaVersion": 2, "annotations": { "name": format!("{label}{number}") } });
        let media_type = if children.is_empty() {
            document["config"] = descriptor(OCI_CONFIG, &blob_content(blobs[0]));
            document["layers"] = blobs[1..].iter().map(of_blob).collect();
            OCI_MANIFEST
        } else {
            let listed = children.iter().map(|child| of_manifest(&made[*child]));
            document["manifests"] = Value::Array(listed.chain(blobs.iter().map(of_blob)).collect());
            OCI_INDEX
        };
        document["mediaType"] = json!(media_type);
        if let Some(subject) = recipe.subject.filter(|subject| *subject < number) {
            document["subject"] = of_manifest(&made[subject]);
        }
        let content = serde_json::to_vec(&document).unwrap();
        made.push(Made {
            media_type,
            digest: digest(&content),
            content,
            needs: Needs {
                blobs: blobs.into_iter().collect(),
                children: children.into_iter().collect(),
                subject: recipe.subject.filter(|subject| *subject < number),
            },
        });
    }
    made
}

/// A registry, what must be there, and everything by its number.
pub struct World<'a> {
    direct: &'a Direct,
    account: String,
    repos: Vec<Repo>,
    manifests: Vec<Made>,
    uploads: [Option<Upload>; UPLOADS],
    expected: Expected,
}

fn almost(time: TimeDelta) -> TimeDelta {
    time - TimeDelta::seconds(1)
}

fn tag_name(tag: usize) -> String {
    format!("t{tag}")
}

impl<'a> World<'a> {
    pub async fn new(direct: &'a Direct, number: u32, recipes: &[Recipe]) -> Self {
        let account = format!("case{number}");
        assert_eq!(direct.account_make(&account).await, Ok(()));
        let mut repos = Vec::new();
        for repo in 0..REPOS {
            repos.push(direct.repo(&format!("{account}/r{repo}")).await);
        }
        let manifests = manifests(recipes, "");
        let needs = manifests.iter().map(|made| made.needs.clone()).collect();
        Self {
            direct,
            repos,
            account,
            manifests,
            uploads: [const { None }; UPLOADS],
            expected: Expected::new(direct.node.now(), needs),
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
                let place = there.iter().nth(pick % there.len().max(1)).copied();
                if let Some((repo, manifest)) = place {
                    self.delete_manifest(repo, manifest).await;
                }
            }
            Step::DeleteBlob { repo, blob } => {
                let digest = digest(&blob_content(blob));
                let deleted = self.direct.delete_blob(&self.repos[repo], &digest).await;
                assert_eq!(deleted, self.expected.delete_blob(repo, blob));
            }
            Step::Upload { slot, repo, blob } => self.upload(slot, repo, blob).await,
            Step::Finish { slot } => self.finish(slot).await,
            Step::Cancel { slot } => {
                if let Some(upload) = self.uploads[slot].take() {
                    let name = &self.repos[upload.repo];
                    assert_eq!(self.direct.cancel(name, upload.id).await, Ok(()));
                }
            }
            Step::Run(job) => self.run_one(job).await,
            Step::RunAll => self.run_all().await,
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
        let Needs {
            blobs, children, ..
        } = self.manifests[manifest].needs.clone();
        for child in children {
            Box::pin(self.push_image(repo, child, None)).await;
        }
        for blob in blobs {
            let digest = digest(&blob_content(blob));
            let found = self.direct.look_up(&self.repos[repo], &digest).await;
            assert_eq!(found, self.expected.look_up(repo, blob));
            if found.is_err() {
                self.push_blob(repo, blob).await;
            }
        }
        self.push_manifest(repo, manifest, tag).await;
        let is_there = self.expected.manifests.contains(&(repo, manifest));
        assert!(is_there, "a client that does everything succeeds");
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
        let has_run = self.direct.node.registry.job_run_one(job).await.unwrap();
        match job {
            Job::SweepBlobs => assert_eq!(has_run, self.expected.sweep_blobs()),
            Job::AbandonUploads => {
                let is_due = self.uploads_due() > 0;
                assert_eq!(has_run, is_due);
                // Any of those that are due.
                assert_eq!(self.uploads_forget().await, usize::from(is_due));
            }
            _ => {}
        }
    }

    async fn run_all(&mut self) {
        self.direct.run_jobs().await;
        self.expected.now = self.direct.node.now();
        self.expected.sweep_blobs();
        let due = self.uploads_due();
        assert_eq!(self.uploads_forget().await, due);
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

    /// Everything that a client can see.
    async fn compare(&self) {
        for (repo, name) in self.repos.iter().enumerate() {
            for manifest in 0..MANIFESTS {
                let made = &self.manifests[manifest];
                let pulled = self.direct.pull_manifest(name, made.digest.as_str()).await;
                let is_there = self.expected.manifests.contains(&(repo, manifest));
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
    }

    /// What nobody needs is gone after the times that are stated for it, and the books agree.
    async fn end(mut self) {
        self.compare().await;
        self.direct.settle().await;
        self.expected.now = self.direct.node.now();
        self.expected.sweep_blobs();
        let open = self.uploads.iter().flatten().count();
        assert_eq!(self.uploads_forget().await, open);
        self.compare().await;
        self.assert_exact().await;
        assert_eq!(self.direct.node.assert_sound().await, 0);
        // Minutes after the manifests, their blobs are freed: nobody has asked for them since.
        for manifest in (0..MANIFESTS).rev() {
            for repo in 0..REPOS {
                self.expected.now = self.direct.node.now();
                self.delete_manifest(repo, manifest).await;
            }
        }
        assert!(self.expected.manifests.is_empty());
        self.direct.node.wait(almost(GRACE));
        assert_eq!(self.direct.node.run_job(Job::SweepBlobs).await, 0);
        self.direct.node.wait(GRACE - almost(GRACE));
        self.direct.node.run_job(Job::SweepBlobs).await;
        self.expected.now = self.direct.node.now();
        self.expected.sweep_blobs();
        assert!(self.expected.blobs.is_empty());
        self.assert_exact().await;
        assert_eq!(self.direct.account_delete(&self.account).await, Ok(()));
        assert_eq!(self.direct.node.assert_sound().await, 0);
    }

    /// Storage and books hold what is needed and nothing else.
    async fn assert_exact(&self) {
        let stored: Vec<Vec<u8>> = self.expected.stored_blobs().map(blob_content).collect();
        let with_objects = stored.iter().filter(|content| !content.is_empty()).count();
        let objects = self.direct.node.object_count(&self.account).await;
        assert_eq!(objects, with_objects + self.expected.manifests.len());
        let of_blobs: usize = stored.iter().map(Vec::len).sum();
        let manifests = self.expected.manifests.iter();
        let of_manifests: usize = manifests
            .map(|(_, manifest)| self.manifests[*manifest].content.len())
            .sum();
        let used = self.direct.used(&self.account).await;
        let repos = (0..REPOS).filter(|repo| {
            let mut there = self.expected.manifests.iter();
            there.any(|(place, _)| place == repo)
        });
        let wanted = Amounts {
            bytes: (of_blobs + of_manifests) as i64,
            reserved_bytes: 0,
            manifests: self.expected.manifests.len() as i64,
            repositories: repos.count() as i64,
        };
        assert_eq!(used, wanted);
    }
}
