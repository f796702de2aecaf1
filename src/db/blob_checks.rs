//! Blobs that are due to be read again, and those of several chunks that are due to become one.
//!
//! Whoever takes something on puts its time off, which is the lease; what he found counts only if the time is still the
//! one that he has set.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn, as_u64,
    blob_put::chunks_insert,
    blobs::{Chunk, blob_hold, chunks_loosen},
    consistency::blob_chunks_of,
    loose_objects::loose_object_adopt,
    schema::{accounts, blob_chunks, blobs},
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

pub(super) fn shortened(error: &str) -> String {
    error.chars().take(MAX_ERROR_CHARS).collect()
}

/// Makes some `limit` blobs due for validation that are not, the latest first; says how many they were.
pub fn blobs_validate_now(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<usize> {
    let later = || blobs::table.filter(blobs::next_validation_at.gt(now.naive_utc()));
    let last: Option<NaiveDateTime> = later()
        .order(blobs::next_validation_at.desc())
        .offset(limit - 1)
        .select(blobs::next_validation_at)
        .first(conn)
        .optional()?;
    let last = last.unwrap_or(now.naive_utc());
    Ok(diesel::update(later())
        .filter(blobs::next_validation_at.ge(last))
        .set(blobs::next_validation_at.eq(now.naive_utc()))
        .execute(conn)?)
}
