//! The contract between the registry and a source of users.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::model::permission::Permission;

pub use crate::model::identity::{Facts, Identity, KEYSTONE};

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

    /// Whether somebody who has logged in before could still do so; asked when a secret of our making is used.
    async fn still_knows(&self, _who: &Identity) -> Result<bool, AuthError> {
        Ok(true)
    }
}
