//! Logging in: who offers these credentials.
//!
//! Which way is taken is seen from the look of the credentials: secrets of our making first, then service
//! identities, then the drivers in their order. An outage is never a refusal: a client throws its password away after a 401.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Registry;
use crate::{
    auth::{
        driver::{AuthError, Credentials, Facts, Identity},
        issued_secret,
    },
    db::{
        Conn,
        robots::{robot_find, robot_used},
        secrets::{secret_find, secret_used},
    },
    error::Result,
    model::{
        request_origin::RequestOrigin,
        robot::{ROBOT, Robot, login_parts},
        secret::{SecretKind, StoredSecret, origin_of},
    },
};

/// How exactly "last used" is known: a login does not write each time.
const LAST_USED_EVERY: TimeDelta = TimeDelta::seconds(60);

/// Somebody who has logged in.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// Who.
    pub identity: Identity,
    /// The secret of our making that was used, and when it ends.
    pub(super) secret: Option<StoredSecret>,
}

impl LoggedIn {
    /// A token is not valid for longer than the secret that it is got with.
    pub(super) fn bounded(&self, lifetime: TimeDelta, now: DateTime<Utc>) -> TimeDelta {
        let ends = self.secret.as_ref().and_then(|secret| secret.expires_at);
        ends.map_or(lifetime, |ends| lifetime.min(ends - now))
    }
}

impl From<Identity> for LoggedIn {
    fn from(identity: Identity) -> Self {
        Self {
            identity,
            secret: None,
        }
    }
}

fn unavailable(error: crate::error::Error) -> AuthError {
    AuthError::Unavailable(Box::new(error))
}

impl Registry {
    /// Who offers these credentials from this address.
    ///
    /// Errors: `Rejected` and `Misused` after a delay that grows with the failures before; `Limited` after too
    /// many of them; `Unavailable` if nobody could tell.
    pub(super) async fn login(
        &self,
        offered: Credentials<'_>,
        origin: &RequestOrigin,
    ) -> Result<LoggedIn, AuthError> {
        let name = match offered {
            Credentials::Password { user, .. } => Some(user),
            Credentials::KeystoneToken(_) | Credentials::Jwt(_) => None,
        };
        let who = self.limited_name(offered);
        let outcome = self.limited((&who, origin), self.identify(offered));
        self.login_noted(name, origin, outcome.await).await
    }

    /// Who shows this refresh token. Only failures are told: the token that a success leads to tells the rest.
    pub(super) async fn refresh_login(
        &self,
        (token, audience): (&str, &str),
        origin: &RequestOrigin,
    ) -> Result<LoggedIn, AuthError> {
        let outcome = self.limited((token, origin), self.refresh(token, audience));
        match outcome.await {
            Ok(login) => Ok(login),
            failed => self.login_noted(None, origin, failed).await,
        }
    }

    /// Identifies somebody, unless there were too many failures; `who` is counted together.
    async fn limited(
        &self,
        (who, origin): (&str, &RequestOrigin),
        identified: impl Future<Output = Result<Option<LoggedIn>, AuthError>>,
    ) -> Result<LoggedIn, AuthError> {
        let now = self.clock.now();
        let attempt = self.login_limit.begin(who, origin.client, now);
        let attempt = attempt.map_err(|retry_after| AuthError::Limited { retry_after })?;
        let outcome = match identified.await {
            Ok(None) => Err(AuthError::Rejected),
            Ok(Some(login)) => Ok(login),
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(_) => attempt.succeeded(),
            Err(AuthError::Rejected | AuthError::Misused(_)) => {
                let delay = attempt.delay;
                drop(attempt);
                tokio::time::sleep(delay).await;
            }
            Err(AuthError::Limited { .. } | AuthError::Unavailable(_)) => attempt.take_back(),
        }
        outcome
    }

    /// Whose attempts are counted together. What cannot be guessed counts for itself, so that nobody can lock
    /// robots and service identities out by their names: then only the limit of the address holds.
    fn limited_name(&self, offered: Credentials<'_>) -> String {
        let is_jwt = |text: &str| self.oidc.as_ref().is_some_and(|oidc| oidc.recognizes(text));
        match offered {
            Credentials::KeystoneToken(token) | Credentials::Jwt(token) => token.to_owned(),
            Credentials::Password { secret, .. }
                if issued_secret::kind_of(secret).is_some() || is_jwt(secret) =>
            {
                secret.to_owned()
            }
            Credentials::Password { user, .. } => account_of_keystone(user),
        }
    }

