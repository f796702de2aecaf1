//! Ends uploads that nobody goes on with.

use chrono::{DateTime, Utc};
use tracing::info;

use super::Registry;
use crate::{
    db::{
        quotas::quota_settle,
        uploads::{upload_abandoned, upload_end, upload_find, uploads_rest_since},
    },
    error::Result,
    model::quota::Amounts,
};

impl Registry {
    /// Since when an upload has been due to be ended, or when the first one will be.
    pub(super) async fn uploads_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        let rests = self.db.read(uploads_rest_since).await?;
        Ok(rests.map(|at| at + self.settings.janitor.abandoned_uploads))
    }

    /// Ends the upload that has rested for longest, if it has for long enough; `false` if there is none.
    pub(super) async fn upload_abandon(&self) -> Result<bool> {
        let now = self.clock.now();
        let before = now - self.settings.janitor.abandoned_uploads;
        let ended = self
            .db
            .write(move |conn| {
                let Some((name, id)) = upload_abandoned(conn, before)? else {
                    return Ok(None);
                };
                let Some(upload) = upload_find(conn, &name, id)? else {
                    return Ok(None);
                };
                let Some((objects, released)) = upload_end(conn, &upload, now)? else {
                    return Ok(None);
                };
                let account = upload.repo.account;
                quota_settle(conn, &account.name, &Amounts::reserved(-released))?;
                Ok(Some((account, name, released, objects)))
            })
            .await?;
        let Some((account, name, bytes, objects)) = ended else {
            return Ok(false);
        };
        info!(repository = %name, bytes, "an upload that nobody went on with has ended");
        self.objects_delete(&account, objects).await;
        Ok(true)
    }
}
