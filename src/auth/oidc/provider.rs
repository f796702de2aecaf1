//! One issuer: its metadata and keys, fetched when they are needed and kept.
//!
//! A token can make us call the issuer, so calls are counted: one at a time, and one in ten seconds, whatever comes. Keys
//! outlive a short outage of the issuer, but not a day of it. A newcomer will want to fetch inside of the request: a client
//! that hangs up would cancel the call for all others, so it runs in a task of its own.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use serde::Deserialize;
use tracing::warn;
use url::Url;

use super::{config::Settings, jwt::Header, keys::Keys};
use crate::{
    auth::outbound::{Outbound, OutboundError},
    clock::Clock,
};

/// How long the keys are used without asking for news.
const FRESH: TimeDelta = TimeDelta::hours(1);

/// How long they are used while the issuer does not answer.
const USABLE: TimeDelta = TimeDelta::hours(24);

/// The least time between two calls to an issuer, so that tokens with invented key names cannot make us hammer it.
const BETWEEN_CALLS: TimeDelta = TimeDelta::seconds(10);

/// How long a request whose key is known waits for news of it. Longer would let a slow issuer slow down everybody.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why an issuer could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    #[error("{what} is not what it should be: {reason}")]
    Document {
        what: &'static str,
        reason: &'static str,
    },
}

/// The keys cannot be had at present.
#[derive(Debug, thiserror::Error)]
#[error("the keys of the identity provider {0} cannot be fetched")]
pub(super) struct KeysMissing(String);

/// What is used of OpenID Connect Discovery 3 and RFC 8628, 4.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    jwks_uri: Option<Url>,
    pub(super) token_endpoint: Option<Url>,
    pub(super) device_authorization_endpoint: Option<Url>,
}

/// What was fetched last.
#[derive(Clone)]
pub(super) struct Fetched {
    keys: Arc<Keys>,
    /// Not there if keys come from a configured address and the issuer has no discovery.
    pub(super) metadata: Option<Arc<Metadata>>,
    at: DateTime<Utc>,
}

#[derive(Default)]
struct State {
    fetched: Option<Fetched>,
    called_at: Option<DateTime<Utc>>,
    has_failed: bool,
    running: Option<Shared<BoxFuture<'static, ()>>>,
}

/// An issuer.
pub(super) struct Provider {
    pub(super) settings: Settings,
    outbound: Outbound,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// What came of looking for a key.
pub(super) enum Lookup<T> {
    Found(T),
    /// The issuer has no such key.
    Unknown,
}

impl Provider {
    pub(super) fn new(settings: Settings, outbound: Outbound, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            outbound,
            clock,
            state: Mutex::default(),
        }
    }

    /// Hands the key for a token with this header to `with`.
    ///
    /// # Errors
    /// If the issuer may have the key but cannot be asked.
    pub(super) async fn with_key<T>(
        self: &Arc<Self>,
        header: &Header,
        with: impl Fn(&jsonwebtoken::DecodingKey, jsonwebtoken::Algorithm) -> T,
    ) -> Result<Lookup<T>, KeysMissing> {
        let look = |fetched: Option<&Fetched>| {
            let (key, algorithm) = fetched?.keys.find(header)?;
            Some(with(key, algorithm))
        };
        let known = self.usable();
        let is_fresh = known.as_ref().is_some_and(|known| self.age(known) < FRESH);
        if let Some(known) = known.filter(|known| known.keys.find(header).is_some()) {
            if !is_fresh && let Some(call) = self.call() {
                drop(tokio::time::timeout(PATIENCE, call).await);
                // The key may have been withdrawn.
                let newer = self.usable();
                return Ok(look(newer.as_ref()).map_or(Lookup::Unknown, Lookup::Found));
            }
            return Ok(look(Some(&known)).map_or(Lookup::Unknown, Lookup::Found));
        }
        if let Some(call) = self.call() {
            call.await;
        }
        let known = self.usable();
        if let Some(found) = look(known.as_ref()) {
            return Ok(Lookup::Found(found));
        }
        if known.is_none() || self.state().has_failed {
            return Err(KeysMissing(self.settings.name.clone()));
        }
        Ok(Lookup::Unknown)
    }

