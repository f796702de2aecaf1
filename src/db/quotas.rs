//! The books of quotas: a row for each account and one for each auth tenant.
//!
//! A book changes in the transaction that makes or removes what it counts, so the books are exact. The change locks the
//! row until the commit, and what the row says after it is held against the limits: of two that want the last byte, one
//! waits and is refused. What a newcomer gets wrong is the order. Books come last in a transaction, the account's before
//! the auth tenant's: a lock on a book is held shortly, and no two transactions wait for one another.

use diesel::prelude::*;
use serde_json::json;

use super::{
    Conn,
    cached::Cache as _,
    dialect::on_backend,
    manifests::{Inserted, NewManifest},
    repos::Repo,
    schema::{accounts, manifests, quota_books},
};
use crate::{
    error::{Code, Error, Result},
    model::quota::{Amounts, Book, BookKind, Exceeded, Limits},
    oci::{AccountName, Digest},
};

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = quota_books)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct BookRow {
    kind: String,
    owner: String,
    bytes: i64,
    reserved_bytes: i64,
    manifests: i64,
    repositories: i64,
    has_own_limits: bool,
    bytes_limit: Option<i64>,
    manifests_limit: Option<i64>,
    repositories_limit: Option<i64>,
}

impl BookRow {
    fn into_book(self, defaults: &Limits) -> Book {
        let kind = if self.kind == BookKind::Account.as_str() {
            BookKind::Account
        } else {
            BookKind::AuthTenant
        };
        let own = |limit: Option<i64>| limit.map(super::as_u64);
        let limits = match kind {
            BookKind::AuthTenant if !self.has_own_limits => *defaults,
            _ => Limits {
                bytes: own(self.bytes_limit),
                manifests: own(self.manifests_limit),
                repositories: own(self.repositories_limit),
            },
        };
        Book {
            kind,
            used: Amounts {
                bytes: self.bytes,
                reserved_bytes: self.reserved_bytes,
                manifests: self.manifests,
                repositories: self.repositories,
            },
            limits,
        }
    }
}

/// Makes a book if it is missing.
pub fn book_ensure(conn: &mut Conn, kind: BookKind, owner: &str) -> Result<()> {
    let row = (
        quota_books::kind.eq(kind.as_str()),
        quota_books::owner.eq(owner),
        quota_books::bytes.eq(0_i64),
        quota_books::reserved_bytes.eq(0_i64),
        quota_books::manifests.eq(0_i64),
        quota_books::repositories.eq(0_i64),
        quota_books::has_own_limits.eq(false),
    );
    on_backend!(conn, |c| diesel::insert_into(quota_books::table)
        .values(row)
        .on_conflict((quota_books::kind, quota_books::owner))
        .do_nothing()
        .execute(c))?;
    Ok(())
}

/// Forgets the book of an account that is gone; another account of its name begins anew.
pub fn book_forget(conn: &mut Conn, account: &AccountName) -> Result<()> {
    let key = (BookKind::Account.as_str(), account.as_str());
    diesel::delete(quota_books::table.find(key)).execute(conn)?;
    Ok(())
}

/// A book, if there is one.
pub fn book_find(
    conn: &mut Conn,
    kind: BookKind,
    owner: &str,
    defaults: &Limits,
) -> Result<Option<Book>> {
    let row: Option<BookRow> = quota_books::table
        .find((kind.as_str(), owner))
        .select(BookRow::as_select())
        .first(conn)
        .optional()?;
    Ok(row.map(|row| row.into_book(defaults)))
}

/// The books that a push into the account is held against: the account's, and that of its auth tenant.
pub fn books_of_account(
    conn: &mut Conn,
    account: &AccountName,
    defaults: &Limits,
) -> Result<Vec<Book>> {
    let tenant = auth_tenant_of(conn, account)?;
    let mut books = Vec::new();
    books.extend(book_find(
        conn,
        BookKind::Account,
        account.as_str(),
        defaults,
    )?);
    if let Some(tenant) = tenant {
        books.extend(book_find(conn, BookKind::AuthTenant, &tenant, defaults)?);
    }
    Ok(books)
}

/// Every book with its owner, for metrics.
pub fn book_list(conn: &mut Conn, defaults: &Limits) -> Result<Vec<(String, Book)>> {
    let rows: Vec<BookRow> = quota_books::table
        .order((quota_books::kind, quota_books::owner))
        .select(BookRow::as_select())
        .load(conn)?;
    let book = |row: BookRow| (row.owner.clone(), row.into_book(defaults));
    Ok(rows.into_iter().map(book).collect())
}

/// Sets the limits of an account or auth tenant as a whole; `None` takes them away: an account has none then, an auth
/// tenant those of the configuration.
pub fn limits_set(
    conn: &mut Conn,
    (kind, owner): (BookKind, &str),
    limits: Option<&Limits>,
) -> Result<()> {
    book_ensure(conn, kind, owner)?;
    let stored = |limit: Option<u64>| limit.map(super::as_i64);
    let values = limits.copied().unwrap_or_default();
    diesel::update(quota_books::table.find((kind.as_str(), owner)))
        .set((
            quota_books::has_own_limits.eq(limits.is_some()),
            quota_books::bytes_limit.eq(stored(values.bytes)),
            quota_books::manifests_limit.eq(stored(values.manifests)),
            quota_books::repositories_limit.eq(stored(values.repositories)),
        ))
        .execute(conn)?;
    Ok(())
}

