//! Who asks: what a client offered, once it was verified, and how the registry looks from there.

use std::sync::Arc;

use crate::{
    auth::{
        authorize::Asked,
        challenge::{Challenge, ChallengeError},
        driver::Identity,
        scope::Scope,
        token::Claims,
    },
    error::{Code, Error},
    model::{audit::AuditWho, permission::Permission, request_origin::RequestOrigin},
    oci::{AccountName, FullRepoName},
};

/// Stands for all repositories of an account in the name of a scope; no repository can be called so.
pub(super) const EVERY_REPO: &str = "*";

/// Who asks, and how the registry looks from there.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) authority: Authority,
    pub(super) challenge: Challenge,
    /// Set on `account.<base domain>`: names come without the account.
    pub(super) remapped_to: Option<AccountName>,
    pub(super) origin: Arc<RequestOrigin>,
}

/// Somebody who has logged in to the management API, and where the request comes from.
#[derive(Debug, Clone)]
pub struct Actor {
    pub(super) identity: Identity,
    pub(super) origin: Arc<RequestOrigin>,
}

impl Actor {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the request comes from.
    pub fn origin(&self) -> &RequestOrigin {
        &self.origin
    }

    /// Who it is, for the audit trail.
    pub fn audit_who(&self) -> Option<AuditWho> {
        Some((&self.identity).into())
    }
}

impl std::ops::Deref for Actor {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.identity
    }
}

#[derive(Debug, Clone)]
pub(super) enum Authority {
    Anonymous,
    User(Identity),
    Token(Arc<Claims>),
}

impl Caller {
    /// Somebody who has not logged in (yet).
    pub fn anonymous(
        challenge: Challenge,
        remapped_to: Option<AccountName>,
        origin: Arc<RequestOrigin>,
    ) -> Self {
        Self {
            authority: Authority::Anonymous,
            challenge,
            remapped_to,
            origin,
        }
    }

    /// The user for logs: `<driver>:<user>`, or `None` for the anonymous.
    pub fn display_name(&self) -> Option<String> {
        match &self.authority {
            Authority::Anonymous => None,
            Authority::User(identity) => Some(identity.to_string()),
            Authority::Token(claims) => (!claims.sub.is_empty()).then(|| claims.sub.clone()),
        }
    }

    /// Where the request comes from.
    pub fn origin(&self) -> &RequestOrigin {
        &self.origin
    }

    /// A permission, asked for from where the caller is.
    pub(super) fn asks(&self, permission: Permission) -> Asked {
        Asked {
            permission,
            client: self.origin.client,
        }
    }

    /// A repository's name as this caller knows it.
    pub fn shown_name(&self, name: &FullRepoName) -> String {
        match &self.remapped_to {
            Some(account) if *account == name.account => name.repo.to_string(),
            _ => name.to_string(),
        }
    }

    /// The account whose own domain was asked: nothing else is to be seen there.
    pub fn remapped_to(&self) -> Option<&AccountName> {
        self.remapped_to.as_ref()
    }

    /// All repositories of an account, as the name of a scope: what a mount without `from` needs to pull.
    pub(super) fn every_repo_of(&self, account: &AccountName) -> String {
        match &self.remapped_to {
            Some(remapped_to) if remapped_to == account => EVERY_REPO.to_owned(),
            _ => format!("{account}/{EVERY_REPO}"),
        }
    }

    /// Who asks, for the audit trail.
    pub fn audit_who(&self) -> Option<AuditWho> {
        match &self.authority {
            Authority::Anonymous => None,
            Authority::User(identity) => Some(identity.into()),
            Authority::Token(claims) => (!claims.sub.is_empty()).then(|| AuditWho {
                name: claims.sub.clone(),
                id: claims.user_id.clone(),
                project_id: claims.project_id.clone(),
                on_behalf_of: claims.origin.clone(),
                token_id: Some(claims.jti.clone()),
            }),
        }
    }

    pub(super) fn unauthorized(&self, scopes: &[Scope], error: Option<ChallengeError>) -> Error {
        let message = match error {
            None => "authentication is required",
            Some(ChallengeError::InvalidToken) => {
                "the token is not valid (any more); get a new one"
            }
            Some(ChallengeError::InsufficientScope) => "the token does not allow this",
        };
        let refused = Error::with_message(Code::Unauthorized, message)
            .with_header("WWW-Authenticate", self.challenge.header(scopes, error));
        // Without a token the client only asks what is needed.
        match error {
            None => refused,
            Some(_) => refused.as_denial(),
        }
    }
}