    /// What the issuer says about itself; `None` if it has no discovery.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub(super) async fn metadata(self: &Arc<Self>) -> Result<Option<Arc<Metadata>>, KeysMissing> {
        let known = self.usable();
        if known.is_none_or(|known| self.age(&known) >= FRESH)
            && let Some(call) = self.call()
        {
            call.await;
        }
        let known = self.usable();
        let known = known.ok_or_else(|| KeysMissing(self.settings.name.clone()))?;
        Ok(known.metadata)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self, fetched: &Fetched) -> TimeDelta {
        self.clock.now() - fetched.at
    }

    fn usable(&self) -> Option<Fetched> {
        let fetched = self.state().fetched.clone();
        fetched.filter(|fetched| self.age(fetched) < USABLE)
    }

    /// The call that runs, or a new one if it is time for one.
    fn call(self: &Arc<Self>) -> Option<Shared<BoxFuture<'static, ()>>> {
        let now = self.clock.now();
        let mut state = self.state();
        if let Some(running) = &state.running {
            return Some(running.clone());
        }
        // By its absolute value: a clock that was put back must not stop all calls.
        if state
            .called_at
            .is_some_and(|at| (now - at).abs() < BETWEEN_CALLS)
        {
            return None;
        }
        state.called_at = Some(now);
        let provider = Arc::clone(self);
        let task = tokio::spawn(async move {
            let result = provider.fetch().await;
            provider.keep(result, now);
        });
        let running = async move { drop(task.await) }.boxed().shared();
        state.running = Some(running.clone());
        Some(running)
    }

    fn keep(&self, result: Result<(Keys, Option<Metadata>), FetchError>, now: DateTime<Utc>) {
        let mut state = self.state();
        state.running = None;
        state.has_failed = result.is_err();
        match result {
            Ok((keys, metadata)) => {
                state.fetched = Some(Fetched {
                    keys: Arc::new(keys),
                    metadata: metadata.map(Arc::new),
                    at: now,
                });
            }
            Err(error) => {
                let provider = self.settings.name.as_str();
                warn!(provider, error = %chain(&error), "an identity provider cannot be asked");
            }
        }
    }

    async fn fetch(&self) -> Result<(Keys, Option<Metadata>), FetchError> {
        let config = &self.settings.config;
        let (metadata, url) = match &config.jwks_uri {
            Some(url) if config.client_id.is_none() => (None, url.clone()),
            // Then discovery is for `kontor login` only.
            Some(url) => (self.discover().await.ok(), url.clone()),
            None => {
                let metadata = self.discover().await?;
                let url = metadata.jwks_uri.clone();
                let url = url.ok_or(FetchError::Document {
                    what: "the issuer's metadata",
                    reason: "it has no jwks_uri",
                })?;
                (Some(metadata), url)
            }
        };
        let set = self.outbound.get(&url).await?;
        let keys = Keys::parse(&set, &self.settings.algorithms);
        let keys = keys.map_err(|_| FetchError::Document {
            what: "the issuer's key set",
            reason: "it is no JWK set",
        })?;
        Ok((keys, metadata))
    }

    async fn discover(&self) -> Result<Metadata, FetchError> {
        let fault = |reason| FetchError::Document {
            what: "the issuer's metadata",
            reason,
        };
        let document = self.outbound.get(&self.settings.discovery_url).await?;
        let metadata: Metadata =
            serde_json::from_slice(&document).map_err(|_| fault("it is not as specified"))?;
        // OpenID Connect Discovery 4.3: otherwise one issuer could speak for another.
        if metadata.issuer != self.settings.config.issuer {
            return Err(fault("it is another issuer's"));
        }
        let endpoints = [
            &metadata.token_endpoint,
            &metadata.device_authorization_endpoint,
        ];
        for url in endpoints.into_iter().flatten() {
            self.outbound.check(url)?;
        }
        Ok(metadata)
    }
}

/// The whole reason in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.settings.name)
            .field("issuer", &self.settings.config.issuer)
            .finish_non_exhaustive()
    }
}
