//! Content that is due to be read again, and blobs of several chunks that are due to become one.
//!
//! Whoever takes something on puts its time off, which is the lease; what he found counts only if the time is still the
//! one that he has set.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;
use storage_drivers::ObjectKey;
use uuid::Uuid;

use super::{
    Conn, as_u64,
    blob_put::chunks_insert,
    blobs::{Chunk, blob_hold, chunks_loosen},
    consistency::blob_chunks_of,
    loose_objects::{LooseObject, loose_object_adopt, loose_object_note},
    schema::{accounts, blob_chunks, blob_mounts, blobs, manifest_blob_refs, manifests, repos},
    stored,
};
use crate::{
    error::{Code, Error, Result},
    oci::{AccountName, Digest},
};

/// The longest error that is kept, in characters.
const MAX_ERROR_CHARS: usize = 500;

/// A blob that somebody has taken on.
#[derive(Debug, Clone)]
pub struct BlobTask {
    /// Its number.
    pub id: i64,
    /// The account that it lies in.
    pub account: AccountName,
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// Whether it was found broken before.
    pub was_broken: bool,
    /// What its time must still be when the task ends.
    pub lease: DateTime<Utc>,
}

/// What makes a blob due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobWork {
    /// To be read and compared with its digest.
    Validate,
    /// To be made one of a single chunk.
    Merge,
}

/// Since when the blob that is due for longest has been due.
pub fn blob_due_since(conn: &mut Conn, work: BlobWork) -> Result<Option<DateTime<Utc>>> {
    let of_accounts = blobs::table
        .inner_join(accounts::table)
        .filter(accounts::is_deleting.eq(false));
    let at: Option<Option<NaiveDateTime>> = match work {
        BlobWork::Validate => of_accounts
            .order(blobs::next_validation_at)
            .select(blobs::next_validation_at.nullable())
            .first(conn)
            .optional()?,
        BlobWork::Merge => of_accounts
            .filter(blobs::next_merge_at.is_not_null())
            .order(blobs::next_merge_at)
            .select(blobs::next_merge_at)
            .first(conn)
            .optional()?,
    };
    Ok(at.flatten().map(|at| at.and_utc()))
}

/// Takes on the blob that is due for longest; its lease lasts as `lease` says for its size.
pub fn blob_claim(
    conn: &mut Conn,
    work: BlobWork,
    now: DateTime<Utc>,
    lease: impl Fn(u64) -> DateTime<Utc>,
) -> Result<Option<BlobTask>> {
    type Row = (i64, String, String, i64, bool);
    let due = blobs::table
        .inner_join(accounts::table)
        .filter(accounts::is_deleting.eq(false))
        .select((
            blobs::id,
            blobs::account_name,
            blobs::digest,
            blobs::size_bytes,
            blobs::validation_error.is_not_null(),
        ))
        .into_boxed();
    let due = match work {
        BlobWork::Validate => due
            .filter(blobs::next_validation_at.le(now.naive_utc()))
            .order(blobs::next_validation_at),
        BlobWork::Merge => due
            .filter(blobs::next_merge_at.le(now.naive_utc()))
            .order(blobs::next_merge_at),
    };
    let row: Option<Row> = due.first(conn).optional()?;
    let Some((id, account, digest, size, was_broken)) = row else {
        return Ok(None);
    };
    let task = BlobTask {
        id,
        account: stored(&account)?,
        digest: stored(&digest)?,
        size_bytes: as_u64(size),
        was_broken,
        lease: lease(as_u64(size)),
    };
    let until = task.lease.naive_utc();
    // Somebody else may have taken it on since it was read.
    let count = match work {
        BlobWork::Validate => diesel::update(blobs::table.find(id))
            .filter(blobs::next_validation_at.le(now.naive_utc()))
            .set(blobs::next_validation_at.eq(until))
            .execute(conn)?,
        BlobWork::Merge => diesel::update(blobs::table.find(id))
            .filter(blobs::next_merge_at.le(now.naive_utc()))
            .set(blobs::next_merge_at.eq(until))
            .execute(conn)?,
    };
    Ok((count == 1).then_some(task))
}

/// Ends the validation of a blob with what was wrong, if anything was, and says when the next one is due; `false` if
/// the lease is lost. Broken content is looked at again too: its storage may come back.
pub fn blob_validated(
    conn: &mut Conn,
    task: &BlobTask,
    error: Option<&str>,
    next_at: DateTime<Utc>,
) -> Result<bool> {
    let held = blobs::table
        .find(task.id)
        .filter(blobs::next_validation_at.eq(task.lease.naive_utc()));
    let count = diesel::update(held)
        .set((
            blobs::validation_error.eq(error.map(shortened)),
            blobs::next_validation_at.eq(next_at.naive_utc()),
        ))
        .execute(conn)?;
    Ok(count == 1)
}

