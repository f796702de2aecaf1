//! Repositories.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn,
    accounts::{AccountRow, account_find},
    dialect::on_backend,
    schema::{accounts, blob_mounts, blobs, manifests, repos},
    stored,
};
use crate::{
    error::{Code, Error, Result},
    model::account::{Account, AccountSettings},
    oci::{AccountName, Digest, FullRepoName, RepoName},
};

/// A repository and the account that it lies in.
#[derive(Debug, Clone)]
pub struct Repo {
    /// The row's number.
    pub id: i64,
    /// The account.
    pub account: Account,
}

/// The repository of that name, unless its account is being deleted.
pub fn repo_find(conn: &mut Conn, name: &FullRepoName) -> Result<Option<Repo>> {
    let row: Option<(i64, AccountRow)> = repos::table
        .inner_join(accounts::table)
        .filter(repos::account_name.eq(name.account.as_str()))
        .filter(repos::name.eq(name.repo.as_str()))
        .filter(accounts::is_deleting.eq(false))
        .select((repos::id, AccountRow::as_select()))
        .first(conn)
        .optional()?;
    row.map(|(id, account)| {
        Ok(Repo {
            id,
            account: account.into_account()?,
        })
    })
    .transpose()
}

/// The repository of that name; `NAME_UNKNOWN` if there is none.
pub fn repo_get(conn: &mut Conn, name: &FullRepoName) -> Result<Repo> {
    repo_find(conn, name)?.ok_or_else(|| Error::new(Code::NameUnknown))
}

/// How long others who hold a repository have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Others may store manifests at the same time, and nobody can delete anything.
    Shared,
    /// Nobody else stores, moves or deletes anything: what this transaction sees of manifests, tags, trash and legal
    /// holds stays so.
    Alone,
}

/// The settings of the repository's account as they are now, which stay so until the transaction ends, and the repository
/// held as well. If there are tag policies it is held alone: of two transactions, one sees what the other made of the
/// tags. SQLite has one writer anyway.
pub fn repo_hold(conn: &mut Conn, repo: &Repo, hold: Hold) -> Result<AccountSettings> {
    let name = &repo.account.name;
    if let Conn::Postgres(c) = conn {
        let held = accounts::table.find(name.as_str()).select(accounts::name);
        let _: Option<String> = held.for_share().first(c).optional()?;
    }
    let account = account_find(conn, name)?.filter(|account| !account.is_deleting);
    let account = account.ok_or_else(|| Error::new(Code::NameUnknown))?;
    let settings = account.settings;
    if let Conn::Postgres(c) = conn {
        let row = repos::table.find(repo.id).select(repos::id);
        let is_alone = hold == Hold::Alone || !settings.tag_policies.is_empty();
        // Not FOR UPDATE: others may go on to refer to the row.
        let held: Option<i64> = match is_alone {
            true => row.for_no_key_update().first(c).optional()?,
            false => row.for_share().first(c).optional()?,
        };
        held.ok_or_else(|| Error::new(Code::NameUnknown))?;
    }
    Ok(settings)
}

/// The repository of that name, made if it is missing; `NAME_UNKNOWN` if its account is missing. If the account has GC
/// policies, they are carried out in a new one from now on.
pub fn repo_ensure(conn: &mut Conn, name: &FullRepoName, now: DateTime<Utc>) -> Result<Repo> {
    if let Some(repo) = repo_find(conn, name)? {
        return Ok(repo);
    }
    if let Conn::Postgres(c) = conn {
        // Whoever changes the policies comes before, or sees the new repository.
        let held = accounts::table.find(name.account.as_str());
        let _: Option<String> = held
            .select(accounts::name)
            .for_share()
            .first(c)
            .optional()?;
    }
    let account = account_find(conn, &name.account)?.filter(|account| !account.is_deleting);
    let Some(account) = account else {
        let message = format!("there is no account {}; create it first", name.account);
        return Err(Error::with_message(Code::NameUnknown, message));
    };
    let has_policies = !account.settings.gc_policies.is_empty();
    let next_gc_at = has_policies.then(|| now.naive_utc());
    on_backend!(conn, |c| diesel::insert_into(repos::table)
        .values((
            repos::account_name.eq(name.account.as_str()),
            repos::name.eq(name.repo.as_str()),
            repos::next_gc_at.eq(next_gc_at),
        ))
        .on_conflict((repos::account_name, repos::name))
        .do_nothing()
        .execute(c))?;
    repo_get(conn, name)
}

