//! Blob uploads: their chunks so far and the state of their digest.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use storage_drivers::ObjectKey;

use super::{
    Conn,
    accounts::AccountRow,
    as_i64, as_u64,
    blobs::{Chunk, ChunkRow},
    cached::execute_cached,
    loose_objects::{LooseObject, loose_object_adopt, loose_object_note},
    quotas::quota_settle,
    repos::{Repo, full_name},
    schema::{accounts, repos, upload_chunks, uploads},
    stored,
};
use crate::{
    error::Result,
    ids::UploadId,
    model::quota::Amounts,
    oci::{AccountName, FullRepoName, Hasher},
};

/// An upload that goes on.
#[derive(Debug)]
pub struct Upload {
    /// Its identifier.
    pub id: UploadId,
    /// Where the blob will be mounted.
    pub repo: Repo,
    /// Bytes so far.
    pub size_bytes: u64,
    /// Chunks so far; a change of this number is how a concurrent request is noticed.
    pub chunk_count: i32,
    /// The digest over the bytes so far; `None` if it was saved by another version of this program.
    pub hasher: Option<Hasher>,
    /// When it began.
    pub created_at: DateTime<Utc>,
}

/// Begins an upload.
pub fn upload_insert(
    conn: &mut Conn,
    id: UploadId,
    repo: &Repo,
    hasher: &Hasher,
    now: DateTime<Utc>,
) -> Result<()> {
    diesel::insert_into(uploads::table)
        .values((
            uploads::id.eq(id.to_string()),
            uploads::repo_id.eq(repo.id),
            uploads::size_bytes.eq(0_i64),
            uploads::chunk_count.eq(0),
            uploads::hash_state.eq(hasher.save()),
            uploads::created_at.eq(now.naive_utc()),
            uploads::updated_at.eq(now.naive_utc()),
        ))
        .execute(conn)?;
    Ok(())
}

/// The upload, if it belongs to that repository.
pub fn upload_find(conn: &mut Conn, name: &FullRepoName, id: UploadId) -> Result<Option<Upload>> {
    type Row = (i64, i32, Vec<u8>, chrono::NaiveDateTime, i64, AccountRow);
    let row: Option<Row> = uploads::table
        .inner_join(repos::table.inner_join(accounts::table))
        .filter(uploads::id.eq(id.to_string()))
        .filter(repos::account_name.eq(name.account.as_str()))
        .filter(repos::name.eq(name.repo.as_str()))
        .filter(accounts::is_deleting.eq(false))
        .select((
            uploads::size_bytes,
            uploads::chunk_count,
            uploads::hash_state,
            uploads::created_at,
            repos::id,
            AccountRow::as_select(),
        ))
        .first(conn)
        .optional()?;
    let Some((size, chunk_count, state, created_at, repo_id, account)) = row else {
        return Ok(None);
    };
    Ok(Some(Upload {
        id,
        repo: Repo {
            id: repo_id,
            account: account.into_account()?,
        },
        size_bytes: as_u64(size),
        chunk_count,
        hasher: Hasher::restore(&state),
        created_at: created_at.and_utc(),
    }))
}

/// Adds chunks that lie in storage, if no other request has changed the upload since `upload` was read.
pub fn upload_append(
    conn: &mut Conn,
    upload: &Upload,
    chunks: &[Chunk],
    hasher: &Hasher,
    now: DateTime<Utc>,
) -> Result<bool> {
    let added_bytes: u64 = chunks.iter().map(|chunk| chunk.size_bytes).sum();
    let numbered = || (upload.chunk_count..).zip(chunks);
    let count = execute_cached!(
        conn,
        diesel::update(
            uploads::table
                .find(upload.id.to_string())
                .filter(uploads::chunk_count.eq(upload.chunk_count)),
        )
        .set((
            uploads::size_bytes.eq(as_i64(upload.size_bytes + added_bytes)),
            uploads::chunk_count.eq(numbered().last().map_or(0, |(number, _)| number + 1)),
            uploads::hash_state.eq(hasher.save()),
            uploads::updated_at.eq(now.naive_utc()),
        )),
    )?;
    if count == 0 {
        return Ok(false);
    }
    // What was kept for the objects, and is more than they are.
    let mut kept = -as_i64(added_bytes);
    for (number, chunk) in numbered() {
        let Some(reserved) = loose_object_adopt(conn, chunk.object_id)? else {
            return Ok(false);
        };
        kept += reserved;
        diesel::insert_into(upload_chunks::table)
            .values((
                upload_chunks::upload_id.eq(upload.id.to_string()),
                upload_chunks::number.eq(number),
                upload_chunks::object_id.eq(chunk.object_id.to_string()),
                upload_chunks::storage.eq(&chunk.storage),
                upload_chunks::size_bytes.eq(as_i64(chunk.size_bytes)),
            ))
            .execute(conn)?;
    }
    let account = &upload.repo.account.name;
    quota_settle(conn, account, &Amounts::reserved(-kept))?;
    Ok(true)
}

