//! The same at once: clients that share repositories and blobs, and a janitor whose clock jumps.
//!
//! Each client has manifests and tags of its own, so it knows what must be there of them at any moment. Blobs are
//! anybody's: they come and go under everybody's hands.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use chrono::TimeDelta;
use kontor::{error::Code, ids::UploadId, model::job::Job};
use proptest::{
    collection::vec,
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, TestRunner},
};
use tokio::runtime::Runtime;

use super::{
    cases,
    expected::with_referrers,
    plan::{MANIFESTS, REPOS, Recipe, Step, UPLOADS, plans, steps},
    rng, seed,
    world::{Made, blob_content, manifests, third},
};
use crate::{
    janitor::direct::{Answer, Direct, Repo},
    support::image::digest,
};

const CLIENTS: usize = 3;
const STEPS: usize = 30;

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

struct Client<'a> {
    number: usize,
    direct: &'a Direct,
    repos: &'a [Repo],
    manifests: Vec<Made>,
    /// Those that were acknowledged and not deleted since, each with its repository before it.
    stored: BTreeSet<(usize, usize)>,
    tags: BTreeMap<(usize, usize), usize>,
    uploads: [Option<(UploadId, usize, usize)>; UPLOADS],
}

impl<'a> Client<'a> {
    fn new(number: usize, (direct, repos): (&'a Direct, &'a [Repo]), recipes: &[Recipe]) -> Self {
        Self {
            number,
            direct,
            repos,
            manifests: manifests(recipes, &format!("client {number}, ")),
            stored: BTreeSet::new(),
            tags: BTreeMap::new(),
            uploads: [None; UPLOADS],
        }
    }

    fn tag_name(&self, tag: usize) -> String {
        format!("c{}-t{tag}", self.number)
    }

    async fn step(&mut self, step: Step) {
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
        let is_pushed = is_done(pushed);
        assert!(is_pushed || !is_known, "what is there can be pushed again");
        if is_pushed {
            self.stored.insert((repo, manifest));
            if let Some(tag) = tag {
                self.tags.insert((repo, tag), manifest);
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

    async fn pull(&self, repo: usize, tag: usize) {
        let name = self.tag_name(tag);
        let pulled = self.direct.pull_manifest(&self.repos[repo], &name).await;
        let tagged = self.tags.get(&(repo, tag));
        let content = tagged.map(|manifest| self.manifests[*manifest].content.clone());
        assert_eq!(pulled, content.ok_or(Code::ManifestUnknown));
    }

    async fn delete_manifest(&mut self, repo: usize, manifest: usize) {
        let name = self.manifests[manifest].digest.as_str();
        let deleted = self.direct.delete_manifest(&self.repos[repo], name).await;
        let is_listed = (0..MANIFESTS).any(|parent| {
            self.stored.contains(&(repo, parent))
                && self.manifests[parent].needs.children.contains(&manifest)
        });
        let expected = match self.stored.contains(&(repo, manifest)) {
            false => Err(Code::ManifestUnknown),
            true if is_listed => Err(Code::InUse),
            true => Ok(()),
        };
        assert_eq!(deleted, expected);
        if deleted.is_ok() {
            let needs = |manifest: usize| &self.manifests[manifest].needs;
            let gone = with_referrers(needs, (&self.stored, &self.tags), (repo, manifest));
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
async fn run(direct: &Direct, job: Job) {
    if let Err(error) = direct.node.registry.job_run_one(job).await {
        let is_disturbed = matches!(error.code(), Code::Swept | Code::Unavailable);
        assert!(is_disturbed, "{job:?}: {error:?}");
    }
}

/// Everybody at once, until the clients have done what they had to do.
fn at_once(runtime: &Runtime, clients: &mut [Client<'_>], todo: Vec<Vec<Step>>) {
    let (direct, is_over) = (clients[0].direct, AtomicBool::new(false));
    thread::scope(|scope| {
        let janitor = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                direct.node.wait(TimeDelta::minutes(7));
                for job in Job::ALL {
                    runtime.block_on(run(direct, *job));
                }
            }
        });
        let at_work: Vec<_> = clients
            .iter_mut()
            .zip(todo)
            .map(|(client, steps)| {
                scope.spawn(move || {
                    for step in steps {
                        runtime.block_on(client.step(step));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = at_work.into_iter().map(|client| client.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        for ended in ended.into_iter().chain([janitor.join()]) {
            if let Err(panicked) = ended {
                std::panic::resume_unwind(panicked);
            }
        }
    });
}

/// All that was acknowledged is there, and nothing else.
async fn compare(direct: &Direct, account: &str, clients: &[Client<'_>]) {
    let (mut needed, mut bytes, mut manifests) = (BTreeSet::new(), 0, 0);
    for client in clients {
        for (repo, manifest) in &client.stored {
            let (made, place) = (&client.manifests[*manifest], &client.repos[*repo]);
            let pulled = direct.pull_manifest(place, made.digest.as_str()).await;
            assert_eq!(pulled.as_ref(), Ok(&made.content));
            for blob in &made.needs.blobs {
                let content = blob_content(*blob);
                let pulled = direct.pull_blob(place, &digest(&content)).await;
                assert_eq!(pulled, Ok(content));
                needed.insert(*blob);
            }
            bytes += made.content.len();
            manifests += 1;
        }
        for (repo, tag) in client.tags.keys() {
            client.pull(*repo, *tag).await;
        }
    }
    let contents: Vec<Vec<u8>> = needed.into_iter().map(blob_content).collect();
    let objects = contents.iter().filter(|content| !content.is_empty());
    let stored = direct.node.object_count(account).await;
    assert_eq!(stored, objects.count() + manifests);
    bytes += contents.iter().map(Vec::len).sum::<usize>();
    let used = direct.used(account).await;
    assert_eq!((used.bytes, used.reserved_bytes), (bytes as i64, 0));
    assert_eq!(used.manifests, manifests as i64);
    assert_eq!(direct.node.assert_sound().await, 0);
}

#[test]
fn clients_and_janitor_at_once_lose_nothing_and_leave_nothing() {
    let runtime = Runtime::new().unwrap();
    let direct = runtime.block_on(Direct::start());
    for round in 0..u64::from(cases().div_ceil(20)) {
        let seed = seed() + round;
        let mut runner = TestRunner::new_with_rng(Config::default(), rng(seed));
        let recipes = plans().new_tree(&mut runner).unwrap().current().recipes;
        let todo = vec(vec(steps(), STEPS), CLIENTS);
        let todo = todo.new_tree(&mut runner).unwrap().current();
        let account = format!("round{round}");
        let repos = runtime.block_on(async {
            assert_eq!(direct.account_make(&account).await, Ok(()));
            let mut repos = Vec::new();
            for repo in 0..REPOS {
                repos.push(direct.repo(&format!("{account}/r{repo}")).await);
            }
            repos
        });
        let client = |number| Client::new(number, (&direct, &repos), &recipes);
        let mut clients: Vec<_> = (0..CLIENTS).map(client).collect();
        at_once(&runtime, &mut clients, todo);
        runtime.block_on(async {
            direct.settle().await;
            compare(&direct, &account, &clients).await;
            for client in &mut clients {
                for manifest in (0..MANIFESTS).rev() {
                    for repo in 0..REPOS {
                        client.delete_manifest(repo, manifest).await;
                    }
                }
            }
            direct.settle().await;
            assert_eq!(direct.node.object_count(&account).await, 0);
            assert_eq!(direct.account_delete(&account).await, Ok(()));
        });
    }
}
