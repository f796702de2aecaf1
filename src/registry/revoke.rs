//! Access tokens that are taken back before they expire.
//!
//! A token is good without a look into the database, so revocations are kept in memory; every node reads them again
//! every two seconds. While the database cannot be reached, what was known stays.

use std::{sync::PoisonError, time::Duration};

use chrono::TimeDelta;

use super::{Registry, access::UPLOAD_GRACE};
use crate::{
    auth::token::Claims,
    db::{
        Conn,
        revocations::{revocation_insert, revocation_list, revocations_sweep},
        secrets::secrets_sweep,
    },
    error::{Error, Result},
    model::revocation::{Revocations, Revoked},
    oci::AccountName,
};

/// How often a node looks for new revocations.
pub const REFRESH_EVERY: Duration = Duration::from_secs(2);

/// After how many looks what is over is removed: about once an hour.
pub const SWEEP_EVERY: u32 = 1800;

/// How long a secret that has ended is still listed.
const KEEP_ENDED: TimeDelta = TimeDelta::days(7);

impl Registry {
    /// A change that takes tokens back, in one transaction with their revocation: on this node they count no more
    /// from then on, on the others within [`REFRESH_EVERY`]. `change` says whose tokens, if any.
    pub(super) async fn write_and_revoke<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Conn) -> Result<(T, Vec<Revoked>)> + Send + 'static,
    ) -> Result<T> {
        let longest = self.settings.push_token.max(self.settings.pull_token);
        let longest = TimeDelta::from_std(longest).map_err(Error::internal)?;
        // A day more, for tokens that were issued when the configuration gave them longer.
        let expires_at = self.clock.now() + longest + UPLOAD_GRACE + TimeDelta::days(1);
        let (result, revocations) = self
            .db
            .write(move |conn| {
                let (result, revoked) = change(conn)?;
                let revocations = revoked
                    .into_iter()
                    .map(|one| revocation_insert(conn, one, expires_at))
                    .collect::<Result<Vec<_>>>()?;
                Ok((result, revocations))
            })
            .await?;
        let mut known = self
            .revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        revocations.into_iter().for_each(|one| known.insert(one));
        Ok(result)
    }

    /// Reads what was revoked on all nodes.
    pub async fn revocations_refresh(&self) -> Result<()> {
        let fresh: Revocations = self.db.read(revocation_list).await?.into_iter().collect();
        self.revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .refresh(fresh);
        Ok(())
    }

    /// Removes revocations and secrets that are over.
    pub async fn identity_sweep(&self) -> Result<()> {
        let now = self.clock.now();
        self.db
            .write(move |conn| {
                revocations_sweep(conn, now)?;
                secrets_sweep(conn, now - KEEP_ENDED)?;
                Ok(())
            })
            .await
    }

    pub(super) fn is_revoked(&self, claims: &Claims) -> bool {
        self.revocations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&claims.jti, &claims.sub, claims.revocations)
    }

    /// Whether what a token allows in an account was meant for one of that name that is gone.
    pub(super) fn is_for_deleted_account(&self, claims: &Claims, account: &AccountName) -> bool {
        self.revocations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_account(account, claims.revocations)
    }
}
