//! The token service: who asks, and how much of what it asks for it gets.

use std::{net::IpAddr, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Registry,
    access::{BASIC_CHALLENGE, refused_login},
    caller::EVERY_REPO,
    login::{LoggedIn, can_be_refreshed},
};
use crate::{
    auth::{
        authorize::Asked,
        driver::{AuthError, Credentials, Identity},
        issued_secret,
        scope::{Action, ResourceType, Scope},
        signing_key::Jwk,
        token::TokenRequest,
    },
    db::{
        revocations::revocation_version,
        secrets::{secret_get, secret_insert, secrets_limit},
    },
    error::{Error, Result},
    model::{
        audit::AuditWho,
        permission::Permission,
        request_origin::RequestOrigin,
        secret::{SecretKind, StoredSecret},
    },
    oci::{AccountName, FullRepoName, RepoName},
};

/// How many refresh tokens somebody may have; the oldest are forgotten.
const MAX_REFRESH_TOKENS: i64 = 64;

/// What a client shows to get a token.
pub enum TokenGrant {
    /// Nothing.
    Anonymous,
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        secret: String,
    },
    /// A refresh token of ours (RFC 6749, section 6).
    Refresh(String),
    /// A token of a trusted issuer (RFC 8693).
    Exchange {
        /// The JWT.
        subject_token: String,
        /// `<account>+<identity>`, if the client says as which service identity it comes.
        user: Option<String>,
    },
}

/// What a client asks for. There is no `Debug`: it holds secrets.
pub struct TokenOrder {
    /// What it shows.
    pub grant: TokenGrant,
    /// Whether it wants a refresh token as well.
    pub wants_refresh: bool,
    /// Where it comes from.
    pub origin: Arc<RequestOrigin>,
    /// The registry's name as the client knows it.
    pub audience: String,
    /// The permissions that it wants.
    pub scopes: Vec<Scope>,
    /// Set on `account.<base domain>`: names come without the account.
    pub remapped_to: Option<AccountName>,
}

/// What it gets. There is no `Debug`: it holds secrets.
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// How long it is valid.
    pub expires_in_seconds: i64,
    /// When it was made.
    pub issued_at: DateTime<Utc>,
    /// What it allows.
    pub granted: Vec<Scope>,
    /// Gets new tokens without the password.
    pub refresh_token: Option<String>,
    /// Whom it is for, `<driver>:<user>`.
    pub subject: Option<String>,
}

impl Registry {
    /// The public keys, for others who want to check our tokens.
    pub fn jwks(&self) -> &[Jwk] {
        self.tokens.jwks()
    }

    /// Issues a token. Granting less than was asked for is no error: the client learns it at the
    /// request that needs more.
    pub async fn token_issue(&self, order: TokenOrder) -> Result<IssuedToken> {
        // Before anything is checked: what is revoked from now on takes this token back.
        let revocations = self.db.read(revocation_version).await?;
        let login = self.token_login(&order).await;
        let login = login.map_err(|error| refused_login(error, BASIC_CHALLENGE))?;
        let identity = login.as_ref().map(|login| &login.identity);
        let asked = order.scopes.clone();
        let mut granted = Vec::new();
        for scope in order.scopes {
            let view = (order.remapped_to.as_ref(), order.origin.client);
            let scope = self.grant(identity, scope, view).await?;
            granted.extend((!scope.actions.is_empty()).then_some(scope));
        }
        let grants = |actions: &[Action]| {
            granted
                .iter()
                .any(|scope| actions.iter().any(|action| scope.actions.contains(action)))
        };
        let lifetime = if grants(&[Action::Push, Action::Delete]) {
            self.settings.push_token
        } else {
            self.settings.pull_token
        };
        let lifetime = TimeDelta::from_std(lifetime).map_err(Error::internal)?;
        let lifetime = login
            .as_ref()
            .map_or(lifetime, |login| login.bounded(lifetime, self.clock.now()));
        let can_list = grants(&[Action::Catalog]);
        let subject = identity.map(Identity::to_string);
        let who = identity.map(AuditWho::from);
        let jti = self.ids.fresh().to_string();
        let token = self
            .tokens
            .issue(TokenRequest {
                subject: subject.clone().unwrap_or_default(),
                revocations,
                origin: identity.and_then(|identity| identity.origin.clone()),
                user_and_project: who
                    .clone()
                    .map_or((None, None), |who| (who.id, who.project_id)),
                who: identity.filter(|_| can_list).cloned(),
                audience: order.audience.clone(),
                access: granted.clone(),
                lifetime,
                jti: jti.clone(),
            })
            .map_err(Error::internal)?;
        // Not for a refresh token: a chain of them would never end.
        let is_refresh = matches!(order.grant, TokenGrant::Refresh(_));
        let refresh_token = match login.filter(|_| order.wants_refresh && !is_refresh) {
            Some(login) => self.refresh_token_make(&login, order.audience).await?,
            None => None,
        };
        let by = (who, order.origin.as_ref());
        self.token_noted(by, jti, (&asked, &granted)).await?;
        Ok(IssuedToken {
            token,
            expires_in_seconds: lifetime.num_seconds(),
            issued_at: self.clock.now(),
            granted,
            refresh_token,
            subject,
        })
    }

