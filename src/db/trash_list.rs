//! What lies in the trash: pages, what is due, what is oldest, and how many bytes it holds.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::{
    dsl::{exists, not, sql},
    prelude::*,
    sql_types::{BigInt, Nullable, Text, Timestamp},
};

use super::{
    Conn, as_u64,
    repos::full_name,
    schema::{accounts, blobs, legal_holds, repos, trash_blob_refs, trash_manifests},
    stored,
    trash::tags_of_text,
};
use crate::{
    error::Result,
    model::{quota::BookKind, trash::TrashSummary},
    oci::{AccountName, Digest, FullRepoName},
};

#[derive(Queryable)]
struct Row {
    repo_id: i64,
    repository: String,
    digest: String,
    media_type: String,
    own_bytes: i64,
    tags: String,
    deleted_at: NaiveDateTime,
    deleted_by: String,
    deleted_with: Option<String>,
    purge_at: NaiveDateTime,
}

/// Up to `limit` entries of an account's trash, by repository and digest after `after`.
pub fn trash_page(
    conn: &mut Conn,
    account: &AccountName,
    (repo, digest): (&str, &str),
    limit: i64,
) -> Result<Vec<TrashSummary>> {
    let own_bytes = sql::<BigInt>("CAST(LENGTH(trash_manifests.content) AS BIGINT)");
    let rows: Vec<Row> = trash_manifests::table
        .inner_join(repos::table)
        .filter(repos::account_name.eq(account.as_str()))
        .filter(
            repos::name
                .gt(repo)
                .or(repos::name.eq(repo).and(trash_manifests::digest.gt(digest))),
        )
        .order((repos::name, trash_manifests::digest))
        .limit(limit)
        .select((
            trash_manifests::repo_id,
            repos::name,
            trash_manifests::digest,
            trash_manifests::media_type,
            own_bytes,
            trash_manifests::tags,
            trash_manifests::deleted_at,
            trash_manifests::deleted_by,
            trash_manifests::deleted_with,
            trash_manifests::purge_at,
        ))
        .load(conn)?;
    let repo_ids: Vec<i64> = rows.iter().map(|row| row.repo_id).collect();
    let digests: Vec<&str> = rows.iter().map(|row| row.digest.as_str()).collect();
    let of_blobs: Vec<(i64, String, i64)> = trash_blob_refs::table
        .inner_join(blobs::table.on(blobs::id.eq(trash_blob_refs::blob_id)))
        .filter(trash_blob_refs::repo_id.eq_any(repo_ids))
        .filter(trash_blob_refs::digest.eq_any(digests))
        .group_by((trash_blob_refs::repo_id, trash_blob_refs::digest))
        .select((
            trash_blob_refs::repo_id,
            trash_blob_refs::digest,
            sql::<BigInt>("CAST(COALESCE(SUM(blobs.size_bytes), 0) AS BIGINT)"),
        ))
        .load(conn)?;
    let of_blobs: HashMap<(i64, String), i64> = of_blobs
        .into_iter()
        .map(|(repo_id, digest, bytes)| ((repo_id, digest), bytes))
        .collect();
    let summary = |row: Row| -> Result<TrashSummary> {
        let digest = stored(&row.digest)?;
        let blob_bytes = of_blobs.get(&(row.repo_id, row.digest));
        Ok(TrashSummary {
            repository: row.repository,
            digest,
            media_type: row.media_type,
            size_bytes: as_u64(row.own_bytes) + as_u64(blob_bytes.copied().unwrap_or_default()),
            tags: tags_of_text(&row.tags)?,
            deleted_at: row.deleted_at.and_utc(),
            deleted_by: row.deleted_by,
            deleted_with: row.deleted_with.map(|with| stored(&with)).transpose()?,
            purge_at: row.purge_at.and_utc(),
        })
    };
    rows.into_iter().map(summary).collect()
}

/// A manifest of some repository's trash.
pub type TrashKey = (FullRepoName, Digest);

fn keys(rows: Vec<(String, String, String)>) -> Result<Vec<TrashKey>> {
    let key =
        |(account, repo, digest): (String, String, String)| -> Result<(FullRepoName, Digest)> {
            Ok((full_name(&account, &repo)?, stored(&digest)?))
        };
    rows.into_iter().map(key).collect()
}

