//! Users of the `static_users` driver that are kept in the database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::{Conn, dialect::on_backend, schema::users};
use crate::{
    error::{Error, Result},
    model::user::{Grant, User},
};

/// The user of that name.
pub fn user_find(conn: &mut Conn, name: &str) -> Result<Option<User>> {
    let row: Option<(String, String)> = users::table
        .find(name)
        .select((users::password_hash, users::grants))
        .first(conn)
        .optional()?;
    row.map(|(password_hash, grants)| {
        let grants: Vec<Grant> = serde_json::from_str(&grants).map_err(Error::internal)?;
        Ok(User {
            name: name.to_owned(),
            password_hash,
            grants,
        })
    })
    .transpose()
}

/// Stores a new user; `false` if the name is taken.
pub fn user_insert(conn: &mut Conn, user: &User, now: DateTime<Utc>) -> Result<bool> {
    let grants = serde_json::to_string(&user.grants).map_err(Error::internal)?;
    let count = on_backend!(conn, |c| diesel::insert_into(users::table)
        .values((
            users::name.eq(&user.name),
            users::password_hash.eq(&user.password_hash),
            users::grants.eq(grants),
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

/// How many users there are.
pub fn user_count(conn: &mut Conn) -> Result<i64> {
    Ok(users::table.count().get_result(conn)?)
}
