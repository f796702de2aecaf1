//! What must be there of the trash, of tags that were deleted, and of legal holds.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use kontor::error::Code;

use super::{
    expected::{Expected, GRACE, Place, Trashed},
    plan::Held,
};

/// How long it is known what tags pointed at.
const TAG_HISTORY: TimeDelta = TimeDelta::days(365);

impl Expected {
    fn is_in_force(&self, held: Held) -> bool {
        self.holds.get(&held).is_some_and(|until| *until > self.now)
    }

    /// Whether a hold keeps the repository, or the tag.
    pub fn is_held(&self, (repo, tag): Held) -> bool {
        self.is_in_force((repo, None)) || tag.is_some() && self.is_in_force((repo, tag))
    }

    pub fn hold(&mut self, held: Held, time: TimeDelta) -> Result<(), Code> {
        let is_there = match held {
            (repo, Some(tag)) => self.tags.contains_key(&(repo, tag)),
            (_, None) => true,
        };
        if !is_there {
            return Err(Code::NotFound);
        }
        self.holds.insert(held, self.now + time);
        Ok(())
    }

    /// Whether nothing is there of a repository: then it may be unknown.
    pub fn has_nothing(&self, repo: usize) -> bool {
        let manifests = self.manifests.keys().chain(self.trash.keys());
        let mut places = manifests.chain(self.blobs.keys());
        places.all(|(there, _)| *there != repo)
    }

    pub fn lift(&mut self, held: Held) -> Result<(), Code> {
        let was_in_force = self.is_in_force(held);
        self.holds.remove(&held);
        was_in_force.then_some(()).ok_or(Code::NotFound)
    }

    /// Takes manifests out of the trash for good; what nothing needs then stays for a time.
    pub(super) fn forget(&mut self, repo: usize, gone: &BTreeSet<usize>, time: TimeDelta) {
        for manifest in gone {
            self.trash.remove(&(repo, *manifest));
        }
        self.release(repo, gone, time);
    }

    /// How many go for good with a manifest of the trash, itself included.
    pub fn purge(&mut self, repo: usize, manifest: usize) -> Result<usize, Code> {
        if self.is_held((repo, None)) {
            return Err(Code::Denied);
        }
        let entries = self.trash.iter().filter(|((there, _), _)| *there == repo);
        let gone: BTreeSet<usize> = entries
            .filter(|((_, entry), trashed)| *entry == manifest || trashed.with == Some(manifest))
            .map(|((_, entry), _)| *entry)
            .collect();
        if gone.is_empty() {
            return Err(Code::NotFound);
        }
        // Its blobs go with it, unless somebody has kept them.
        self.forget(repo, &gone, TimeDelta::zero());
        for manifest in &gone {
            for blob in self.needs[*manifest].blobs.clone() {
                let place = (repo, blob);
                let is_kept = self.blobs.get(&place).is_some_and(|kept| *kept > self.now);
                if !is_kept && !self.is_needed(repo, blob) {
                    self.blobs.remove(&place);
                }
            }
        }
        Ok(gone.len())
    }

    /// Whether the time of an entry is over, held or not.
    pub fn is_some_overdue(&self) -> bool {
        let mut entries = self.trash.values();
        entries.any(|trashed| trashed.purge_at <= self.now)
    }

    /// Takes away what has been in the trash for its time and is not held; whether there was any.
    pub fn purge_due(&mut self) -> bool {
        let due = self.trash.iter().filter(|((repo, _), trashed)| {
            trashed.purge_at <= self.now && !self.is_held((*repo, None))
        });
        let due: Vec<Place> = due.map(|(place, _)| *place).collect();
        for (repo, manifest) in &due {
            self.forget(*repo, &BTreeSet::from([*manifest]), GRACE);
        }
        !due.is_empty()
    }

    /// What comes back from the trash with a manifest, itself included: what it lists, what went with it, and so on.
    pub fn restorable(&self, repo: usize, manifest: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::from([manifest]);
        loop {
            let belongs = |((there, entry), trashed): &(&Place, &Trashed)| {
                let went_with = trashed.with.is_some_and(|with| seen.contains(&with));
                let is_listed = seen.iter().any(|parent| {
                    self.trash.contains_key(&(repo, *parent))
                        && self.needs[*parent].children.contains(entry)
                });
                *there == repo && !seen.contains(entry) && (went_with || is_listed)
            };
            let Some(((_, entry), _)) = self.trash.iter().find(belongs) else {
                break;
            };
            seen.insert(*entry);
        }
        seen.retain(|entry| self.trash.contains_key(&(repo, *entry)));
        seen
    }

    /// Those of them that cannot come back, since something that they list is gone for good.
    pub fn hopeless(&self, repo: usize, coming: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut hopeless = BTreeSet::new();
        loop {
            let lacks = |child: &usize| {
                !self.manifests.contains_key(&(repo, *child))
                    && (!coming.contains(child) || hopeless.contains(child))
            };
            let is_new = |entry: &&usize| {
                !hopeless.contains(*entry) && self.needs[**entry].children.iter().any(lacks)
            };
            match coming.iter().find(is_new).copied() {
                Some(entry) => hopeless.insert(entry),
                None => return hopeless,
            };
        }
    }

    /// Manifests have come back from the trash, one of them perhaps with a tag of its own. `tags` is where the tags of the
    /// repository point now: it is not said who gets a tag that several of them had.
    pub fn restore(
        &mut self,
        repo: usize,
        (back, given): (&BTreeSet<usize>, Option<(usize, usize)>),
        tags: &BTreeMap<usize, Option<usize>>,
    ) {
        let given = given.filter(|(root, _)| back.contains(root));
        for (tag, points_at) in tags {
            let had = |entry: &&usize| self.trash[&(repo, **entry)].tags.contains(tag);
            let is_given = |entry: &&usize| given.is_some_and(|(root, _)| root == **entry);
            let owners = back.iter().filter(|entry| !is_given(entry)).filter(had);
            let owners: BTreeSet<usize> = owners.copied().collect();
            let before = self.tags.get(&(repo, *tag)).copied();
            match (given, before) {
                (Some((root, new)), _) if new == *tag => assert_eq!(*points_at, Some(root)),
                (_, Some(before)) => assert_eq!(*points_at, Some(before)),
                (_, None) if owners.is_empty() => assert_eq!(*points_at, None),
                (_, None) => assert!(points_at.is_some_and(|owner| owners.contains(&owner))),
            }
        }
        for manifest in back {
            let pushed_at = self.trash[&(repo, *manifest)].pushed_at;
            self.store((repo, *manifest), pushed_at);
        }
        for (tag, points_at) in tags {
            if let Some(manifest) = points_at
                && self.tags.get(&(repo, *tag)) != Some(manifest)
            {
                self.point((repo, *tag), *manifest);
            }
        }
    }

    /// What a deleted tag points at again.
    pub fn restore_tag(&mut self, tag: Place) -> Result<usize, Code> {
        if self.tags.contains_key(&tag) {
            return Err(Code::Conflict);
        }
        let (manifest, _) = self.history.get(&tag).copied().ok_or(Code::NotFound)?;
        if !self.manifests.contains_key(&(tag.0, manifest)) {
            return Err(Code::Conflict);
        }
        self.point(tag, manifest);
        Ok(manifest)
    }

    /// What tags pointed at too long ago is not known any more.
    pub fn forget_tags(&mut self) {
        let before = self.now - TAG_HISTORY;
        self.history
            .retain(|_, (_, until)| until.is_none_or(|until| until > before));
    }
}
