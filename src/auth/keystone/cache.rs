//! Checks that were made a moment ago, and checks that are being made: the same login is asked of Keystone once.
//!
//! What a newcomer gets wrong: the key is a salted hash, never the secret, and every field in it has its length before
//! it, so that no two logins share one. And an outcome that may not be kept is stored all the same, already stale: those
//! who waited for it take it, nobody after them does.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::hmac;
use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;

use crate::{
    auth::driver::{AuthError, Identity},
    clock::Clock,
};

/// How many logins are remembered.
const REMEMBERED: usize = 16 * 1024;

/// How long a wrong password is remembered: it slows down guessing, and a new user waits no longer than this.
const REMEMBER_FAILURES: TimeDelta = TimeDelta::seconds(2);

/// The outcome of a check; unlike [`AuthError`] it can be given to several.
#[derive(Debug, Clone)]
enum Outcome {
    Known(Arc<Identity>),
    Rejected,
    Misused(String),
    Limited(Duration),
    Unavailable(String),
}

impl Outcome {
    fn of(result: Result<Identity, AuthError>) -> Self {
        match result {
            Ok(identity) => Self::Known(Arc::new(identity)),
            Err(AuthError::Rejected) => Self::Rejected,
            Err(AuthError::Misused(reason)) => Self::Misused(reason),
            Err(AuthError::Limited { retry_after }) => Self::Limited(retry_after),
            Err(AuthError::Unavailable(source)) => Self::Unavailable(source.to_string()),
        }
    }

    fn result(self) -> Result<Identity, AuthError> {
        match self {
            Self::Known(identity) => Ok(Identity::clone(&identity)),
            Self::Rejected => Err(AuthError::Rejected),
            Self::Misused(reason) => Err(AuthError::Misused(reason)),
            Self::Limited(retry_after) => Err(AuthError::Limited { retry_after }),
            Self::Unavailable(reason) => Err(AuthError::unavailable(reason)),
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    outcome: Outcome,
    until: DateTime<Utc>,
    /// When the check ended, in the order of all checks.
    ended: u64,
}

/// The key of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// What a check found, and how long that may be believed at most.
pub(super) struct Found {
    pub(super) identity: Identity,
    pub(super) until: DateTime<Utc>,
}

/// The memory of checks.
pub(super) struct Checks {
    entries: Cache<Key, Entry>,
    /// Of this process alone: a fingerprint in a memory dump cannot be compared with a list of passwords made before.
    salt: hmac::Key,
    clock: Arc<dyn Clock>,
    remember: TimeDelta,
    order: AtomicU64,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks")
            .field("remember", &self.remember)
            .finish_non_exhaustive()
    }
}

impl Checks {
    /// `remember` is how long a successful check counts; zero turns the memory off. Errors: the machine gives no
    /// random bytes.
    pub(super) fn new(remember: TimeDelta, clock: Arc<dyn Clock>) -> Result<Self, AuthError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| AuthError::Unavailable(Box::new(error)))?;
        Ok(Self {
            entries: Cache::new(REMEMBERED),
            salt: hmac::Key::new(hmac::HMAC_SHA256, &salt),
            clock,
            remember,
            order: AtomicU64::new(0),
        })
    }

    /// The time, by the clock that the memory goes by.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The key of these fields, the secret among them.
    pub(super) fn key(&self, fields: &[&str]) -> Key {
        let mut context = hmac::Context::with_key(&self.salt);
        for field in fields {
            context.update(&field.len().to_le_bytes());
            context.update(field.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        Key(key)
    }

    /// The outcome of the last check of this key if it may still be believed, or of one that is under way; or else of
    /// `check`. If that is dropped, one of those who wait goes on with its own.
    pub(super) async fn get_or(
        &self,
        key: Key,
        check: impl Future<Output = Result<Found, AuthError>>,
    ) -> Result<Identity, AuthError> {
        let began = self.order.fetch_add(1, Ordering::Relaxed);
        let guard = loop {
            match self.entries.get_value_or_guard_async(&key).await {
                Ok(entry) if entry.ended > began || self.clock.now() < entry.until => {
                    return entry.outcome.result();
                }
                // Somebody else may have put a new one there in the meantime.
                Ok(stale) => {
                    let is_stale = |entry: &Entry| entry.ended == stale.ended;
                    self.entries.remove_if(&key, is_stale);
                }
                Err(guard) => break guard,
            }
        };
        let found = check.await;
        let entry = self.entry(found);
        // It is refused only if the place was taken from us: then somebody else's check stands there.
        drop(guard.insert(entry.clone()));
        entry.outcome.result()
    }

    fn entry(&self, found: Result<Found, AuthError>) -> Entry {
        let now = self.clock.now();
        let is_off = self.remember <= TimeDelta::zero();
        let until = match &found {
            _ if is_off => now,
            Ok(found) => found.until.min(now + self.remember),
            Err(AuthError::Rejected | AuthError::Misused(_)) => now + REMEMBER_FAILURES,
            Err(AuthError::Limited { .. } | AuthError::Unavailable(_)) => now,
        };
        Entry {
            outcome: Outcome::of(found.map(|found| found.identity)),
            until,
            ended: self.order.fetch_add(1, Ordering::Relaxed),
        }
    }
}
