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
        revocations::{revocation_insert, revocation_list, revocations_sweep},
        secrets::secrets_sweep,
    },
    error::{Error, Result},
    model::revocation::{Revocation, Revocations, Revoked},
};

/// How often a node looks for new revocations.
pub const REFRESH_EVERY: Duration = Duration::from_secs(2);

/// After how many looks what is over is removed: about once an hour.
pub const SWEEP_EVERY: u32 = 1800;

/// How long a secret that has ended is still listed.
const KEEP_ENDED: TimeDelta = TimeDelta::days(7);

impl Registry {
    /// Takes tokens back: on this node at once, on the others within [`REFRESH_EVERY`].
    pub(super) async fn revoke(&self, revoked: Revoked) -> Result<()> {
        let now = self.clock.now();
        let longest = self.settings.push_token.max(self.settings.pull_token);
        let longest = TimeDelta::from_std(longest).map_err(Error::internal)?;
        let revocation = Revocation {
            revoked,
            issued_until: now,
            expires_at: now + longest + UPLOAD_GRACE + TimeDelta::minutes(5),
        };
        let stored = revocation.clone();
        self.db
            .write(move |conn| revocation_insert(conn, &stored))
            .await?;
        let mut known = self
            .revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(revocation);
        Ok(())
    }

    /// Reads what was revoked on all nodes.
    pub async fn revocations_refresh(&self) -> Result<()> {
        let fresh: Revocations = self.db.read(revocation_list).await?.into_iter().collect();
        let mut known = self
            .revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = fresh;
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
            .contains(&claims.jti, &claims.sub, claims.issued_at())
    }
}
