//! Personal access tokens: what a person logs in with instead of a password, for docker and for scripts.
//!
//! A token acts as its owner, with all rights or with fewer. Users of Keystone have application credentials for
//! this, which Keystone itself can take back; we could not see that a user has lost a role.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Registry,
    caller::Actor,
    robots::{NewSecret, check_expiry},
};
use crate::{
    auth::{
        driver::{Facts, Identity},
        issued_secret,
    },
    db::{
        audit::{audit_append, audit_append_all},
        secrets::{secret_delete, secret_get, secret_insert, secret_list},
    },
    error::{Code, Error, Result},
    model::{
        audit::AuditAction,
        permission::Permission,
        revocation::Revoked,
        robot::{ROBOT, login_parts},
        secret::{SecretKind, StoredSecret, origin_of},
        service_identity::SERVICE,
    },
    oci::AccountName,
};

/// How many personal tokens somebody may have.
const MAX_TOKENS: usize = 50;

/// The longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 256;

/// The longest life of a token whose rights are those that an identity provider told us at login.
const MAX_FROZEN_LIFETIME: TimeDelta = TimeDelta::days(30);

/// How long a token lives if nobody says.
const DEFAULT_LIFETIME: TimeDelta = TimeDelta::days(30);

/// What somebody asks a token to be.
#[derive(Debug, Clone, Default)]
pub struct PersonalTokenOrder {
    /// What it is for.
    pub description: String,
    /// What it is good for; `None` is everything that the owner may do.
    pub permissions: Option<BTreeSet<Permission>>,
    /// When it ends; in 30 days if nobody says.
    pub expires_at: Option<DateTime<Utc>>,
    /// The same from now on; it counts if `expires_at` is not there.
    pub expires_in_seconds: Option<u32>,
}

impl Registry {
    /// One's own tokens.
    pub async fn personal_tokens_list(&self, who: &Identity) -> Result<Vec<StoredSecret>> {
        let subject = who.to_string();
        self.db
            .read(move |conn| secret_list(conn, &subject, SecretKind::Personal))
            .await
    }

    /// Makes a token for oneself. A token cannot make another: who has stolen one would have it for ever.
    pub async fn personal_token_create(
        &self,
        who: &Actor,
        order: PersonalTokenOrder,
    ) -> Result<NewSecret> {
        match who.facts {
            Facts::Stored | Facts::Granted { .. } => {}
            Facts::Keystone { .. } => {
                return Err(denied(
                    "users of Keystone log in with application credentials instead of personal tokens: `openstack application credential create`",
                ));
            }
            Facts::Account(_) => return Err(denied("machines have no personal tokens")),
        }
        if who.is_by_token() {
            return Err(denied(
                "a token cannot make another; log in with the password",
            ));
        }
        if order.description.len() > MAX_DESCRIPTION_BYTES {
            let message = format!("it has {MAX_DESCRIPTION_BYTES} bytes at most");
            return Err(Error::field("description", message));
        }
        if order.permissions.as_ref().is_some_and(BTreeSet::is_empty) {
            let message = "a token without permissions is good for nothing";
            return Err(Error::field("permissions", message));
        }
        let now = self.clock.now();
        let longest = TimeDelta::from_std(self.settings.personal_token).map_err(Error::internal)?;
        let longest = match who.facts {
            Facts::Granted { .. } => longest.min(MAX_FROZEN_LIFETIME),
            _ => longest,
        };
        let lifetime = DEFAULT_LIFETIME.min(longest);
        let lifetime = order
            .expires_in_seconds
            .map_or(lifetime, |seconds| TimeDelta::seconds(seconds.into()));
        let expires_at = order.expires_at.unwrap_or(now + lifetime);
        check_expiry(Some(expires_at), now)?;
        if expires_at > now + longest {
            let message = format!("a personal token lives {} days at most", longest.num_days());
            return Err(Error::field("expires_at", message));
        }
        let mut identity = who.identity().clone();
        identity.narrowed_to = order.permissions;
        let stored = StoredSecret {
            id: self.ids.fresh(),
            kind: SecretKind::Personal,
            identity,
            description: order.description,
            audience: None,
            parent_id: None,
            created_at: now,
            created_by: who.to_string(),
            expires_at: Some(expires_at),
            last_used_at: None,
        };
        let secret = issued_secret::generate(SecretKind::Personal).map_err(Error::internal)?;
        let (hash, row) = (self.secret_hasher.hash(&secret), stored.clone());
        let event = self.event(who, AuditAction::PersonalTokenCreate);
        let event = event.named(stored.id.to_string());
        self.db
            .write(move |conn| {
                audit_append(conn, &event)?;
                let subject = row.identity.to_string();
                let tokens = secret_list(conn, &subject, SecretKind::Personal)?;
                if tokens.len() >= MAX_TOKENS {
                    let message = format!("nobody has more than {MAX_TOKENS} personal tokens");
                    return Err(Error::with_message(Code::Conflict, message));
                }
                secret_insert(conn, &row, &hash)
            })
            .await?;
        Ok(NewSecret { stored, secret })
    }

