//! The trash: deleted manifests that can come back.
//!
//! A manifest in the trash has no object in storage and counts as no manifest, but its bytes and its blobs stay: the
//! references in `trash_blob_refs` keep the mounts used. Whoever moves something in or out holds the repository alone, or
//! has the manifest's row. What a newcomer gets wrong: what is pushed again is not in the trash any more, so a digest is
//! either a manifest of the repository or in its trash.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::{
    IntoSql as _,
    dsl::sql,
    prelude::*,
    sql_types::{BigInt, Nullable, Text, Timestamp},
};

use super::{
    Conn,
    blob_delete::blobs_remove,
    blob_mounts::{mounts_drop, mounts_lock, mounts_release},
    blobs::blob_hold,
    dialect::on_backend,
    loose_objects::LooseObject,
    quotas::quota_settle,
    repos::Repo,
    schema::{blobs, manifest_blob_refs, manifests, trash_blob_refs, trash_manifests},
    stored,
};
use crate::{
    error::{Error, Result},
    model::quota::Amounts,
    oci::{Digest, Tag},
};

/// How something gets into the trash.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrashOrder<'a> {
    /// When it is deleted.
    pub(super) now: DateTime<Utc>,
    /// By whom.
    pub(super) by: &'a str,
    /// When it goes for good.
    pub(super) purge_at: DateTime<Utc>,
    /// The manifest whose deletion takes it with it.
    pub(super) with: Option<&'a Digest>,
}

/// Copies a manifest of the repository into the trash; the caller deletes it then.
pub(super) fn trash_put(
    conn: &mut Conn,
    (repo_id, digest): (i64, &Digest),
    tags: &[Tag],
    order: TrashOrder<'_>,
) -> Result<()> {
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    let names = serde_json::to_string(&names).map_err(Error::internal)?;
    let row = manifests::table.find((repo_id, digest.as_str())).select((
        manifests::repo_id,
        manifests::digest,
        manifests::media_type,
        manifests::content,
        manifests::subject_digest,
        manifests::pushed_at,
        manifests::last_pulled_at,
        (
            names.into_sql::<Text>(),
            order.now.naive_utc().into_sql::<Timestamp>(),
            order.by.into_sql::<Text>(),
            order.with.map(Digest::as_str).into_sql::<Nullable<Text>>(),
            order.purge_at.naive_utc().into_sql::<Timestamp>(),
        ),
    ));
    on_backend!(conn, |c| row
        .insert_into(trash_manifests::table)
        .into_columns((
            trash_manifests::repo_id,
            trash_manifests::digest,
            trash_manifests::media_type,
            trash_manifests::content,
            trash_manifests::subject_digest,
            trash_manifests::pushed_at,
            trash_manifests::last_pulled_at,
            (
                trash_manifests::tags,
                trash_manifests::deleted_at,
                trash_manifests::deleted_by,
                trash_manifests::deleted_with,
                trash_manifests::purge_at,
            ),
        ))
        .execute(c))?;
    let refs = manifest_blob_refs::table
        .filter(manifest_blob_refs::repo_id.eq(repo_id))
        .filter(manifest_blob_refs::digest.eq(digest.as_str()))
        .select((
            manifest_blob_refs::repo_id,
            manifest_blob_refs::digest,
            manifest_blob_refs::blob_id,
        ));
    on_backend!(conn, |c| refs
        .insert_into(trash_blob_refs::table)
        .into_columns((
            trash_blob_refs::repo_id,
            trash_blob_refs::digest,
            trash_blob_refs::blob_id,
        ))
        .execute(c))?;
    Ok(())
}

/// The blobs that manifests of the trash need, by number and in order.
pub(super) fn trash_blob_ids(
    conn: &mut Conn,
    repo_id: i64,
    digests: &[&str],
) -> Result<BTreeSet<i64>> {
    let ids: Vec<i64> = trash_blob_refs::table
        .filter(trash_blob_refs::repo_id.eq(repo_id))
        .filter(trash_blob_refs::digest.eq_any(digests))
        .select(trash_blob_refs::blob_id)
        .load(conn)?;
    Ok(ids.into_iter().collect())
}

