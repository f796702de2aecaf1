//! The driver `keystone`: users, projects and roles of an OpenStack cloud. Auth tenants are projects.
//!
//! `login.rs` reads login names, `client.rs` asks Keystone, `token.rs` makes an identity of its answer, `cache.rs`
//! remembers it for some seconds, `policy/` says what its roles may. No token of a user is ever kept.
//!
//! What a newcomer gets wrong: `permits` asks nobody. It looks at the facts of the identity, which may come from one of
//! our own tokens and be as old as that is.

mod cache;
mod client;
mod login;
pub mod policy;
#[cfg(test)]
mod tests;
mod token;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;
use serde::Deserialize;
use storage_drivers::OpenStackSession;
use url::Url;

use super::driver::{AuthDriver, AuthError, Credentials, Facts, Identity, KEYSTONE};
use crate::{
    clock::Clock,
    model::{permission::Permission, user::ANY_AUTH_TENANT},
};
use cache::{Checks, Found};
use client::{Bounds, Keystone};
use login::Login;
use policy::{Policy, PolicyError, Question};
use token::Token;

/// The longest time that a successful check may count, in seconds.
const MAX_CACHE_SECONDS: u32 = 300;

/// The longest password or token, in bytes.
const MAX_SECRET_BYTES: usize = 16 * 1024;

/// How long a login waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How long Keystone may take to answer.
const MAX_ANSWER: Duration = Duration::from_secs(15);

/// In place of a project's id when all projects are meant: no id and no name is like it.
const NO_PROJECT: &str = "\0";

/// The section `[auth.keystone]`. A key that it does not know is an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeystoneConfig {
    /// An oslo.policy file; without it, the built-in policy.
    pub policy_file: Option<PathBuf>,
    /// How long a successful check counts without asking Keystone again, up to 300; 0 always asks.
    pub cache_seconds: u32,
    /// Where users are checked; without it, the service user's Keystone.
    pub auth_url: Option<Url>,
    /// How many questions Keystone is asked at once by this node.
    pub max_calls: usize,
}

impl Default for KeystoneConfig {
    fn default() -> Self {
        Self {
            policy_file: None,
            cache_seconds: 30,
            auth_url: None,
            max_calls: 32,
        }
    }
}

impl KeystoneConfig {
    /// Says which key is wrong and why, if one is.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if self.cache_seconds > MAX_CACHE_SECONDS {
            return Err((
                "auth.keystone.cache_seconds",
                "at most 300: a revoked token counts for so long",
            ));
        }
        if self.max_calls == 0 || self.max_calls > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(("auth.keystone.max_calls", "at least one call is needed"));
        }
        Ok(())
    }
}

