//! Robots of accounts: made, changed and removed by who may change the account, and their secrets rotated.
//!
//! A robot has two secrets at most, so that the new one can be brought to where it is used while the old one still
//! works. What is issued for a robot is taken back when its rights become fewer.

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use uuid::Uuid;

use super::{Registry, caller::Actor};
use crate::{
    auth::{driver::Identity, issued_secret},
    db::{
        Conn,
        audit::audit_append,
        robots::{robot_delete, robot_find, robot_insert, robot_list, robot_lock, robot_update},
        secrets::{secret_delete, secret_end, secret_insert, secret_list, secrets_delete},
    },
    error::{Code, Error, Result},
    model::{
        account_rights::AccountRights,
        audit::AuditAction,
        permission::Permission,
        precondition::{ChangeTerms, Changed, Tagged as _},
        revocation::Revoked,
        robot::{Robot, RobotShown, check_name},
        secret::{SecretKind, StoredSecret},
    },
    oci::AccountName,
};

/// How many robots an account may have.
const MAX_ROBOTS: usize = 1000;

/// How many secrets a robot may have at once.
const MAX_SECRETS: usize = 2;

/// How long old secrets can stay good beside a new one.
const MAX_OVERLAP: TimeDelta = TimeDelta::days(30);

/// The longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 1024;

/// What somebody asks a robot to be.
#[derive(Debug, Clone)]
pub struct RobotOrder {
    /// What it is for.
    pub description: String,
    /// What it may do, and where.
    pub rights: AccountRights,
    /// Whether it cannot log in.
    pub is_disabled: bool,
    /// When it ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A new secret. There is no `Debug`.
pub struct NewSecret {
    /// What is stored of it.
    pub stored: StoredSecret,
    /// What is shown once.
    pub secret: String,
}

impl Registry {
    /// The account's robots.
    pub async fn robots_list(
        &self,
        who: &Identity,
        account: &AccountName,
    ) -> Result<Vec<RobotShown>> {
        self.account_access(who, account, Permission::View).await?;
        let account = account.clone();
        self.db
            .read(move |conn| {
                let robots = robot_list(conn, &account)?;
                robots.into_iter().map(|robot| shown(conn, robot)).collect()
            })
            .await
    }

    /// One robot.
    pub async fn robot_get(
        &self,
        who: &Identity,
        account: &AccountName,
        name: &str,
    ) -> Result<RobotShown> {
        self.account_access(who, account, Permission::View).await?;
        let (account, name) = (account.clone(), name.to_owned());
        self.db
            .read(move |conn| {
                let robot = robot_get(conn, &account, &name)?;
                shown(conn, robot)
            })
            .await
    }

    /// Makes a robot with its first secret.
    pub async fn robot_create(
        &self,
        who: &Actor,
        name: &str,
        order: RobotOrder,
    ) -> Result<(Robot, NewSecret)> {
        let account = order.rights.account.clone();
        let access = self.account_access(who, &account, Permission::Change);
        let owner = access.await?.account;
        let now = self.clock.now();
        check_name(name).map_err(|reason| Error::field("name", reason))?;
        check_order(&order)?;
        check_expiry(order.expires_at, now)?;
        let robot = Robot {
            id: self.ids.fresh(),
            name: name.to_owned(),
            description: order.description,
            rights: order.rights,
            is_disabled: order.is_disabled,
            expires_at: order.expires_at,
            created_at: now,
            created_by: who.to_string(),
            last_used_at: None,
        };
        let new = self.robot_secret(who, &robot, None)?;
        let (made, stored) = (robot.clone(), new.stored.clone());
        let hash = self.secret_hasher.hash(&new.secret);
        let event = self.event(who, AuditAction::RobotCreate);
        let event = event.on(&owner).named(name);
        self.db
            .write(move |conn| {
                audit_append(conn, &event)?;
                if robot_list(conn, &account)?.len() >= MAX_ROBOTS {
                    let message = format!("an account can have {MAX_ROBOTS} robots at most");
                    return Err(Error::with_message(Code::Conflict, message));
                }
                if !robot_insert(conn, &made)? {
                    let message = format!("account {account} has a robot {} already", made.name);
                    return Err(Error::with_message(Code::Conflict, message));
                }
                secret_insert(conn, &stored, &hash)
            })
            .await?;
        Ok((robot, new))
    }

