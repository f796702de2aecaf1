//! What of an account lies on other backends than it should, and the change of an object's place.
//!
//! A change of place holds the account and what the object belongs to, so that nobody deletes the one or finishes
//! the other with the old place in hand.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, as_u64,
    blobs::{Chunk, blob_hold},
    consistency::blob_chunks_of,
    loose_objects::{LooseObject, loose_object_adopt, loose_object_note},
    schema::{
        accounts, blob_chunks, blobs, loose_objects, manifests, repos, upload_chunks, uploads,
    },
    storage_moves::move_count,
    stored,
    uploads::upload_lock,
};
use crate::{
    error::{Code, Error, Result},
    ids::UploadId,
    model::storage_move::{Amount, StorageMove},
    oci::{AccountName, Digest},
};

/// What of an account is not on `target`.
pub fn elsewhere(conn: &mut Conn, account: &AccountName, target: &str) -> Result<Amount> {
    use diesel::{
        dsl::{count_star, sql},
        sql_types::BigInt,
    };
    type Found = (i64, i64);
    let sum = |column: &str| sql::<BigInt>(&format!("CAST(COALESCE(SUM({column}), 0) AS BIGINT)"));
    let of_blobs: Found = blob_chunks::table
        .inner_join(blobs::table)
        .filter(blobs::account_name.eq(account.as_str()))
        .filter(blob_chunks::storage.ne(target))
        .select((count_star(), sum("blob_chunks.size_bytes")))
        .first(conn)?;
    let of_uploads: Found = upload_chunks::table
        .inner_join(uploads::table.inner_join(repos::table))
        .filter(repos::account_name.eq(account.as_str()))
        .filter(upload_chunks::storage.ne(target))
        .select((count_star(), sum("upload_chunks.size_bytes")))
        .first(conn)?;
    let of_manifests: Found = manifests::table
        .inner_join(repos::table)
        .filter(repos::account_name.eq(account.as_str()))
        .filter(manifests::storage.ne(target))
        .select((count_star(), sum("LENGTH(manifests.content)")))
        .first(conn)?;
    let found = [of_blobs, of_uploads, of_manifests];
    Ok(Amount {
        objects: found.iter().map(|(objects, _)| as_u64(*objects)).sum(),
        bytes: found.iter().map(|(_, bytes)| as_u64(*bytes)).sum(),
    })
}

/// Up to `limit` blobs with chunks that are not on `target`, by number after `after`.
pub fn blobs_elsewhere(
    conn: &mut Conn,
    account: &AccountName,
    (target, after): (&str, i64),
    limit: i64,
) -> Result<Vec<(i64, Digest)>> {
    let rows: Vec<(i64, String)> = blobs::table
        .filter(blobs::account_name.eq(account.as_str()))
        .filter(blobs::id.gt(after))
        .filter(diesel::dsl::exists(
            blob_chunks::table
                .filter(blob_chunks::blob_id.eq(blobs::id))
                .filter(blob_chunks::storage.ne(target)),
        ))
        .order(blobs::id)
        .limit(limit)
        .select((blobs::id, blobs::digest))
        .load(conn)?;
    rows.into_iter()
        .map(|(id, digest)| Ok((id, stored(&digest)?)))
        .collect()
}

/// Up to `limit` chunks of unfinished uploads that are not on `target`, by object after `after`.
pub fn upload_chunks_elsewhere(
    conn: &mut Conn,
    account: &AccountName,
    (target, after): (&str, Uuid),
    limit: i64,
) -> Result<Vec<(UploadId, Chunk)>> {
    let rows: Vec<(String, (String, String, i64))> = upload_chunks::table
        .inner_join(uploads::table.inner_join(repos::table))
        .filter(repos::account_name.eq(account.as_str()))
        .filter(upload_chunks::storage.ne(target))
        .filter(upload_chunks::object_id.gt(after.to_string()))
        .order(upload_chunks::object_id)
        .limit(limit)
        .select((
            uploads::id,
            (
                upload_chunks::object_id,
                upload_chunks::storage,
                upload_chunks::size_bytes,
            ),
        ))
        .load(conn)?;
    rows.into_iter()
        .map(|(id, chunk)| {
            let id: UploadId = stored(&id)?;
            Ok((id, Chunk::from_row(chunk)?))
        })
        .collect()
}

/// A manifest's object.
#[derive(Debug)]
pub struct ManifestObject {
    /// The object.
    pub object_id: Uuid,
    /// The backend that it lies on.
    pub storage: String,
    /// The bytes.
    pub content: Vec<u8>,
}