/// Says when a validation that could not be carried out is tried again.
pub fn blob_validate_later(conn: &mut Conn, task: &BlobTask, at: DateTime<Utc>) -> Result<()> {
    diesel::update(blobs::table.find(task.id))
        .filter(blobs::next_validation_at.eq(task.lease.naive_utc()))
        .set(blobs::next_validation_at.eq(at.naive_utc()))
        .execute(conn)?;
    Ok(())
}

/// Says when a merge is tried again; `None` is never.
pub fn blob_merge_later(conn: &mut Conn, task: &BlobTask, at: Option<DateTime<Utc>>) -> Result<()> {
    diesel::update(blobs::table.find(task.id))
        .filter(blobs::next_merge_at.eq(task.lease.naive_utc()))
        .set(blobs::next_merge_at.eq(at.map(|at| at.naive_utc())))
        .execute(conn)?;
    Ok(())
}

/// Puts one chunk in the place of `old`, and notes those as loose; who reads them has time to end. `false` if the blob
/// has other chunks by now, lives elsewhere, or is gone: then the new one stays loose.
pub fn blob_merged(
    conn: &mut Conn,
    task: &BlobTask,
    (old, new): (&[Chunk], &Chunk),
    now: DateTime<Utc>,
) -> Result<bool> {
    let account = accounts::table.find(task.account.as_str());
    let storage: Option<String> = match conn {
        Conn::Postgres(c) => account
            .select(accounts::storage)
            .for_share()
            .first(c)
            .optional()?,
        Conn::Sqlite(c) => account.select(accounts::storage).first(c).optional()?,
    };
    if storage.as_ref() != Some(&new.storage)
        || !blob_hold(conn, task.id)?
        || blob_chunks_of(conn, task.id)? != old
    {
        return Ok(false);
    }
    if loose_object_adopt(conn, new.object_id)?.is_none() {
        return Err(Error::from(Code::Swept));
    }
    chunks_loosen(conn, (&task.account, task.id), now)?;
    diesel::delete(blob_chunks::table.filter(blob_chunks::blob_id.eq(task.id))).execute(conn)?;
    chunks_insert(conn, task.id, std::slice::from_ref(new))?;
    diesel::update(blobs::table.find(task.id))
        .set(blobs::next_merge_at.eq(None::<NaiveDateTime>))
        .execute(conn)?;
    Ok(true)
}

/// A manifest that somebody has taken on.
#[derive(Debug, Clone)]
pub struct ManifestTask {
    /// Its repository's number.
    pub repo_id: i64,
    /// The account that it lies in.
    pub account: AccountName,
    /// Its digest.
    pub digest: Digest,
    /// The media type that it was pushed with.
    pub media_type: String,
    /// The bytes.
    pub content: Vec<u8>,
    /// The object that holds the same bytes.
    pub object_id: Uuid,
    /// The backend that it lies on.
    pub storage: String,
    /// What its time must still be when the task ends.
    pub lease: DateTime<Utc>,
}

/// Since when the manifest that is due for longest has been due.
pub fn manifest_due_since(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let at: Option<NaiveDateTime> = manifests::table
        .order(manifests::next_validation_at)
        .select(manifests::next_validation_at)
        .first(conn)
        .optional()?;
    Ok(at.map(|at| at.and_utc()))
}

/// Takes on the manifest that is due for longest.
pub fn manifest_claim(
    conn: &mut Conn,
    now: DateTime<Utc>,
    lease: DateTime<Utc>,
) -> Result<Option<ManifestTask>> {
    type Row = (i64, String, String, String, Vec<u8>, String, String);
    let row: Option<Row> = manifests::table
        .inner_join(repos::table)
        .filter(manifests::next_validation_at.le(now.naive_utc()))
        .order(manifests::next_validation_at)
        .select((
            manifests::repo_id,
            repos::account_name,
            manifests::digest,
            manifests::media_type,
            manifests::content,
            manifests::object_id,
            manifests::storage,
        ))
        .first(conn)
        .optional()?;
    let Some((repo_id, account, digest, media_type, content, object_id, storage)) = row else {
        return Ok(None);
    };
    let count = diesel::update(manifests::table.find((repo_id, &digest)))
        .filter(manifests::next_validation_at.le(now.naive_utc()))
        .set(manifests::next_validation_at.eq(lease.naive_utc()))
        .execute(conn)?;
    if count == 0 {
        return Ok(None);
    }
    Ok(Some(ManifestTask {
        repo_id,
        account: stored(&account)?,
        digest: stored(&digest)?,
        media_type,
        content,
        object_id: stored(&object_id)?,
        storage,
        lease,
    }))
}