    /// Changes a robot, or says what that would change. Tokens that were issued to it are taken back: they hold the old
    /// rights.
    pub async fn robot_change(
        &self,
        who: &Actor,
        name: &str,
        order: RobotOrder,
        terms: ChangeTerms,
    ) -> Result<Changed<RobotShown>> {
        let account = order.rights.account.clone();
        let access = self.account_access(who, &account, Permission::Change);
        let owner = access.await?.account;
        check_order(&order)?;
        let (now, name) = (self.clock.now(), name.to_owned());
        if terms.is_dry_run {
            let find = move |conn: &mut Conn| {
                robot_get(conn, &account, &name).and_then(|robot| shown(conn, robot))
            };
            let before = self.db.read(find).await?;
            return robot_changed(before, order, &terms, now);
        }
        let event = self.event(who, AuditAction::RobotUpdate);
        let event = event.on(&owner).named(&name);
        self.write_and_revoke(move |conn| {
            audit_append(conn, &event)?;
            let found = robot_get(conn, &account, &name)?;
            robot_hold(conn, &found)?;
            // Read again: somebody may have changed it until now.
            let before = robot_get(conn, &account, &name)?;
            let before = shown(conn, before)?;
            let changed = robot_changed(before, order, &terms, now)?;
            robot_update(conn, &changed.after.robot)?;
            let revoked = subject(&changed.after.robot);
            Ok((changed, vec![revoked]))
        })
        .await
    }

    /// Removes a robot with its secrets, and takes its tokens back.
    pub async fn robot_remove(&self, who: &Actor, account: &AccountName, name: &str) -> Result<()> {
        let access = self.account_access(who, account, Permission::Change);
        let owner = access.await?.account;
        let (account, name) = (account.clone(), name.to_owned());
        let event = self.event(who, AuditAction::RobotDelete);
        let event = event.on(&owner).named(&name);
        self.write_and_revoke(move |conn| {
            audit_append(conn, &event)?;
            let robot = robot_get(conn, &account, &name)?;
            robot_forget(conn, &robot)?;
            Ok(((), vec![subject(&robot)]))
        })
        .await
    }

    /// Gives a robot a new secret. The others stay good for `overlap`, but for the oldest if it would be a third.
    pub async fn robot_rotate(
        &self,
        who: &Actor,
        (account, name): (&AccountName, &str),
        expires_at: Option<DateTime<Utc>>,
        overlap: TimeDelta,
    ) -> Result<NewSecret> {
        let access = self.account_access(who, account, Permission::Change);
        let owner = access.await?.account;
        let shown = self.robot_get(who, account, name).await?;
        let now = self.clock.now();
        check_expiry(expires_at, now)?;
        if overlap > MAX_OVERLAP {
            let days = MAX_OVERLAP.num_days();
            let message = format!("secrets overlap {days} days at most");
            return Err(Error::field("overlap_seconds", message));
        }
        let new = self.robot_secret(who, &shown.robot, expires_at)?;
        let hash = self.secret_hasher.hash(&new.secret);
        let (stored, robot) = (new.stored.clone(), shown.robot);
        let event = self.event(who, AuditAction::RobotRotate);
        let event = event.on(&owner).named(name);
        self.write_and_revoke(move |conn| {
            audit_append(conn, &event)?;
            // Whoever rotates or removes the robot at the same time waits here.
            robot_hold(conn, &robot)?;
            let login = robot.identity().to_string();
            let old = secret_list(conn, &login, SecretKind::Robot)?;
            let (active, ended): (Vec<_>, Vec<_>) =
                old.into_iter().partition(|secret| secret.is_active(now));
            let beyond = (active.len() + 1).saturating_sub(MAX_SECRETS);
            for secret in ended.iter().chain(active.iter().take(beyond)) {
                secret_delete(conn, secret.id)?;
            }
            for secret in active.iter().skip(beyond) {
                secret_end(conn, secret.id, now + overlap)?;
            }
            secret_insert(conn, &stored, &hash)?;
            // With a secret that ends now its tokens end too; nobody knows which those are.
            let ends_now = beyond > 0 || overlap <= TimeDelta::zero();
            let revoked = ends_now.then(|| subject(&robot));
            Ok(((), revoked.into_iter().collect()))
        })
        .await?;
        Ok(new)
    }