/// Up to `limit` manifests whose objects are not on `target`, by object after `after`.
pub fn manifests_elsewhere(
    conn: &mut Conn,
    account: &AccountName,
    (target, after): (&str, Uuid),
    limit: i64,
) -> Result<Vec<ManifestObject>> {
    let rows: Vec<(String, String, Vec<u8>)> = manifests::table
        .inner_join(repos::table)
        .filter(repos::account_name.eq(account.as_str()))
        .filter(manifests::storage.ne(target))
        .filter(manifests::object_id.gt(after.to_string()))
        .order(manifests::object_id)
        .limit(limit)
        .select((manifests::object_id, manifests::storage, manifests::content))
        .load(conn)?;
    rows.into_iter()
        .map(|(id, storage, content)| {
            Ok(ManifestObject {
                object_id: stored(&id)?,
                storage,
                content,
            })
        })
        .collect()
}

/// An object that was copied: where it was and the copy's name.
#[derive(Debug, Clone)]
pub struct Copied {
    /// The object that is to be replaced.
    pub old: LooseObject,
    /// Its length.
    pub size_bytes: u64,
    /// The copy, on the move's target.
    pub new: Uuid,
}

impl Copied {
    /// The copy as an object on the move's target.
    pub fn object_on(&self, target: &str) -> LooseObject {
        LooseObject {
            key: self.old.key.with_id(self.new),
            storage: target.to_owned(),
        }
    }
}

/// What the copies belong to.
#[derive(Debug, Clone, Copy)]
pub enum Owner {
    /// A blob, by number; all of its chunks that are elsewhere at once.
    Blob(i64),
    /// An unfinished upload.
    Upload(UploadId),
    /// A manifest.
    Manifest,
}

/// Puts copies in the place of what they are copies of; the old objects are loose then. `false` if what they belong
/// to has changed or gone, or the move was turned elsewhere: then nothing happens.
pub fn relocate(
    conn: &mut Conn,
    moving: &StorageMove,
    (owner, copied): (Owner, &[Copied]),
    now: DateTime<Utc>,
) -> Result<bool> {
    if !account_hold(conn, moving)? || !owner_hold(conn, owner)? {
        return Ok(false);
    }
    if let Owner::Blob(id) = owner {
        // The digest was computed over all chunks in their order.
        let chunks = blob_chunks_of(conn, id)?.into_iter();
        let here: Vec<Uuid> = chunks
            .filter(|chunk| chunk.storage != moving.target)
            .map(|chunk| chunk.object_id)
            .collect();
        if here != copied.iter().map(|c| c.old.key.id()).collect::<Vec<_>>() {
            return Ok(false);
        }
    }
    let mut bytes = 0;
    for copy in copied {
        bytes += copy.size_bytes;
        if place_change(conn, owner, copy, &moving.target)? == 0 {
            return Ok(false);
        }
        if loose_object_adopt(conn, copy.new)?.is_none() {
            return Err(Error::from(Code::Swept));
        }
        loose_object_note(conn, &moving.account, &copy.old, now)?;
        if moving.keeps_old {
            diesel::update(loose_objects::table.find(copy.old.key.id().to_string()))
                .set(loose_objects::is_kept.eq(true))
                .execute(conn)?;
        }
    }
    let objects = copied.len() as u64;
    move_count(conn, &moving.account, Amount { objects, bytes }, now)?;
    Ok(true)
}

/// Holds the account until the transaction ends, unless it is being deleted or moves elsewhere by now.
fn account_hold(conn: &mut Conn, moving: &StorageMove) -> Result<bool> {
    let query = accounts::table
        .find(moving.account.as_str())
        .filter(accounts::is_deleting.eq(false))
        .filter(accounts::storage.eq(&moving.target))
        .select(accounts::name);
    let found: Option<String> = match conn {
        Conn::Postgres(c) => query.for_share().first(c).optional()?,
        Conn::Sqlite(c) => query.first(c).optional()?,
    };
    Ok(found.is_some())
}

fn owner_hold(conn: &mut Conn, owner: Owner) -> Result<bool> {
    match owner {
        Owner::Blob(id) => blob_hold(conn, id),
        Owner::Upload(id) => upload_lock(conn, id),
        // The change of its row is the whole of it.
        Owner::Manifest => Ok(true),
    }
}

fn place_change(conn: &mut Conn, owner: Owner, copy: &Copied, target: &str) -> Result<usize> {
    let (old, new) = (copy.old.key.id().to_string(), copy.new.to_string());
    Ok(match owner {
        Owner::Blob(_) => diesel::update(blob_chunks::table.filter(blob_chunks::object_id.eq(old)))
            .set((
                blob_chunks::object_id.eq(new),
                blob_chunks::storage.eq(target),
            ))
            .execute(conn)?,
        Owner::Upload(_) => {
            diesel::update(upload_chunks::table.filter(upload_chunks::object_id.eq(old)))
                .set((
                    upload_chunks::object_id.eq(new),
                    upload_chunks::storage.eq(target),
                ))
                .execute(conn)?
        }
        Owner::Manifest => diesel::update(manifests::table.filter(manifests::object_id.eq(old)))
            .set((manifests::object_id.eq(new), manifests::storage.eq(target)))
            .execute(conn)?,
    })
}
