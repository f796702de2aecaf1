//! Robots of accounts.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;
use uuid::Uuid;

use super::{Conn, dialect::on_backend, schema::robots};
use crate::{
    error::{Error, Result},
    model::{account_rights::AccountRights, permission::Permission, robot::Robot},
    oci::AccountName,
};

#[derive(Queryable)]
struct Row {
    id: String,
    account_name: String,
    name: String,
    description: String,
    permissions: String,
    repositories: String,
    is_disabled: bool,
    expires_at: Option<NaiveDateTime>,
    created_at: NaiveDateTime,
    created_by: String,
    last_used_at: Option<NaiveDateTime>,
}

impl TryFrom<Row> for Robot {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let permissions: BTreeSet<Permission> =
            serde_json::from_str(&row.permissions).map_err(Error::internal)?;
        Ok(Self {
            id: row.id.parse().map_err(Error::internal)?,
            name: row.name,
            description: row.description,
            rights: AccountRights {
                account: row.account_name.parse().map_err(Error::internal)?,
                permissions,
                repositories: serde_json::from_str(&row.repositories).map_err(Error::internal)?,
            },
            is_disabled: row.is_disabled,
            expires_at: row.expires_at.map(|at| at.and_utc()),
            created_at: row.created_at.and_utc(),
            created_by: row.created_by,
            last_used_at: row.last_used_at.map(|at| at.and_utc()),
        })
    }
}

/// The account's robots by name.
pub fn robot_list(conn: &mut Conn, account: &AccountName) -> Result<Vec<Robot>> {
    let rows: Vec<Row> = robots::table
        .filter(robots::account_name.eq(account.as_str()))
        .order(robots::name)
        .load(conn)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// The robot of that name.
pub fn robot_find(conn: &mut Conn, account: &AccountName, name: &str) -> Result<Option<Robot>> {
    let row: Option<Row> = robots::table
        .filter(robots::account_name.eq(account.as_str()))
        .filter(robots::name.eq(name))
        .first(conn)
        .optional()?;
    row.map(TryInto::try_into).transpose()
}

/// Stores a new robot; `false` if the account has one of that name.
pub fn robot_insert(conn: &mut Conn, robot: &Robot) -> Result<bool> {
    let rights = &robot.rights;
    let count = on_backend!(conn, |c| diesel::insert_into(robots::table)
        .values((
            robots::id.eq(robot.id.to_string()),
            robots::account_name.eq(rights.account.as_str()),
            robots::name.eq(&robot.name),
            robots::description.eq(&robot.description),
            robots::permissions.eq(json(&rights.permissions)?),
            robots::repositories.eq(json(&rights.repositories)?),
            robots::is_disabled.eq(robot.is_disabled),
            robots::expires_at.eq(robot.expires_at.map(|at| at.naive_utc())),
            robots::created_at.eq(robot.created_at.naive_utc()),
            robots::created_by.eq(&robot.created_by),
        ))
        .on_conflict((robots::account_name, robots::name))
        .do_nothing()
        .execute(c))?;
    Ok(count == 1)
}

/// Stores what of a robot can be changed; `false` if it is gone.
pub fn robot_update(conn: &mut Conn, robot: &Robot) -> Result<bool> {
    let rights = &robot.rights;
    let count = diesel::update(robots::table.find(robot.id.to_string()))
        .set((
            robots::description.eq(&robot.description),
            robots::permissions.eq(json(&rights.permissions)?),
            robots::repositories.eq(json(&rights.repositories)?),
            robots::is_disabled.eq(robot.is_disabled),
            robots::expires_at.eq(robot.expires_at.map(|at| at.naive_utc())),
        ))
        .execute(conn)?;
    Ok(count == 1)
}

/// Keeps others from changing the robot until the transaction ends; `false` if it is gone.
pub fn robot_lock(conn: &mut Conn, id: Uuid) -> Result<bool> {
    // An update that changes nothing locks the row on PostgreSQL; on SQLite there is one writer anyway.
    let count = diesel::update(robots::table.find(id.to_string()))
        .set(robots::name.eq(robots::name))
        .execute(conn)?;
    Ok(count == 1)
}

/// Notes that the robot has logged in.
pub fn robot_used(conn: &mut Conn, id: Uuid, now: DateTime<Utc>) -> Result<()> {
    diesel::update(robots::table.find(id.to_string()))
        .set(robots::last_used_at.eq(now.naive_utc()))
        .execute(conn)?;
    Ok(())
}

/// Removes a robot. Its secrets are the caller's to remove.
pub fn robot_delete(conn: &mut Conn, id: Uuid) -> Result<()> {
    diesel::delete(robots::table.find(id.to_string())).execute(conn)?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}
