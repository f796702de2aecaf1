//! The only place that makes `RepoAccess` and `AccountAccess`: values that prove a permission.
//!
//! A handler without such a value cannot reach the data. The rules, in the order of what a client
//! offers: a token says itself what it allows, so nothing is looked up; a user and password are asked
//! for at the drivers and the account's policies; the anonymous have the policies only. Unknown
//! accounts and forbidden ones look the same to those without a right to know.

use std::{fmt, marker::PhantomData, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Registry,
    caller::{Actor, Authority, Caller},
};
use crate::{
    auth::{
        authorization::Authorization,
        authorize::Asked,
        challenge::ChallengeError,
        driver::{AuthError, Credentials, Identity},
        scope::{Action, Scope},
        token::Claims,
    },
    db::accounts::account_find,
    error::{Code, Error, Result},
    model::{account::Account, permission::Permission, request_origin::RequestOrigin},
    oci::{AccountName, FullRepoName},
};

/// How long after its expiry a token may still finish an upload that began before it.
pub(super) const UPLOAD_GRACE: TimeDelta = TimeDelta::hours(24);

/// What is asked for where our own tokens are not taken.
pub(super) const BASIC_CHALLENGE: &str = "Basic realm=\"kontor\"";

/// A permission on a repository, as a type.
pub trait RepoPermission: fmt::Debug + Send + Sync + 'static {
    /// What is needed.
    const PERMISSION: Permission;
    /// The same in a token.
    const ACTION: Action;
    /// What a client should ask the token service for.
    const WANTED: &'static [Action];
}

macro_rules! repo_permissions {
    ($($(#[$doc:meta])* $name:ident, $wanted:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl RepoPermission for $name {
            const PERMISSION: Permission = Permission::$name;
            const ACTION: Action = Action::$name;
            const WANTED: &'static [Action] = $wanted;
        }
    )*};
}

repo_permissions! {
    /// Reading.
    Pull, &[Action::Pull];
    /// Writing; clients read before they write.
    Push, &[Action::Pull, Action::Push];
    /// Deleting.
    Delete, &[Action::Delete];
}

/// Proof that the caller may do `P` in a repository. The repository itself need not exist.
#[derive(Debug)]
pub struct RepoAccess<P> {
    name: FullRepoName,
    caller: Caller,
    /// Set if the token is good for finishing uploads only that began before this.
    uploads_before: Option<DateTime<Utc>>,
    permission: PhantomData<P>,
}

impl<P> RepoAccess<P> {
    /// The repository.
    pub fn name(&self) -> &FullRepoName {
        &self.name
    }

    /// The repository's name as the caller knows it.
    pub fn shown_name(&self) -> String {
        self.caller.shown_name(&self.name)
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Refuses an expired token unless it may still finish an upload that began at `created_at`.
    pub(super) fn may_finish_upload(&self, created_at: DateTime<Utc>) -> Result<()> {
        match self.uploads_before {
            Some(limit) if created_at >= limit => Err(self
                .caller
                .unauthorized(&[], Some(ChallengeError::InvalidToken))),
            _ => Ok(()),
        }
    }
}

/// Proof that the caller may manage an account of an auth tenant.
#[derive(Debug)]
pub struct AccountAccess {
    pub(super) account: Account,
}

/// What is special about a request's need for access.
#[derive(Debug, Default)]
pub struct Demand {
    /// A token that has expired may finish an upload that began while it was valid (moby#33558).
    pub finishes_upload: bool,
    /// What a client without a sufficient token should ask for as well. It is not required.
    pub also: Option<Scope>,
}

impl Registry {
    /// Who asks, from the view of somebody anonymous. Wrong credentials are an error; a broken or revoked token
    /// too. That one has expired is seen later: it may finish an upload.
    pub async fn caller(
        &self,
        authorization: Option<Authorization>,
        mut caller: Caller,
    ) -> Result<Caller> {
        self.request_note();
        match authorization {
            None => {}
            Some(Authorization::Basic { user, password }) => {
                let (user, secret) = (user.as_str(), password.as_str());
                let offered = Credentials::Password { user, secret };
                caller.authority = self.user_authority(offered, &caller).await?;
            }
            Some(Authorization::KeystoneToken(token)) => {
                let offered = Credentials::KeystoneToken(&token);
                caller.authority = self.user_authority(offered, &caller).await?;
            }
            Some(Authorization::Bearer(token)) => {
                let refused = || caller.unauthorized(&[], Some(ChallengeError::InvalidToken));
                let claims = self.tokens.verify(&token, &caller.challenge.service);
                let claims = claims.map_err(|error| refused().caused_by(error))?;
                if self.is_revoked(&claims) {
                    return Err(refused());
                }
                caller.authority = Authority::Token(claims);
            }
        }
        Ok(caller)
    }

