//! What every node does every few seconds for itself. What any node may do for all is a job, see `registry/jobs.rs`.

use std::sync::Arc;

use tracing::warn;

use crate::registry::{Registry, pull_log, revoke};

/// Writes the collected pulls every few seconds.
pub(super) async fn flush_pulls(registry: Arc<Registry>) {
    let mut ticks = tokio::time::interval(pull_log::FLUSH_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = registry.pulls_flush().await {
            warn!(error = ?error, "pulls were not noted");
        }
    }
}

/// Learns what other nodes have revoked.
pub(super) async fn watch_revocations(registry: Arc<Registry>) {
    let mut ticks = tokio::time::interval(revoke::REFRESH_EVERY);
    let mut until_sweep = 0_u32;
    loop {
        ticks.tick().await;
        if let Err(error) = registry.revocations_refresh().await {
            warn!(error = ?error, "revocations could not be read; those that were known still count");
        }
        if until_sweep == 0
            && let Err(error) = registry.identity_sweep().await
        {
            warn!(error = ?error, "ended secrets and revocations were not removed");
        }
        if until_sweep == 0
            && let Err(error) = registry.rate_limits_sweep().await
        {
            warn!(error = ?error, "empty buckets of rate limits were not removed");
        }
        until_sweep = until_sweep.checked_sub(1).unwrap_or(revoke::SWEEP_EVERY);
    }
}
