//! The driver `static_users`: names and argon2id hashes, from the configuration or the database.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;

use super::{
    driver::{AuthDriver, AuthError, Credentials, Facts, Identity},
    password::{self, Memory},
};
use crate::{
    clock::Clock,
    model::{permission::Permission, user::User},
};

/// The driver's name in identities.
pub const NAME: &str = "static";

/// How long a verified password is remembered: a client that sends Basic with every request must not cost
/// an argon2 computation each time, and a changed password must count within seconds.
const REMEMBER_SECONDS: i64 = 10;

/// How many verified passwords are remembered.
const REMEMBERED: usize = 1024;

/// How long a login waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A hash that no password fits, so that an unknown user costs the same time as a known one.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    password::random()
        .and_then(|random| password::hash(&random))
        .unwrap_or_default()
});

/// Where users are kept besides the configuration.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// The user of that name.
    async fn user_find(&self, name: &str) -> Result<Option<User>, AuthError>;
}

type Fingerprint = [u8; 32];

/// The driver.
pub struct StaticUsers {
    configured: HashMap<String, User>,
    store: Arc<dyn UserStore>,
    clock: Arc<dyn Clock>,
    verified: Cache<Fingerprint, DateTime<Utc>>,
    /// Makes fingerprints of this process useless to anybody who reads its memory dump later.
    salt: [u8; 32],
    /// The memory of the computations that may run at once: each takes 19 MiB and a core for some 20 ms,
    /// and anybody can ask for one.
    memories: Mutex<Vec<Memory>>,
    turns: tokio::sync::Semaphore,
}

impl StaticUsers {
    /// Users of the configuration hide those of the same name in the store.
    pub fn new(
        configured: impl IntoIterator<Item = User>,
        store: Arc<dyn UserStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthError> {
        let mut salt = [0; 32];
        // Not from aws-lc: its generator gathers entropy for 30 ms when it is first used.
        getrandom::fill(&mut salt).map_err(|error| AuthError::Unavailable(Box::new(error)))?;
        Ok(Self {
            configured: configured
                .into_iter()
                .map(|user| (user.name.clone(), user))
                .collect(),
            store,
            clock,
            verified: Cache::new(REMEMBERED),
            salt,
            memories: Mutex::default(),
            turns: tokio::sync::Semaphore::new(turns()),
        })
    }

    async fn find(&self, name: &str) -> Result<Option<User>, AuthError> {
        match self.configured.get(name) {
            Some(user) => Ok(Some(user.clone())),
            None => self.store.user_find(name).await,
        }
    }

    /// A key for what was verified: it changes with the stored hash, so a new password counts at once.
    fn fingerprint(&self, hash: &str, secret: &str) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.salt);
        context.update(&hash.len().to_le_bytes());
        context.update(hash.as_bytes());
        context.update(secret.as_bytes());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    fn memories(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn verify(&self, hash: String, secret: &str) -> Result<bool, AuthError> {
        let fingerprint = self.fingerprint(&hash, secret);
        let now = self.clock.now();
        if self
            .verified
            .get(&fingerprint)
            .is_some_and(|until| now < until)
        {
            return Ok(true);
        }
        let turn = tokio::time::timeout(MAX_WAIT, self.turns.acquire()).await;
        let _turn = turn
            .map_err(|_| AuthError::Unavailable("too many logins at once".into()))?
            .map_err(|error| AuthError::Unavailable(Box::new(error)))?;
        let secret = secret.to_owned();
        let mut memory = self.memories().pop().unwrap_or_default();
        let computed = tokio::task::spawn_blocking(move || {
            let is_right = password::verify(&secret, &hash, &mut memory);
            (is_right, memory)
        });
        let (is_right, memory) = computed
            .await
            .map_err(|error| AuthError::Unavailable(Box::new(error)))?;
        self.memories().push(memory);
        if is_right {
            let until = now + chrono::TimeDelta::seconds(REMEMBER_SECONDS);
            self.verified.insert(fingerprint, until);
        }
        Ok(is_right)
    }
}

/// Half of the cores may check passwords; the other half serves those who have logged in.
fn turns() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// Without the users.
impl fmt::Debug for StaticUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticUsers")
            .field("configured", &self.configured.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl AuthDriver for StaticUsers {
    fn name(&self) -> &str {
        NAME
    }

    async fn authenticate(&self, offered: Credentials<'_>) -> Result<Option<Identity>, AuthError> {
        let Credentials::Password { user, secret } = offered else {
            return Ok(None);
        };
        let found = self.find(user).await?;
        let hash = found
            .as_ref()
            .map_or_else(|| NOBODY.clone(), |user| user.password_hash.clone());
        let is_right = self.verify(hash, secret).await?;
        match found {
            Some(user) if is_right && !user.is_disabled => {
                Ok(Some(Identity::new(NAME, user.name, Facts::Stored)))
            }
            Some(_) => Err(AuthError::Rejected),
            // As slow as a wrong password: nobody learns from the time who exists.
            None => Ok(None),
        }
    }

    async fn permits(
        &self,
        who: &Identity,
        permission: Permission,
        auth_tenant_id: &str,
    ) -> Result<bool, AuthError> {
        let user = self.find(&who.user).await?;
        Ok(user.is_some_and(|user| {
            !user.is_disabled
                && user
                    .grants
                    .iter()
                    .any(|grant| grant.gives(permission, auth_tenant_id))
        }))
    }

    async fn still_knows(&self, who: &Identity) -> Result<bool, AuthError> {
        let user = self.find(&who.user).await?;
        Ok(user.is_some_and(|user| !user.is_disabled))
    }
}
