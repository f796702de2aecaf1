//! What must be there, worked out from the documents and not from the code: sets and times, nothing else.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use kontor::error::Code;

use super::{
    made::Made,
    plan::{BLOBS, Held, MANIFESTS},
};

/// How long a blob stays in a repository after the last manifest that needed it was deleted.
pub const GRACE: TimeDelta = TimeDelta::minutes(5);

/// How long it stays after somebody has pushed it, mounted it, or asked for it to push.
const UNUSED: TimeDelta = TimeDelta::days(1);

/// After how long an upload ends that nobody goes on with.
pub const ABANDONED: TimeDelta = TimeDelta::days(1);

/// What a manifest refers to.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    pub blobs: BTreeSet<usize>,
    pub children: BTreeSet<usize>,
    pub subject: Option<usize>,
}

/// Something of a repository: first the repository's number.
pub type Place = (usize, usize);

/// A manifest in the trash.
#[derive(Debug, Clone)]
pub struct Trashed {
    pub pushed_at: DateTime<Utc>,
    pub deleted_at: DateTime<Utc>,
    pub purge_at: DateTime<Utc>,
    pub tags: BTreeSet<usize>,
    /// The manifest whose deletion took it with it.
    pub with: Option<usize>,
}

/// What must be there. Everything is a number, and a pair begins with the repository's.
#[derive(Debug)]
pub struct Expected {
    pub now: DateTime<Utc>,
    pub needs: Vec<Needs>,
    /// The order of the manifests by their digests, the last one first.
    pub rank: Vec<usize>,
    /// How long the trash keeps what is deleted, if there is one.
    pub trash_time: Option<TimeDelta>,
    /// The blobs of repositories, and how long each stays at least if no manifest needs it.
    pub blobs: BTreeMap<Place, DateTime<Utc>>,
    /// With the times of their pushes.
    pub manifests: BTreeMap<Place, DateTime<Utc>>,
    pub trash: BTreeMap<Place, Trashed>,
    pub tags: BTreeMap<Place, usize>,
    /// What tags pointed at last, and since when they do not.
    pub history: BTreeMap<Place, (usize, Option<DateTime<Utc>>)>,
    pub holds: BTreeMap<Held, DateTime<Utc>>,
}

impl Expected {
    pub fn new(now: DateTime<Utc>, made: &[Made], trash_days: u16) -> Self {
        let digests = |one: &Made| {
            made.iter()
                .filter(|other| other.digest > one.digest)
                .count()
        };
        Self {
            now,
            needs: made.iter().map(|made| made.needs.clone()).collect(),
            rank: made.iter().map(digests).collect(),
            trash_time: (trash_days > 0).then(|| TimeDelta::days(trash_days.into())),
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            trash: BTreeMap::new(),
            tags: BTreeMap::new(),
            history: BTreeMap::new(),
            holds: BTreeMap::new(),
        }
    }

    /// Whether a manifest of the repository needs the blob.
    fn is_used(&self, repo: usize, blob: usize) -> bool {
        (0..MANIFESTS).any(|manifest| {
            self.manifests.contains_key(&(repo, manifest))
                && self.needs[manifest].blobs.contains(&blob)
        })
    }

    /// Whether a manifest of the repository or of its trash needs the blob.
    pub fn is_needed(&self, repo: usize, blob: usize) -> bool {
        let mut trash = self.trash.keys().filter(|(there, _)| *there == repo);
        self.is_used(repo, blob)
            || trash.any(|(_, manifest)| self.needs[*manifest].blobs.contains(&blob))
    }

    pub(super) fn keep(&mut self, place: Place, time: TimeDelta) {
        let until = self.now + time;
        let kept = self.blobs.entry(place).or_insert(until);
        *kept = until.max(*kept);
    }

    pub fn push_blob(&mut self, repo: usize, blob: usize) {
        self.keep((repo, blob), UNUSED);
    }

    /// Whether it can be mounted.
    pub fn mount(&mut self, repo: usize, (from, blob): (Option<usize>, usize)) -> bool {
        let is_there = match from {
            Some(from) => self.blobs.contains_key(&(from, blob)),
            None => self.blobs.keys().any(|(_, there)| *there == blob),
        };
        if is_there {
            self.keep((repo, blob), UNUSED);
        }
        is_there
    }