/// Up to `limit` repositories that hold manifests, of `accounts` and after `after`, in the order of
/// account and name.
pub fn repo_page(
    conn: &mut Conn,
    accounts: &BTreeSet<AccountName>,
    after: Option<&FullRepoName>,
    limit: i64,
) -> Result<Vec<FullRepoName>> {
    let names = accounts.iter().map(AccountName::as_str).collect::<Vec<_>>();
    let (account, repo) =
        after.map_or(("", ""), |name| (name.account.as_str(), name.repo.as_str()));
    let rows: Vec<(String, String)> = repos::table
        .filter(repos::account_name.eq_any(names))
        .filter(diesel::dsl::exists(
            manifests::table.filter(manifests::repo_id.eq(repos::id)),
        ))
        .filter(
            repos::account_name
                .gt(account)
                .or(repos::account_name.eq(account).and(repos::name.gt(repo))),
        )
        .order((repos::account_name, repos::name))
        .select((repos::account_name, repos::name))
        .limit(limit)
        .load(conn)?;
    rows.iter()
        .map(|(account, repo)| full_name(account, repo))
        .collect()
}

pub(super) fn full_name(account: &str, repo: &str) -> Result<FullRepoName> {
    let (account, repo): (AccountName, RepoName) = (stored(account)?, stored(repo)?);
    FullRepoName::new(account, repo).map_err(Error::internal)
}

/// Removes an account's repositories, which hold no manifests and no uploads any more.
pub fn repos_delete(conn: &mut Conn, account: &AccountName) -> Result<()> {
    diesel::delete(repos::table.filter(repos::account_name.eq(account.as_str()))).execute(conn)?;
    Ok(())
}

/// Up to `limit` repositories of an account, by name after `after`.
pub fn repo_names(
    conn: &mut Conn,
    account: &AccountName,
    after: &str,
    limit: i64,
) -> Result<Vec<RepoName>> {
    let names: Vec<String> = repos::table
        .filter(repos::account_name.eq(account.as_str()))
        .filter(repos::name.gt(after))
        .order(repos::name)
        .limit(limit)
        .select(repos::name)
        .load(conn)?;
    names.iter().map(|name| stored(name)).collect()
}

/// Holds a repository until the transaction ends: nothing new can refer to it.
pub fn repo_lock(conn: &mut Conn, repo_id: i64) -> Result<()> {
    let query = repos::table.find(repo_id).select(repos::id);
    let _held: Option<i64> = match conn {
        Conn::Postgres(c) => query.for_update().first(c).optional()?,
        Conn::Sqlite(c) => query.first(c).optional()?,
    };
    Ok(())
}

/// Up to `limit` blobs that can be reached through a repository.
pub fn repo_mounts(conn: &mut Conn, repo_id: i64, limit: i64) -> Result<Vec<Digest>> {
    let digests: Vec<String> = blob_mounts::table
        .inner_join(blobs::table)
        .filter(blob_mounts::repo_id.eq(repo_id))
        .order(blob_mounts::blob_id)
        .limit(limit)
        .select(blobs::digest)
        .load(conn)?;
    digests.iter().map(|digest| stored(digest)).collect()
}

/// Removes a repository; everything that belongs to it must be gone.
pub fn repo_delete(conn: &mut Conn, repo_id: i64) -> Result<()> {
    diesel::delete(repos::table.find(repo_id)).execute(conn)?;
    Ok(())
}
