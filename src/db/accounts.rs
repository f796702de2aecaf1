//! Accounts.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::{Conn, dialect::on_backend, schema::accounts, stored};
use crate::{
    error::{Error, Result},
    model::account::{Account, AccountSettings},
    oci::AccountName,
};

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = accounts)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(super) struct AccountRow {
    name: String,
    auth_tenant_id: String,
    storage: String,
    settings: String,
    is_deleting: bool,
}

impl AccountRow {
    pub(super) fn into_account(self) -> Result<Account> {
        Ok(Account {
            name: stored(&self.name)?,
            auth_tenant_id: self.auth_tenant_id,
            storage: self.storage,
            settings: serde_json::from_str(&self.settings).map_err(Error::internal)?,
            is_deleting: self.is_deleting,
        })
    }
}

fn to_json(settings: &AccountSettings) -> Result<String> {
    serde_json::to_string(settings).map_err(Error::internal)
}

/// Stores a new account; `false` if the name is taken.
pub fn account_insert(conn: &mut Conn, account: &Account, now: DateTime<Utc>) -> Result<bool> {
    let row = (
        accounts::name.eq(account.name.as_str()),
        accounts::auth_tenant_id.eq(&account.auth_tenant_id),
        accounts::storage.eq(&account.storage),
        accounts::settings.eq(to_json(&account.settings)?),
        accounts::serves_namespace.eq(account.settings.serves_namespace.as_deref()),
        accounts::is_deleting.eq(account.is_deleting),
        accounts::created_at.eq(now.naive_utc()),
    );
    let count = on_backend!(conn, |c| diesel::insert_into(accounts::table)
        .values(row)
        .on_conflict(accounts::name)
        .do_nothing()
        .execute(c))?;
    Ok(count == 1)
}

/// The account of that name.
pub fn account_find(conn: &mut Conn, name: &AccountName) -> Result<Option<Account>> {
    let row: Option<AccountRow> = accounts::table
        .find(name.as_str())
        .select(AccountRow::as_select())
        .first(conn)
        .optional()?;
    row.map(AccountRow::into_account).transpose()
}

/// The account that answers for a namespace (`?ns=`).
pub fn account_find_by_namespace(conn: &mut Conn, namespace: &str) -> Result<Option<AccountName>> {
    let name: Option<String> = accounts::table
        .filter(accounts::serves_namespace.eq(namespace))
        .select(accounts::name)
        .first(conn)
        .optional()?;
    name.map(|name| stored(&name)).transpose()
}

/// All accounts, by name.
pub fn account_list(conn: &mut Conn) -> Result<Vec<Account>> {
    let rows: Vec<AccountRow> = accounts::table
        .order(accounts::name)
        .select(AccountRow::as_select())
        .load(conn)?;
    rows.into_iter().map(AccountRow::into_account).collect()
}

/// Stores changed settings; `false` if the account is gone.
pub fn account_update(
    conn: &mut Conn,
    name: &AccountName,
    settings: &AccountSettings,
) -> Result<bool> {
    let count = diesel::update(accounts::table.find(name.as_str()))
        .set((
            accounts::settings.eq(to_json(settings)?),
            accounts::serves_namespace.eq(settings.serves_namespace.as_deref()),
        ))
        .execute(conn)?;
    Ok(count == 1)
}

/// Marks an account so that nothing new gets into it.
pub fn account_mark_deleting(conn: &mut Conn, name: &AccountName) -> Result<()> {
    diesel::update(accounts::table.find(name.as_str()))
        .set(accounts::is_deleting.eq(true))
        .execute(conn)?;
    Ok(())
}

/// Removes the row; everything that belongs to the account must be gone.
pub fn account_delete(conn: &mut Conn, name: &AccountName) -> Result<()> {
    diesel::delete(accounts::table.find(name.as_str())).execute(conn)?;
    Ok(())
}
