//! Counting again what the books of quotas say.
//!
//! The count holds the books, so it is exact while others push: what they have not committed is neither in the count nor
//! in the books.

use chrono::{DateTime, Utc};
use diesel::{prelude::*, sql_types::BigInt};

use super::{
    Conn,
    quotas::{book_ensure, book_find, book_lock},
    schema::{accounts, loose_objects, quota_books},
    stored,
};
use crate::{
    error::Result,
    model::quota::{Amounts, BookKind, Limits},
    oci::AccountName,
};

#[derive(Debug, QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = BigInt)]
    reserved_bytes: i64,
    #[diesel(sql_type = BigInt)]
    manifests: i64,
    #[diesel(sql_type = BigInt)]
    repositories: i64,
}

/// What an account really holds, counted.
fn account_count(conn: &mut Conn, account: &AccountName) -> Result<Amounts> {
    // The name is a checked type, and nothing else goes into the text.
    let of_repos = format!("JOIN repos r ON r.id = repo_id WHERE r.account_name = '{account}'");
    let of_account = format!("WHERE account_name = '{account}'");
    let sum = |what: &str, of: &str| {
        format!("(SELECT CAST(COALESCE(SUM({what}), 0) AS BIGINT) FROM {of})")
    };
    let query = format!(
        "SELECT {} + {} + {} AS bytes, {} + {} AS reserved_bytes,
         (SELECT COUNT(*) FROM manifests {of_repos}) AS manifests,
         (SELECT COUNT(DISTINCT repo_id) FROM manifests {of_repos}) AS repositories",
        sum("size_bytes", &format!("blobs {of_account}")),
        sum("LENGTH(content)", &format!("manifests {of_repos}")),
        sum("LENGTH(content)", &format!("trash_manifests {of_repos}")),
        sum("size_bytes", &format!("uploads {of_repos}")),
        sum("reserved_bytes", &format!("loose_objects {of_account}")),
    );
    let counted: Counted = diesel::sql_query(query).get_result(conn)?;
    Ok(Amounts {
        bytes: counted.bytes,
        reserved_bytes: counted.reserved_bytes,
        manifests: counted.manifests,
        repositories: counted.repositories,
    })
}

/// A book that says something else than the count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookError {
    /// Whose.
    pub owner: String,
    /// What the book says.
    pub book: Amounts,
    /// What is there.
    pub counted: Amounts,
}

/// Counts what the accounts of an auth tenant hold, with all its books held. With a time, wrong books are put right, and
/// what is kept for objects whose notes are older is given up: their writes died.
pub fn books_recount(
    conn: &mut Conn,
    auth_tenant_id: &str,
    stale_before: Option<DateTime<Utc>>,
) -> Result<Vec<BookError>> {
    let names: Vec<String> = accounts::table
        .filter(accounts::auth_tenant_id.eq(auth_tenant_id))
        .order(accounts::name)
        .select(accounts::name)
        .load(conn)?;
    if let Some(before) = stale_before {
        let stale = loose_objects::table
            .filter(loose_objects::account_name.eq_any(&names))
            .filter(loose_objects::noted_at.lt(before.naive_utc()));
        diesel::update(stale)
            .set(loose_objects::reserved_bytes.eq(0_i64))
            .execute(conn)?;
    }
    for name in &names {
        book_lock(conn, BookKind::Account, name)?;
    }
    book_lock(conn, BookKind::AuthTenant, auth_tenant_id)?;
    let mut wrong = Vec::new();
    let mut sum = Amounts::default();
    for name in &names {
        let counted = account_count(conn, &stored(name)?)?;
        sum.bytes += counted.bytes;
        sum.reserved_bytes += counted.reserved_bytes;
        sum.manifests += counted.manifests;
        sum.repositories += counted.repositories;
        wrong.extend(book_compare(
            conn,
            (BookKind::Account, name),
            counted,
            stale_before.is_some(),
        )?);
    }
    let tenant = (BookKind::AuthTenant, auth_tenant_id);
    wrong.extend(book_compare(conn, tenant, sum, stale_before.is_some())?);
    Ok(wrong)
}

fn book_compare(
    conn: &mut Conn,
    (kind, owner): (BookKind, &str),
    counted: Amounts,
    repairs: bool,
) -> Result<Option<BookError>> {
    let found = book_find(conn, kind, owner, &Limits::default())?;
    let book = found.map(|book| book.used).unwrap_or_default();
    if book == counted {
        return Ok(None);
    }
    if repairs {
        book_ensure(conn, kind, owner)?;
        diesel::update(quota_books::table.find((kind.as_str(), owner)))
            .set((
                quota_books::bytes.eq(counted.bytes),
                quota_books::reserved_bytes.eq(counted.reserved_bytes),
                quota_books::manifests.eq(counted.manifests),
                quota_books::repositories.eq(counted.repositories),
            ))
            .execute(conn)?;
    }
    Ok(Some(BookError {
        owner: format!("{} {owner}", kind.as_str()),
        book,
        counted,
    }))
}

/// The auth tenants that have accounts or books.
pub fn auth_tenants(conn: &mut Conn) -> Result<Vec<String>> {
    let mut tenants: Vec<String> = quota_books::table
        .filter(quota_books::kind.eq(BookKind::AuthTenant.as_str()))
        .select(quota_books::owner)
        .load(conn)?;
    let of_accounts: Vec<String> = accounts::table
        .select(accounts::auth_tenant_id)
        .distinct()
        .load(conn)?;
    tenants.extend(of_accounts);
    tenants.sort();
    tenants.dedup();
    Ok(tenants)
}
