//! Blobs, their chunks, and the repositories through which they can be reached.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;
use storage_drivers::ObjectKey;
use uuid::Uuid;

use super::{
    Conn,
    accounts::AccountRow,
    as_u64,
    blob_mounts::mount_put,
    loose_objects::{LooseObject, loose_object_note},
    repos::Repo,
    schema::{accounts, blob_chunks, blob_mounts, blobs, repos},
    stored,
};
use crate::{
    error::Result,
    model::account::Account,
    oci::{AccountName, Digest, FullRepoName},
};

/// A part of a blob: one immutable object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The object's random name.
    pub object_id: Uuid,
    /// The backend that it lies on.
    pub storage: String,
    /// Its length.
    pub size_bytes: u64,
}

pub(super) type ChunkRow = (String, String, i64);

impl Chunk {
    pub(super) fn from_row((object_id, storage, size): ChunkRow) -> Result<Self> {
        Ok(Self {
            object_id: stored(&object_id)?,
            storage,
            size_bytes: as_u64(size),
        })
    }
}

/// A blob with what is needed to read it.
#[derive(Debug)]
pub struct Blob {
    /// The row's number.
    pub id: i64,
    /// The account that it lies in.
    pub account: Account,
    /// Its length.
    pub size_bytes: u64,
    /// Whether its content was found broken.
    pub is_broken: bool,
    /// When it will be taken out of the repository, if nothing there needs it till then.
    pub unused_until: Option<DateTime<Utc>>,
    /// Its content, in order; empty for the empty blob.
    pub chunks: Vec<Chunk>,
}

/// The blob, if it can be reached through that repository.
pub fn blob_find(conn: &mut Conn, name: &FullRepoName, digest: &Digest) -> Result<Option<Blob>> {
    type Row = (
        i64,
        i64,
        bool,
        (bool, NaiveDateTime),
        AccountRow,
        Option<ChunkRow>,
    );
    let rows: Vec<Row> = blob_mounts::table
        .inner_join(repos::table.inner_join(accounts::table))
        .inner_join(blobs::table.left_join(blob_chunks::table))
        .filter(repos::account_name.eq(name.account.as_str()))
        .filter(repos::name.eq(name.repo.as_str()))
        .filter(accounts::is_deleting.eq(false))
        .filter(blobs::account_name.eq(name.account.as_str()))
        .filter(blobs::digest.eq(digest.as_str()))
        .order(blob_chunks::number)
        .select((
            blobs::id,
            blobs::size_bytes,
            blobs::validation_error.is_not_null(),
            (blob_mounts::is_used, blob_mounts::keep_until),
            AccountRow::as_select(),
            (
                blob_chunks::object_id,
                blob_chunks::storage,
                blob_chunks::size_bytes,
            )
                .nullable(),
        ))
        .load(conn)?;
    let mut found: Option<Blob> = None;
    for (id, size, is_broken, (is_used, keep_until), account, chunk) in rows {
        let blob = match &mut found {
            Some(blob) => blob,
            None => found.insert(Blob {
                id,
                account: account.into_account()?,
                size_bytes: as_u64(size),
                is_broken,
                unused_until: (!is_used).then(|| keep_until.and_utc()),
                chunks: Vec::new(),
            }),
        };
        blob.chunks.extend(chunk.map(Chunk::from_row).transpose()?);
    }
    Ok(found)
}

/// Notes the objects of a blob as loose: its rows are about to go.
pub(super) fn chunks_loosen(
    conn: &mut Conn,
    (account, blob_id): (&AccountName, i64),
    now: DateTime<Utc>,
) -> Result<Vec<LooseObject>> {
    let rows: Vec<ChunkRow> = blob_chunks::table
        .filter(blob_chunks::blob_id.eq(blob_id))
        .select((
            blob_chunks::object_id,
            blob_chunks::storage,
            blob_chunks::size_bytes,
        ))
        .load(conn)?;
    let mut objects = Vec::with_capacity(rows.len());
    for row in rows {
        let chunk = Chunk::from_row(row)?;
        let object = LooseObject {
            key: ObjectKey::Chunk(chunk.object_id),
            storage: chunk.storage,
        };
        loose_object_note(conn, account, &object, now)?;
        objects.push(object);
    }
    Ok(objects)
}