/// Holds an upload's row until the transaction ends: whoever reads its chunks to make something of them must not be
/// passed by a move of the account, which gives the chunks other objects. SQLite has one writer anyway.
pub fn upload_lock(conn: &mut Conn, id: UploadId) -> Result<bool> {
    let query = uploads::table.find(id.to_string()).select(uploads::id);
    let found: Option<String> = match conn {
        Conn::Postgres(c) => query.for_update().first(c).optional()?,
        Conn::Sqlite(c) => query.first(c).optional()?,
    };
    Ok(found.is_some())
}

/// The chunks of an upload, in order.
pub fn upload_chunks(conn: &mut Conn, id: UploadId) -> Result<Vec<Chunk>> {
    let rows: Vec<ChunkRow> = upload_chunks::table
        .filter(upload_chunks::upload_id.eq(id.to_string()))
        .order(upload_chunks::number)
        .select((
            upload_chunks::object_id,
            upload_chunks::storage,
            upload_chunks::size_bytes,
        ))
        .load(conn)?;
    rows.into_iter().map(Chunk::from_row).collect()
}

/// Ends an upload whose chunks went into a blob; `false` if another request changed or ended it.
pub fn upload_finish(conn: &mut Conn, upload: &Upload) -> Result<bool> {
    let count = diesel::delete(
        uploads::table
            .find(upload.id.to_string())
            .filter(uploads::chunk_count.eq(upload.chunk_count)),
    )
    .execute(conn)?;
    Ok(count == 1)
}

/// Ends an upload and gives the objects to delete, which are noted as loose; `None` if it is gone.
pub fn upload_cancel(
    conn: &mut Conn,
    upload: &Upload,
    now: DateTime<Utc>,
) -> Result<Option<Vec<LooseObject>>> {
    let Some((objects, released)) = upload_end(conn, upload, now)? else {
        return Ok(None);
    };
    let account = &upload.repo.account.name;
    quota_settle(conn, account, &Amounts::reserved(-released))?;
    Ok(Some(objects))
}

/// Like [`upload_cancel`], but gives the bytes that are not reserved any more, too; the caller changes the books, which
/// come last in a transaction.
pub fn upload_end(
    conn: &mut Conn,
    upload: &Upload,
    now: DateTime<Utc>,
) -> Result<Option<(Vec<LooseObject>, i64)>> {
    upload_lock(conn, upload.id)?;
    let chunks = upload_chunks(conn, upload.id)?;
    if diesel::delete(uploads::table.find(upload.id.to_string())).execute(conn)? == 0 {
        return Ok(None);
    }
    let size_bytes: u64 = chunks.iter().map(|chunk| chunk.size_bytes).sum();
    let objects = loosen(conn, upload, chunks, now)?;
    Ok(Some((objects, as_i64(size_bytes))))
}

/// Notes the chunks as loose, to be deleted once the transaction is through.
pub fn loosen(
    conn: &mut Conn,
    upload: &Upload,
    chunks: Vec<Chunk>,
    now: DateTime<Utc>,
) -> Result<Vec<LooseObject>> {
    let objects: Vec<LooseObject> = chunks
        .into_iter()
        .map(|chunk| LooseObject {
            key: ObjectKey::Chunk(chunk.object_id),
            storage: chunk.storage,
        })
        .collect();
    for object in &objects {
        loose_object_note(conn, &upload.repo.account.name, object, now)?;
    }
    Ok(objects)
}

