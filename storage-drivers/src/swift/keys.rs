//! The keys of a container, kept in its own metadata, and the addresses that they sign.

use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderMap;
use url::Url;

use super::container::{Containers, Known, header, not_prepared, random_text};
use super::temp_url::{self, Keys, Step};
use super::{joined, now};
use crate::{ObjectKey, StorageResult, Tenant};

/// Swift's own names of the keys that sign addresses.
const KEYS: [&str; 2] = [
    "X-Container-Meta-Temp-URL-Key",
    "X-Container-Meta-Temp-URL-Key-2",
];
/// `<active> <fresh or settled> <time of the last step>`
const KEY_STATE: &str = "X-Container-Meta-Kontor-Keys";

/// How long keys that cannot be seen are not looked for.
const UNSIGNED_FOR: Duration = Duration::from_secs(300);

impl Keys {
    /// The two keys of a new container.
    fn new() -> StorageResult<Self> {
        Ok(Self {
            values: [random_text()?, random_text()?],
            active: 0,
            is_fresh: false,
            stepped_at: now(),
        })
    }
}

impl Containers {
    /// Adds the keys of a new container to its metadata, if addresses are to be signed.
    pub(super) fn new_keys(&self, headers: &mut HeaderMap) -> StorageResult<()> {
        if self.signs() {
            keys_headers(headers, &Keys::new()?)?;
        }
        Ok(())
    }

    fn signs(&self) -> bool {
        self.config.temp_urls && !self.config.ceph_rgw
    }

    pub(super) async fn download_url(
        &self,
        tenant: &Tenant,
        key: ObjectKey,
        valid_for: Duration,
    ) -> StorageResult<Option<Url>> {
        if !self.signs() {
            return Ok(None);
        }
        let known = self.own(tenant).await?;
        let Some(keys) = self.keys(tenant, &known).await? else {
            return Ok(None);
        };
        let container = self.url_at(self.config.download_interface, tenant).await?;
        let expires = now() + valid_for.as_secs();
        let object = joined(&container, &key.to_string());
        Ok(Some(temp_url::signed(
            object,
            keys.active_key(),
            expires,
            self.config.temp_url_digest,
        )))
    }

    /// The container's keys, taken a step further if it is time, or made if they are missing.
    async fn keys(&self, tenant: &Tenant, known: &Known) -> StorageResult<Option<Keys>> {
        let step = |keys: &Keys| keys.next_step(now(), self.times.rotate_every, self.times.settle);
        if let Some(keys) = known.keys.as_ref().filter(|keys| step(keys) == Step::Keep) {
            return Ok(Some(keys.clone()));
        }
        let unsigned = self.unsigned.get(tenant);
        if unsigned.is_some_and(|since| since.elapsed() < UNSIGNED_FOR) {
            return Ok(None);
        }
        let _one_at_a_time = self.changes.lock().await;
        // Another node may have taken the step.
        let Some(known) = self.look(tenant).await? else {
            return Err(not_prepared(tenant));
        };
        let keys = match known.keys.clone() {
            Some(keys) => match step(&keys) {
                Step::Keep => return Ok(Some(keys)),
                Step::Replace => keys.replaced(random_text()?, now()),
                Step::Switch => keys.switched(now()),
            },
            None => Keys::new()?,
        };
        let mut headers = HeaderMap::new();
        keys_headers(&mut headers, &keys)?;
        self.change(Method::POST, tenant, headers).await?;
        // What counts is what is there now: somebody else may have been faster. A service user that may not see the
        // keys cannot sign.
        let seen = self
            .look(tenant)
            .await?
            .and_then(|known| known.keys.clone());
        if seen.is_none() {
            self.unsigned.insert(tenant.clone(), Instant::now());
            tracing::warn!(
                container = self.name(tenant),
                "the service user may not read the container's TempURL keys; downloads are not redirected"
            );
        }
        Ok(seen)
    }
}

/// The keys in a container's metadata.
pub(super) fn keys_of(headers: &HeaderMap) -> Option<Keys> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let state = text(KEY_STATE)?;
    let mut words = state.split(' ');
    let active = words.next()?.parse().ok().filter(|active| *active < 2)?;
    let is_fresh = words.next()? == "fresh";
    let stepped_at = words.next()?.parse().ok()?;
    Some(Keys {
        values: [text(KEYS[0])?, text(KEYS[1])?],
        active,
        is_fresh,
        stepped_at,
    })
}

fn keys_headers(headers: &mut HeaderMap, keys: &Keys) -> StorageResult<()> {
    for (name, value) in KEYS.into_iter().zip(&keys.values) {
        header(headers, name, value)?;
    }
    let state = if keys.is_fresh { "fresh" } else { "settled" };
    let text = format!("{} {state} {}", keys.active, keys.stepped_at);
    header(headers, KEY_STATE, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_headers() {
        let keys = Keys {
            values: ["one".to_owned(), "two".to_owned()],
            active: 1,
            is_fresh: true,
            stepped_at: 77,
        };
        let mut headers = HeaderMap::new();
        keys_headers(&mut headers, &keys).unwrap();
        assert!(keys_of(&headers) == Some(keys));
        headers.insert(
            KEY_STATE
                .to_ascii_lowercase()
                .parse::<reqwest::header::HeaderName>()
                .unwrap(),
            "7 fresh 1".parse().unwrap(),
        );
        assert!(keys_of(&headers).is_none());
    }
}