/// The driver cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum KeystoneError {
    /// There is nobody to ask Keystone.
    #[error("the driver keystone needs the service user: add an [openstack] section")]
    NoSession,
    /// A key of the section is wrong.
    #[error("{0}")]
    Config(String),
    /// The policy cannot be used.
    #[error("auth.keystone.policy_file: {0}")]
    Policy(#[from] PolicyError),
    /// The machine gives no random bytes.
    #[error(transparent)]
    Random(#[from] AuthError),
}

/// The driver.
#[derive(Debug)]
pub struct KeystoneDriver {
    keystone: Keystone,
    checks: Checks,
    policy: Policy,
}

impl KeystoneDriver {
    /// Prepares the driver and reads the policy file; Keystone is not asked yet. Errors: a policy or parameter that
    /// cannot be, no session.
    pub fn new(
        config: &KeystoneConfig,
        session: Option<&Arc<OpenStackSession>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeystoneError> {
        let bounds = Bounds {
            calls: config.max_calls,
            wait: MAX_WAIT,
            answer: MAX_ANSWER,
        };
        Self::bounded(config, session, clock, bounds)
    }

    fn bounded(
        config: &KeystoneConfig,
        session: Option<&Arc<OpenStackSession>>,
        clock: Arc<dyn Clock>,
        bounds: Bounds,
    ) -> Result<Self, KeystoneError> {
        let wrong = |(key, why)| KeystoneError::Config(format!("{key}: {why}"));
        config.validate().map_err(wrong)?;
        let session = session.ok_or(KeystoneError::NoSession)?;
        let auth_url = config.auth_url.as_ref().unwrap_or(session.auth_url());
        let keystone = Keystone::new(Arc::clone(session), auth_url, bounds)
            .map_err(|why| KeystoneError::Config(format!("auth.keystone: {why}")))?;
        Ok(Self {
            keystone,
            checks: Checks::new(TimeDelta::seconds(i64::from(config.cache_seconds)), clock)?,
            policy: match &config.policy_file {
                Some(path) => Policy::read(path)?,
                None => Policy::built_in()?,
            },
        })
    }

    /// A name and a password, or a token in the place of the password.
    async fn check_login(
        &self,
        name: &str,
        login: Login,
        secret: &str,
    ) -> Result<Identity, AuthError> {
        if secret.is_empty() || secret.len() > MAX_SECRET_BYTES {
            return Err(AuthError::Rejected);
        }
        if let Login::Project(wanted) = &login
            && login::is_token(secret)
        {
            let key = self.checks.key(&["named token", name, secret]);
            let check = async {
                let token = self.keystone.validate(secret).await?;
                match token.is_of(wanted) {
                    true => self.found(token),
                    false => Err(AuthError::Rejected),
                }
            };
            return self.checks.get_or(key, check).await;
        }
        let key = self.checks.key(&["login", name, secret]);
        let check = async {
            let token = self.keystone.login(&login.request(secret)).await?;
            // The password was right; what is wrong is not the user's fault.
            if !token.answers(&login) {
                let why = "Keystone answered for another user, project or credential";
                return Err(AuthError::unavailable(why));
            }
            if token.has_expired(self.checks.now()) {
                let why =
                    "a new token has expired already: compare the clocks of Keystone and this node";
                return Err(AuthError::unavailable(why));
            }
            self.found(token)
        };
        self.checks.get_or(key, check).await
    }

    async fn check_token(&self, secret: &str) -> Result<Identity, AuthError> {
        let is_sendable = secret.bytes().all(|byte| byte.is_ascii_graphic());
        if secret.is_empty() || secret.len() > MAX_SECRET_BYTES || !is_sendable {
            return Err(AuthError::Rejected);
        }
        let key = self.checks.key(&["token", secret]);
        let check = async { self.found(self.keystone.validate(secret).await?) };
        self.checks.get_or(key, check).await
    }

    /// What is remembered of a token. One that has expired by our clock is refused although Keystone took it.
    fn found(&self, token: Token) -> Result<Found, AuthError> {
        let until = token.expires_at();
        if token.has_expired(self.checks.now()) {
            return Err(AuthError::Rejected);
        }
        let identity = token.identity()?;
        Ok(Found { identity, until })
    }
}

#[async_trait]
impl AuthDriver for KeystoneDriver {
    fn name(&self) -> &str {
        KEYSTONE
    }

    async fn authenticate(&self, offered: Credentials<'_>) -> Result<Option<Identity>, AuthError> {
        match offered {
            Credentials::Password { user, secret } => match login::parse(user) {
                Ok(None) => Ok(None),
                Ok(Some(login)) => self.check_login(user, login, secret).await.map(Some),
                Err(reason) => Err(AuthError::Misused(reason)),
            },
            Credentials::KeystoneToken(secret) => self.check_token(secret).await.map(Some),
            Credentials::Jwt(_) => Ok(None),
        }
    }

    async fn permits(
        &self,
        who: &Identity,
        permission: Permission,
        auth_tenant_id: &str,
    ) -> Result<bool, AuthError> {
        let Facts::Keystone { roles, attributes } = &who.facts else {
            return Ok(false);
        };
        let target_project = match auth_tenant_id {
            ANY_AUTH_TENANT => NO_PROJECT,
            id => id,
        };
        let question = Question {
            roles,
            attributes,
            target_project,
        };
        Ok(self.policy.allows(permission, &question))
    }
}
