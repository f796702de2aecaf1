//! What tags have pointed at.
//!
//! An entry is written in the transaction that changes the tag, after the change: the tag's row is held then, so the
//! entries of a tag are in the order of its changes, by number and by time. What a newcomer gets wrong: of a tag that
//! nobody touches, the newest entry stays for ever, since it says what the tag points at.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use super::{Conn, cached::execute_cached, schema::tag_history, stored};
use crate::{error::Result, model::trash::TagChangeEntry, oci::Tag};

/// How many changes of a tag are kept, however young they are.
const MAX_CHANGES: i64 = 1000;

type Row = (i64, Option<String>, NaiveDateTime, String);

fn entry((id, digest, changed_at, changed_by): Row) -> Result<TagChangeEntry> {
    Ok(TagChangeEntry {
        id,
        digest: digest.map(|digest| stored(&digest)).transpose()?,
        changed_at: changed_at.and_utc(),
        changed_by,
    })
}

/// Who changes tags, and when.
#[derive(Debug, Clone, Copy)]
pub struct TagAuthor<'a> {
    /// Who.
    pub by: &'a str,
    /// When.
    pub now: DateTime<Utc>,
}

/// Notes that a tag points at something else from now on, or at nothing; nothing is noted if it does already.
pub(super) fn tag_note(
    conn: &mut Conn,
    (repo_id, tag): (i64, &str),
    digest: Option<&str>,
    author: TagAuthor<'_>,
) -> Result<()> {
    let of_tag = || {
        tag_history::table
            .filter(tag_history::repo_id.eq(repo_id))
            .filter(tag_history::tag.eq(tag))
    };
    let last: Option<(Option<String>, NaiveDateTime)> = of_tag()
        .order((tag_history::changed_at.desc(), tag_history::id.desc()))
        .select((tag_history::digest, tag_history::changed_at))
        .first(conn)
        .optional()?;
    if let Some((before, _)) = &last
        && before.as_deref() == digest
    {
        return Ok(());
    }
    // Who waited for the tag began before the one he waited for has ended.
    let now = author.now.naive_utc();
    let changed_at = last.map_or(now, |(_, last)| last.max(now));
    let replaced = of_tag().filter(tag_history::replaced_at.is_null());
    execute_cached!(
        conn,
        diesel::update(replaced).set(tag_history::replaced_at.eq(Some(changed_at))),
    )?;
    diesel::insert_into(tag_history::table)
        .values((
            tag_history::repo_id.eq(repo_id),
            tag_history::tag.eq(tag),
            tag_history::digest.eq(digest),
            tag_history::changed_at.eq(changed_at),
            tag_history::changed_by.eq(author.by),
            tag_history::replaced_at.eq(digest.is_none().then_some(changed_at)),
        ))
        .execute(conn)?;
    let too_old: Option<i64> = of_tag()
        .order((tag_history::changed_at.desc(), tag_history::id.desc()))
        .offset(MAX_CHANGES)
        .select(tag_history::id)
        .first(conn)
        .optional()?;
    if let Some(id) = too_old {
        diesel::delete(tag_history::table.find(id)).execute(conn)?;
    }
    Ok(())
}

/// Up to `limit` changes of a tag, the newest first, before the one with the number `before`.
pub fn tag_history_page(
    conn: &mut Conn,
    (repo_id, tag): (i64, &Tag),
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<TagChangeEntry>> {
    let rows: Vec<Row> = tag_history::table
        .filter(tag_history::repo_id.eq(repo_id))
        .filter(tag_history::tag.eq(tag.as_str()))
        .filter(tag_history::id.lt(before.unwrap_or(i64::MAX)))
        .order((tag_history::changed_at.desc(), tag_history::id.desc()))
        .limit(limit)
        .select((
            tag_history::id,
            tag_history::digest,
            tag_history::changed_at,
            tag_history::changed_by,
        ))
        .load(conn)?;
    rows.into_iter().map(entry).collect()
}

/// The change that counted for a tag at a time; with a digest wanted, the last one before that gave it any.
pub fn tag_change_at(
    conn: &mut Conn,
    (repo_id, tag): (i64, &Tag),
    at: DateTime<Utc>,
    wants_digest: bool,
) -> Result<Option<TagChangeEntry>> {
    let mut query = tag_history::table
        .filter(tag_history::repo_id.eq(repo_id))
        .filter(tag_history::tag.eq(tag.as_str()))
        .filter(tag_history::changed_at.le(at.naive_utc()))
        .order((tag_history::changed_at.desc(), tag_history::id.desc()))
        .select((
            tag_history::id,
            tag_history::digest,
            tag_history::changed_at,
            tag_history::changed_by,
        ))
        .into_boxed();
    if wants_digest {
        query = query.filter(tag_history::digest.is_not_null());
    }
    let row: Option<Row> = query.first(conn).optional()?;
    row.map(entry).transpose()
}

/// Forgets up to `limit` entries that were replaced at `before` or earlier; says how many.
pub fn tag_history_prune(conn: &mut Conn, before: DateTime<Utc>, limit: i64) -> Result<usize> {
    let ids: Vec<i64> = tag_history::table
        .filter(tag_history::replaced_at.is_not_null())
        .filter(tag_history::replaced_at.le(before.naive_utc()))
        .order(tag_history::replaced_at)
        .limit(limit)
        .select(tag_history::id)
        .load(conn)?;
    Ok(diesel::delete(tag_history::table.filter(tag_history::id.eq_any(ids))).execute(conn)?)
}

/// When the entry was replaced that was replaced first: it is due when it has been kept for long enough.
pub fn tag_history_replaced_first(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let at: Option<Option<NaiveDateTime>> = tag_history::table
        .filter(tag_history::replaced_at.is_not_null())
        .order(tag_history::replaced_at)
        .select(tag_history::replaced_at)
        .first(conn)
        .optional()?;
    Ok(at.flatten().map(|at| at.and_utc()))
}