    /// Who asks; `None` for the anonymous.
    async fn token_login(&self, order: &TokenOrder) -> Result<Option<LoggedIn>, AuthError> {
        let offered = match &order.grant {
            TokenGrant::Anonymous => return Ok(None),
            TokenGrant::Refresh(token) => {
                let shown = (token.as_str(), order.audience.as_str());
                return self.refresh_login(shown, &order.origin).await.map(Some);
            }
            TokenGrant::Password { user, secret } => Credentials::Password { user, secret },
            TokenGrant::Exchange {
                subject_token,
                user: Some(user),
            } => Credentials::Password {
                user,
                secret: subject_token,
            },
            TokenGrant::Exchange {
                subject_token,
                user: None,
            } => Credentials::Jwt(subject_token),
        };
        self.login(offered, &order.origin).await.map(Some)
    }

    /// Who shows a refresh token. It is good for the registry's name that it was made for and as long as its owner,
    /// and the secret that it was got with, are. It may be used again: clients keep it in a store that they do not
    /// write to at each use.
    pub(super) async fn refresh(
        &self,
        token: &str,
        audience: &str,
    ) -> Result<Option<LoggedIn>, AuthError> {
        if issued_secret::kind_of(token) != Some(SecretKind::Refresh) {
            return Ok(None);
        }
        let stored = self.secret_stored(token, SecretKind::Refresh).await?;
        let Some(stored) = stored.filter(|s| s.audience.as_deref() == Some(audience)) else {
            return Ok(None);
        };
        if !self.parent_is_active(&stored).await? {
            return Ok(None);
        }
        Ok(self.still_good(&stored).await?.map(|identity| LoggedIn {
            identity,
            secret: Some(stored),
        }))
    }

    /// Whether the secret that a refresh token was got with is still good: a rotation may have let it end since.
    async fn parent_is_active(&self, stored: &StoredSecret) -> Result<bool, AuthError> {
        let Some(id) = stored.parent_id else {
            return Ok(true);
        };
        let parent = self.db.read(move |conn| secret_get(conn, id)).await;
        let parent = parent.map_err(AuthError::unavailable)?;
        Ok(parent.is_some_and(|parent| parent.is_active(self.clock.now())))
    }

    /// A refresh token for somebody who has logged in; `None` if there are none for such users.
    async fn refresh_token_make(
        &self,
        login: &LoggedIn,
        audience: String,
    ) -> Result<Option<String>> {
        let lifetime = TimeDelta::from_std(self.settings.refresh_token).map_err(Error::internal)?;
        if lifetime.is_zero() || !can_be_refreshed(login) {
            return Ok(None);
        }
        let now = self.clock.now();
        let parent = login.secret.as_ref();
        let ends = parent.and_then(|parent| parent.expires_at);
        let stored = StoredSecret {
            id: self.ids.fresh(),
            kind: SecretKind::Refresh,
            identity: login.identity.clone(),
            description: String::new(),
            audience: Some(audience),
            parent_id: parent.map(|parent| parent.id),
            created_at: now,
            created_by: login.identity.to_string(),
            expires_at: Some(ends.map_or(now + lifetime, |ends| ends.min(now + lifetime))),
            last_used_at: None,
        };
        let secret = issued_secret::generate(SecretKind::Refresh).map_err(Error::internal)?;
        let hash = self.secret_hasher.hash(&secret);
        self.db
            .write(move |conn| {
                secret_insert(conn, &stored, &hash)?;
                let subject = stored.identity.to_string();
                secrets_limit(conn, &subject, SecretKind::Refresh, MAX_REFRESH_TOKENS)
            })
            .await?;
        Ok(Some(secret))
    }

    /// The part of a scope that the user has a right to, seen from the address of the login: the token is good from
    /// everywhere as long as it lives.
    async fn grant(
        &self,
        identity: Option<&Identity>,
        mut scope: Scope,
        (remapped_to, client): (Option<&AccountName>, Option<IpAddr>),
    ) -> Result<Scope> {
        let asked = |permission| Asked { permission, client };
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
                    .user_may_everywhere(identity, account, asked(Permission::Pull))
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
            if self.user_may(identity, &name, asked(permission)).await? {
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
