//! Writing the bytes of one request as chunks, and hashing them on the way.
//!
//! A request makes one chunk, or several if it is longer than an object may be: object stores have a largest size.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, Fuse},
};
use storage_drivers::{ByteStream, ObjectKey, StorageError};

use uuid::Uuid;

use super::{Registry, loose_objects::Remover, reservation::Announced};
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

/// Chunks that lie in storage and are still loose, with the digest's state after them.
pub(super) struct Written {
    pub(super) chunks: Vec<Chunk>,
    pub(super) hasher: Hasher,
}

impl Written {
    pub(super) fn size_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.size_bytes).sum()
    }

    pub(super) fn objects(&self) -> Vec<LooseObject> {
        self.chunks.iter().map(chunk_object).collect()
    }
}

impl Registry {
    /// Writes a payload, hashing on the way; an empty payload makes no object.
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
        let shared = Arc::new(Mutex::new(Some(hasher)));
        let body = hashed(payload.body, Arc::clone(&shared), room);
        let mut chunks = Unfinished::new(self, account);
        // A failure, and a client that hangs up, take what was written with them.
        let written = self
            .chunks_write(account, announced, Source::new(body), &mut chunks)
            .await;
        let chunks = chunks.finished();
        if let Err(error) = written {
            let objects = chunks.iter().map(chunk_object).collect();
            self.objects_delete(account, objects).await;
            return Err(error);
        }
        let hasher = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let hasher = hasher.ok_or_else(|| Error::internal("the hasher of an upload is gone"))?;
        Ok(Written { chunks, hasher })
    }

    /// Cuts a body into objects.
    async fn chunks_write(
        &self,
        account: &Account,
        announced: Option<u64>,
        source: Source,
        unfinished: &mut Unfinished,
    ) -> Result<()> {
        let (source, limit) = (Arc::new(source), self.settings.chunk_bytes);
        let mut written = 0;
        // Whether there is anything is known only when the next piece is here.
        while let Some(ahead) = source.ahead().await.map_err(StorageError::Body)? {
            let left = announced.map(|size| size - written);
            if left == Some(0) {
                return Err(wrong_size(announced, written + ahead));
            }
            let object = LooseObject {
                key: ObjectKey::Chunk(self.ids.fresh()),
                storage: account.storage.clone(),
            };
            let size = left.map(|left| left.min(limit));
            let kept_for = match size {
                Some(size) => Announced::Exactly(size, ahead.min(size)),
                None => Announced::AtLeast(ahead.min(limit)),
            };
            let reservation = self.object_reserve(account, &object, kept_for).await?;
            let body = reservation.growing(source.part(limit));
            let writing = self.noted_object_write(account, &object, size, body);
            let result = self
                .kept_fresh(unfinished.ids(object.key.id()), writing)
                .await?;
            if let Some(refusal) = reservation.refusal() {
                return Err(refusal);
            }
            let size_bytes = result.map_err(|error| match error {
                StorageError::SizeMismatch { actual, .. } => {
                    wrong_size(announced, written + actual)
                }
                other => other.into(),
            })?;
            reservation.written();
            written += size_bytes;
            unfinished.chunks.push(Chunk {
                object_id: object.key.id(),
                storage: object.storage,
                size_bytes,
            });
        }
        match announced {
            Some(size) if size != written => Err(wrong_size(announced, written)),
            _ => Ok(()),
        }
    }
}

/// Chunks of a request that goes on; they are deleted if it does not come to its end.
struct Unfinished {
    chunks: Vec<Chunk>,
    remover: Remover,
}

impl Unfinished {
    fn new(registry: &Registry, account: &Account) -> Self {
        Self {
            chunks: Vec::new(),
            remover: registry.remover(account),
        }
    }

    /// The objects of the chunks so far, and of the one that is being written.
    fn ids(&self, now: Uuid) -> Vec<Uuid> {
        let written = self.chunks.iter().map(|chunk| chunk.object_id);
        written.chain([now]).collect()
    }

    fn finished(mut self) -> Vec<Chunk> {
        std::mem::take(&mut self.chunks)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let objects: Vec<LooseObject> = self.chunks.iter().map(chunk_object).collect();
        if !objects.is_empty() {
            self.remover.remove_in_background(objects);
        }
    }
}

fn wrong_size(announced: Option<u64>, actual: u64) -> Error {
    let expected = announced.unwrap_or(0);
    StorageError::SizeMismatch { expected, actual }.into()
}

/// A body from which several objects are written, one after the other.
struct Source(tokio::sync::Mutex<Rest>);

struct Rest {
    body: Fuse<ByteStream>,
    /// A piece that was taken from the body and belongs to the next object.
    held: Option<Bytes>,
}

impl Rest {
    /// The next piece that is not empty.
    async fn take(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(piece) = self.held.take() {
            return Ok(Some(piece));
        }
        while let Some(piece) = self.body.try_next().await? {
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

impl Source {
    fn new(body: ByteStream) -> Self {
        Self(tokio::sync::Mutex::new(Rest {
            body: body.fuse(),
            held: None,
        }))
    }

    /// The length of the piece that comes next, or `None` at the end.
    async fn ahead(&self) -> io::Result<Option<u64>> {
        let mut rest = self.0.lock().await;
        rest.held = rest.take().await?;
        Ok(rest.held.as_ref().map(|piece| piece.len() as u64))
    }

    /// The next bytes, `limit` at most.
    fn part(self: &Arc<Self>, limit: u64) -> ByteStream {
        let state = (Arc::clone(self), limit);
        stream::try_unfold(state, |(source, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let mut rest = source.0.lock().await;
            let Some(mut piece) = rest.take().await? else {
                return Ok(None);
            };
            if piece.len() as u64 > left {
                // It fits, since it is less than the piece's own length.
                rest.held = Some(piece.split_off(usize::try_from(left).unwrap_or(usize::MAX)));
            }
            let left = left - piece.len() as u64;
            drop(rest);
            Ok(Some((piece, (source, left))))
        })
        .boxed()
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