    /// Ends one of one's own tokens, with the refresh tokens that were got with it. What was issued to its owner is
    /// taken back; whoever has another credential gets new ones.
    pub async fn personal_token_remove(&self, who: &Actor, id: Uuid) -> Result<()> {
        let subject = who.to_string();
        if who.is_by_token() && who.identity().origin != Some(origin_of(id)) {
            return Err(denied("a token can end itself, and no other"));
        }
        let event = self.event(who, AuditAction::PersonalTokenDelete);
        let event = event.named(id.to_string());
        self.write_and_revoke(move |conn| {
            audit_append(conn, &event)?;
            let found = secret_get(conn, id)?.filter(|secret| {
                secret.kind == SecretKind::Personal && secret.identity.to_string() == subject
            });
            let Some(secret) = found else {
                let message = format!("you have no personal token {id}");
                return Err(Error::with_message(Code::NotFound, message));
            };
            secret_delete(conn, secret.id)?;
            Ok(((), vec![Revoked::Subject(subject)]))
        })
        .await
    }

    /// Takes everything back that was issued to somebody, `<driver>:<user>`: access tokens, refresh tokens and
    /// personal tokens. One's own; those of an account's machines by who may change the account; anybody's by who may
    /// do everything. A robot keeps its secrets.
    pub async fn tokens_revoke(&self, who: &Actor, subject: &str) -> Result<()> {
        if who.is_by_token() || who.to_string() != subject {
            match account_of_machine(subject) {
                Some(account) => {
                    self.account_access(who, &account, Permission::Change)
                        .await?;
                }
                None => {
                    self.require_operator(who, "revoke tokens of others")
                        .await?;
                }
            }
        }
        let owner = subject.to_owned();
        let mut event = self.event(who, AuditAction::TokenRevoke).named(subject);
        event.account = account_of_machine(subject).map(|account| account.to_string());
        self.write_and_revoke(move |conn| {
            audit_append_all(conn, &[event])?;
            for kind in [SecretKind::Personal, SecretKind::Refresh] {
                for secret in secret_list(conn, &owner, kind)? {
                    secret_delete(conn, secret.id)?;
                }
            }
            Ok(((), vec![Revoked::Subject(owner)]))
        })
        .await
    }

    /// Takes one access token back by its `jti`: by who may do everything.
    pub async fn token_revoke(&self, who: &Actor, jti: &str) -> Result<()> {
        self.require_operator(who, "revoke a token by its jti")
            .await?;
        let revoked = Revoked::Jti(jti.to_owned());
        let event = self.event(who, AuditAction::TokenRevoke).named(jti);
        self.write_and_revoke(move |conn| {
            audit_append(conn, &event)?;
            Ok(((), vec![revoked]))
        })
        .await
    }
}

/// The account whose robot or service identity is called so in tokens.
fn account_of_machine(subject: &str) -> Option<AccountName> {
    let (driver, login) = subject.split_once(':')?;
    let is_machine = matches!(driver, ROBOT | SERVICE);
    let (account, _) = login_parts(login).filter(|_| is_machine)?;
    Some(account)
}

fn denied(message: &'static str) -> Error {
    Error::with_message(Code::Denied, message)
}
