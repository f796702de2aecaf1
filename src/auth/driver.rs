//! The contract between the registry and a source of users.

use std::fmt;

use async_trait::async_trait;

use crate::model::permission::Permission;

/// Somebody who was authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The driver that knows the user.
    pub driver: &'static str,
    /// The user's name, as policies and logs show it.
    pub user: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.driver, self.user)
    }
}

/// What a client offers to prove who it is.
pub enum Credentials<'a> {
    /// A name and a password, from Basic authentication or the token service.
    Password {
        /// The name.
        user: &'a str,
        /// The password, or a token in its place.
        secret: &'a str,
    },
}

/// Why a driver does not say yes: 401 and 503 must never be mixed up, since a client throws its
/// credentials away after a 401.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The credentials are wrong.
    #[error("the user name or the password is wrong")]
    Rejected,
    /// The driver cannot tell at present.
    #[error("the identity service is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A source of users.
#[async_trait]
pub trait AuthDriver: fmt::Debug + Send + Sync + 'static {
    /// The driver's name, the first part of an identity's.
    fn name(&self) -> &'static str;

    /// Who offers these credentials. `None` if they are not of this driver's kind, or it knows no such
    /// user: then another driver may be asked.
    async fn authenticate(&self, offered: Credentials<'_>) -> Result<Option<Identity>, AuthError>;

    /// Whether the user may do this on all accounts of the auth tenant.
    async fn permits(
        &self,
        who: &Identity,
        permission: Permission,
        auth_tenant_id: &str,
    ) -> Result<bool, AuthError>;
}