    async fn identify(&self, offered: Credentials<'_>) -> Result<Option<LoggedIn>, AuthError> {
        if let Credentials::Password { user, secret } = offered
            && let Some(kind) = issued_secret::kind_of(secret)
        {
            return self.identify_by_secret(user, secret, kind).await;
        }
        if let Credentials::Password { user, secret } = offered
            && let Some(login) = self.service_login(user, secret).await?
        {
            return Ok(Some(login));
        }
        for driver in &self.drivers {
            if let Some(identity) = driver.authenticate(offered).await? {
                return Ok(Some(identity.into()));
            }
        }
        if let Credentials::Jwt(token) = offered {
            return Err(self.hint_for_jwt(token));
        }
        Ok(None)
    }

    /// A robot or a person who logs in with a secret of our making.
    async fn identify_by_secret(
        &self,
        user: &str,
        secret: &str,
        kind: SecretKind,
    ) -> Result<Option<LoggedIn>, AuthError> {
        if kind == SecretKind::Refresh {
            return Ok(None);
        }
        let Some(stored) = self.secret_stored(secret, kind).await? else {
            return Ok(None);
        };
        let identity = &stored.identity;
        let is_theirs = user == identity.user || user == identity.to_string();
        if !is_theirs {
            return Ok(None);
        }
        let identity = self.still_good(&stored).await?;
        Ok(identity.map(|identity| LoggedIn {
            identity,
            secret: Some(stored),
        }))
    }

    /// What is stored of a secret, unless it has ended. It is noted that it was used.
    pub(super) async fn secret_stored(
        &self,
        secret: &str,
        kind: SecretKind,
    ) -> Result<Option<StoredSecret>, AuthError> {
        let hash = self.secret_hasher.hash(secret);
        let found = self.db.read(move |conn| secret_find(conn, &hash)).await;
        let now = self.clock.now();
        let found = found
            .map_err(unavailable)?
            .filter(|stored| stored.kind == kind && stored.is_active(now));
        if let Some(stored) = &found {
            let id = stored.id;
            let is_old = stored
                .last_used_at
                .is_none_or(|at| at + LAST_USED_EVERY <= now);
            if is_old {
                self.note_use(move |conn| secret_used(conn, id, now)).await;
            }
        }
        Ok(found)
    }

    /// Whether the one whom a secret belongs to may still log in, and with which rights.
    pub(super) async fn still_good(
        &self,
        stored: &StoredSecret,
    ) -> Result<Option<Identity>, AuthError> {
        let identity = &stored.identity;
        if identity.driver == ROBOT {
            let robot = self.robot_active(&identity.user).await?;
            let robot = robot.map(|robot| robot.identity());
            // A name may be used again; the origin says which robot the secret was made for.
            return Ok(robot.filter(|robot| robot.origin == identity.origin));
        }
        let Some(driver) = self.driver(&identity.driver) else {
            return Ok(None);
        };
        if !driver.still_knows(identity).await? {
            return Ok(None);
        }
        let mut identity = identity.clone();
        if stored.kind == SecretKind::Personal {
            identity.origin = Some(origin_of(stored.id));
        }
        Ok(Some(identity))
    }

    async fn robot_active(&self, login: &str) -> Result<Option<Robot>, AuthError> {
        let Some((account, name)) = login_parts(login) else {
            return Ok(None);
        };
        let name = name.to_owned();
        let found = self
            .db
            .read(move |conn| robot_find(conn, &account, &name))
            .await;
        let now = self.clock.now();
        let robot = found.map_err(unavailable)?.filter(|r| r.is_active(now));
        if let Some(robot) = &robot {
            let id: Uuid = robot.id;
            let is_old = robot
                .last_used_at
                .is_none_or(|at| at + LAST_USED_EVERY <= now);
            if is_old {
                self.note_use(move |conn| robot_used(conn, id, now)).await;
            }
        }
        Ok(robot)
    }

    /// A login does not fail because it could not be noted.
    async fn note_use(&self, note: impl FnOnce(&mut Conn) -> Result<()> + Send + 'static) {
        if let Err(error) = self.db.write(note).await {
            tracing::warn!(error = ?error, "a use of a secret was not noted");
        }
    }
}

/// A user of Keystone has a name for each project and for each way of writing it, but one password.
fn account_of_keystone(user: &str) -> String {
    let own = match user.split_once('/') {
        Some((own, _)) if own.contains('@') => own,
        _ => user,
    };
    own.to_lowercase()
}

/// Whether new tokens may be got for somebody without their secret: only if we can see at any time that they
/// are still welcome. Rights that an identity service told us at login grow old.
pub(super) fn can_be_refreshed(login: &LoggedIn) -> bool {
    match login.identity.facts {
        Facts::Stored => true,
        Facts::Account(_) => login.identity.driver == ROBOT,
        Facts::Granted { .. } => login.secret.is_some(),
        Facts::Keystone { .. } => false,
    }
}
