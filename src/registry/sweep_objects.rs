//! Deletes objects that belong to nothing: what writes that died have left, and what could not be deleted before.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::info;

use super::Registry;
use crate::{
    db::loose_objects::{loose_objects_since, loose_objects_sweep_due},
    error::Result,
};

/// How many objects are taken at a time.
const OBJECTS_AT_ONCE: i64 = 200;

impl Registry {
    /// How long objects stay that belong to nothing. Who was sent to one before it was moved or merged can still read it.
    fn loose_objects_stay(&self) -> Duration {
        let settings = &self.settings;
        settings.janitor.loose_objects.max(settings.moves.grace)
    }

    /// Since when an object has been due, or when the first one will be.
    pub(super) async fn loose_objects_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        let noted = self.db.read(loose_objects_since).await?;
        Ok(noted.map(|at| at + self.loose_objects_stay()))
    }

    /// Deletes some objects that have belonged to nothing for long enough; `false` if none is due. What cannot be deleted
    /// is due again after the same time.
    pub(super) async fn loose_objects_sweep(&self) -> Result<bool> {
        let now = self.clock.now();
        let before = now - self.loose_objects_stay();
        let swept = self
            .db
            .write(move |conn| loose_objects_sweep_due(conn, (now, before), OBJECTS_AT_ONCE))
            .await?;
        if swept.is_empty() {
            return Ok(false);
        }
        for (account, objects) in swept {
            let count = objects.len();
            let deleted = self.objects_delete_of(&account, objects).await?;
            info!(%account, count, deleted, "objects that belonged to nothing were swept");
        }
        Ok(true)
    }
}
