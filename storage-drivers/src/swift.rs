//! A Swift container for each account, in the tenant's own Keystone project or in the service user's.
//!
//! Swift is spoken to directly, with the service user's session of `openstack`. An object is one PUT: there are no
//! segments that could be left behind. The registry cuts a longer stream into several chunks of the blob.
//!
//! What a newcomer will get wrong: in the tenant's own project its members may look into the container and change it,
//! so nothing that is read from there may be believed further than that tenant's own content. And Swift has no lock:
//! of two PUTs of one name the later one wins, whatever `If-None-Match` says.

mod config;
mod container;
mod keys;
mod read;
mod temp_url;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::stream::BoxStream;
use reqwest::{Response, StatusCode};
use url::Url;

use crate::detached::detached;
use crate::names::tenant_check;
use crate::openstack::Session;
use crate::{
    ByteStream, ObjectKey, StorageDriver, StorageError, StorageResult, StoredObject, Tenant,
};
pub use config::{ContainerProject, Interface, SwiftConfig};
use container::Containers;
pub use temp_url::TempUrlDigest;

/// How long what is known of a container is believed, and the times of its keys.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// How long what was read of a container is believed without asking again.
    known_for: Duration,
    /// How long a new key waits until every node has seen it.
    settle: Duration,
    /// How long a key signs.
    rotate_every: Duration,
}

/// A driver that keeps every account in a Swift container.
pub struct SwiftDriver {
    session: Arc<Session>,
    containers: Arc<Containers>,
}

impl fmt::Debug for SwiftDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwiftDriver")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl SwiftDriver {
    /// Prepares the driver; the cloud is first asked when it is needed. `shared` is the session of a backend that has
    /// no login of its own. Errors: a parameter that cannot be.
    pub fn open(config: &SwiftConfig, shared: Option<&Arc<Session>>) -> StorageResult<Self> {
        let times = Times {
            known_for: Duration::from_secs(60),
            settle: Duration::from_secs(300),
            rotate_every: Duration::from_secs(u64::from(config.temp_url_key_days) * 86_400),
        };
        config.validate()?;
        Ok(Self::open_with(config, config.session(shared)?, times))
    }

    /// Like [`SwiftDriver::open`], with keys that change every second: for tests of their rotation.
    #[cfg(feature = "testkit")]
    pub fn open_with_hasty_keys(config: &SwiftConfig) -> StorageResult<Self> {
        let times = Times {
            known_for: Duration::ZERO,
            settle: Duration::from_secs(1),
            rotate_every: Duration::from_secs(1),
        };
        Ok(Self::open_with(config, config.session(None)?, times))
    }

    /// Makes the next request meet a token that was revoked.
    #[cfg(feature = "testkit")]
    pub fn spoil_token_for_tests(&self) {
        self.session.spoil_token_for_tests();
    }

    fn open_with(config: &SwiftConfig, session: Arc<Session>, times: Times) -> Self {
        Self {
            containers: Arc::new(Containers::new(Arc::clone(&session), config.clone(), times)),
            session,
        }
    }

    async fn object_url(&self, tenant: &Tenant, key: ObjectKey) -> StorageResult<Url> {
        tenant_check(tenant)?;
        let container = self.containers.url(tenant).await?;
        Ok(joined(&container, &key.to_string()))
    }
}

/// `base` with `path` after it. Both are made of characters that need no escape.
fn joined(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs())
}

/// An answer that is none of those the caller knows what to do with. Takes the first of its body for the log.
async fn unexpected(answer: Response, what: &str) -> StorageError {
    let status = answer.status();
    let text = match tokio::time::timeout(Duration::from_secs(5), answer.text()).await {
        Ok(Ok(text)) => text.chars().filter(|c| !c.is_control()).take(200).collect(),
        _ => String::new(),
    };
    let message = format!("{what}: Swift answered {status} {text}");
    match status {
        StatusCode::INSUFFICIENT_STORAGE => StorageError::Full {
            place: what.to_owned(),
        },
        StatusCode::UNAUTHORIZED => StorageError::temporary(message),
        StatusCode::FORBIDDEN => StorageError::permanent(format!(
            "{message}; the service user needs the role ResellerAdmin, or one of Swift's operator roles in its project"
        )),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            StorageError::temporary(message)
        }
        // 498 is Swift's rate limit.
        status if status.is_server_error() || status.as_u16() == 498 => {
            StorageError::temporary(message)
        }
        _ => StorageError::permanent(message),
    }
}

#[async_trait]
impl StorageDriver for SwiftDriver {
    async fn write(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        size: Option<u64>,
        body: ByteStream,
    ) -> StorageResult<u64> {
        let object = self.object_url(tenant, *key).await?;
        let room = self.containers.room(tenant, size.is_none()).await?;
        let put = write::Put {
            session: Arc::clone(&self.session),
            object,
            key: *key,
            size,
            room,
        };
        let written = write::object_write(put, body).await;
        if matches!(written, Err(StorageError::NotPrepared { .. })) {
            self.containers.forget(tenant);
        }
        written.map_err(|error| match error {
            StorageError::NotPrepared { .. } => container::not_prepared(tenant),
            StorageError::Quota { .. } => StorageError::Quota {
                place: format!("container {}", self.containers.name(tenant)),
            },
            other => other,
        })
    }

    async fn read(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> StorageResult<ByteStream> {
        let object = self.object_url(tenant, *key).await?;
        read::object_read(&self.session, object, *key, range).await
    }

    async fn delete(&self, tenant: &Tenant, key: &ObjectKey) -> StorageResult<()> {
        let object = self.object_url(tenant, *key).await?;
        write::object_delete(&self.session, &object).await
    }

    async fn list(
        &self,
        tenant: &Tenant,
    ) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>> {
        tenant_check(tenant)?;
        let container = self.containers.url(tenant).await?;
        read::object_list(Arc::clone(&self.session), container).await
    }

    async fn download_url(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        valid_for: Duration,
    ) -> StorageResult<Option<Url>> {
        tenant_check(tenant)?;
        self.containers.download_url(tenant, *key, valid_for).await
    }

    async fn used_bytes(&self, tenant: &Tenant) -> StorageResult<u64> {
        tenant_check(tenant)?;
        self.containers.used_bytes(tenant).await
    }

    async fn prepare_account(&self, tenant: &Tenant) -> StorageResult<()> {
        tenant_check(tenant)?;
        let (containers, tenant) = (Arc::clone(&self.containers), tenant.clone());
        // Several steps, which must not be cut off between two of them.
        detached(|_| async move { containers.prepare(&tenant).await }).await
    }

    async fn release_account(&self, tenant: &Tenant) -> StorageResult<()> {
        tenant_check(tenant)?;
        self.containers.release(tenant).await
    }

    async fn check(&self) -> StorageResult<()> {
        let account = self.containers.own_url().await?;
        let answer = self
            .session
            .send(|client| client.head(account.clone()))
            .await?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(unexpected(answer, "the service user's own account").await)
    }
}
