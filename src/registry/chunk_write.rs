//! Writing the bytes of one request as a chunk, and hashing them on the way.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use storage_drivers::{ByteStream, ObjectKey, StorageError};

use super::Registry;
use crate::{
    db::{blobs::Chunk, loose_objects::LooseObject},
    error::{Code, Error, Result},
    model::account::Account,
    oci::{Hasher, UploadRange},
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
pub(super) struct Written {
    pub(super) chunk: Option<Chunk>,
    pub(super) hasher: Hasher,
}

impl Registry {
    /// Writes a payload as one object, hashing on the way; an empty payload makes no object.
    pub(super) async fn stream_write(
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
            match body.try_next().await.map_err(StorageError::Body)? {
                Some(piece) if piece.is_empty() => {}
                other => break other,
            }
        };
        let Some(first) = first else {
            if let Some(expected) = announced.filter(|size| *size > 0) {
                let error = StorageError::SizeMismatch {
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
}

/// A chunk that belongs to nothing.
pub(super) fn chunk_object(chunk: &Chunk) -> LooseObject {
    LooseObject {
        key: ObjectKey::Chunk(chunk.object_id),
        storage: chunk.storage.clone(),
    }
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
