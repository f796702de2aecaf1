//! The token service: who asks, and how much of what it asks for it gets.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Registry, access::unavailable, caller::EVERY_REPO};
use crate::{
    auth::{
        driver::{AuthError, Identity},
        scope::{Action, ResourceType, Scope},
        token::TokenRequest,
    },
    error::{Code, Error, Result},
    model::permission::Permission,
    oci::{AccountName, FullRepoName, RepoName},
};

/// What a client asks for.
#[derive(Debug)]
pub struct TokenOrder {
    /// A name and a password; the anonymous have none.
    pub credentials: Option<(String, String)>,
    /// The registry's name as the client knows it.
    pub audience: String,
    /// The permissions that it wants.
    pub scopes: Vec<Scope>,
    /// Set on `account.<base domain>`: names come without the account.
    pub remapped_to: Option<AccountName>,
}

/// What it gets.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// How long it is valid.
    pub expires_in_seconds: i64,
    /// When it was made.
    pub issued_at: DateTime<Utc>,
    /// What it allows.
    pub granted: Vec<Scope>,
}

impl Registry {
    /// Issues a token. Granting less than was asked for is no error: the client learns it at the
    /// request that needs more.
    pub async fn token_issue(&self, order: TokenOrder) -> Result<IssuedToken> {
        let identity = match &order.credentials {
            None => None,
            Some((user, secret)) => match self.authenticate(user, secret).await {
                Ok(identity) => Some(identity),
                Err(error @ (AuthError::Rejected | AuthError::Misused(_))) => {
                    return Err(Error::with_message(Code::Unauthorized, error.to_string())
                        .with_header("WWW-Authenticate", "Basic realm=\"kontor\""));
                }
                Err(error) => return Err(unavailable(error)),
            },
        };
        let mut granted = Vec::new();
        for scope in order.scopes {
            let remapped_to = order.remapped_to.as_ref();
            let scope = self.grant(identity.as_ref(), scope, remapped_to).await?;
            granted.extend((!scope.actions.is_empty()).then_some(scope));
        }
        let can_write = granted.iter().any(|scope| {
            scope
                .actions
                .iter()
                .any(|a| matches!(a, Action::Push | Action::Delete))
        });
        let can_list = granted
            .iter()
            .any(|scope| scope.actions.contains(&Action::Catalog));
        let lifetime = if can_write {
            self.settings.push_token
        } else {
            self.settings.pull_token
        };
        let lifetime = TimeDelta::from_std(lifetime).map_err(Error::internal)?;
        let token = self
            .tokens
            .issue(TokenRequest {
                subject: identity
                    .as_ref()
                    .map(Identity::to_string)
                    .unwrap_or_default(),
                who: identity.filter(|_| can_list),
                audience: order.audience,
                access: granted.clone(),
                lifetime,
                jti: self.ids.fresh().to_string(),
            })
            .map_err(Error::internal)?;
        Ok(IssuedToken {
            token,
            expires_in_seconds: lifetime.num_seconds(),
            issued_at: self.clock.now(),
            granted,
        })
    }

    /// The part of a scope that the user has a right to.
    async fn grant(
        &self,
        identity: Option<&Identity>,
        mut scope: Scope,
        remapped_to: Option<&AccountName>,
    ) -> Result<Scope> {
        match scope.resource {
            ResourceType::Repository => {}
            ResourceType::Registry if identity.is_some() && scope.name == "catalog" => {
                return Ok(scope);
            }
            _ => {
                scope.actions.clear();
                return Ok(scope);
            }
        }
        if let Some(account) = every_repo_of(&scope.name, remapped_to) {
            let may_pull = scope.actions.contains(&Action::Pull)
                && self
                    .user_may_everywhere(identity, account, Permission::Pull)
                    .await?;
            scope.actions = may_pull.then_some(Action::Pull).into_iter().collect();
            return Ok(scope);
        }
        let Some(name) = repo_name(&scope.name, remapped_to) else {
            scope.actions.clear();
            return Ok(scope);
        };
        let wanted = std::mem::take(&mut scope.actions);
        for action in wanted {
            let permission = match action {
                Action::Pull => Permission::Pull,
                Action::Push => Permission::Push,
                Action::Delete => Permission::Delete,
                Action::Catalog => continue,
            };
            if self.user_may(identity, &name, permission).await? {
                scope.actions.insert(action);
            }
        }
        Ok(scope)
    }
}

/// The account if the scope is on all its repositories.
fn every_repo_of(shown: &str, remapped_to: Option<&AccountName>) -> Option<AccountName> {
    match remapped_to {
        Some(account) => (shown == EVERY_REPO).then(|| account.clone()),
        None => shown
            .strip_suffix(EVERY_REPO)?
            .strip_suffix('/')?
            .parse()
            .ok(),
    }
}

fn repo_name(shown: &str, remapped_to: Option<&AccountName>) -> Option<FullRepoName> {
    match remapped_to {
        None => shown.parse().ok(),
        Some(account) => {
            let repo: RepoName = shown.parse().ok()?;
            FullRepoName::new(account.clone(), repo).ok()
        }
    }
}
