//! Local users: those of the `static_users` driver that are kept in the database.
//!
//! Users that stand in the configuration cannot be changed here; one of the same name in the database is hidden.

use async_trait::async_trait;

use super::{Registry, caller::Actor};
use crate::{
    auth::{
        driver::{AuthError, Identity},
        password,
        static_users::{self, UserStore},
    },
    db::{
        Db,
        audit::audit_append,
        secrets::secrets_delete,
        users::{
            user_count, user_delete, user_find, user_insert, user_list, user_lock,
            user_set_password, user_update,
        },
    },
    error::{Code, Error, Result},
    model::{
        audit::AuditAction,
        permission::Permission,
        precondition::{ChangeTerms, Changed, Precondition, Tagged as _},
        revocation::Revoked,
        user::{
            ANY_AUTH_TENANT, Grant, PASSWORD_RULE, USER_NAME_RULE, User, is_password, is_user_name,
        },
    },
};

/// Users that lie in the database.
#[derive(Debug)]
pub struct DbUsers(pub Db);

#[async_trait]
impl UserStore for DbUsers {
    async fn user_find(&self, name: &str) -> Result<Option<User>, AuthError> {
        // PostgreSQL refuses NUL in a text, and no user is called so.
        if name.contains('\0') {
            return Ok(None);
        }
        let name = name.to_owned();
        let found = self.0.read(move |conn| user_find(conn, &name)).await;
        found.map_err(|error| AuthError::Unavailable(Box::new(error)))
    }
}

/// What somebody asks a user to be.
#[derive(Debug, Clone)]
pub struct UserOrder {
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Whether it cannot log in.
    pub is_disabled: bool,
}

impl Registry {
    /// Only who may do everything everywhere manages users: a grant is worth what it gives.
    pub(super) async fn require_operator(&self, who: &Identity, what: &str) -> Result<()> {
        for permission in Permission::ALL {
            if !self
                .driver_permits(Some(who), permission, ANY_AUTH_TENANT)
                .await?
            {
                let message = format!("{who} is not allowed to {what}");
                return Err(Error::with_message(Code::Denied, message));
            }
        }
        Ok(())
    }

    /// All users of the database.
    pub async fn users_list(&self, who: &Identity) -> Result<Vec<User>> {
        self.require_operator(who, "see users").await?;
        self.db.read(user_list).await
    }

    /// One user of the database; everybody may see themselves.
    pub async fn user_get(&self, who: &Identity, name: &str) -> Result<User> {
        if !is_self(who, name) {
            self.require_operator(who, "see users").await?;
        }
        if !is_user_name(name) {
            return Err(unknown(name));
        }
        let wanted = name.to_owned();
        let found = self.db.read(move |conn| user_find(conn, &wanted)).await?;
        found.ok_or_else(|| unknown(name))
    }

    /// Makes a user. Gives the password, which is random if none is chosen.
    pub async fn user_create(
        &self,
        who: &Actor,
        name: &str,
        order: UserOrder,
        chosen: Option<String>,
    ) -> Result<String> {
        self.require_operator(who, "make users").await?;
        if !is_user_name(name) {
            return Err(Error::field("name", USER_NAME_RULE));
        }
        let secret = match chosen {
            Some(secret) => secret,
            None => password::random().map_err(Error::internal)?,
        };
        let user = User {
            name: name.to_owned(),
            password_hash: hash(&secret).await?,
            grants: order.grants,
            is_disabled: order.is_disabled,
        };
        let now = self.clock.now();
        let event = self.event(who, AuditAction::UserCreate).named(name);
        let is_new = self
            .db
            .write(move |conn| {
                let is_new = user_insert(conn, &user, now)?;
                if is_new {
                    audit_append(conn, &event)?;
                    // What was made for somebody of this name, while they were being removed, is not this one's.
                    secrets_delete(conn, &subject(&user.name))?;
                }
                Ok(is_new)
            })
            .await?;
        if is_new {
            return Ok(secret);
        }
        let message = format!("there is a user {name} already");
        Err(Error::with_message(Code::Conflict, message))
    }

    /// Changes what a user may do and whether it may log in, or says what that would change. What was issued to it
    /// before is taken back: it holds the old rights.
    pub async fn user_change(
        &self,
        who: &Actor,
        name: &str,
        order: UserOrder,
        terms: ChangeTerms,
    ) -> Result<Changed<User>> {
        self.require_operator(who, "change users").await?;
        if is_self(who, name) && order.is_disabled {
            let message = "nobody disables themselves: somebody else has to";
            return Err(Error::with_message(Code::Conflict, message));
        }
        if terms.is_dry_run {
            return user_changed(self.user_get(who, name).await?, order, &terms);
        }
        if !is_user_name(name) {
            return Err(unknown(name));
        }
        let wanted = name.to_owned();
        let event = self.event(who, AuditAction::UserUpdate).named(name);
        self.write_and_revoke(move |conn| {
            audit_append(conn, &event)?;
            let before = user_lock(conn, &wanted)?.ok_or_else(|| unknown(&wanted))?;
            let changed = user_changed(before, order, &terms)?;
            let (before, after) = (&changed.before, &changed.after);
            user_update(conn, &wanted, &after.grants, after.is_disabled)?;
            let subject = subject(&wanted);
            if after.is_disabled || before.is_disabled {
                secrets_delete(conn, &subject)?;
            }
            Ok((changed, vec![Revoked::Subject(subject)]))
        })
        .await
    }

