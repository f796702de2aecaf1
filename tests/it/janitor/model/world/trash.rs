//! Steps of a case that are about the trash, legal holds and GC policies.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use kontor::{
    error::Code,
    model::{job::Job, trash::TrashSummary},
    oci::Digest,
};
use serde_json::{Value, json};

use super::{ACCOUNT, World, tag_name};
use crate::janitor::model::{
    expected::Place,
    plan::{Held, Limit, REPOS, Rule, TAGS, Tagged},
};

/// A rule as an account has it.
pub(super) fn policy(rule: &Rule) -> Value {
    let repo = rule.repo.map_or(".*".to_owned(), |repo| format!("r{repo}"));
    let action = if rule.deletes { "delete" } else { "protect" };
    let mut policy = json!({ "match_repository": repo, "action": action });
    match rule.tagged {
        Tagged::Any => {}
        Tagged::Never => policy["only_untagged"] = json!(true),
        Tagged::With(tag) => policy["match_tag"] = json!(tag_name(tag)),
    }
    let age = |age: TimeDelta| json!({ "value": age.num_seconds(), "unit": "s" });
    let limit = match rule.limit {
        Limit::Every => return policy,
        Limit::OlderThan(time) => ("older_than", age(time)),
        Limit::NewerThan(time) => ("newer_than", age(time)),
        Limit::Newest(count) => ("newest", json!(count)),
    };
    policy["time_constraint"] = json!({ "on": "pushed_at" });
    policy["time_constraint"][limit.0] = limit.1;
    policy
}