/// Up to `limit` entries whose time in the trash is over, of accounts that stay; the longest due come first.
pub fn trash_due(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<Vec<TrashKey>> {
    let rows = trash_manifests::table
        .inner_join(repos::table.inner_join(accounts::table))
        .filter(accounts::is_deleting.eq(false))
        .filter(trash_manifests::purge_at.le(now.naive_utc()))
        .order(trash_manifests::purge_at)
        .limit(limit)
        .select((repos::account_name, repos::name, trash_manifests::digest))
        .load(conn)?;
    keys(rows)
}

/// Since when the entry that is due for longest has been due.
pub fn trash_due_since(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let at: Option<NaiveDateTime> = trash_manifests::table
        .inner_join(repos::table.inner_join(accounts::table))
        .filter(accounts::is_deleting.eq(false))
        .order(trash_manifests::purge_at)
        .select(trash_manifests::purge_at)
        .first(conn)
        .optional()?;
    Ok(at.map(|at| at.and_utc()))
}

/// Entries of a repository whose time is over go at `until`: it is held.
pub fn trash_put_off(
    conn: &mut Conn,
    repo_id: i64,
    (now, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<()> {
    let due = trash_manifests::table
        .filter(trash_manifests::repo_id.eq(repo_id))
        .filter(trash_manifests::purge_at.le(now.naive_utc()));
    diesel::update(due)
        .set(trash_manifests::purge_at.eq(until.naive_utc()))
        .execute(conn)?;
    Ok(())
}

/// Entries of a repository that were put off until `before` go at `until`: the hold was lifted, or ends at another time.
pub fn trash_put_back(
    conn: &mut Conn,
    repo_id: i64,
    (before, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<()> {
    let put_off = trash_manifests::table
        .filter(trash_manifests::repo_id.eq(repo_id))
        .filter(trash_manifests::purge_at.eq(before.naive_utc()));
    diesel::update(put_off)
        .set(trash_manifests::purge_at.eq(until.naive_utc()))
        .execute(conn)?;
    Ok(())
}

/// Up to `limit` entries of an account, or of all accounts of an auth tenant, that were deleted first, without those of
/// repositories that are held.
pub fn trash_oldest(
    conn: &mut Conn,
    (kind, owner): (BookKind, &str),
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<TrashKey>> {
    let held = legal_holds::table
        .filter(legal_holds::repo_id.eq(trash_manifests::repo_id))
        .filter(legal_holds::tag.eq(""))
        .filter(legal_holds::hold_until.gt(now.naive_utc()));
    let mut query = trash_manifests::table
        .inner_join(repos::table.inner_join(accounts::table))
        .filter(accounts::is_deleting.eq(false))
        .filter(not(exists(held)))
        .order((
            trash_manifests::deleted_at,
            trash_manifests::repo_id,
            trash_manifests::digest,
        ))
        .limit(limit)
        .select((repos::account_name, repos::name, trash_manifests::digest))
        .into_boxed();
    query = match kind {
        BookKind::Account => query.filter(accounts::name.eq(owner)),
        BookKind::AuthTenant => query.filter(accounts::auth_tenant_id.eq(owner)),
    };
    keys(query.load(conn)?)
}

#[derive(QueryableByName)]
struct Sum {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// Which trash is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrashOf {
    /// Of all repositories.
    All,
    /// Of those that are not held then.
    NotHeld(DateTime<Utc>),
}

/// How many of the bytes of an account, or of all accounts of an auth tenant, are trash: manifests there, and blobs that
/// nothing else in their account needs, other trash that is not counted included.
pub fn trash_bytes(
    conn: &mut Conn,
    (kind, owner): (BookKind, &str),
    which: TrashOf,
) -> Result<i64> {
    let of = match kind {
        BookKind::Account => "a.name",
        BookKind::AuthTenant => "a.auth_tenant_id",
    };
    // No hold is later than NULL.
    let now = match which {
        TrashOf::All => None,
        TrashOf::NotHeld(now) => Some(now.naive_utc()),
    };
    let query = |owner: &str, now: &str| {
        let held = format!(
            "EXISTS (SELECT 1 FROM legal_holds h WHERE h.repo_id = t.repo_id AND h.tag = '' AND h.hold_until > {now})"
        );
        format!(
            "SELECT (SELECT CAST(COALESCE(SUM(LENGTH(t.content)), 0) AS BIGINT) FROM trash_manifests t
               JOIN repos r ON r.id = t.repo_id JOIN accounts a ON a.name = r.account_name
               WHERE {of} = {owner} AND NOT {held})
             + (SELECT CAST(COALESCE(SUM(b.size_bytes), 0) AS BIGINT) FROM blobs b WHERE b.id IN
               (SELECT t.blob_id FROM trash_blob_refs t JOIN repos r ON r.id = t.repo_id
                JOIN accounts a ON a.name = r.account_name WHERE {of} = {owner} AND NOT {held})
               AND NOT EXISTS (SELECT 1 FROM trash_blob_refs t WHERE t.blob_id = b.id AND {held})
               AND NOT EXISTS (SELECT 1 FROM manifest_blob_refs m WHERE m.blob_id = b.id)) AS bytes"
        )
    };
    let sum: Sum = match conn {
        Conn::Postgres(c) => diesel::sql_query(query("$1", "$2"))
            .bind::<Text, _>(owner)
            .bind::<Nullable<Timestamp>, _>(now)
            .get_result(c)?,
        Conn::Sqlite(c) => diesel::sql_query(query("?1", "?2"))
            .bind::<Text, _>(owner)
            .bind::<Nullable<Timestamp>, _>(now)
            .get_result(c)?,
    };
    Ok(sum.bytes)
}

/// Forgets up to `limit` entries of an account that is being deleted; gives how many they were, and their bytes, which
/// the caller takes off the books.
pub fn trash_forget(conn: &mut Conn, account: &AccountName, limit: i64) -> Result<(usize, i64)> {
    let own_bytes = sql::<BigInt>("CAST(LENGTH(trash_manifests.content) AS BIGINT)");
    let rows: Vec<(i64, String, i64)> = trash_manifests::table
        .inner_join(repos::table)
        .filter(repos::account_name.eq(account.as_str()))
        .order((trash_manifests::repo_id, trash_manifests::digest))
        .limit(limit)
        .select((trash_manifests::repo_id, trash_manifests::digest, own_bytes))
        .load(conn)?;
    let (mut count, mut bytes) = (0, 0);
    for (repo_id, digest, own_bytes) in rows {
        let row = trash_manifests::table.find((repo_id, digest));
        if diesel::delete(row).execute(conn)? == 1 {
            count += 1;
            bytes += own_bytes;
        }
    }
    Ok((count, bytes))
}