/// Ends the validation of a manifest with what was wrong, if anything was; `false` if the lease is lost.
pub fn manifest_validated(
    conn: &mut Conn,
    task: &ManifestTask,
    error: Option<&str>,
    next_at: DateTime<Utc>,
) -> Result<bool> {
    let held = manifests::table
        .find((task.repo_id, task.digest.as_str()))
        .filter(manifests::next_validation_at.eq(task.lease.naive_utc()));
    let count = diesel::update(held)
        .set((
            manifests::validation_error.eq(error.map(shortened)),
            manifests::next_validation_at.eq(next_at.naive_utc()),
        ))
        .execute(conn)?;
    Ok(count == 1)
}

/// Says when a validation that could not be carried out is tried again.
pub fn manifest_validate_later(
    conn: &mut Conn,
    task: &ManifestTask,
    at: DateTime<Utc>,
) -> Result<()> {
    diesel::update(manifests::table.find((task.repo_id, task.digest.as_str())))
        .filter(manifests::next_validation_at.eq(task.lease.naive_utc()))
        .set(manifests::next_validation_at.eq(at.naive_utc()))
        .execute(conn)?;
    Ok(())
}

/// Gives a manifest a new object in the place of one that is lost or broken and is loose then; `false` if it has another one
/// by now, or is gone.
pub fn manifest_object_replace(
    conn: &mut Conn,
    task: &ManifestTask,
    object_id: Uuid,
    now: DateTime<Utc>,
) -> Result<bool> {
    let manifest = manifests::table
        .find((task.repo_id, task.digest.as_str()))
        .filter(manifests::object_id.eq(task.object_id.to_string()));
    let count = diesel::update(manifest)
        .set(manifests::object_id.eq(object_id.to_string()))
        .execute(conn)?;
    if count == 0 {
        return Ok(false);
    }
    if loose_object_adopt(conn, object_id)?.is_none() {
        return Err(Error::from(Code::Swept));
    }
    let old = LooseObject {
        key: ObjectKey::Manifest(task.object_id),
        storage: task.storage.clone(),
    };
    loose_object_note(conn, &task.account, &old, now)?;
    Ok(true)
}

/// What a manifest's row says that it needs, as it is now.
#[derive(Debug, Default)]
pub struct ManifestNeeds {
    /// The digests of blobs that are mounted in its repository, and whether they are sound.
    pub blobs: Vec<(String, bool)>,
    /// Those of `wanted` that the repository has as manifests.
    pub manifests: Vec<String>,
}

/// Looks up what a manifest refers to.
pub fn manifest_needs(
    conn: &mut Conn,
    repo_id: i64,
    digest: &Digest,
    children: &[String],
) -> Result<ManifestNeeds> {
    let of_manifest = manifest_blob_refs::table
        .filter(manifest_blob_refs::repo_id.eq(repo_id))
        .filter(manifest_blob_refs::digest.eq(digest.as_str()))
        .select(manifest_blob_refs::blob_id);
    let found = blobs::table
        .inner_join(blob_mounts::table)
        .filter(blob_mounts::repo_id.eq(repo_id))
        .filter(blobs::id.eq_any(of_manifest))
        .select((blobs::digest, blobs::validation_error.is_null()))
        .load(conn)?;
    let known = manifests::table
        .filter(manifests::repo_id.eq(repo_id))
        .filter(manifests::digest.eq_any(children))
        .select(manifests::digest)
        .load(conn)?;
    Ok(ManifestNeeds {
        blobs: found,
        manifests: known,
    })
}

fn shortened(error: &str) -> String {
    error.chars().take(MAX_ERROR_CHARS).collect()
}

/// Makes every blob due for validation.
pub fn blobs_validate_now(conn: &mut Conn, now: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::update(blobs::table)
        .filter(blobs::next_validation_at.gt(now.naive_utc()))
        .set(blobs::next_validation_at.eq(now.naive_utc()))
        .execute(conn)?)
}

/// Makes every manifest due for validation.
pub fn manifests_validate_now(conn: &mut Conn, now: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::update(manifests::table)
        .filter(manifests::next_validation_at.gt(now.naive_utc()))
        .set(manifests::next_validation_at.eq(now.naive_utc()))
        .execute(conn)?)
}
