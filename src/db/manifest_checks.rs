//! Manifests that are due to be looked at again: leases as in `blob_checks.rs`.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;
use storage_drivers::ObjectKey;
use uuid::Uuid;

use super::{
    Conn,
    blob_checks::shortened,
    loose_objects::{LooseObject, loose_object_adopt, loose_object_note},
    schema::{blob_mounts, blobs, manifest_blob_refs, manifests, repos},
    stored,
};
use crate::{
    error::{Code, Error, Result},
    oci::{AccountName, Digest},
};

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

/// Makes some `limit` manifests due for validation that are not, the latest first; says how many they were.
pub fn manifests_validate_now(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<usize> {
    let later = || manifests::table.filter(manifests::next_validation_at.gt(now.naive_utc()));
    let last: Option<NaiveDateTime> = later()
        .order(manifests::next_validation_at.desc())
        .offset(limit - 1)
        .select(manifests::next_validation_at)
        .first(conn)
        .optional()?;
    let last = last.unwrap_or(now.naive_utc());
    Ok(diesel::update(later())
        .filter(manifests::next_validation_at.ge(last))
        .set(manifests::next_validation_at.eq(now.naive_utc()))
        .execute(conn)?)
}
