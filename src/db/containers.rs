//! On which backends an account has a container.

use diesel::prelude::*;

use super::{Conn, dialect::on_backend, schema::containers};
use crate::{error::Result, oci::AccountName};

/// The backends on which an account has a container, or may have one.
pub fn container_list(conn: &mut Conn, account: &AccountName) -> Result<Vec<String>> {
    Ok(containers::table
        .filter(containers::account_name.eq(account.as_str()))
        .order(containers::storage)
        .select(containers::storage)
        .load(conn)?)
}

/// Notes that an account has a container on a backend.
pub fn container_note(conn: &mut Conn, account: &AccountName, storage: &str) -> Result<()> {
    on_backend!(conn, |c| diesel::insert_into(containers::table)
        .values((
            containers::account_name.eq(account.as_str()),
            containers::storage.eq(storage)
        ))
        .on_conflict((containers::account_name, containers::storage))
        .do_nothing()
        .execute(c))?;
    Ok(())
}

/// Notes that an account has no container on a backend any more.
pub fn container_forget(conn: &mut Conn, account: &AccountName, storage: &str) -> Result<()> {
    diesel::delete(containers::table.find((account.as_str(), storage))).execute(conn)?;
    Ok(())
}