/// The uploads of a repository.
pub fn upload_ids(conn: &mut Conn, repo_id: i64) -> Result<Vec<UploadId>> {
    let ids: Vec<String> = uploads::table
        .filter(uploads::repo_id.eq(repo_id))
        .order(uploads::id)
        .select(uploads::id)
        .load(conn)?;
    ids.iter().map(|id| stored(id)).collect()
}

/// Ends all uploads of an account, which is being deleted, and notes their objects as loose. Gives the bytes that are not
/// reserved any more; the caller changes the books.
pub fn uploads_cancel_all(
    conn: &mut Conn,
    account: &AccountName,
    now: DateTime<Utc>,
) -> Result<i64> {
    let of_account = || {
        repos::table
            .filter(repos::account_name.eq(account.as_str()))
            .select(repos::id)
    };
    if let Conn::Postgres(c) = conn {
        // An append that commits between the reading of its chunks and the end of its upload would lose its object.
        let uploads = uploads::table.filter(uploads::repo_id.eq_any(of_account()));
        let _held: Vec<String> = uploads.select(uploads::id).for_update().load(c)?;
    }
    let rows: Vec<ChunkRow> = upload_chunks::table
        .inner_join(uploads::table.inner_join(repos::table))
        .filter(repos::account_name.eq(account.as_str()))
        .select((
            upload_chunks::object_id,
            upload_chunks::storage,
            upload_chunks::size_bytes,
        ))
        .load(conn)?;
    let mut released = 0;
    for (object_id, storage, size_bytes) in rows {
        released += size_bytes;
        let object = LooseObject {
            key: ObjectKey::Chunk(stored(&object_id)?),
            storage,
        };
        loose_object_note(conn, account, &object, now)?;
    }
    diesel::delete(uploads::table.filter(uploads::repo_id.eq_any(of_account()))).execute(conn)?;
    Ok(released)
}

/// The upload that has rested for longest, if that is since before `before`, held until the transaction ends. What
/// somebody else holds is left to him.
pub fn upload_abandoned(
    conn: &mut Conn,
    before: DateTime<Utc>,
) -> Result<Option<(FullRepoName, UploadId)>> {
    let oldest = uploads::table
        .inner_join(repos::table.inner_join(accounts::table))
        .filter(accounts::is_deleting.eq(false))
        .filter(uploads::updated_at.le(before.naive_utc()))
        .order(uploads::updated_at)
        .select((uploads::id, repos::account_name, repos::name));
    let row: Option<(String, String, String)> = oldest.first(conn).optional()?;
    let Some((id, account, repo)) = row else {
        return Ok(None);
    };
    if let Conn::Postgres(c) = conn {
        // It may have gone on since it was read.
        let held = uploads::table
            .find(&id)
            .filter(uploads::updated_at.le(before.naive_utc()))
            .select(uploads::id);
        let held: Option<String> = held.for_update().skip_locked().first(c).optional()?;
        if held.is_none() {
            return Ok(None);
        }
    }
    Ok(Some((full_name(&account, &repo)?, stored(&id)?)))
}

/// Says that an upload goes on.
pub fn upload_touch(conn: &mut Conn, id: UploadId, now: DateTime<Utc>) -> Result<()> {
    diesel::update(uploads::table.find(id.to_string()))
        .set(uploads::updated_at.eq(now.naive_utc()))
        .execute(conn)?;
    Ok(())
}

/// Since when the upload that has rested for longest has done so.
pub fn uploads_rest_since(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let at: Option<chrono::NaiveDateTime> = uploads::table
        .inner_join(repos::table.inner_join(accounts::table))
        .filter(accounts::is_deleting.eq(false))
        .order(uploads::updated_at)
        .select(uploads::updated_at)
        .first(conn)
        .optional()?;
    Ok(at.map(|at| at.and_utc()))
}
