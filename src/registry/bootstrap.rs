//! The first start: a user and an account, so that a newcomer can push at once.

use super::{Registry, users::hash};
use crate::{
    auth::password,
    db::{
        accounts::account_find,
        audit::audit_append,
        users::{user_count, user_insert},
    },
    error::{Code, Error, Result},
    model::{
        account::{Account, AccountSettings},
        audit::AuditAction,
        precondition::first_version,
        user::{Grant, User},
    },
    oci::AccountName,
};

/// The first user.
pub const ADMIN: &str = "admin";

/// The first account, and the auth tenant that it belongs to.
pub const DEMO: &str = "demo";

/// What the first start made.
#[derive(Debug)]
pub struct FirstStart {
    /// The random password of `admin`; `None` if the operator chose it.
    pub random_password: Option<String>,
}

impl Registry {
    /// Makes the user `admin` and the account `demo` if there is no user yet. Of several nodes that start
    /// at once one does it.
    pub async fn first_start(&self, chosen_password: Option<&str>) -> Result<Option<FirstStart>> {
        if self.db.read(user_count).await? > 0 {
            return Ok(None);
        }
        // The account first: it may be made twice, and a crash in between leaves no user, so that the
        // next start does it again.
        let name: AccountName = DEMO.parse().map_err(Error::internal)?;
        let wanted = name.clone();
        if self
            .db
            .read(move |conn| account_find(conn, &wanted))
            .await?
            .is_none()
        {
            let event = self.own_event(AuditAction::AccountCreate);
            let demo = Account {
                name,
                auth_tenant_id: DEMO.to_owned(),
                storage: self.backends.default_name().to_owned(),
                settings: AccountSettings::default(),
                is_deleting: false,
                version: first_version(self.clock.now()),
            };
            self.account_create(demo, event).await.or_else(|error| {
                if error.code() == Code::Conflict {
                    Ok(())
                } else {
                    Err(error)
                }
            })?;
        }
        let random_password = match chosen_password {
            Some(_) => None,
            None => Some(password::random().map_err(Error::internal)?),
        };
        let secret = chosen_password
            .or(random_password.as_deref())
            .unwrap_or_default();
        let user = User {
            name: ADMIN.to_owned(),
            password_hash: hash(secret).await?,
            grants: vec![Grant::everything()],
            is_disabled: false,
        };
        let now = self.clock.now();
        let event = self.own_event(AuditAction::UserCreate).named(ADMIN);
        let is_ours = self
            .db
            .write(move |conn| {
                let is_ours = user_insert(conn, &user, now)?;
                if is_ours {
                    audit_append(conn, &event)?;
                }
                Ok(is_ours)
            })
            .await?;
        Ok(is_ours.then_some(FirstStart { random_password }))
    }
}