/// Adds to the books of the account and its auth tenant, and refuses what is over a limit; the caller's transaction is
/// rolled back then.
pub fn quota_take(
    conn: &mut Conn,
    account: &AccountName,
    change: &Amounts,
    defaults: &Limits,
) -> Result<()> {
    for book in books_change(conn, account, change)? {
        let book = book.into_book(defaults);
        if let Some(exceeded) = book.exceeded_by(change) {
            return Err(refusal(&exceeded));
        }
    }
    Ok(())
}

/// Changes the books by what does not grow: content that goes, reservations that become content.
pub fn quota_settle(conn: &mut Conn, account: &AccountName, change: &Amounts) -> Result<()> {
    if change.is_nothing() {
        return Ok(());
    }
    books_change(conn, account, change).map(|_| ())
}

fn books_change(conn: &mut Conn, account: &AccountName, change: &Amounts) -> Result<Vec<BookRow>> {
    let mut changed = Vec::with_capacity(2);
    changed.extend(book_change(
        conn,
        (BookKind::Account, account.as_str()),
        change,
    )?);
    if let Some(tenant) = auth_tenant_of(conn, account)? {
        changed.extend(book_change(conn, (BookKind::AuthTenant, &tenant), change)?);
    }
    Ok(changed)
}

fn auth_tenant_of(conn: &mut Conn, account: &AccountName) -> Result<Option<String>> {
    Ok(accounts::table
        .find(account.as_str())
        .select(accounts::auth_tenant_id)
        .first(conn)
        .optional()?)
}

/// Gives the row as it is then; `None` if there is no book.
fn book_change(
    conn: &mut Conn,
    (kind, owner): (BookKind, &str),
    change: &Amounts,
) -> Result<Option<BookRow>> {
    // Neither database may add beyond the largest number: the one fails, the other goes over to floating point.
    let room = |amount: i64| i64::MAX - amount.max(0);
    let book = quota_books::table
        .find((kind.as_str(), owner))
        .filter(quota_books::bytes.le(room(change.bytes)))
        .filter(quota_books::reserved_bytes.le(room(change.reserved_bytes)));
    let row: Option<BookRow> = on_backend!(conn, |c| diesel::update(book)
        .set((
            quota_books::bytes.eq(quota_books::bytes + change.bytes),
            quota_books::reserved_bytes.eq(quota_books::reserved_bytes + change.reserved_bytes),
            quota_books::manifests.eq(quota_books::manifests + change.manifests),
            quota_books::repositories.eq(quota_books::repositories + change.repositories),
        ))
        .returning(BookRow::as_returning())
        .cached()
        .get_result(c)
        .optional())?;
    if row.is_none() && book_find(conn, kind, owner, &Limits::default())?.is_some() {
        return Err(Error::with_message(
            Code::Denied,
            format!("{owner} holds as many bytes as can be counted"),
        ));
    }
    Ok(row)
}

fn refusal(exceeded: &Exceeded) -> Error {
    let whose = match exceeded.of {
        BookKind::Account => "account",
        BookKind::AuthTenant => "auth tenant",
    };
    let Exceeded {
        resource,
        used,
        limit,
        wanted,
        of,
    } = exceeded;
    let message = format!(
        "the quota of the {whose} is used up: {used} of {limit} {resource} are used, and {wanted} more are wanted; \
         delete content, or have the quota raised"
    );
    Error::with_message(Code::Denied, message).with_detail(json!({
        "resource": resource.as_str(),
        "used": used,
        "limit": limit,
        "wanted": wanted,
        "of": of.as_str(),
    }))
}

/// Counts a manifest that this transaction has stored, and its repository if it is the first one there. If it lay in the
/// trash, its bytes were counted there. It comes last in the transaction.
pub fn quota_take_manifest(
    conn: &mut Conn,
    repo: &Repo,
    (manifest, inserted): (&NewManifest, Inserted),
    defaults: &Limits,
) -> Result<()> {
    let is_first = !has_manifests(conn, repo, Some(&manifest.digest))?;
    let bytes = i64::try_from(manifest.content.len()).unwrap_or(i64::MAX);
    let change = Amounts {
        bytes: bytes - inserted.trash_bytes.unwrap_or(0),
        manifests: 1,
        repositories: is_first.into(),
        ..Amounts::default()
    };
    quota_take(conn, &repo.account.name, &change, defaults)
}

/// Takes manifests off the books that this transaction has deleted, so many and so many bytes, and their repository if
/// they were the last ones there.
pub(super) fn quota_return_manifests(
    conn: &mut Conn,
    repo: &Repo,
    (count, bytes): (i64, i64),
) -> Result<()> {
    let has_others = has_manifests(conn, repo, None)?;
    let change = Amounts {
        bytes: -bytes,
        manifests: -count,
        repositories: -i64::from(!has_others),
        ..Amounts::default()
    };
    quota_settle(conn, &repo.account.name, &change)
}

/// Whether the repository has a manifest other than `except`. The account's book is locked before: others who store or
/// delete manifests there have either committed, and are seen, or wait.
fn has_manifests(conn: &mut Conn, repo: &Repo, except: Option<&Digest>) -> Result<bool> {
    book_lock(conn, BookKind::Account, repo.account.name.as_str())?;
    let others = manifests::table
        .filter(manifests::repo_id.eq(repo.id))
        .filter(manifests::digest.ne(except.map_or("", Digest::as_str)));
    Ok(diesel::select(diesel::dsl::exists(others)).get_result(conn)?)
}

/// Holds a book until the transaction ends. SQLite has one writer anyway.
pub fn book_lock(conn: &mut Conn, kind: BookKind, owner: &str) -> Result<()> {
    if let Conn::Postgres(c) = conn {
        let book = quota_books::table.find((kind.as_str(), owner));
        let _held: Option<String> = book
            .select(quota_books::owner)
            .for_update()
            .first(c)
            .optional()?;
    }
    Ok(())
}
