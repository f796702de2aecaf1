//! Pushing a blob: start an upload, append chunks, finish; or all in one request.
//!
//! The digest's state lies in the upload's row, so each request may reach another node. Every request
//! that brings bytes writes one immutable object and then changes the row, if nobody else has changed
//! it since: of two requests that append at once, one is told 416 and its object is deleted.

use futures::TryStreamExt as _;
use storage_drivers::{ObjectKey, StorageError};

use uuid::Uuid;

use super::{
    Registry,
    access::{Push, RepoAccess},
    chunk_write::{Payload, Written, chunk_object},
    heartbeat::beating,
};
use crate::{
    db::{
        Conn, as_i64,
        audit::audit_append,
        blob_put::{BlobPut, blob_put},
        blobs::Chunk,
        loose_objects::{LooseObject, loose_object_adopt, loose_objects_unreserve},
        quotas::quota_settle,
        repos::repo_ensure,
        uploads::{
            Upload, loosen, upload_append, upload_cancel, upload_chunks, upload_find,
            upload_finish, upload_insert, upload_lock, upload_touch,
        },
    },
    error::{Code, Error, Result},
    ids::UploadId,
    model::{account::Account, audit::AuditAction, quota::Amounts},
    oci::{Algorithm, Digest, Hasher, UploadRange},
};

impl Registry {
    /// Begins an upload; `algorithm` is the one that the digest will have, if the client says so.
    pub async fn upload_start(
        &self,
        access: &RepoAccess<Push>,
        algorithm: Algorithm,
    ) -> Result<UploadId> {
        let id = UploadId(self.ids.fresh());
        let (name, now) = (access.name().clone(), self.clock.now());
        self.db
            .write(move |conn| {
                let repo = repo_ensure(conn, &name, now)?;
                repo.account.settings.refuse_in_maintenance()?;
                upload_insert(conn, id, &repo, &Hasher::new(algorithm), now)
            })
            .await?;
        Ok(id)
    }

    /// How many bytes of an upload are there.
    pub async fn upload_status(&self, access: &RepoAccess<Push>, id: UploadId) -> Result<u64> {
        Ok(self.upload_get(access, id).await?.size_bytes)
    }

    /// Appends bytes to an upload; gives how many are there now.
    pub async fn upload_append(
        &self,
        access: &RepoAccess<Push>,
        id: UploadId,
        payload: Payload,
    ) -> Result<u64> {
        let upload = self.upload_get(access, id).await?;
        upload.repo.account.settings.refuse_in_maintenance()?;
        let written = self.chunk_write(&upload, payload).await?;
        if written.chunks.is_empty() {
            return Ok(upload.size_bytes);
        }
        let size_bytes = upload.size_bytes + written.size_bytes();
        let (account, objects) = (upload.repo.account.clone(), written.objects());
        let now = self.clock.now();
        let appended = self
            .db
            .write(move |conn| {
                if upload_append(conn, &upload, &written.chunks, &written.hasher, now)? {
                    return Ok(());
                }
                Err(overtaken())
            })
            .await;
        self.delete_if_refused(&account, objects, appended).await?;
        Ok(size_bytes)
    }

    /// Ends an upload: its bytes, and those of the payload after them, become the blob `digest`.
    pub async fn upload_finish(
        &self,
        access: &RepoAccess<Push>,
        id: UploadId,
        digest: &Digest,
        payload: Payload,
    ) -> Result<()> {
        let mut upload = self.upload_get(access, id).await?;
        upload.repo.account.settings.refuse_in_maintenance()?;
        check_order(&upload, payload.range)?;
        if upload
            .hasher
            .as_ref()
            .is_none_or(|hasher| hasher.algorithm() != digest.algorithm())
        {
            upload.hasher = Some(self.rehash(&upload, digest.algorithm()).await?);
        }
        let account = upload.repo.account.clone();
        let written = self.chunk_write(&upload, payload).await?;
        let objects = written.objects();
        let actual = written.hasher.finish();
        if actual != *digest {
            return self.refuse_upload(upload, objects, digest, &actual).await;
        }
        let (digest, times, last) = (digest.clone(), self.blob_times(), written.chunks);
        let event = self.repo_event(access, AuditAction::BlobPush).of(&digest);
        let finished = self
            .db
            .write(move |conn| {
                audit_append(conn, &event.on(&upload.repo.account))?;
                upload_lock(conn, upload.id)?;
                let stored_before = upload_chunks(conn, upload.id)?;
                if !upload_finish(conn, &upload)? {
                    return Err(overtaken());
                }
                let chunks = [stored_before.as_slice(), &last].concat();
                let put = blob_put(conn, &upload.repo, (&digest, &chunks), times)?;
                let before: u64 = stored_before.iter().map(|chunk| chunk.size_bytes).sum();
                let mut objects = Vec::new();
                if put == BlobPut::Known {
                    objects = loosen(conn, &upload, stored_before, times.now)?;
                    objects.extend(last.iter().map(chunk_object));
                }
                settle(conn, &upload.repo.account, (put, &last), before)?;
                Ok(objects)
            })
            .await;
        match finished {
            Ok(unneeded) => {
                if !unneeded.is_empty() {
                    self.objects_delete(&account, unneeded).await;
                }
                Ok(())
            }
            Err(error) => self.delete_if_refused(&account, objects, Err(error)).await,
        }
    }