impl World<'_> {
    pub(super) fn some_trashed(&self, pick: usize) -> Option<Place> {
        let trash = &self.expected.trash;
        trash.keys().nth(pick % trash.len().max(1)).copied()
    }

    /// The manifest that each tag of a repository points at.
    async fn tags_seen(&self, repo: usize) -> BTreeMap<usize, Option<usize>> {
        let mut seen = BTreeMap::new();
        for tag in 0..TAGS {
            let name = tag_name(tag);
            let pulled = self.direct.pull_manifest(&self.repos[repo], &name).await;
            let found = pulled.ok().map(|content| {
                let mut made = self.manifests.iter();
                made.position(|made| made.content == content).unwrap()
            });
            seen.insert(tag, found);
        }
        seen
    }

    pub(super) async fn restore(&mut self, (repo, manifest): Place, tag: Option<usize>) {
        let coming = self.expected.restorable(repo, manifest);
        let (name, digest) = (&self.repos[repo], &self.manifests[manifest].digest);
        let restored = self
            .direct
            .restore(name, digest, tag.map(tag_name).as_deref())
            .await;
        if coming.is_empty() {
            assert_eq!(restored, Err(Code::NotFound));
            return;
        }
        // If it breaks off, some have come back.
        let mut back = BTreeSet::new();
        for other in &coming {
            let digest = self.manifests[*other].digest.as_str();
            if self.direct.pull_manifest(name, digest).await.is_ok() {
                back.insert(*other);
            }
        }
        let hopeless = self.expected.hopeless(repo, &coming);
        assert!(back.is_disjoint(&hopeless));
        // Another one of those that come back may have got the tag just before.
        let (mut must_not_move, mut may_not_move) = (false, false);
        if let Some(tag) = tag.filter(|_| coming.contains(&manifest)) {
            must_not_move = self.expected.moves_held((repo, tag), manifest);
            let had = |other: &usize| self.expected.trash[&(repo, *other)].tags.contains(&tag);
            let is_taken = coming.iter().any(had) || must_not_move;
            may_not_move = is_taken && self.expected.is_held((repo, Some(tag)));
        }
        match restored {
            Ok(restored) => {
                assert!(hopeless.is_empty() && !must_not_move);
                let digest = |other: &usize| self.manifests[*other].digest.clone();
                let restored: BTreeSet<_> = restored.into_iter().collect();
                assert_eq!(restored, coming.iter().map(digest).collect());
                assert_eq!(back, coming);
            }
            Err(Code::ManifestBlobUnknown) => assert!(!hopeless.is_empty()),
            Err(Code::Denied) => assert!(may_not_move && !back.contains(&manifest)),
            Err(other) => panic!("{other:?}"),
        }
        let tags = self.tags_seen(repo).await;
        let given = tag.map(|tag| (manifest, tag));
        self.expected.restore(repo, (&back, given), &tags);
    }

    pub(super) async fn purge(&mut self, (repo, manifest): Place) {
        let digest = &self.manifests[manifest].digest;
        let purged = self.direct.purge(&self.repos[repo], digest).await;
        assert_eq!(purged, self.expected.purge(repo, manifest));
    }

    pub(super) async fn restore_tag(&mut self, (repo, tag): Place) {
        let name = tag_name(tag);
        let restored = self.direct.restore_tag(&self.repos[repo], &name).await;
        let expected = self.expected.restore_tag((repo, tag));
        let digest = |manifest: usize| self.manifests[manifest].digest.clone();
        assert_eq!(restored, expected.map(digest));
    }

    pub(super) async fn hold(&mut self, held: Held, time: TimeDelta) {
        let (name, tag) = (&self.repos[held.0], held.1.map(tag_name));
        let until = self.expected.now + time;
        let placed = self.direct.hold(name, tag.as_deref(), until).await;
        let is_unknown = placed == Err(Code::NotFound);
        if is_unknown && held.1.is_none() && self.expected.has_nothing(held.0) {
            return;
        }
        assert_eq!(placed, self.expected.hold(held, time));
    }

    pub(super) async fn lift(&mut self, held: Held) {
        let (name, tag) = (&self.repos[held.0], held.1.map(tag_name));
        let lifted = self.direct.lift(name, tag.as_deref()).await;
        assert_eq!(lifted, self.expected.lift(held));
    }

    pub(super) async fn lift_all(&mut self) {
        for held in self.expected.holds.keys().copied().collect::<Vec<_>>() {
            self.lift(held).await;
        }
    }

    /// The GC policies are carried out in every repository.
    pub(super) async fn gc(&mut self) {
        self.hasten_gc().await;
        let runs = self.direct.node.run_job(Job::ImageGc).await;
        assert!(runs == 0 || !self.rules.is_empty());
        self.gc_expect().await;
    }

    /// Makes the policies due, whose times vary.
    pub(super) async fn hasten_gc(&self) {
        if !self.rules.is_empty() {
            self.direct.hasten(Job::ImageGc).await;
        }
    }

    pub(super) async fn gc_expect(&mut self) {
        let mut gone = Vec::new();
        for repo in 0..REPOS {
            let doomed = self.expected.gc(repo, &self.rules);
            gone.extend(doomed.into_iter().map(|manifest| (repo, manifest)));
        }
        if gone.is_empty() || self.expected.trash_time.is_none() {
            return;
        }
        // It is not said what goes by itself and what goes with what it is about.
        for (place, entry) in self.trash_seen().await {
            if gone.contains(&place)
                && let Some(with) = entry.deleted_with
            {
                let with = self.number(&with);
                assert!(gone.contains(&(place.0, with)));
                self.expected.went_with(place, with);
            }
        }
    }

    async fn trash_seen(&self) -> BTreeMap<Place, TrashSummary> {
        let inventory = self.direct.inventory(ACCOUNT, self.repos).await;
        self.trash_by_place(inventory.1)
    }

    pub(super) fn number(&self, digest: &Digest) -> usize {
        let mut made = self.manifests.iter();
        made.position(|made| made.digest == *digest).unwrap()
    }

    fn trash_by_place(&self, trash: Vec<TrashSummary>) -> BTreeMap<Place, TrashSummary> {
        let placed = trash.into_iter().map(|entry| {
            let repo = (0..REPOS).find(|repo| entry.repository == format!("r{repo}"));
            ((repo.unwrap(), self.number(&entry.digest)), entry)
        });
        placed.collect()
    }

    /// What is in the trash, with the tags that it had, and until when.
    pub(super) fn compare_trash(&self, trash: Vec<TrashSummary>) {
        let (seen, expected) = (self.trash_by_place(trash), &self.expected);
        let places = expected.trash.keys();
        assert_eq!(places.collect::<Vec<_>>(), seen.keys().collect::<Vec<_>>());
        for (place, entry) in seen {
            let trashed = &expected.trash[&place];
            let seen: Vec<String> = entry.tags.iter().map(ToString::to_string).collect();
            let tags: Vec<String> = trashed.tags.iter().copied().map(tag_name).collect();
            let with = trashed.with.map(|with| self.manifests[with].digest.clone());
            assert_eq!((seen, entry.deleted_with), (tags, with));
            assert_eq!(entry.deleted_at, trashed.deleted_at);
            // What was held when its time was over goes later.
            let is_over = trashed.purge_at <= expected.now;
            assert!(
                entry.purge_at == trashed.purge_at || is_over && entry.purge_at > trashed.purge_at
            );
        }
    }
}