    /// Removes a user and takes everything back that was issued to it.
    pub async fn user_remove(&self, who: &Actor, name: &str) -> Result<()> {
        self.require_operator(who, "remove users").await?;
        if is_self(who, name) {
            let message = "nobody removes themselves: somebody else has to";
            return Err(Error::with_message(Code::Conflict, message));
        }
        if !is_user_name(name) {
            return Err(unknown(name));
        }
        let wanted = name.to_owned();
        let event = self.event(who, AuditAction::UserDelete).named(name);
        self.write_and_revoke(move |conn| {
            audit_append(conn, &event)?;
            if user_count(conn)? == 1 && user_find(conn, &wanted)?.is_some() {
                // Without any, the next start would take itself for the first, and make `admin` again.
                let message = "the last user of the database cannot be removed; disable it";
                return Err(Error::with_message(Code::Conflict, message));
            }
            let subject = subject(&wanted);
            secrets_delete(conn, &subject)?;
            match user_delete(conn, &wanted)? {
                true => Ok(((), vec![Revoked::Subject(subject)])),
                false => Err(unknown(&wanted)),
            }
        })
        .await
    }

    /// Gives a user a new password, or makes the checks of that: somebody else's by who may do everything, one's own by
    /// who has logged in with the old one. Gives the user as it is then.
    pub async fn user_password(
        &self,
        who: &Actor,
        name: &str,
        secret: &str,
        terms: ChangeTerms,
    ) -> Result<User> {
        if who.is_by_token() {
            let message = "a token changes no password; log in with one";
            return Err(Error::with_message(Code::Denied, message));
        }
        if !is_self(who, name) {
            self.require_operator(who, "change passwords of others")
                .await?;
        }
        if terms.is_dry_run {
            let user = self.user_get(who, name).await?;
            check_password(secret)?;
            terms.condition.check(Some(user.tag()))?;
            return Ok(user);
        }
        self.password_change(Some(who), name, secret, terms.condition)
            .await
    }

    /// Gives a user of the database a new password, and ends what was issued for the old one. Without `who` it is
    /// done on the machine of the registry.
    pub async fn user_set_password(
        &self,
        who: Option<&Actor>,
        name: &str,
        secret: &str,
    ) -> Result<()> {
        let always = Precondition::default();
        self.password_change(who, name, secret, always).await?;
        Ok(())
    }

    async fn password_change(
        &self,
        who: Option<&Actor>,
        name: &str,
        secret: &str,
        condition: Precondition,
    ) -> Result<User> {
        if !is_user_name(name) {
            return Err(unknown(name));
        }
        let (wanted, hash) = (name.to_owned(), hash(secret).await?);
        let action = AuditAction::UserPassword;
        let event = who.map_or_else(|| self.own_event(action), |who| self.event(who, action));
        let event = event.named(name);
        self.write_and_revoke(move |conn| {
            audit_append(conn, &event)?;
            let mut user = user_lock(conn, &wanted)?.ok_or_else(|| unknown(&wanted))?;
            condition.check(Some(user.tag()))?;
            user_set_password(conn, &wanted, &hash)?;
            user.password_hash = hash;
            let subject = subject(&wanted);
            secrets_delete(conn, &subject)?;
            Ok((user, vec![Revoked::Subject(subject)]))
        })
        .await
    }
}

/// A user before an order and after it, if it meets the condition.
fn user_changed(before: User, order: UserOrder, terms: &ChangeTerms) -> Result<Changed<User>> {
    terms.condition.check(Some(before.tag()))?;
    let after = User {
        grants: order.grants,
        is_disabled: order.is_disabled,
        ..before.clone()
    };
    Ok(Changed {
        before,
        after,
        is_made: !terms.is_dry_run,
    })
}

/// The user's name in tokens and secrets.
fn subject(name: &str) -> String {
    format!("{}:{name}", static_users::NAME)
}

fn is_self(who: &Identity, name: &str) -> bool {
    who.driver == static_users::NAME && who.user == name
}

fn unknown(name: &str) -> Error {
    let message = format!("there is no user {name} in the database");
    Error::with_message(Code::NotFound, message)
}

/// Hashes a password. Errors: one that is too short or too long.
pub(super) async fn hash(secret: &str) -> Result<String> {
    check_password(secret)?;
    let secret = secret.to_owned();
    let hashed = tokio::task::spawn_blocking(move || password::hash(&secret)).await;
    hashed.map_err(Error::internal)?.map_err(Error::internal)
}

fn check_password(secret: &str) -> Result<()> {
    if is_password(secret) {
        return Ok(());
    }
    Err(Error::field("password", PASSWORD_RULE))
}
