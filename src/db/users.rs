//! Users of the `static_users` driver that are kept in the database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::{Conn, dialect::on_backend, schema::users};
use crate::{
    error::{Error, Result},
    model::user::{Grant, User},
};

const COLUMNS: (
    users::name,
    users::password_hash,
    users::grants,
    users::is_disabled,
) = (
    users::name,
    users::password_hash,
    users::grants,
    users::is_disabled,
);

fn user(
    (name, password_hash, grants, is_disabled): (String, String, String, bool),
) -> Result<User> {
    let grants: Vec<Grant> = serde_json::from_str(&grants).map_err(Error::internal)?;
    Ok(User {
        name,
        password_hash,
        grants,
        is_disabled,
    })
}

/// The user of that name.
pub fn user_find(conn: &mut Conn, name: &str) -> Result<Option<User>> {
    let row = users::table.find(name).select(COLUMNS).first(conn);
    row.optional()?.map(user).transpose()
}

/// The user of that name, held until the transaction ends.
pub fn user_lock(conn: &mut Conn, name: &str) -> Result<Option<User>> {
    if let Conn::Postgres(c) = conn {
        let query = users::table.find(name).select(users::name);
        let _held: Option<String> = query.for_no_key_update().first(c).optional()?;
    }
    user_find(conn, name)
}

/// All users by name.
pub fn user_list(conn: &mut Conn) -> Result<Vec<User>> {
    let rows: Vec<_> = users::table.select(COLUMNS).order(users::name).load(conn)?;
    rows.into_iter().map(user).collect()
}

/// Stores a new user; `false` if the name is taken.
pub fn user_insert(conn: &mut Conn, user: &User, now: DateTime<Utc>) -> Result<bool> {
    let grants = serde_json::to_string(&user.grants).map_err(Error::internal)?;
    let count = on_backend!(conn, |c| diesel::insert_into(users::table)
        .values((
            users::name.eq(&user.name),
            users::password_hash.eq(&user.password_hash),
            users::grants.eq(grants),
            users::is_disabled.eq(user.is_disabled),
            users::created_at.eq(now.naive_utc()),
        ))
        .on_conflict(users::name)
        .do_nothing()
        .execute(c))?;
    Ok(count == 1)
}

/// Replaces a user's password hash; `false` if there is no such user.
pub fn user_set_password(conn: &mut Conn, name: &str, password_hash: &str) -> Result<bool> {
    let count = diesel::update(users::table.find(name))
        .set(users::password_hash.eq(password_hash))
        .execute(conn)?;
    Ok(count == 1)
}

/// Replaces what a user may do and whether it may log in; `false` if there is no such user.
pub fn user_update(
    conn: &mut Conn,
    name: &str,
    grants: &[Grant],
    is_disabled: bool,
) -> Result<bool> {
    let grants = serde_json::to_string(grants).map_err(Error::internal)?;
    let count = diesel::update(users::table.find(name))
        .set((users::grants.eq(grants), users::is_disabled.eq(is_disabled)))
        .execute(conn)?;
    Ok(count == 1)
}

/// Removes a user; `false` if there is no such user.
pub fn user_delete(conn: &mut Conn, name: &str) -> Result<bool> {
    Ok(diesel::delete(users::table.find(name)).execute(conn)? == 1)
}

/// How many users there are.
pub fn user_count(conn: &mut Conn) -> Result<i64> {
    Ok(users::table.count().get_result(conn)?)
}
