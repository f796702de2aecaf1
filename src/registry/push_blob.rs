//! Pushing a blob: start an upload, append chunks, finish; or all in one request.
//!
//! The digest's state lies in the upload's row, so each request may reach another node. Every request
//! that brings bytes writes one immutable object and then changes the row, if nobody else has changed
//! it since: of two requests that append at once, one is told 416 and its object is deleted.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use storage_drivers::{ByteStream, ObjectKey};

use super::{
    Registry,
    access::{Push, RepoAccess},
};
use crate::{
    db::{
        blobs::{BlobPut, Chunk, blob_put},
        loose_objects::{LooseObject, loose_object_forget},
        repos::repo_ensure,
        uploads::{
            Upload, loosen, upload_append, upload_cancel, upload_chunks, upload_find,
            upload_finish, upload_insert,
        },
    },
    error::{Code, Error, Result},
    ids::UploadId,
    model::account::Account,
    oci::{Algorithm, Digest, Hasher, UploadRange},
};

/// The bytes that a request brings.
pub struct Payload {
    /// The announced length.
    pub size: Option<u64>,
    /// Where they belong, if the client says.
    pub range: Option<UploadRange>,
    /// The bytes.
    pub body: ByteStream,
}

/// A chunk that lies in storage and is still loose, with the digest's state after it.
struct Written {
    chunk: Option<Chunk>,
    hasher: Hasher,
}

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
                let repo = repo_ensure(conn, &name)?;
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
        let written = self.chunk_write(&upload, payload).await?;
        let Some(chunk) = written.chunk else {
            return Ok(upload.size_bytes);
        };
        let size_bytes = upload.size_bytes + chunk.size_bytes;
        let (account, object) = (upload.repo.account.clone(), chunk_object(&chunk));
        let now = self.clock.now();
        let appended = self
            .db
            .write(move |conn| {
                if upload_append(conn, &upload, &chunk, &written.hasher, now)? {
                    return Ok(());
                }
                Err(overtaken())
            })
            .await;
        self.delete_if_refused(&account, object, appended).await?;
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
        let actual = written.hasher.finish();
        if actual != *digest {
            return self
                .refuse_upload(upload, written.chunk, digest, &actual)
                .await;
        }
        let object = written.chunk.as_ref().map(chunk_object);
        let (digest, now, last) = (digest.clone(), self.clock.now(), written.chunk);
        let finished = self
            .db
            .write(move |conn| {
                let mut chunks = upload_chunks(conn, upload.id)?;
                if !upload_finish(conn, &upload)? {
                    return Err(overtaken());
                }
                let stored_before = chunks.clone();
                chunks.extend(last.clone());
                if blob_put(conn, &upload.repo, &digest, &chunks, now)? == BlobPut::Known {
                    let mut objects = loosen(conn, &upload, stored_before, now)?;
                    objects.extend(last.as_ref().map(chunk_object));
                    return Ok(objects);
                }
                if let Some(chunk) = &last {
                    adopt(conn, chunk)?;
                }
                Ok(Vec::new())
            })
            .await;
        match (finished, object) {
            (Ok(unneeded), _) => {
                if !unneeded.is_empty() {
                    self.objects_delete(&account, unneeded).await;
                }
                Ok(())
            }
            (Err(error), Some(object)) => {
                self.delete_if_refused(&account, object, Err(error)).await
            }
            (Err(error), None) => Err(error),
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
        let name = access.name().clone();
        let repo = self.db.write(move |conn| repo_ensure(conn, &name)).await?;
        let account = repo.account.clone();
        let written = self
            .stream_write(&account, Hasher::new(digest.algorithm()), 0, payload)
            .await?;
        let actual = written.hasher.finish();
        let object = written.chunk.as_ref().map(chunk_object);
        if actual != *digest {
            self.objects_delete(&account, object.into_iter().collect())
                .await;
            return Err(wrong_digest(digest, &actual));
        }
        let (digest, now, chunks) = (
            digest.clone(),
            self.clock.now(),
            Vec::from_iter(written.chunk),
        );
        let put = self
            .db
            .write(move |conn| {
                let put = blob_put(conn, &repo, &digest, &chunks, now)?;
                if put == BlobPut::Stored {
                    for chunk in &chunks {
                        adopt(conn, chunk)?;
                    }
                }
                Ok(put)
            })
            .await;
        match (put, object) {
            (Ok(BlobPut::Known), Some(object)) => {
                self.objects_delete(&account, vec![object]).await;
                Ok(())
            }
            (Ok(_), _) => Ok(()),
            (Err(error), Some(object)) => {
                self.delete_if_refused(&account, object, Err(error)).await
            }
            (Err(error), None) => Err(error),
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

    /// Writes the payload as the next chunk of the upload.
    async fn chunk_write(&self, upload: &Upload, payload: Payload) -> Result<Written> {
        check_order(upload, payload.range)?;
        let hasher = upload.hasher.clone().ok_or_else(|| {
            Error::with_message(
                Code::BlobUploadInvalid,
                "the upload was begun by another version of this registry; begin it again",
            )
        })?;
        self.stream_write(&upload.repo.account, hasher, upload.size_bytes, payload)
            .await
    }

    /// Writes a payload as one object, hashing on the way; an empty payload makes no object.
    async fn stream_write(
        &self,
        account: &Account,
        hasher: Hasher,
        size_before: u64,
        payload: Payload,
    ) -> Result<Written> {
        let announced = announced_size(&payload)?;
        let room = self.settings.blob_bytes.saturating_sub(size_before);
        if announced.is_some_and(|size| size > room) {
            return Err(Error::new(Code::PayloadTooLarge));
        }
        let mut body = payload.body;
        // Whether there is anything is known only when the first piece is here.
        let first = loop {
            match body
                .try_next()
                .await
                .map_err(storage_drivers::StorageError::Body)?
            {
                Some(piece) if piece.is_empty() => {}
                other => break other,
            }
        };
        let Some(first) = first else {
            if let Some(expected) = announced.filter(|size| *size > 0) {
                let error = storage_drivers::StorageError::SizeMismatch {
                    expected,
                    actual: 0,
                };
                return Err(error.into());
            }
            return Ok(Written {
                chunk: None,
                hasher,
            });
        };
        let shared = Arc::new(Mutex::new(Some(hasher)));
        let body = stream::once(async move { Ok(first) }).chain(body);
        let body = hashed(body, Arc::clone(&shared), room);
        let object = LooseObject {
            key: ObjectKey::Chunk(self.ids.fresh()),
            storage: account.storage.clone(),
        };
        let size_bytes = self.object_write(account, &object, announced, body).await?;
        let hasher = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let hasher = hasher.ok_or_else(|| Error::internal("the hasher of an upload is gone"))?;
        let chunk = Chunk {
            object_id: object.key.id(),
            storage: object.storage,
            size_bytes,
        };
        Ok(Written {
            chunk: Some(chunk),
            hasher,
        })
    }

    /// Computes the digest of the bytes so far with another algorithm: some clients say only at the end
    /// that it is SHA-512.
    async fn rehash(&self, upload: &Upload, algorithm: Algorithm) -> Result<Hasher> {
        let mut hasher = Hasher::new(algorithm);
        let id = upload.id;
        let chunks = self.db.read(move |conn| upload_chunks(conn, id)).await?;
        let tenant = upload.repo.account.tenant();
        for chunk in chunks {
            let driver = self.backends.get(&chunk.storage)?;
            let key = ObjectKey::Chunk(chunk.object_id);
            let mut content = driver.read(&tenant, &key, None).await?;
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
        last: Option<Chunk>,
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
        objects.extend(last.as_ref().map(chunk_object));
        self.objects_delete(&account, objects).await;
        Err(wrong_digest(expected, actual))
    }

    /// Deletes the object if the transaction that was to take it in surely failed. If the database broke
    /// in between, the commit may have happened all the same: then the object must stay, and its note,
    /// if it is still there, leads to it later.
    async fn delete_if_refused(
        &self,
        account: &Account,
        object: LooseObject,
        result: Result<()>,
    ) -> Result<()> {
        if result
            .as_ref()
            .is_err_and(|error| error.code().status() < 500)
        {
            self.objects_delete(account, vec![object]).await;
        }
        result
    }
}

fn chunk_object(chunk: &Chunk) -> LooseObject {
    LooseObject {
        key: ObjectKey::Chunk(chunk.object_id),
        storage: chunk.storage.clone(),
    }
}

/// Takes the note of a chunk away. If there is none, the chunk was taken for rubbish and may be deleted
/// already, so it must not become part of anything.
fn adopt(conn: &mut crate::db::Conn, chunk: &Chunk) -> Result<()> {
    if loose_object_forget(conn, chunk.object_id)? {
        return Ok(());
    }
    Err(Error::unavailable(
        "a chunk was swept away before its upload ended",
    ))
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

/// The length that the headers announce; `Content-Range` and `Content-Length` must agree.
fn announced_size(payload: &Payload) -> Result<Option<u64>> {
    match (payload.range.map(|range| range.len()), payload.size) {
        (Some(range), Some(size)) if range != size => Err(Error::with_message(
            Code::SizeInvalid,
            format!("Content-Range covers {range} bytes but Content-Length is {size}"),
        )),
        (Some(range), _) => Ok(Some(range)),
        (None, size) => Ok(size),
    }
}

/// Passes the body on, hashes it, and breaks it off when it is larger than `room`.
fn hashed(
    body: impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static,
    hasher: Arc<Mutex<Option<Hasher>>>,
    room: u64,
) -> ByteStream {
    let mut size = 0_u64;
    body.map(move |piece| {
        let piece = piece?;
        size += piece.len() as u64;
        if size > room {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Some(hasher) = hasher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            hasher.update(&piece);
        }
        Ok(piece)
    })
    .boxed()
}