    async fn user_authority(&self, offered: Credentials<'_>, caller: &Caller) -> Result<Authority> {
        match self.login(offered, &caller.origin).await {
            Ok(login) => Ok(Authority::User(login.identity)),
            Err(error) => Err(refused_login(error, &caller.challenge.header(&[], None))),
        }
    }

    /// Whether a caller is somebody, for the base of the API (`/v2/`): everybody else is challenged,
    /// even where anonymous pulls are allowed, or clients would never log in.
    pub fn base_access(&self, caller: &Caller) -> Result<()> {
        match &caller.authority {
            Authority::Anonymous => Err(caller.unauthorized(&[], None)),
            Authority::User(_) => Ok(()),
            Authority::Token(claims) => self.refuse_expired(caller, claims, &[]),
        }
    }

    /// Proves that the caller may do `P` in the repository.
    pub async fn repo_access<P: RepoPermission>(
        &self,
        caller: Caller,
        name: FullRepoName,
        demand: Demand,
    ) -> Result<RepoAccess<P>> {
        let scope = Scope::repository(caller.shown_name(&name), P::WANTED.iter().copied());
        let mut scopes = vec![scope.clone()];
        scopes.extend(demand.also);
        let mut uploads_before = None;
        let asked = caller.asks(P::PERMISSION);
        match &caller.authority {
            Authority::Token(claims) => {
                let is_stale = self.is_for_deleted_account(claims, &name.account);
                if is_stale || !claims.allows(&scope.name, P::ACTION) {
                    let error = Some(ChallengeError::InsufficientScope);
                    return Err(caller.unauthorized(&scopes, error));
                }
                if demand.finishes_upload && self.is_in_grace(claims) {
                    uploads_before = Some(claims.expires_at());
                } else {
                    self.refuse_expired(&caller, claims, &scopes)?;
                }
            }
            Authority::User(identity) => {
                if !self.user_may(Some(identity), &name, asked).await? {
                    return Err(Error::with_message(
                        Code::Denied,
                        format!(
                            "{} is not allowed to {} {}",
                            identity.user,
                            P::PERMISSION,
                            scope.name
                        ),
                    ));
                }
            }
            Authority::Anonymous => {
                if !self.user_may(None, &name, asked).await? {
                    return Err(caller.unauthorized(&scopes, None));
                }
            }
        }
        Ok(RepoAccess {
            name,
            caller,
            uploads_before,
            permission: PhantomData,
        })
    }

    fn is_in_grace(&self, claims: &Claims) -> bool {
        let now = self.clock.now();
        let expired_at = claims.expires_at();
        expired_at <= now && now < expired_at + UPLOAD_GRACE
    }

    fn refuse_expired(&self, caller: &Caller, claims: &Claims, scopes: &[Scope]) -> Result<()> {
        if self.clock.now() < claims.expires_at() {
            return Ok(());
        }
        Err(caller.unauthorized(scopes, Some(ChallengeError::InvalidToken)))
    }

    /// Whether the caller of a request may also pull from another repository, with what it offered.
    pub(super) async fn may_also_pull(&self, caller: &Caller, name: &FullRepoName) -> Result<bool> {
        let asked = caller.asks(Permission::Pull);
        match &caller.authority {
            Authority::Token(claims) => {
                let everywhere = caller.every_repo_of(&name.account);
                Ok(!self.is_for_deleted_account(claims, &name.account)
                    && (claims.allows(&caller.shown_name(name), Action::Pull)
                        || claims.allows(&everywhere, Action::Pull)))
            }
            Authority::User(identity) => self.user_may(Some(identity), name, asked).await,
            Authority::Anonymous => self.user_may(None, name, asked).await,
        }
    }

