//! On which backends an account has a container.
//!
//! A container that is being removed must not become the target of a move at the same time, or pushes would go to
//! what is gone: its row is where the two meet.

use diesel::prelude::*;

use super::{
    Conn,
    dialect::on_backend,
    schema::{accounts, containers},
};
use crate::{
    error::{Error, Result},
    oci::AccountName,
};

/// The backends on which an account has a container, or may have one.
pub fn container_list(conn: &mut Conn, account: &AccountName) -> Result<Vec<String>> {
    Ok(containers::table
        .filter(containers::account_name.eq(account.as_str()))
        .order(containers::storage)
        .select(containers::storage)
        .load(conn)?)
}

/// Notes that an account has a container on a backend, or is about to have one. Errors: it is being removed.
pub fn container_note(conn: &mut Conn, account: &AccountName, storage: &str) -> Result<()> {
    on_backend!(conn, |c| diesel::insert_into(containers::table)
        .values((
            containers::account_name.eq(account.as_str()),
            containers::storage.eq(storage),
            containers::is_releasing.eq(false),
        ))
        .on_conflict((containers::account_name, containers::storage))
        .do_nothing()
        .execute(c))?;
    container_hold(conn, account, storage)
}

/// Holds a container's row until the transaction ends. Errors: it is being removed, or was.
pub fn container_hold(conn: &mut Conn, account: &AccountName, storage: &str) -> Result<()> {
    let query = containers::table
        .find((account.as_str(), storage))
        .filter(containers::is_releasing.eq(false))
        .select(containers::storage);
    let found: Option<String> = match conn {
        Conn::Postgres(c) => query.for_update().first(c).optional()?,
        Conn::Sqlite(c) => query.first(c).optional()?,
    };
    found.map(drop).ok_or_else(|| {
        Error::with_message(
            crate::error::Code::Unavailable,
            format!(
                "what account {account} has left on storage backend {storage} is just being removed; try again"
            ),
        )
    })
}

/// Marks a container as being removed; `false` if the account lives there.
pub fn container_claim(conn: &mut Conn, account: &AccountName, storage: &str) -> Result<bool> {
    let query = accounts::table
        .find(account.as_str())
        .filter(
            accounts::storage
                .ne(storage)
                .or(accounts::is_deleting.eq(true)),
        )
        .select(accounts::name);
    let found: Option<String> = match conn {
        Conn::Postgres(c) => query.for_update().first(c).optional()?,
        Conn::Sqlite(c) => query.first(c).optional()?,
    };
    if found.is_none() {
        return Ok(false);
    }
    diesel::update(containers::table.find((account.as_str(), storage)))
        .set(containers::is_releasing.eq(true))
        .execute(conn)?;
    Ok(true)
}

/// Notes that an account has no container on a backend any more.
pub fn container_forget(conn: &mut Conn, account: &AccountName, storage: &str) -> Result<()> {
    let row = containers::table
        .find((account.as_str(), storage))
        .filter(containers::is_releasing.eq(true));
    diesel::delete(row).execute(conn)?;
    Ok(())
}
