//! The contract between the registry and a source of users.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::model::{account_rights::AccountRights, permission::Permission, user::Grant};

/// The name of the Keystone driver: its users are called otherwise in policies.
pub const KEYSTONE: &str = "keystone";

/// Somebody who was authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The driver that knows the user.
    pub driver: String,
    /// The user's name, unambiguous within the driver.
    pub user: String,
    /// What the driver knows about the user's rights.
    pub facts: Facts,
}

/// What was known about somebody's rights when they logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Facts {
    /// The driver looks them up when it is asked.
    Stored,
    /// A Keystone token's, for the rules of an oslo.policy file.
    Keystone {
        /// The names of the roles on the project.
        roles: Vec<String>,
        /// `user_id`, `project_id` and the like.
        attributes: BTreeMap<String, String>,
    },
    /// Grants that were derived from what an identity provider says.
    Granted {
        /// The grants.
        grants: Vec<Grant>,
    },
    /// A robot's or a service identity's: rights on one account, and nothing else.
    Account(AccountRights),
}

impl Identity {
    /// The name in RBAC policies: `user@domain/project@domain` for users of Keystone, `driver:name` for all
    /// others.
    pub fn policy_name(&self) -> String {
        if self.driver == KEYSTONE {
            self.user.clone()
        } else {
            self.to_string()
        }
    }
}

/// The name in logs and tokens.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.driver, self.user)
    }
}

/// What a client offers to prove who it is. There is no `Debug`: it holds secrets.
#[derive(Clone, Copy)]
pub enum Credentials<'a> {
    /// A name and a password, from Basic authentication or the token service.
    Password {
        /// The name.
        user: &'a str,
        /// The password, or a token in its place.
        secret: &'a str,
    },
    /// `X-Auth-Token`: a token of Keystone, scoped to a project.
    KeystoneToken(&'a str),
    /// A JWT of an identity provider, without a name.
    Jwt(&'a str),
}

/// Why a driver does not say yes: 401 and 503 must never be mixed up, since a client throws its
/// credentials away after a 401.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The credentials are wrong.
    #[error("the user name or the password is wrong")]
    Rejected,
    /// The credentials are wrong, and it can be said how to do better without telling who exists.
    #[error("{0}")]
    Misused(String),
    /// Too many attempts, here or at the identity service.
    #[error("too many login attempts; try again later")]
    Limited {
        /// When to try again.
        retry_after: Duration,
    },
    /// The driver cannot tell at present.
    #[error("the identity service is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AuthError {
    /// The driver cannot tell at present, for this reason.
    pub fn unavailable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(reason.into())
    }
}

/// A source of users.
#[async_trait]
pub trait AuthDriver: fmt::Debug + Send + Sync + 'static {
    /// The driver's name, the first part of an identity's.
    fn name(&self) -> &str;

    /// Who offers these credentials. `None` if they do not look like this driver's, or it knows no such
    /// user: then the next driver is asked.
    async fn authenticate(&self, offered: Credentials<'_>) -> Result<Option<Identity>, AuthError>;

    /// Whether the user, who is one of this driver's, may do this on all accounts of the auth tenant. The tenant
    /// `*` is asked about accounts that do not exist: only who may do it everywhere may.
    async fn permits(
        &self,
        who: &Identity,
        permission: Permission,
        auth_tenant_id: &str,
    ) -> Result<bool, AuthError>;
}
