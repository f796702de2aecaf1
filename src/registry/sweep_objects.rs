//! Deletes objects that belong to nothing: what writes that died have left, and what could not be deleted before.

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
    /// Since when an object has been due, or when the first one will be.
    pub(super) async fn loose_objects_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        let noted = self.db.read(loose_objects_since).await?;
        Ok(noted.map(|at| at + self.settings.janitor.loose_objects))
    }

    /// Deletes some objects that have belonged to nothing for long enough; `false` if none is due. What cannot be deleted
    /// is due again after the same time.
    pub(super) async fn loose_objects_sweep(&self) -> Result<bool> {
        let now = self.clock.now();
        let before = now - self.settings.janitor.loose_objects;
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
