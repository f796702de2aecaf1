//! Takes blobs out of repositories where nothing needs them, and out of the account when no repository has them.
//!
//! How it is known that nothing needs them: `db/blob_mounts.rs`.

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tracing::info;

use super::Registry;
use crate::{
    db::{
        accounts::account_find,
        audit::audit_append,
        blob_mounts::{MountsSwept, mounts_due_since, mounts_sweep},
        loose_objects::LooseObject,
    },
    error::Result,
    model::{
        account::Account,
        audit::{AuditAction, AuditEvent, AuditOutcome},
    },
    oci::AccountName,
};

/// How many mounts one transaction takes.
const MOUNTS_AT_ONCE: i64 = 20;

impl Registry {
    /// Since when a mount has been due, or when the first one will be.
    pub(super) async fn mounts_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        self.db.read(mounts_due_since).await
    }

    /// Takes some mounts away that nobody uses, with the blobs that cannot be reached any more; `false` if none is due.
    pub(super) async fn mounts_sweep(&self) -> Result<bool> {
        let (now, begun) = (self.clock.now(), Instant::now());
        let event = self.own_event(AuditAction::BlobDelete);
        let swept = self
            .db
            .write(move |conn| {
                let swept = mounts_sweep(conn, now, MOUNTS_AT_ONCE)?;
                if let Some(swept) = swept.as_ref().filter(|swept| swept.mounts > 0)
                    && let Some(account) = account_find(conn, &swept.account)?
                {
                    audit_append(conn, &blobs_event(event, swept, &account))?;
                }
                Ok(swept)
            })
            .await?;
        let Some(swept) = swept.filter(|swept| swept.mounts > 0) else {
            return Ok(false);
        };
        let (account, mounts, blobs) = (swept.account, swept.mounts, swept.blobs);
        info!(%account, mounts, blobs, "blobs that nothing needs were taken out of their repositories");
        self.objects_delete_of(&account, swept.objects).await?;
        self.rest_after(begun).await;
        Ok(true)
    }

    /// Deletes objects of an account that is known by its name. If the account has gone, so have they.
    pub(super) async fn objects_delete_of(
        &self,
        account: &AccountName,
        objects: Vec<LooseObject>,
    ) -> Result<usize> {
        let name = account.clone();
        let account = self.db.read(move |conn| account_find(conn, &name)).await?;
        Ok(match account {
            Some(account) => self.objects_delete(&account, objects).await,
            None => 0,
        })
    }
}

/// One event for what a sweep has taken: a manifest's deletion, which is the reason, has one of its own.
fn blobs_event(event: AuditEvent, swept: &MountsSwept, account: &Account) -> AuditEvent {
    let MountsSwept { mounts, blobs, .. } = swept;
    let reason = format!(
        "no manifest needs them: {mounts} blobs left repositories, {blobs} of them the account"
    );
    event.on(account).ended(AuditOutcome::Success, reason)
}
