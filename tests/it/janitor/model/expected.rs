//! What must be there, worked out from the documents and not from the code: sets and times, nothing else.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use kontor::error::Code;

use super::plan::{BLOBS, MANIFESTS};

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

/// What must be there. Everything is a number, and a pair begins with the repository's.
#[derive(Debug)]
pub struct Expected {
    pub now: DateTime<Utc>,
    pub needs: Vec<Needs>,
    /// The blobs of repositories, and how long each stays at least if no manifest needs it.
    pub blobs: BTreeMap<(usize, usize), DateTime<Utc>>,
    pub manifests: BTreeSet<(usize, usize)>,
    pub tags: BTreeMap<(usize, usize), usize>,
}

impl Expected {
    pub fn new(now: DateTime<Utc>, needs: Vec<Needs>) -> Self {
        Self {
            now,
            needs,
            blobs: BTreeMap::new(),
            manifests: BTreeSet::new(),
            tags: BTreeMap::new(),
        }
    }

    /// Whether a manifest of the repository needs the blob.
    pub fn is_needed(&self, repo: usize, blob: usize) -> bool {
        (0..MANIFESTS).any(|manifest| {
            self.manifests.contains(&(repo, manifest)) && self.needs[manifest].blobs.contains(&blob)
        })
    }

    fn keep(&mut self, place: (usize, usize), time: TimeDelta) {
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

    pub fn push_manifest(
        &mut self,
        repo: usize,
        (manifest, tag): (usize, Option<usize>),
    ) -> Result<(), Code> {
        if !self.manifests.contains(&(repo, manifest)) {
            let needs = &self.needs[manifest];
            let has_blobs = needs
                .blobs
                .iter()
                .all(|blob| self.blobs.contains_key(&(repo, *blob)));
            let has_children = needs
                .children
                .iter()
                .all(|child| self.manifests.contains(&(repo, *child)));
            if !has_blobs || !has_children {
                return Err(Code::ManifestBlobUnknown);
            }
            // Who has kept them for it has got what he wanted.
            for blob in &needs.blobs {
                self.blobs.insert((repo, *blob), self.now);
            }
            self.manifests.insert((repo, manifest));
        }
        if let Some(tag) = tag {
            self.tags.insert((repo, tag), manifest);
        }
        Ok(())
    }

    pub fn untag(&mut self, repo: usize, tag: usize) -> Result<(), Code> {
        let removed = self.tags.remove(&(repo, tag));
        removed.map(|_| ()).ok_or(Code::ManifestUnknown)
    }

    pub fn delete_manifest(&mut self, repo: usize, manifest: usize) -> Result<(), Code> {
        if !self.manifests.contains(&(repo, manifest)) {
            return Err(Code::ManifestUnknown);
        }
        if (0..MANIFESTS).any(|parent| {
            self.manifests.contains(&(repo, parent))
                && self.needs[parent].children.contains(&manifest)
        }) {
            return Err(Code::InUse);
        }
        let needs = |manifest: usize| &self.needs[manifest];
        let gone = with_referrers(needs, (&self.manifests, &self.tags), (repo, manifest));
        for manifest in &gone {
            self.manifests.remove(&(repo, *manifest));
        }
        self.tags
            .retain(|(there, _), tagged| *there != repo || !gone.contains(tagged));
        for manifest in gone {
            for blob in self.needs[manifest].blobs.clone() {
                if !self.is_needed(repo, blob) {
                    self.keep((repo, blob), GRACE);
                }
            }
        }
        Ok(())
    }

    pub fn delete_blob(&mut self, repo: usize, blob: usize) -> Result<(), Code> {
        if self.is_needed(repo, blob) {
            return Err(Code::InUse);
        }
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
    (manifests, tags): (&BTreeSet<Place>, &BTreeMap<Place, usize>),
    (repo, manifest): (usize, usize),
) -> BTreeSet<usize> {
    let mut gone = BTreeSet::from([manifest]);
    loop {
        let stays = |other: &usize| manifests.contains(&(repo, *other)) && !gone.contains(other);
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