    /// Ends an upload and forgets its bytes.
    pub async fn upload_cancel(&self, access: &RepoAccess<Push>, id: UploadId) -> Result<()> {
        let upload = self.upload_get(access, id).await?;
        let account = upload.repo.account.clone();
        let now = self.clock.now();
        let objects = self
            .db
            .write(move |conn| upload_cancel(conn, &upload, now))
            .await?;
        let objects = objects.ok_or_else(|| Error::new(Code::BlobUploadUnknown))?;
        self.objects_delete(&account, objects).await;
        Ok(())
    }

    /// Stores a blob that comes in one request.
    pub async fn blob_push(
        &self,
        access: &RepoAccess<Push>,
        digest: &Digest,
        payload: Payload,
    ) -> Result<()> {
        let (name, now) = (access.name().clone(), self.clock.now());
        let repo = self.db.write(move |conn| {
            let repo = repo_ensure(conn, &name, now)?;
            repo.account.settings.refuse_in_maintenance()?;
            Ok(repo)
        });
        let repo = repo.await?;
        let account = repo.account.clone();
        let written = self
            .stream_write(&account, Hasher::new(digest.algorithm()), 0, payload)
            .await?;
        let objects = written.objects();
        let actual = written.hasher.finish();
        if actual != *digest {
            self.objects_delete(&account, objects).await;
            return Err(wrong_digest(digest, &actual));
        }
        let (digest, times, chunks) = (digest.clone(), self.blob_times(), written.chunks);
        let event = self.repo_event(access, AuditAction::BlobPush).of(&digest);
        let put = self
            .db
            .write(move |conn| {
                audit_append(conn, &event.on(&repo.account))?;
                let put = blob_put(conn, &repo, (&digest, &chunks), times)?;
                settle(conn, &repo.account, (put, &chunks), 0)?;
                Ok(put)
            })
            .await;
        match put {
            Ok(BlobPut::Known) => {
                self.objects_delete(&account, objects).await;
                Ok(())
            }
            Ok(BlobPut::Stored | BlobPut::Healed) => Ok(()),
            Err(error) => self.delete_if_refused(&account, objects, Err(error)).await,
        }
    }

    async fn upload_get(&self, access: &RepoAccess<Push>, id: UploadId) -> Result<Upload> {
        let name = access.name().clone();
        let upload = self
            .db
            .read(move |conn| upload_find(conn, &name, id))
            .await?;
        let upload = upload.ok_or_else(|| Error::new(Code::BlobUploadUnknown))?;
        access.may_finish_upload(upload.created_at)?;
        Ok(upload)
    }

    /// Writes the payload as the next chunks of the upload.
    async fn chunk_write(&self, upload: &Upload, payload: Payload) -> Result<Written> {
        check_order(upload, payload.range)?;
        let hasher = upload.hasher.clone().ok_or_else(|| {
            Error::with_message(
                Code::BlobUploadInvalid,
                "the upload was begun by another version of this registry; begin it again",
            )
        })?;
        let account = &upload.repo.account;
        let writing = self.stream_write(account, hasher, upload.size_bytes, payload);
        let touch = || {
            let (id, now) = (upload.id, self.clock.now());
            self.db.write(move |conn| upload_touch(conn, id, now))
        };
        beating(self.settings.janitor.abandoned_uploads, touch, writing).await
    }