    pub fn look_up(&mut self, repo: usize, blob: usize) -> Result<(), Code> {
        if !self.blobs.contains_key(&(repo, blob)) {
            return Err(Code::BlobUnknown);
        }
        self.keep((repo, blob), UNUSED);
        Ok(())
    }

    /// Whether the repository has all that the manifest needs.
    fn has_all_of(&self, repo: usize, manifest: usize) -> bool {
        let needs = &self.needs[manifest];
        let mut blobs = needs.blobs.iter();
        let mut children = needs.children.iter();
        blobs.all(|blob| self.blobs.contains_key(&(repo, *blob)))
            && children.all(|child| self.manifests.contains_key(&(repo, *child)))
    }

    /// Whether something that a hold keeps would move if the tag came to point at the manifest.
    pub fn moves_held(&self, (repo, tag): Place, manifest: usize) -> bool {
        let tagged = self.tags.get(&(repo, tag));
        tagged.is_some_and(|tagged| *tagged != manifest) && self.is_held((repo, Some(tag)))
    }

    pub fn push_manifest(
        &mut self,
        repo: usize,
        (manifest, tag): (usize, Option<usize>),
    ) -> Result<(), Code> {
        let is_there = self.manifests.contains_key(&(repo, manifest));
        if !is_there && !self.has_all_of(repo, manifest) {
            return Err(Code::ManifestBlobUnknown);
        }
        if tag.is_some_and(|tag| self.moves_held((repo, tag), manifest)) {
            return Err(Code::Denied);
        }
        if !is_there {
            self.store((repo, manifest), self.now);
        }
        if let Some(tag) = tag {
            self.point((repo, tag), manifest);
        }
        Ok(())
    }

    /// A manifest is there from now on, and not in the trash.
    pub(super) fn store(&mut self, (repo, manifest): Place, pushed_at: DateTime<Utc>) {
        // Who has kept them for it has got what he wanted.
        for blob in &self.needs[manifest].blobs {
            self.blobs.insert((repo, *blob), self.now);
        }
        self.trash.remove(&(repo, manifest));
        self.manifests.insert((repo, manifest), pushed_at);
    }

    pub(super) fn point(&mut self, tag: Place, manifest: usize) {
        self.tags.insert(tag, manifest);
        self.history.insert(tag, (manifest, None));
    }

    fn unpoint(&mut self, tag: Place) -> bool {
        if let Some((_, until)) = self.history.get_mut(&tag) {
            until.get_or_insert(self.now);
        }
        self.tags.remove(&tag).is_some()
    }

    pub fn untag(&mut self, repo: usize, tag: usize) -> Result<(), Code> {
        if self.is_held((repo, Some(tag))) {
            return Err(Code::Denied);
        }
        let is_gone = self.unpoint((repo, tag));
        is_gone.then_some(()).ok_or(Code::ManifestUnknown)
    }

    pub fn tags_of(&self, (repo, manifest): Place) -> BTreeSet<usize> {
        let tags = self.tags.iter();
        let tags = tags.filter(|((there, _), tagged)| *there == repo && **tagged == manifest);
        tags.map(|((_, tag), _)| *tag).collect()
    }

    /// Whether a hold keeps the manifest.
    pub fn keeps_held(&self, place: Place) -> bool {
        let mut tags = self.tags_of(place).into_iter().map(Some).chain([None]);
        tags.any(|tag| self.is_held((place.0, tag)))
    }

    pub fn delete_manifest(&mut self, repo: usize, manifest: usize) -> Result<(), Code> {
        if self.keeps_held((repo, manifest)) {
            return Err(Code::Denied);
        }
        if !self.manifests.contains_key(&(repo, manifest)) {
            return Err(Code::ManifestUnknown);
        }
        if (0..MANIFESTS).any(|parent| {
            self.manifests.contains_key(&(repo, parent))
                && self.needs[parent].children.contains(&manifest)
        }) {
            return Err(Code::InUse);
        }
        let needs = |manifest: usize| &self.needs[manifest];
        let is_there = |place| self.manifests.contains_key(&place);
        let gone = with_referrers(needs, (is_there, &self.tags), (repo, manifest));
        self.take_away(repo, &gone, Some(manifest));
        Ok(())
    }

