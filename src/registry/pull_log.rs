//! When manifests were last pulled: collected in memory, written every few seconds in one transaction.
//! A pull must not wait for a write. A crash loses some seconds of it, which no rule depends on.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::Registry;
use crate::{
    db::manifests::{Pull, pulls_note},
    error::Result,
    oci::Digest,
};

/// How often the pulls are written.
pub const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// How many different pulls are kept between two flushes; more than that are not worth the memory.
const MAX_PULLS: usize = 100_000;

type Key = (i64, Digest, Option<String>);

#[derive(Debug, Default)]
pub(super) struct PullLog(Mutex<HashMap<Key, Pull>>);

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
    /// Writes the pulls that were collected.
    pub async fn pulls_flush(&self) -> Result<()> {
        let pulls = self.pulls.take();
        if pulls.is_empty() {
            return Ok(());
        }
        self.db.write(move |conn| pulls_note(conn, &pulls)).await
    }
}