/// The blob's number, and whether its content was found broken, with its row held until the transaction ends: mounting,
/// referring and deleting must not pass one another. SQLite has one writer anyway.
pub(super) fn blob_lock(
    conn: &mut Conn,
    account: &AccountName,
    digest: &Digest,
) -> Result<Option<(i64, bool)>> {
    let query = blobs::table
        .filter(blobs::account_name.eq(account.as_str()))
        .filter(blobs::digest.eq(digest.as_str()))
        .select((blobs::id, blobs::validation_error.is_not_null()));
    Ok(match conn {
        Conn::Postgres(c) => query.for_update().first(c).optional()?,
        Conn::Sqlite(c) => query.first(c).optional()?,
    })
}

/// Holds a blob's row until the transaction ends, by its number; `false` if it is gone.
pub fn blob_hold(conn: &mut Conn, blob_id: i64) -> Result<bool> {
    let query = blobs::table.find(blob_id).select(blobs::id);
    let found: Option<i64> = match conn {
        Conn::Postgres(c) => query.for_update().first(c).optional()?,
        Conn::Sqlite(c) => query.first(c).optional()?,
    };
    Ok(found.is_some())
}

/// Makes a blob of `from` reachable through `target` as well; `false` if it cannot be reached there, or is broken.
/// Both must lie in one account: content never crosses from one tenant's storage to another's.
pub fn blob_mount_from(
    conn: &mut Conn,
    from: &FullRepoName,
    target: &Repo,
    (digest, keep_until): (&Digest, DateTime<Utc>),
) -> Result<bool> {
    if from.account != target.account.name {
        return Ok(false);
    }
    let Some((blob_id, false)) = blob_lock(conn, &target.account.name, digest)? else {
        return Ok(false);
    };
    let is_there = diesel::select(diesel::dsl::exists(
        blob_mounts::table
            .inner_join(repos::table)
            .filter(blob_mounts::blob_id.eq(blob_id))
            .filter(repos::account_name.eq(from.account.as_str()))
            .filter(repos::name.eq(from.repo.as_str())),
    ))
    .get_result(conn)?;
    if is_there {
        mount_put(conn, (target.id, blob_id), keep_until)?;
    }
    Ok(is_there)
}

/// The repositories of an account through which a blob can be reached.
pub fn blob_repos(conn: &mut Conn, account: &AccountName, digest: &Digest) -> Result<Vec<String>> {
    Ok(blob_mounts::table
        .inner_join(repos::table)
        .inner_join(blobs::table)
        .filter(blobs::account_name.eq(account.as_str()))
        .filter(blobs::digest.eq(digest.as_str()))
        .order(repos::name)
        .select(repos::name)
        .load(conn)?)
}

/// Holds blobs until the transaction ends, so that none of them is removed; others may refer to them. The numbers are in
/// order. SQLite has one writer anyway.
pub(super) fn blobs_share(conn: &mut Conn, blob_ids: &[i64]) -> Result<()> {
    if let Conn::Postgres(c) = conn {
        let held = blobs::table
            .filter(blobs::id.eq_any(blob_ids))
            .order(blobs::id)
            .select(blobs::id);
        let _held: Vec<i64> = held.for_key_share().load(c)?;
    }
    Ok(())
}

/// Those of `digests` that can be reached through the repository, with number and size, held until the
/// transaction ends so that none is deleted while a manifest that needs it is stored.
pub fn blobs_in_repo(
    conn: &mut Conn,
    repo: &Repo,
    digests: &[Digest],
) -> Result<Vec<(String, i64, u64)>> {
    let digests: Vec<&str> = digests.iter().map(Digest::as_str).collect();
    if let Conn::Postgres(c) = conn {
        // The blobs alone, in order, and before their mounts are read: who takes a mount away holds its blob.
        let held = blobs::table
            .filter(blobs::account_name.eq(repo.account.name.as_str()))
            .filter(blobs::digest.eq_any(&digests))
            .order(blobs::id)
            .select(blobs::id);
        let _held: Vec<i64> = held.for_share().load(c)?;
    }
    let rows: Vec<(String, i64, i64)> = blobs::table
        .inner_join(blob_mounts::table)
        .filter(blob_mounts::repo_id.eq(repo.id))
        .filter(blobs::digest.eq_any(digests))
        .order(blobs::id)
        .select((blobs::digest, blobs::id, blobs::size_bytes))
        .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|(digest, id, size)| (digest, id, as_u64(size)))
        .collect())
}