    /// Whether a caller who reads may be about to push there.
    pub(super) async fn may_be_pushing(&self, access: &RepoAccess<Pull>) -> Result<bool> {
        let (caller, name) = (&access.caller, &access.name);
        match &caller.authority {
            Authority::Anonymous => Ok(false),
            Authority::Token(claims) => Ok(claims.allows(&caller.shown_name(name), Action::Push)),
            Authority::User(identity) => {
                let asked = caller.asks(Permission::Push);
                self.user_may(Some(identity), name, asked).await
            }
        }
    }

    /// The user behind a caller who may list the catalog.
    pub(super) fn catalog_access(&self, caller: &Caller) -> Result<Identity> {
        let scopes = [Scope::catalog()];
        match &caller.authority {
            Authority::Anonymous => Err(caller.unauthorized(&scopes, None)),
            Authority::User(identity) => Ok(identity.clone()),
            Authority::Token(claims) => {
                self.refuse_expired(caller, claims, &scopes)?;
                let user = claims.who.clone().filter(|_| claims.allows_catalog());
                user.ok_or_else(|| {
                    caller.unauthorized(&scopes, Some(ChallengeError::InsufficientScope))
                })
            }
        }
    }

    /// The user behind a request to the management API: a name and a password (which may be a personal access
    /// token), `X-Auth-Token`, or a JWT of an identity provider. It takes no repository tokens.
    pub async fn admin(
        &self,
        authorization: Option<Authorization>,
        origin: Arc<RequestOrigin>,
    ) -> Result<Actor> {
        let login = match &authorization {
            Some(Authorization::Basic { user, password }) => {
                let (user, secret) = (user.as_str(), password.as_str());
                self.login(Credentials::Password { user, secret }, &origin)
                    .await
            }
            Some(Authorization::KeystoneToken(token)) => {
                self.login(Credentials::KeystoneToken(token), &origin).await
            }
            Some(Authorization::Bearer(token)) => {
                self.login(Credentials::Jwt(token), &origin).await
            }
            None => {
                let message =
                    "log in with a user name and a password (Basic authentication) or X-Auth-Token";
                return Err(Error::with_message(Code::Unauthorized, message)
                    .with_header("WWW-Authenticate", BASIC_CHALLENGE));
            }
        };
        match login {
            Ok(login) => Ok(Actor {
                identity: login.identity,
                origin,
            }),
            Err(error) => Err(refused_login(error, BASIC_CHALLENGE)),
        }
    }

    /// Proves that the user may do this with the account; an account that the user may not even see
    /// looks like one that does not exist.
    pub async fn account_access(
        &self,
        identity: &Identity,
        name: &AccountName,
        permission: Permission,
    ) -> Result<AccountAccess> {
        let wanted = name.clone();
        let account = self
            .db
            .read(move |conn| account_find(conn, &wanted))
            .await?;
        let unknown = || Error::with_message(Code::NotFound, format!("there is no account {name}"));
        let account = account.ok_or_else(unknown)?;
        // No policy is about managing an account, so the address does not matter.
        let asked = |permission| Asked {
            permission,
            client: None,
        };
        if self
            .user_may_with_account(Some(identity), &account, asked(permission))
            .await?
        {
            return Ok(AccountAccess { account });
        }
        if self
            .user_may_with_account(Some(identity), &account, asked(Permission::View))
            .await?
        {
            let message = format!(
                "{} is not allowed to {permission} account {name}",
                identity.user
            );
            return Err(Error::with_message(Code::Denied, message));
        }
        Err(unknown().as_denial())
    }
}

/// What a client is told when a login has failed. Only wrong credentials are a 401.
pub(super) fn refused_login(error: AuthError, challenge: &str) -> Error {
    match error {
        AuthError::Rejected | AuthError::Misused(_) => {
            Error::with_message(Code::Unauthorized, error.to_string())
                .with_header("WWW-Authenticate", challenge.to_owned())
        }
        AuthError::Limited { .. } | AuthError::Unavailable(_) => unavailable(error),
    }
}

/// What a client is told when a driver could not say yes or no, or will not at present.
pub(super) fn unavailable(error: AuthError) -> Error {
    if let AuthError::Limited { retry_after } = error {
        return Error::with_message(Code::TooManyRequests, error.to_string())
            .with_header("Retry-After", retry_after.as_secs().max(1).to_string());
    }
    Error::with_message(
        Code::Unavailable,
        "the identity service is not available; try again",
    )
    .caused_by(error)
}