    /// Manifests are deleted, those but `root` because that is.
    pub(super) fn take_away(&mut self, repo: usize, gone: &BTreeSet<usize>, root: Option<usize>) {
        for manifest in gone {
            let place = (repo, *manifest);
            let tags = self.tags_of(place);
            for tag in &tags {
                self.unpoint((repo, *tag));
            }
            let pushed_at = self.manifests.remove(&place).unwrap();
            if let Some(time) = self.trash_time {
                let trashed = Trashed {
                    pushed_at,
                    deleted_at: self.now,
                    purge_at: self.now + time,
                    tags,
                    with: root.filter(|root| root != manifest),
                };
                self.trash.insert(place, trashed);
            }
        }
        self.release(repo, gone, GRACE);
    }

    /// These manifests need nothing any more: what nothing else needs stays for a time.
    pub(super) fn release(&mut self, repo: usize, manifests: &BTreeSet<usize>, time: TimeDelta) {
        for manifest in manifests {
            for blob in self.needs[*manifest].blobs.clone() {
                if !self.is_needed(repo, blob) {
                    self.keep((repo, blob), time);
                }
            }
        }
    }

    pub fn delete_blob(&mut self, repo: usize, blob: usize) -> Result<(), Code> {
        if self.is_held((repo, None)) {
            return Err(Code::Denied);
        }
        if self.is_used(repo, blob) {
            return Err(Code::InUse);
        }
        // What needs it in the trash goes for good.
        let trash = self.trash.keys().filter(|(there, _)| *there == repo);
        let needing = trash.filter(|(_, manifest)| self.needs[*manifest].blobs.contains(&blob));
        let needing: BTreeSet<usize> = needing.map(|(_, manifest)| *manifest).collect();
        self.forget(repo, &needing, GRACE);
        let removed = self.blobs.remove(&(repo, blob));
        removed.map(|_| ()).ok_or(Code::BlobUnknown)
    }

    /// Takes away what nobody needs and has stayed as long as it must; whether there was any.
    pub fn sweep_blobs(&mut self) -> bool {
        let due: Vec<_> = self
            .blobs
            .iter()
            .filter(|((repo, blob), kept)| **kept <= self.now && !self.is_needed(*repo, *blob))
            .map(|(place, _)| *place)
            .collect();
        for place in &due {
            self.blobs.remove(place);
        }
        !due.is_empty()
    }

    /// The blobs that some repository has.
    pub fn stored_blobs(&self) -> impl Iterator<Item = usize> {
        (0..BLOBS).filter(|blob| self.blobs.keys().any(|(_, there)| there == blob))
    }
}

/// A manifest, and what is about it, has no tag, and is listed by nothing that stays.
pub fn with_referrers<'a>(
    needs: impl Fn(usize) -> &'a Needs,
    (is_there, tags): (impl Fn(Place) -> bool, &BTreeMap<Place, usize>),
    (repo, manifest): Place,
) -> BTreeSet<usize> {
    let mut gone = BTreeSet::from([manifest]);
    loop {
        let stays = |other: &usize| is_there((repo, *other)) && !gone.contains(other);
        let is_listed = |other: usize| {
            let mut parents = (0..MANIFESTS).filter(stays);
            parents.any(|parent| needs(parent).children.contains(&other))
        };
        let is_tagged = |other: usize| {
            let mut tags = tags.iter().filter(|((there, _), _)| *there == repo);
            tags.any(|(_, tagged)| *tagged == other)
        };
        let goes = (0..MANIFESTS).filter(stays).find(|other| {
            let about = needs(*other).subject;
            about.is_some_and(|about| gone.contains(&about))
                && !is_listed(*other)
                && !is_tagged(*other)
        });
        match goes {
            Some(other) => gone.insert(other),
            None => return gone,
        };
    }
}
