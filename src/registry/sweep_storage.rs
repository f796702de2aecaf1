//! Compares containers with the database, and deletes what two sweeps have found there and nobody knows.
//!
//! Objects are noted before they are written, so nothing of ours is unknown; what is, was left by a restored backup or by
//! somebody who writes into the container. What a newcomer gets wrong: what is missing is not found here, but when the
//! content is read (`validate_blobs.rs`).

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use storage_drivers::ObjectKey;
use tracing::warn;

use super::Registry;
use crate::{
    db::{
        accounts::account_find,
        unknown_objects::{
            ContainerTask, container_due_since, container_sweep_claim, container_sweep_next,
            unknown_objects_forget, unknown_objects_note, unknown_of,
        },
    },
    error::Result,
    model::account::Account,
};

/// How long a sweep may be silent before another node begins it again.
const LEASE: Duration = Duration::from_secs(15 * 60);

/// When a sweep that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// How many objects are looked up at a time.
const OBJECTS_AT_ONCE: usize = 500;

impl Registry {
    /// Since when a container has been due, or when the first one will be.
    pub(super) async fn storage_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        if self.settings.janitor.storage_sweep.is_none() {
            return Ok(None);
        }
        self.db.read(container_due_since).await
    }

    /// Compares the container that is due for longest; `false` if none is.
    pub(super) async fn storage_sweep(&self) -> Result<bool> {
        let Some(every) = self.settings.janitor.storage_sweep else {
            return Ok(false);
        };
        let now = self.clock.now();
        let claimed = self
            .db
            .write(move |conn| container_sweep_claim(conn, now, now + LEASE))
            .await?;
        let Some(mut task) = claimed else {
            return Ok(false);
        };
        let name = task.account.clone();
        let account = self.db.read(move |conn| account_find(conn, &name)).await?;
        let Some(account) = account else {
            return Ok(true);
        };
        let swept = self.container_sweep(&account, &mut task, now).await;
        let next_at = self.after(if swept.is_ok() { every } else { RETRY_AFTER });
        self.db
            .write(move |conn| container_sweep_next(conn, &task, next_at))
            .await?;
        swept.map(|()| true)
    }

    async fn container_sweep(
        &self,
        account: &Account,
        task: &mut ContainerTask,
        begun: DateTime<Utc>,
    ) -> Result<()> {
        let driver = self.backends.get(&task.storage)?;
        let mut objects = driver.list(&account.tenant()).await?;
        let mut keys = Vec::with_capacity(OBJECTS_AT_ONCE);
        while let Some(object) = objects.try_next().await? {
            keys.push(object.key);
            if keys.len() == OBJECTS_AT_ONCE {
                self.unknown_sweep(account, task, std::mem::take(&mut keys))
                    .await?;
                if !self.container_keep(task).await? {
                    return Ok(());
                }
            }
        }
        self.unknown_sweep(account, task, keys).await?;
        // What was found long ago and found again is rubbish by now; what is left was not found again.
        let (task, long_ago) = (task.clone(), begun - self.settings.janitor.loose_objects);
        self.db
            .write(move |conn| unknown_objects_forget(conn, &task, long_ago))
            .await
    }

    /// Puts the lease off when a third of it is over; `false` if it is lost.
    async fn container_keep(&self, task: &mut ContainerTask) -> Result<bool> {
        let until = self.clock.now() + LEASE;
        if task.lease + LEASE / 3 > until {
            return Ok(true);
        }
        let held = task.clone();
        let is_ours = self
            .db
            .write(move |conn| container_sweep_next(conn, &held, until))
            .await?;
        // Only then: another node's lease may end at the same moment.
        if is_ours {
            task.lease = until;
        }
        Ok(is_ours)
    }

    async fn unknown_sweep(
        &self,
        account: &Account,
        task: &ContainerTask,
        keys: Vec<ObjectKey>,
    ) -> Result<()> {
        let unknown = self.db.read(move |conn| unknown_of(conn, &keys)).await?;
        if unknown.is_empty() {
            return Ok(());
        }
        let (now, noting) = (self.clock.now(), task.clone());
        let before = now - self.settings.janitor.loose_objects;
        let rubbish = self
            .db
            .write(move |conn| unknown_objects_note(conn, &noting, &unknown, (now, before)))
            .await?;
        if !rubbish.is_empty() {
            let (storage, count) = (&task.storage, rubbish.len());
            warn!(account = %account.name, storage, count, "objects that nobody knows are deleted: two sweeps found them");
            self.objects_delete(account, rubbish).await;
        }
        Ok(())
    }
}
