//! Deleting blobs: out of a repository, and from the account once no repository has them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn,
    blobs::{blob_hold, blob_lock, chunks_loosen},
    dialect::on_backend,
    loose_objects::LooseObject,
    quotas::quota_settle,
    repos::Repo,
    schema::{blob_mounts, blobs, manifest_blob_refs},
    trash::{Purged, Unneeded, trash_of_blob, trash_purge},
};
use crate::{
    error::Result,
    model::quota::Amounts,
    oci::{AccountName, Digest},
};

/// What became of a blob that was to be deleted.
#[derive(Debug, PartialEq, Eq)]
pub enum BlobDelete {
    /// It could not be reached through the repository.
    Missing,
    /// A manifest of the repository needs it.
    InUse {
        /// One such manifest.
        by: String,
    },
    /// It is gone from the repository.
    Gone,
    /// It was the last one that had it: the blob must go from the account, by [`blobs_remove`].
    Unmounted(i64),
}

/// Takes a blob out of a repository, and what needs it out of the repository's trash, unless a manifest needs it. Whether
/// the blob goes from the account, too, is the caller's to do, for the books of quotas come last in a transaction. The
/// repository is held alone.
pub fn blob_delete(
    conn: &mut Conn,
    repo: &Repo,
    digest: &Digest,
    (now, keep_until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<(BlobDelete, Purged)> {
    let mut purged = Purged::default();
    let Some((blob_id, _)) = blob_lock(conn, &repo.account.name, digest)? else {
        return Ok((BlobDelete::Missing, purged));
    };
    let user: Option<String> = manifest_blob_refs::table
        .filter(manifest_blob_refs::repo_id.eq(repo.id))
        .filter(manifest_blob_refs::blob_id.eq(blob_id))
        .select(manifest_blob_refs::digest)
        .first(conn)
        .optional()?;
    if let Some(by) = user {
        return Ok((BlobDelete::InUse { by }, purged));
    }
    let in_trash = trash_of_blob(conn, repo.id, blob_id)?;
    if !in_trash.is_empty() {
        purged = trash_purge(conn, repo, &in_trash, (now, Unneeded::Stay(keep_until)))?;
    }
    let mount = blob_mounts::table.find((repo.id, blob_id));
    if diesel::delete(mount).execute(conn)? == 0 {
        return Ok((BlobDelete::Missing, purged));
    }
    let mounts: i64 = blob_mounts::table
        .filter(blob_mounts::blob_id.eq(blob_id))
        .count()
        .get_result(conn)?;
    Ok(match mounts {
        0 => (BlobDelete::Unmounted(blob_id), purged),
        _ => (BlobDelete::Gone, purged),
    })
}

/// Removes blobs that no repository has any more, notes their objects as loose, and ends the transaction with the books
/// of quotas.
pub fn blobs_remove(
    conn: &mut Conn,
    account: &AccountName,
    blob_ids: &[i64],
    now: DateTime<Utc>,
) -> Result<Vec<LooseObject>> {
    let (mut objects, mut size_bytes) = (Vec::new(), 0);
    for blob_id in blob_ids {
        size_bytes += blob_remove(conn, (account, *blob_id), &mut objects, now)?;
    }
    let change = Amounts {
        bytes: -size_bytes,
        ..Amounts::default()
    };
    quota_settle(conn, account, &change)?;
    Ok(objects)
}

/// Gives the size of what was removed.
fn blob_remove(
    conn: &mut Conn,
    (account, blob_id): (&AccountName, i64),
    objects: &mut Vec<LooseObject>,
    now: DateTime<Utc>,
) -> Result<i64> {
    // A move gives chunks other objects; it must not pass between reading them and removing the blob.
    blob_hold(conn, blob_id)?;
    // Their rows go with the blob's.
    objects.extend(chunks_loosen(conn, (account, blob_id), now)?);
    let size_bytes: Option<i64> =
        on_backend!(conn, |c| diesel::delete(blobs::table.find(blob_id))
            .returning(blobs::size_bytes)
            .get_result(c)
            .optional())?;
    Ok(size_bytes.unwrap_or(0))
}

/// The numbers of an account's blobs, for its deletion.
pub fn blob_ids(conn: &mut Conn, account: &AccountName, limit: i64) -> Result<Vec<i64>> {
    Ok(blobs::table
        .filter(blobs::account_name.eq(account.as_str()))
        .select(blobs::id)
        .limit(limit)
        .load(conn)?)
}
