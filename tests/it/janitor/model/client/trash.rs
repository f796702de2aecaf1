//! What a client does with its manifests in the trash, with deleted tags, and with legal holds.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use kontor::error::Code;

use super::{Client, is_done};
use crate::janitor::model::{
    expected::Place,
    plan::{MANIFESTS, TAGS},
};

impl Client<'_> {
    pub(super) fn store(&mut self, place: Place) {
        self.trashed.remove(&place);
        self.stored.insert(place);
    }

    pub(super) fn point(&mut self, tag: Place, manifest: usize) {
        self.tags.insert(tag, manifest);
        self.history.insert(tag, manifest);
    }

    /// Whether a held tag would move if it came to point at the manifest.
    pub(super) fn moves_held(&self, tag: Place, manifest: usize) -> bool {
        let tagged = self.tags.get(&tag);
        self.holds.contains(&tag) && tagged.is_some_and(|tagged| *tagged != manifest)
    }

    pub(super) fn some_trashed(&self, pick: usize) -> Option<Place> {
        let count = self.trashed.len().max(1);
        self.trashed.iter().nth(pick % count).copied()
    }

    pub(super) async fn restore(&mut self, (repo, manifest): Place, tag: Option<usize>) {
        let (place, name) = (&self.repos[repo], tag.map(|tag| self.tag_name(tag)));
        let root = &self.manifests[manifest].digest;
        let restored = self.direct.restore(place, root, name.as_deref()).await;
        let mut back = BTreeSet::new();
        for other in (0..MANIFESTS).filter(|other| !self.stored.contains(&(repo, *other))) {
            let digest = self.manifests[other].digest.as_str();
            if self.direct.pull_manifest(place, digest).await.is_ok() {
                back.insert(other);
            }
        }
        match restored {
            Ok(restored) => {
                let digest = |other: &usize| self.manifests[*other].digest.clone();
                let restored: BTreeSet<_> = restored.into_iter().collect();
                assert_eq!(restored, back.iter().map(digest).collect());
            }
            // Others have purged some of it.
            Err(Code::NotFound) => {}
            Err(Code::Denied) => {
                assert!(tag.is_some_and(|tag| self.moves_held((repo, tag), manifest)));
            }
            Err(other) => assert!(!is_done::<()>(Err(other))),
        }
        for other in &back {
            assert!(self.trashed.contains(&(repo, *other)));
            self.store((repo, *other));
        }
        for tag in (0..TAGS).filter(|other| tag != Some(*other) || !back.contains(&manifest)) {
            if self.tags.contains_key(&(repo, tag)) {
                self.pull(repo, tag).await;
            } else if let Some(owner) = self.pointed_at(repo, tag).await {
                assert!(back.contains(&owner));
                self.point((repo, tag), owner);
            }
        }
        if let Some(tag) = tag.filter(|_| back.contains(&manifest)) {
            self.point((repo, tag), manifest);
            self.pull(repo, tag).await;
        }
    }

    async fn pointed_at(&self, repo: usize, tag: usize) -> Option<usize> {
        let (place, name) = (&self.repos[repo], self.tag_name(tag));
        let content = self.direct.pull_manifest(place, &name).await.ok()?;
        let mut made = self.manifests.iter();
        made.position(|made| made.content == content)
    }

    pub(super) async fn purge(&mut self, (repo, manifest): Place) {
        let digest = &self.manifests[manifest].digest;
        let purged = self.direct.purge(&self.repos[repo], digest).await;
        match purged {
            Ok(count) => assert!(count <= self.trashed.len()),
            Err(other) => assert_eq!(other, Code::NotFound),
        }
        self.trashed.remove(&(repo, manifest));
    }

    pub(super) async fn restore_tag(&mut self, tag: Place) {
        let (place, name) = (&self.repos[tag.0], self.tag_name(tag.1));
        let restored = self.direct.restore_tag(place, &name).await;
        let is_there = self.tags.contains_key(&tag);
        let last = self.history.get(&tag).copied();
        let last = last.filter(|last| self.stored.contains(&(tag.0, *last)));
        match restored {
            Ok(digest) => {
                let last = last.unwrap();
                assert!(!is_there && self.manifests[last].digest == digest);
                self.point(tag, last);
            }
            Err(Code::Conflict) => assert!(is_there || last.is_none()),
            // Or it was too long ago.
            Err(other) => assert!(other == Code::NotFound && !is_there),
        }
    }

    /// Holds a tag for longer than anything here takes.
    pub(super) async fn hold(&mut self, tag: Place) {
        let (place, name) = (&self.repos[tag.0], self.tag_name(tag.1));
        let until = self.direct.node.now() + TimeDelta::days(36_500);
        let placed = self.direct.hold(place, Some(&name), until).await;
        let is_there = self.tags.contains_key(&tag);
        assert_eq!(placed, is_there.then_some(()).ok_or(Code::NotFound));
        if is_there {
            self.holds.insert(tag);
        }
    }

    pub(super) async fn lift(&mut self, tag: Place) {
        let (place, name) = (&self.repos[tag.0], self.tag_name(tag.1));
        let lifted = self.direct.lift(place, Some(&name)).await;
        let was_held = self.holds.remove(&tag);
        assert_eq!(lifted, was_held.then_some(()).ok_or(Code::NotFound));
    }

    pub async fn lift_all(&mut self) {
        for tag in self.holds.clone() {
            self.lift(tag).await;
        }
    }
}