/// Takes a manifest out of the trash, and gives the bytes that it was counted with; `None` if it is not there. The caller
/// releases its mounts.
pub(super) fn trash_take(conn: &mut Conn, repo_id: i64, digest: &Digest) -> Result<Option<i64>> {
    let taken = rows_delete(conn, repo_id, &[digest.as_str()])?;
    Ok(taken.first().map(|(_, _, size_bytes)| *size_bytes))
}

type TakenRow = (String, String, i64);

/// Deletes entries, with their rows held in order: digest, tags and bytes of each that was there.
fn rows_delete(conn: &mut Conn, repo_id: i64, digests: &[&str]) -> Result<Vec<TakenRow>> {
    let entries = || {
        trash_manifests::table
            .filter(trash_manifests::repo_id.eq(repo_id))
            .filter(trash_manifests::digest.eq_any(digests.to_vec()))
    };
    let size = sql::<BigInt>("CAST(LENGTH(content) AS BIGINT)");
    let query = entries().order(trash_manifests::digest).select((
        trash_manifests::digest,
        trash_manifests::tags,
        size,
    ));
    let rows: Vec<TakenRow> = match conn {
        Conn::Postgres(c) => query.for_update().load(c)?,
        Conn::Sqlite(c) => query.load(c)?,
    };
    if !rows.is_empty() {
        diesel::delete(entries()).execute(conn)?;
    }
    Ok(rows)
}

/// A manifest of the trash, to be restored.
#[derive(Debug, Clone)]
pub struct TrashEntry {
    /// The digest of the content.
    pub digest: Digest,
    /// The media type that it was pushed with.
    pub media_type: String,
    /// The bytes.
    pub content: Vec<u8>,
    /// When it was pushed.
    pub pushed_at: DateTime<Utc>,
    /// When it was last pulled.
    pub last_pulled_at: Option<DateTime<Utc>>,
    /// The tags that pointed at it.
    pub tags: Vec<Tag>,
}

/// A manifest of the trash.
pub fn trash_find(conn: &mut Conn, repo_id: i64, digest: &Digest) -> Result<Option<TrashEntry>> {
    type Row = (
        String,
        Vec<u8>,
        NaiveDateTime,
        Option<NaiveDateTime>,
        String,
    );
    let row: Option<Row> = trash_manifests::table
        .find((repo_id, digest.as_str()))
        .select((
            trash_manifests::media_type,
            trash_manifests::content,
            trash_manifests::pushed_at,
            trash_manifests::last_pulled_at,
            trash_manifests::tags,
        ))
        .first(conn)
        .optional()?;
    row.map(|(media_type, content, pushed_at, last_pulled_at, tags)| {
        Ok(TrashEntry {
            digest: digest.clone(),
            media_type,
            content,
            pushed_at: pushed_at.and_utc(),
            last_pulled_at: last_pulled_at.map(|at| at.and_utc()),
            tags: tags_of_text(&tags)?,
        })
    })
    .transpose()
}

/// Tags as the table keeps them.
pub(super) fn tags_of_text(text: &str) -> Result<Vec<Tag>> {
    let names: Vec<String> = serde_json::from_str(text).map_err(Error::internal)?;
    names.iter().map(|name| stored(name)).collect()
}

/// Whether a digest lies in the trash of a repository.
pub fn trash_has(conn: &mut Conn, repo_id: i64, digest: &Digest) -> Result<bool> {
    let row = trash_manifests::table.find((repo_id, digest.as_str()));
    Ok(diesel::select(diesel::dsl::exists(row)).get_result(conn)?)
}

/// Those of `digests` that lie in the trash of a repository.
pub fn trash_of(conn: &mut Conn, repo_id: i64, digests: &[Digest]) -> Result<Vec<Digest>> {
    let wanted: Vec<&str> = digests.iter().map(Digest::as_str).collect();
    let found: Vec<String> = trash_manifests::table
        .filter(trash_manifests::repo_id.eq(repo_id))
        .filter(trash_manifests::digest.eq_any(wanted))
        .order(trash_manifests::digest)
        .select(trash_manifests::digest)
        .load(conn)?;
    found.iter().map(|digest| stored(digest)).collect()
}

