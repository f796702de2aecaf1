//! Making a blob exist: its row, its chunks, and the repository through which it can be reached.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn, as_i64,
    blob_mounts::mount_put,
    blobs::{Chunk, blob_lock, chunks_loosen},
    dialect::on_backend,
    repos::Repo,
    schema::{blob_chunks, blobs},
};
use crate::{
    error::{Error, Result},
    oci::{AccountName, Digest},
};

/// What became of the chunks that were offered to [`blob_put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobPut {
    /// They are the blob's content now.
    Stored,
    /// They are the blob's content now, since what it had before was broken.
    Healed,
    /// The account had the blob already; the chunks are not needed.
    Known,
}

/// The times of a push.
#[derive(Debug, Clone, Copy)]
pub struct PushTimes {
    /// Now.
    pub now: DateTime<Utc>,
    /// How long a blob stays that no manifest needs yet.
    pub keep_until: DateTime<Utc>,
    /// When the content is read again.
    pub validate_at: DateTime<Utc>,
}

/// Makes the blob exist in the repository's account and reachable through the repository.
pub fn blob_put(
    conn: &mut Conn,
    repo: &Repo,
    (digest, chunks): (&Digest, &[Chunk]),
    times: PushTimes,
) -> Result<BlobPut> {
    let account = &repo.account.name;
    // A blob can be deleted between the insert that found it and the lock: then it is inserted again.
    for _ in 0..3 {
        let inserted = blob_insert(conn, account, (digest, chunks), times)?;
        if let Some((id, is_broken)) = blob_lock(conn, account, digest)? {
            let put = match (inserted, is_broken) {
                (true, _) => BlobPut::Stored,
                (false, true) => BlobPut::Healed,
                (false, false) => BlobPut::Known,
            };
            if put == BlobPut::Healed {
                blob_heal(conn, (account, id), chunks.len(), times)?;
            }
            if put != BlobPut::Known {
                chunks_insert(conn, id, chunks)?;
            }
            mount_put(conn, (repo.id, id), times.keep_until)?;
            return Ok(put);
        }
    }
    Err(Error::unavailable(
        "a blob was deleted as often as it was stored",
    ))
}

fn blob_insert(
    conn: &mut Conn,
    account: &AccountName,
    (digest, chunks): (&Digest, &[Chunk]),
    times: PushTimes,
) -> Result<bool> {
    let size_bytes: u64 = chunks.iter().map(|chunk| chunk.size_bytes).sum();
    let merge_at = (chunks.len() > 1).then_some(times.now.naive_utc());
    let count = on_backend!(conn, |c| diesel::insert_into(blobs::table)
        .values((
            blobs::account_name.eq(account.as_str()),
            blobs::digest.eq(digest.as_str()),
            blobs::size_bytes.eq(as_i64(size_bytes)),
            blobs::pushed_at.eq(times.now.naive_utc()),
            blobs::next_validation_at.eq(times.validate_at.naive_utc()),
            blobs::next_merge_at.eq(merge_at),
        ))
        .on_conflict((blobs::account_name, blobs::digest))
        .do_nothing()
        .execute(c))?;
    Ok(count == 1)
}

/// Takes the broken content of a blob away; the caller gives it other chunks. What is left of it is deleted later.
fn blob_heal(
    conn: &mut Conn,
    (account, blob_id): (&AccountName, i64),
    chunk_count: usize,
    times: PushTimes,
) -> Result<()> {
    chunks_loosen(conn, (account, blob_id), times.now)?;
    diesel::delete(blob_chunks::table.filter(blob_chunks::blob_id.eq(blob_id))).execute(conn)?;
    diesel::update(blobs::table.find(blob_id))
        .set((
            blobs::validation_error.eq(None::<String>),
            blobs::next_merge_at.eq((chunk_count > 1).then_some(times.now.naive_utc())),
            blobs::next_validation_at.eq(times.validate_at.naive_utc()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Gives a blob its chunks, in order.
pub(super) fn chunks_insert(conn: &mut Conn, blob_id: i64, chunks: &[Chunk]) -> Result<()> {
    for (number, chunk) in (0_i32..).zip(chunks) {
        diesel::insert_into(blob_chunks::table)
            .values((
                blob_chunks::blob_id.eq(blob_id),
                blob_chunks::number.eq(number),
                blob_chunks::object_id.eq(chunk.object_id.to_string()),
                blob_chunks::storage.eq(&chunk.storage),
                blob_chunks::size_bytes.eq(as_i64(chunk.size_bytes)),
            ))
            .execute(conn)?;
    }
    Ok(())
}
