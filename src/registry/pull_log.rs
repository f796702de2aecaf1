//! When manifests were last pulled: collected in memory, written every few seconds in one transaction.
//! A pull must not wait for a write. A crash loses some seconds of it, which no rule depends on. The same for blobs that
//! somebody who may push has looked up: they are about to be part of a manifest.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::Registry;
use crate::{
    db::{
        blob_mounts::mounts_keep,
        manifests::{Pull, pulls_note},
    },
    error::Result,
    oci::{Digest, FullRepoName},
};

/// How often the pulls are written.
pub const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// How many different pulls are kept between two flushes; more than that are not worth the memory.
const MAX_PULLS: usize = 100_000;

type Key = (i64, Digest, Option<String>);

#[derive(Debug, Default)]
pub(super) struct PullLog(Mutex<HashMap<Key, Pull>>);

/// A blob of a repository.
type Wanted = (FullRepoName, Digest);

/// Blobs that somebody is about to push a manifest with.
#[derive(Debug, Default)]
pub(super) struct WantedBlobs(Mutex<HashSet<Wanted>>);

impl WantedBlobs {
    pub(super) fn note(&self, name: &FullRepoName, digest: &Digest) {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.len() < MAX_PULLS {
            wanted.insert((name.clone(), digest.clone()));
        }
    }

    fn put_back(&self, wanted: Vec<Wanted>) {
        for (name, digest) in wanted {
            self.note(&name, &digest);
        }
    }

    fn take(&self) -> Vec<Wanted> {
        let taken = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut wanted: Vec<_> = taken.into_iter().collect();
        wanted.sort();
        wanted
    }
}

impl PullLog {
    pub(super) fn note(&self, pull: Pull) {
        let mut pulls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (pull.repo_id, pull.digest.clone(), pull.tag.clone());
        if pulls.len() < MAX_PULLS || pulls.contains_key(&key) {
            pulls.insert(key, pull);
        }
    }

    fn take(&self) -> Vec<Pull> {
        let taken = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut pulls: Vec<Pull> = taken.into_values().collect();
        // The same order on every node, so that two of them do not wait for each other's rows.
        pulls.sort_by(|a, b| (a.repo_id, &a.digest, &a.tag).cmp(&(b.repo_id, &b.digest, &b.tag)));
        pulls
    }
}

impl Registry {
    /// Writes the pulls that were collected, and keeps the blobs that somebody is about to push a manifest with.
    pub async fn pulls_flush(&self) -> Result<()> {
        let (pulls, wanted) = (self.pulls.take(), self.wanted.take());
        if pulls.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        let keep_until = self.blob_times().keep_until;
        let keeping = wanted.clone();
        let kept = self
            .db
            .write(move |conn| mounts_keep(conn, &keeping, keep_until))
            .await;
        if kept.is_err() {
            self.wanted.put_back(wanted);
        }
        self.db.write(move |conn| pulls_note(conn, &pulls)).await?;
        kept
    }
}
