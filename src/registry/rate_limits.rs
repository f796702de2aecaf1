//! How often somebody may pull and push in one account: whose bucket a request falls into, and where the buckets are.
//!
//! A bucket belongs to an account and an identity, so that a robot that runs wild stops neither another robot nor
//! another tenant; who has not logged in has the bucket of the address. What a newcomer gets wrong: this is against
//! abuse, so it must never be the reason of an outage. If the buckets cannot be reached, the request goes on.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use quick_cache::unsync::Cache;
use tracing::warn;

use super::{Registry, access::RepoAccess};
use crate::{
    auth::login_limit::network,
    db::rate_limits::{BucketKey, rate_limit_take, rate_limits_sweep},
    error::Result,
    model::rate_limit::{Rate, RateLimitKind, RateLimitStatus, bucket_time},
};

/// How many buckets a node remembers; the least used are forgotten, which empties them.
const REMEMBERED: usize = 64 * 1024;

/// What the configuration says.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateLimitSettings {
    /// Whether the buckets lie in the database.
    pub in_database: bool,
    /// GET of a blob.
    pub blob_pulls: Option<Rate>,
    /// A blob that is sent or mounted.
    pub blob_pushes: Option<Rate>,
    /// GET of a manifest.
    pub manifest_pulls: Option<Rate>,
    /// PUT of a manifest.
    pub manifest_pushes: Option<Rate>,
}

impl RateLimitSettings {
    fn rate(&self, kind: RateLimitKind) -> Option<Rate> {
        match kind {
            RateLimitKind::BlobPull => self.blob_pulls,
            RateLimitKind::BlobPush => self.blob_pushes,
            RateLimitKind::ManifestPull => self.manifest_pulls,
            RateLimitKind::ManifestPush => self.manifest_pushes,
        }
    }
}

/// The buckets of this process.
#[derive(Debug)]
pub(super) struct RateLimits {
    settings: RateLimitSettings,
    /// Keys are hashes with a random seed: nobody can make two of them collide on purpose.
    seed: RandomState,
    buckets: Mutex<Cache<u64, i64>>,
}

impl RateLimits {
    pub(super) fn new(settings: RateLimitSettings) -> Self {
        Self {
            settings,
            seed: RandomState::new(),
            buckets: Mutex::new(Cache::new(REMEMBERED)),
        }
    }

    fn take(&self, key: &BucketKey, rate: Rate, now: i64) -> RateLimitStatus {
        let hash = self
            .seed
            .hash_one((key.account.as_str(), key.kind, &key.who));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let status = rate.decide(buckets.get(&hash).copied(), now);
        buckets.insert(hash, status.empty_at);
        status
    }
}

/// Who has not logged in, for a bucket.
fn address(client: Option<IpAddr>) -> String {
    client.map_or_else(
        || "address unknown".to_owned(),
        |client| format!("address {}", network(client)),
    )
}

impl Registry {
    /// Counts a request. `None`: nothing is limited here.
    pub async fn rate_limit<P>(
        &self,
        access: &RepoAccess<P>,
        kind: RateLimitKind,
    ) -> Option<RateLimitStatus> {
        let limits = &self.rate_limits;
        let rate = limits.settings.rate(kind)?;
        let caller = access.caller();
        let key = BucketKey {
            account: access.name().account.clone(),
            kind,
            who: caller
                .display_name()
                .unwrap_or_else(|| address(caller.origin().client)),
        };
        let now = bucket_time(self.clock.now());
        if !limits.settings.in_database {
            return Some(limits.take(&key, rate, now));
        }
        let taken = self
            .db
            .write(move |conn| rate_limit_take(conn, &key, rate, now))
            .await;
        taken
            .inspect_err(
                |error| warn!(error = ?error, "a request was not counted for its rate limit"),
            )
            .ok()
    }

    /// Forgets buckets in the database that are empty.
    pub async fn rate_limits_sweep(&self) -> Result<()> {
        if !self.rate_limits.settings.in_database {
            return Ok(());
        }
        let now = bucket_time(self.clock.now());
        self.db
            .write(move |conn| rate_limits_sweep(conn, now).map(drop))
            .await
    }
}