    /// Ends one secret of a robot at once, with the tokens of the robot.
    pub async fn robot_secret_remove(
        &self,
        who: &Actor,
        (account, name): (&AccountName, &str),
        id: Uuid,
    ) -> Result<()> {
        let access = self.account_access(who, account, Permission::Change);
        let owner = access.await?.account;
        let shown = self.robot_get(who, account, name).await?;
        if !shown.secrets.iter().any(|secret| secret.id == id) {
            let message = format!("robot {name} has no secret {id}");
            return Err(Error::with_message(Code::NotFound, message));
        }
        let event = self.event(who, AuditAction::RobotSecretDelete);
        let event = event.on(&owner).named(name);
        self.write_and_revoke(move |conn| {
            audit_append(conn, &event)?;
            secret_delete(conn, id)?;
            Ok(((), vec![subject(&shown.robot)]))
        })
        .await
    }

    fn robot_secret(
        &self,
        who: &Identity,
        robot: &Robot,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<NewSecret> {
        let secret = issued_secret::generate(SecretKind::Robot).map_err(Error::internal)?;
        let stored = StoredSecret {
            id: self.ids.fresh(),
            kind: SecretKind::Robot,
            identity: robot.identity(),
            description: String::new(),
            audience: None,
            parent_id: None,
            created_at: self.clock.now(),
            created_by: who.to_string(),
            expires_at,
            last_used_at: None,
        };
        Ok(NewSecret { stored, secret })
    }
}

fn subject(robot: &Robot) -> Revoked {
    Revoked::Subject(robot.identity().to_string())
}

fn check_order(order: &RobotOrder) -> Result<()> {
    if order.description.len() > MAX_DESCRIPTION_BYTES {
        let message = format!("it has {MAX_DESCRIPTION_BYTES} bytes at most");
        return Err(Error::field("description", message));
    }
    Ok(order.rights.validate()?)
}

/// An end must lie in the future.
pub(super) fn check_expiry(expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<()> {
    match expires_at {
        Some(at) if at <= now => Err(Error::field("expires_at", "it lies in the past")),
        // SQLite compares times as text, which works for years of four digits.
        Some(at) if at.year() > 9999 => Err(Error::field("expires_at", "it lies too far away")),
        _ => Ok(()),
    }
}

fn robot_get(conn: &mut Conn, account: &AccountName, name: &str) -> Result<Robot> {
    // PostgreSQL refuses some of what cannot be a name.
    let found = match check_name(name) {
        Ok(()) => robot_find(conn, account, name)?,
        Err(_) => None,
    };
    found.ok_or_else(|| {
        let message = format!("account {account} has no robot {name}");
        Error::with_message(Code::NotFound, message)
    })
}

/// Keeps others from changing the robot until the transaction ends.
fn robot_hold(conn: &mut Conn, robot: &Robot) -> Result<()> {
    if robot_lock(conn, robot.id)? {
        return Ok(());
    }
    let message = format!("robot {} is gone", robot.name);
    Err(Error::with_message(Code::Conflict, message))
}

/// A robot before an order and after it, if it meets the condition.
fn robot_changed(
    before: RobotShown,
    order: RobotOrder,
    terms: &ChangeTerms,
    now: DateTime<Utc>,
) -> Result<Changed<RobotShown>> {
    // One that has ended can still be disabled.
    if order.expires_at != before.robot.expires_at {
        check_expiry(order.expires_at, now)?;
    }
    terms.condition.check(Some(before.tag()))?;
    let mut after = before.clone();
    after.robot.description = order.description;
    after.robot.rights = order.rights;
    after.robot.is_disabled = order.is_disabled;
    after.robot.expires_at = order.expires_at;
    Ok(Changed {
        before,
        after,
        is_made: !terms.is_dry_run,
    })
}

fn shown(conn: &mut Conn, robot: Robot) -> Result<RobotShown> {
    let login = robot.identity().to_string();
    let secrets = secret_list(conn, &login, SecretKind::Robot)?;
    Ok(RobotShown { robot, secrets })
}

fn robot_forget(conn: &mut Conn, robot: &Robot) -> Result<()> {
    secrets_delete(conn, &robot.identity().to_string())?;
    robot_delete(conn, robot.id)
}

/// Removes all robots of an account that is being deleted.
pub(super) fn robots_forget(conn: &mut Conn, account: &AccountName) -> Result<()> {
    for robot in robot_list(conn, account)? {
        robot_forget(conn, &robot)?;
    }
    Ok(())
}
