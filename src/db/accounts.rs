//! Accounts.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn,
    dialect::on_backend,
    quotas::{book_ensure, book_forget},
    schema::accounts,
    stored,
};
use crate::{
    error::{Error, Result},
    model::{
        account::{Account, AccountSettings},
        quota::BookKind,
    },
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
    version: i64,
}

impl AccountRow {
    pub(super) fn into_account(self) -> Result<Account> {
        Ok(Account {
            name: stored(&self.name)?,
            auth_tenant_id: self.auth_tenant_id,
            storage: self.storage,
            settings: serde_json::from_str(&self.settings).map_err(Error::internal)?,
            is_deleting: self.is_deleting,
            version: self.version,
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
        accounts::audit_pulls.eq(account.settings.audit_pulls),
        accounts::created_at.eq(now.naive_utc()),
        accounts::version.eq(account.version),
    );
    let count = on_backend!(conn, |c| diesel::insert_into(accounts::table)
        .values(row)
        .on_conflict(accounts::name)
        .do_nothing()
        .execute(c))?;
    if count == 0 {
        return Ok(false);
    }
    book_ensure(conn, BookKind::Account, account.name.as_str())?;
    book_ensure(conn, BookKind::AuthTenant, &account.auth_tenant_id)?;
    Ok(true)
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

/// The auth tenants that have accounts.
pub fn auth_tenant_list(conn: &mut Conn) -> Result<Vec<String>> {
    Ok(accounts::table
        .select(accounts::auth_tenant_id)
        .distinct()
        .order(accounts::auth_tenant_id)
        .load(conn)?)
}

/// Up to `limit` accounts of the auth tenants, by name after `after`.
pub fn account_page(
    conn: &mut Conn,
    auth_tenants: &[String],
    after: &str,
    limit: i64,
) -> Result<Vec<Account>> {
    let rows: Vec<AccountRow> = accounts::table
        .filter(accounts::auth_tenant_id.eq_any(auth_tenants))
        .filter(accounts::name.gt(after))
        .order(accounts::name)
        .limit(limit)
        .select(AccountRow::as_select())
        .load(conn)?;
    rows.into_iter().map(AccountRow::into_account).collect()
}

/// The account of that name, held until the transaction ends.
pub fn account_lock(conn: &mut Conn, name: &AccountName) -> Result<Option<Account>> {
    if let Conn::Postgres(c) = conn {
        let query = accounts::table.find(name.as_str()).select(accounts::name);
        let _held: Option<String> = query.for_no_key_update().first(c).optional()?;
    }
    account_find(conn, name)
}

/// Stores changed settings, and gives the new version.
pub fn account_update(conn: &mut Conn, account: &Account) -> Result<i64> {
    let settings = &account.settings;
    let version = account.version + 1;
    diesel::update(accounts::table.find(account.name.as_str()))
        .set((
            accounts::settings.eq(to_json(settings)?),
            accounts::serves_namespace.eq(settings.serves_namespace.as_deref()),
            accounts::version.eq(version),
            accounts::audit_pulls.eq(settings.audit_pulls),
        ))
        .execute(conn)?;
    Ok(version)
}

/// Marks an account so that nothing new gets into it. The janitor goes on with the deletion from `next_at` on.
pub fn account_mark_deleting(
    conn: &mut Conn,
    name: &AccountName,
    next_at: DateTime<Utc>,
) -> Result<()> {
    diesel::update(accounts::table.find(name.as_str()))
        .filter(accounts::is_deleting.eq(false))
        .set((
            accounts::is_deleting.eq(true),
            accounts::next_deletion_at.eq(Some(next_at.naive_utc())),
            accounts::version.eq(accounts::version + 1),
        ))
        .execute(conn)?;
    Ok(())
}

/// Removes the row; everything that belongs to the account must be gone.
pub fn account_delete(conn: &mut Conn, name: &AccountName) -> Result<()> {
    diesel::delete(accounts::table.find(name.as_str())).execute(conn)?;
    book_forget(conn, name)
}

/// Since when the deletion that is due for longest has been due.
pub fn account_deletion_due_since(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let at: Option<Option<chrono::NaiveDateTime>> = accounts::table
        .filter(accounts::next_deletion_at.is_not_null())
        .order(accounts::next_deletion_at)
        .select(accounts::next_deletion_at)
        .first(conn)
        .optional()?;
    Ok(at.flatten().map(|at| at.and_utc()))
}

/// Takes on the deletion that is due for longest until `lease`, when it is due again.
pub fn account_deletion_claim(
    conn: &mut Conn,
    now: DateTime<Utc>,
    lease: DateTime<Utc>,
) -> Result<Option<Account>> {
    let name: Option<String> = accounts::table
        .filter(accounts::next_deletion_at.le(now.naive_utc()))
        .order(accounts::next_deletion_at)
        .select(accounts::name)
        .first(conn)
        .optional()?;
    let Some(name) = name else { return Ok(None) };
    let count = diesel::update(accounts::table.find(&name))
        .filter(accounts::next_deletion_at.le(now.naive_utc()))
        .set(accounts::next_deletion_at.eq(Some(lease.naive_utc())))
        .execute(conn)?;
    if count == 0 {
        return Ok(None);
    }
    account_find(conn, &stored(&name)?)
}