    /// Computes the digest of the bytes so far with another algorithm: some clients say only at the end
    /// that it is SHA-512.
    async fn rehash(&self, upload: &Upload, algorithm: Algorithm) -> Result<Hasher> {
        let mut hasher = Hasher::new(algorithm);
        let (id, tenant) = (upload.id, upload.repo.account.tenant());
        let places = || self.db.read(move |conn| upload_chunks(conn, id));
        let open = async |chunk: &Chunk| {
            let driver = self.backends.get(&chunk.storage)?;
            let key = ObjectKey::Chunk(chunk.object_id);
            Ok::<_, Error>(driver.read(&tenant, &key, None).await)
        };
        let mut chunks = places().await?;
        for number in 0..chunks.len() {
            let mut opened = open(&chunks[number]).await?;
            if let Err(StorageError::NotFound(_)) = opened {
                // The account moves, and the chunk has another place since we looked.
                chunks = places().await?;
                let chunk = chunks.get(number).ok_or_else(overtaken)?;
                opened = open(chunk).await?;
            }
            let mut content = opened?;
            while let Some(piece) = content.try_next().await.map_err(Error::unavailable)? {
                hasher.update(&piece);
            }
        }
        Ok(hasher)
    }

    /// The bytes are not what the client says: nothing of the upload is worth keeping.
    async fn refuse_upload(
        &self,
        upload: Upload,
        last: Vec<LooseObject>,
        expected: &Digest,
        actual: &Digest,
    ) -> Result<()> {
        let account = upload.repo.account.clone();
        let now = self.clock.now();
        let objects = self
            .db
            .write(move |conn| upload_cancel(conn, &upload, now))
            .await?;
        let mut objects = objects.unwrap_or_default();
        objects.extend(last);
        self.objects_delete(&account, objects).await;
        Err(wrong_digest(expected, actual))
    }

    /// Deletes the objects if the transaction that was to take them in surely failed. If the database broke
    /// in between, the commit may have happened all the same: then they must stay, and their notes, if they
    /// are still there, lead to them later.
    async fn delete_if_refused(
        &self,
        account: &Account,
        objects: Vec<LooseObject>,
        result: Result<()>,
    ) -> Result<()> {
        if result
            .as_ref()
            .is_err_and(|error| error.code().status() < 500 || error.code() == Code::Swept)
        {
            self.objects_delete(account, objects).await;
        }
        result
    }
}

/// Makes the last chunks of a blob belong to it, if it was stored, and turns what was reserved for the blob into what is
/// used; `before` are the bytes of its upload. It ends the transaction.
fn settle(
    conn: &mut Conn,
    account: &Account,
    (put, last): (BlobPut, &[Chunk]),
    before: u64,
) -> Result<()> {
    let mut change = Amounts::reserved(-as_i64(before));
    match put {
        BlobPut::Stored | BlobPut::Healed => {
            let size_bytes: u64 = last.iter().map(|chunk| chunk.size_bytes).sum();
            // Content that takes the place of broken content has been counted.
            if put == BlobPut::Stored {
                change.bytes = as_i64(before + size_bytes);
            }
            for chunk in last {
                change.reserved_bytes -= adopt(conn, chunk)?;
            }
        }
        BlobPut::Known => {
            let ids: Vec<Uuid> = last.iter().map(|chunk| chunk.object_id).collect();
            change.reserved_bytes -= loose_objects_unreserve(conn, &ids)?;
        }
    }
    quota_settle(conn, &account.name, &change)
}

/// Takes the note of a chunk away, and gives the bytes that were kept for it. If there is none, the chunk was taken for
/// rubbish, so it must not become part of anything.
fn adopt(conn: &mut Conn, chunk: &Chunk) -> Result<i64> {
    loose_object_adopt(conn, chunk.object_id)?.ok_or_else(|| Error::from(Code::Swept))
}

/// The range must begin where the upload ends. The upload stays as it is otherwise.
fn check_order(upload: &Upload, range: Option<UploadRange>) -> Result<()> {
    match range {
        Some(range) if range.start != upload.size_bytes => Err(Error::with_message(
            Code::RangeInvalid,
            format!(
                "the upload has {} bytes; the next range must begin there",
                upload.size_bytes
            ),
        )
        .with_header("Range", held_range(upload.size_bytes))),
        _ => Ok(()),
    }
}

/// The `Range` header of an upload. The specification has no form for an upload without bytes; this is
/// what other registries send.
pub fn held_range(size_bytes: u64) -> String {
    format!("0-{}", size_bytes.saturating_sub(1))
}

fn overtaken() -> Error {
    Error::with_message(
        Code::RangeInvalid,
        "another request has changed the upload; ask for its status and go on from there",
    )
}

fn wrong_digest(expected: &Digest, actual: &Digest) -> Error {
    Error::new(Code::DigestInvalid).with_detail(serde_json::json!({
        "expected": expected.as_str(),
        "actual": actual.as_str(),
    }))
}
