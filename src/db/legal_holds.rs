//! Legal holds: what must not be deleted or changed until a date.
//!
//! A hold is placed with its repository held alone, and whoever deletes or moves holds the repository as well
//! (`repos.rs repo_hold`), so that neither passes the other. A hold whose time is over is as good as none; its row stays
//! until somebody looks.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn,
    dialect::on_backend,
    schema::{legal_holds, repos},
    stored,
};
use crate::{
    error::Result,
    model::trash::LegalHold,
    oci::{AccountName, Tag},
};

type Row = (String, String, NaiveDateTime, String, String, NaiveDateTime);

type Columns = (
    repos::name,
    legal_holds::tag,
    legal_holds::hold_until,
    legal_holds::reason,
    legal_holds::placed_by,
    legal_holds::placed_at,
);

const COLUMNS: Columns = (
    repos::name,
    legal_holds::tag,
    legal_holds::hold_until,
    legal_holds::reason,
    legal_holds::placed_by,
    legal_holds::placed_at,
);

fn hold((repository, tag, until, reason, placed_by, placed_at): Row) -> Result<LegalHold> {
    Ok(LegalHold {
        repository,
        tag: (!tag.is_empty()).then(|| stored(&tag)).transpose()?,
        until: until.and_utc(),
        reason,
        placed_by,
        placed_at: placed_at.and_utc(),
    })
}

/// How a hold's tag stands in the table; the whole repository has none.
fn key(tag: Option<&Tag>) -> &str {
    tag.map_or("", Tag::as_str)
}

/// The hold on a tag, or on the whole repository, that has not ended by `now`.
pub fn hold_find(
    conn: &mut Conn,
    (repo_id, tag): (i64, Option<&Tag>),
    now: DateTime<Utc>,
) -> Result<Option<LegalHold>> {
    let row: Option<Row> = legal_holds::table
        .inner_join(repos::table)
        .filter(legal_holds::repo_id.eq(repo_id))
        .filter(legal_holds::tag.eq(key(tag)))
        .filter(legal_holds::hold_until.gt(now.naive_utc()))
        .select(COLUMNS)
        .first(conn)
        .optional()?;
    row.map(hold).transpose()
}

/// A hold on the whole repository, or on one of the tags, that has not ended by `now`.
pub fn hold_on_any(
    conn: &mut Conn,
    repo_id: i64,
    tags: &[Tag],
    now: DateTime<Utc>,
) -> Result<Option<LegalHold>> {
    let names = tags.iter().map(Tag::as_str).chain([""]);
    let row: Option<Row> = legal_holds::table
        .inner_join(repos::table)
        .filter(legal_holds::repo_id.eq(repo_id))
        .filter(legal_holds::tag.eq_any(names.collect::<Vec<_>>()))
        .filter(legal_holds::hold_until.gt(now.naive_utc()))
        .order(legal_holds::tag)
        .select(COLUMNS)
        .first(conn)
        .optional()?;
    row.map(hold).transpose()
}

/// Every hold of a repository that has not ended by `now`; the one on the whole repository comes first.
pub fn holds_of_repo(conn: &mut Conn, repo_id: i64, now: DateTime<Utc>) -> Result<Vec<LegalHold>> {
    let rows: Vec<Row> = legal_holds::table
        .inner_join(repos::table)
        .filter(legal_holds::repo_id.eq(repo_id))
        .filter(legal_holds::hold_until.gt(now.naive_utc()))
        .order(legal_holds::tag)
        .select(COLUMNS)
        .load(conn)?;
    rows.into_iter().map(hold).collect()
}

/// Up to `limit` holds of an account that have not ended by `now`, by repository and tag after `after`.
pub fn hold_page(
    conn: &mut Conn,
    account: &AccountName,
    (repo, tag): (&str, &str),
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<LegalHold>> {
    let rows: Vec<Row> = legal_holds::table
        .inner_join(repos::table)
        .filter(repos::account_name.eq(account.as_str()))
        .filter(
            repos::name
                .gt(repo)
                .or(repos::name.eq(repo).and(legal_holds::tag.gt(tag))),
        )
        .filter(legal_holds::hold_until.gt(now.naive_utc()))
        .order((repos::name, legal_holds::tag))
        .limit(limit)
        .select(COLUMNS)
        .load(conn)?;
    rows.into_iter().map(hold).collect()
}

/// A hold of an account that has not ended by `now`.
pub fn hold_in_account(
    conn: &mut Conn,
    account: &AccountName,
    now: DateTime<Utc>,
) -> Result<Option<LegalHold>> {
    let row: Option<Row> = legal_holds::table
        .inner_join(repos::table)
        .filter(repos::account_name.eq(account.as_str()))
        .filter(legal_holds::hold_until.gt(now.naive_utc()))
        .order((repos::name, legal_holds::tag))
        .select(COLUMNS)
        .first(conn)
        .optional()?;
    row.map(hold).transpose()
}

/// Places a hold, or puts it in the place of another one. Forgets those of the repository that have ended.
pub fn hold_put(conn: &mut Conn, repo_id: i64, hold: &LegalHold) -> Result<()> {
    let now = hold.placed_at.naive_utc();
    let ended = legal_holds::table
        .filter(legal_holds::repo_id.eq(repo_id))
        .filter(legal_holds::hold_until.le(now));
    diesel::delete(ended).execute(conn)?;
    let what = (
        legal_holds::hold_until.eq(hold.until.naive_utc()),
        legal_holds::reason.eq(&hold.reason),
        legal_holds::placed_by.eq(&hold.placed_by),
        legal_holds::placed_at.eq(now),
    );
    let row = (
        legal_holds::repo_id.eq(repo_id),
        legal_holds::tag.eq(key(hold.tag.as_ref())),
        what,
    );
    on_backend!(conn, |c| diesel::insert_into(legal_holds::table)
        .values(row)
        .on_conflict((legal_holds::repo_id, legal_holds::tag))
        .do_update()
        .set(what)
        .execute(c))?;
    Ok(())
}

/// Takes a hold away.
pub fn hold_delete(conn: &mut Conn, repo_id: i64, tag: Option<&Tag>) -> Result<()> {
    diesel::delete(legal_holds::table.find((repo_id, key(tag)))).execute(conn)?;
    Ok(())
}

/// Forgets all holds of a repository that goes.
pub fn holds_forget(conn: &mut Conn, repo_id: i64) -> Result<()> {
    diesel::delete(legal_holds::table.filter(legal_holds::repo_id.eq(repo_id))).execute(conn)?;
    Ok(())
}

/// Forgets all holds of an account that goes.
pub fn holds_forget_all(conn: &mut Conn, account: &AccountName) -> Result<()> {
    let of_account = repos::table
        .filter(repos::account_name.eq(account.as_str()))
        .select(repos::id);
    diesel::delete(legal_holds::table.filter(legal_holds::repo_id.eq_any(of_account)))
        .execute(conn)?;
    Ok(())
}