/// Up to `limit` manifests of the trash that went with another one.
pub fn trash_with(
    conn: &mut Conn,
    repo_id: i64,
    digest: &Digest,
    limit: i64,
) -> Result<Vec<Digest>> {
    let digests: Vec<String> = trash_manifests::table
        .filter(trash_manifests::repo_id.eq(repo_id))
        .filter(trash_manifests::deleted_with.eq(digest.as_str()))
        .order(trash_manifests::digest)
        .limit(limit)
        .select(trash_manifests::digest)
        .load(conn)?;
    digests.iter().map(|digest| stored(digest)).collect()
}

/// Up to `limit` manifests of a repository's trash.
pub fn trash_of_repo(conn: &mut Conn, repo_id: i64, limit: i64) -> Result<Vec<Digest>> {
    let digests: Vec<String> = trash_manifests::table
        .filter(trash_manifests::repo_id.eq(repo_id))
        .order(trash_manifests::digest)
        .limit(limit)
        .select(trash_manifests::digest)
        .load(conn)?;
    digests.iter().map(|digest| stored(digest)).collect()
}

/// The manifests of a repository's trash that need a blob.
pub(super) fn trash_of_blob(conn: &mut Conn, repo_id: i64, blob_id: i64) -> Result<Vec<Digest>> {
    let digests: Vec<String> = trash_blob_refs::table
        .filter(trash_blob_refs::repo_id.eq(repo_id))
        .filter(trash_blob_refs::blob_id.eq(blob_id))
        .order(trash_blob_refs::digest)
        .select(trash_blob_refs::digest)
        .load(conn)?;
    digests.iter().map(|digest| stored(digest)).collect()
}

/// What becomes of blobs that nothing needs any more once entries are purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unneeded {
    /// They stay mounted until then at least.
    Stay(DateTime<Utc>),
    /// They go at once, unless somebody keeps their mounts.
    Go,
}

/// What a purge took away.
#[derive(Debug, Default)]
pub struct Purged {
    /// The manifests that were there, with the tags that they had.
    pub entries: Vec<(Digest, Vec<Tag>)>,
    /// How many bytes of the books it freed.
    pub freed_bytes: i64,
    /// The objects of blobs that went with them: to be deleted now.
    pub objects: Vec<LooseObject>,
}

/// Takes manifests out of the trash of a repository for good. The repository is held alone. The books come last, so this
/// ends the transaction.
pub fn trash_purge(
    conn: &mut Conn,
    repo: &Repo,
    digests: &[Digest],
    (now, unneeded): (DateTime<Utc>, Unneeded),
) -> Result<Purged> {
    let names: Vec<&str> = digests.iter().map(Digest::as_str).collect();
    let blob_ids = trash_blob_ids(conn, repo.id, &names)?;
    let blob_ids: Vec<i64> = blob_ids.into_iter().collect();
    if unneeded == Unneeded::Go {
        for blob_id in &blob_ids {
            blob_hold(conn, *blob_id)?;
        }
    }
    let taken = rows_delete(conn, repo.id, &names)?;
    mounts_lock(conn, repo.id, &blob_ids)?;
    let keep_until = match unneeded {
        Unneeded::Stay(until) => until,
        Unneeded::Go => now,
    };
    mounts_release(conn, repo.id, &blob_ids, keep_until)?;
    let mut purged = Purged::default();
    let account = &repo.account.name;
    if unneeded == Unneeded::Go {
        let unmounted = mounts_drop(conn, repo.id, &blob_ids, now)?;
        purged.freed_bytes += blob_bytes(conn, &unmounted)?;
        purged.objects = blobs_remove(conn, account, &unmounted, now)?;
    }
    let mut own_bytes = 0;
    for (digest, tags, size_bytes) in taken {
        own_bytes += size_bytes;
        purged
            .entries
            .push((stored(&digest)?, tags_of_text(&tags)?));
    }
    purged.freed_bytes += own_bytes;
    let change = Amounts {
        bytes: -own_bytes,
        ..Amounts::default()
    };
    quota_settle(conn, account, &change)?;
    Ok(purged)
}

fn blob_bytes(conn: &mut Conn, ids: &[i64]) -> Result<i64> {
    let sum = sql::<BigInt>("CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT)");
    Ok(blobs::table
        .filter(blobs::id.eq_any(ids))
        .select(sum)
        .first(conn)?)
}
