//! Writes an object. A body whose length is announced goes out in one PUT as it comes in (see `stream`), any other in
//! one PUT if it fits into a part, and as an upload of parts if not. While a part is sent the next one is gathered;
//! OpenDAL keeps one more, so that an upload needs memory for three parts.
//!
//! A write runs in a task of its own, which goes on when the client hangs up: a request that is dropped half-way
//! may still make an object, and nobody would know. The task always comes to an end that it knows, and then
//! the object is given to the client or, if there is none any more, removed.
//!
//! What a newcomer will get wrong: a request that fails may have succeeded, if only its answer was lost. So every
//! object carries a random note of the write that made it, and a failed write looks for its own.

use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::{Either, select};
use opendal::options::WriteOptions;
use opendal::{Operator, Writer};
use tokio::runtime::Handle;

use super::failure::{At, Failure};
use super::names::Container;
use super::server::Server;
use crate::detached::{Caller, detached};
use crate::{ByteStream, ObjectKey, StorageError, StorageResult};

/// The name of the note that says which write has made an object.
pub(super) const NOTE: &str = "kontor-write";
/// How often the removal of an object that nobody wants is tried.
const REMOVALS: u32 = 3;
/// The largest object that S3 takes in one request.
const MAX_PUT_BYTES: u64 = 5 << 30;

/// A body, cut into parts and held to its announced length.
pub(super) struct Parts {
    body: ByteStream,
    size: Option<u64>,
    part_bytes: usize,
    seen_bytes: u64,
    /// The beginning of the next part; empty at first and at the end.
    rest: Bytes,
}

/// A part and whether it is the last.
type Part = (Bytes, bool);

impl Parts {
    pub(super) fn new(size: Option<u64>, part_bytes: usize, body: ByteStream) -> Self {
        Self {
            body,
            size,
            part_bytes,
            seen_bytes: 0,
            rest: Bytes::new(),
        }
    }

    /// Whether the announced length is reached.
    pub(super) fn is_complete(&self) -> bool {
        self.size == Some(self.seen_bytes)
    }

    /// The next piece of the body that is not empty. Errors: `Body`, `SizeMismatch`.
    pub(super) async fn piece(&mut self) -> StorageResult<Option<Bytes>> {
        loop {
            let Some(piece) = self.body.next().await else {
                return match self.size.filter(|size| self.seen_bytes < *size) {
                    Some(expected) => Err(self.mismatch(expected)),
                    None => Ok(None),
                };
            };
            let piece = piece.map_err(StorageError::Body)?;
            self.seen_bytes += piece.len() as u64;
            if let Some(expected) = self.size.filter(|size| self.seen_bytes > *size) {
                return Err(self.mismatch(expected));
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    /// The next part. It is copied together, because pieces of a few bytes may hold on to large buffers.
    async fn next(&mut self) -> StorageResult<Part> {
        let announced = self.size.map_or(0, |size| size - self.seen_bytes);
        let room = usize::try_from(announced).unwrap_or(usize::MAX);
        let mut part = BytesMut::with_capacity(room.min(self.part_bytes));
        loop {
            let missing = self.part_bytes - part.len();
            let piece = self.rest.split_to(missing.min(self.rest.len()));
            part.extend_from_slice(&piece);
            if self.rest.is_empty() {
                match self.piece().await? {
                    Some(piece) => self.rest = piece,
                    None => return Ok((part.freeze(), true)),
                }
            } else {
                return Ok((part.freeze(), false));
            }
        }
    }

    fn mismatch(&self, expected: u64) -> StorageError {
        StorageError::SizeMismatch {
            expected,
            actual: self.seen_bytes,
        }
    }
}

/// Where a new object goes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) server: Arc<Server>,
    pub(super) container: Container,
    pub(super) key: ObjectKey,
    operator: Operator,
    /// Which write this is.
    pub(super) note: String,
}

/// An object that was stored, and is removed unless somebody takes it.
#[derive(Debug)]
struct Stored {
    target: Option<Target>,
    size_bytes: u64,
}

impl Stored {
    fn keep(mut self) -> u64 {
        self.target = None;
        self.size_bytes
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let (Some(target), Ok(runtime)) = (self.target.take(), Handle::try_current()) {
            runtime.spawn(async move { target.remove().await });
        }
    }
}

/// Writes a whole body and returns its length in bytes.
pub(super) async fn object_write(target: Target, parts: Parts) -> StorageResult<u64> {
    // If nobody takes it from the task, it is dropped, and with it the object.
    let stored = detached(|caller| target.write(parts, caller)).await?;
    Ok(stored.keep())
}

/// What the caller would have been told if it were still there.
pub(super) fn caller_gone() -> StorageError {
    StorageError::Body(ErrorKind::ConnectionAborted.into())
}

/// The next part, unless the client hangs up first.
async fn next_part(parts: &mut Parts, caller: &mut Caller) -> StorageResult<Part> {
    tokio::select! {
        part = parts.next() => part,
        () = caller.gone() => Err(caller_gone()),
    }
}

impl Target {
    pub(super) fn new(
        server: &Arc<Server>,
        container: Container,
        key: ObjectKey,
    ) -> StorageResult<Self> {
        Ok(Self {
            server: Arc::clone(server),
            operator: server.operator(&container)?,
            container,
            key,
            note: format!("{:016x}", RandomState::new().hash_one(key)),
        })
    }

    fn options(&self) -> WriteOptions {
        WriteOptions {
            user_metadata: Some([(NOTE.to_owned(), self.note.clone())].into()),
            ..self.server.write_options()
        }
    }

    async fn write(self, mut parts: Parts, mut caller: Caller) -> StorageResult<Stored> {
        match parts.size {
            Some(size) if self.is_streamed(size) => {
                self.stream(size, &mut parts, &mut caller).await?;
            }
            _ => self.collected(&mut parts, &mut caller).await?,
        }
        Ok(Stored {
            target: Some(self),
            size_bytes: parts.seen_bytes,
        })
    }

    /// A short body is collected, since it can be sent again then; a checksum must be known before the body.
    fn is_streamed(&self, size: u64) -> bool {
        let config = &self.server.config;
        config.checksum_algorithm.is_none()
            && (config.part_bytes as u64 + 1..=MAX_PUT_BYTES).contains(&size)
    }

    async fn collected(&self, parts: &mut Parts, caller: &mut Caller) -> StorageResult<()> {
        let (first, is_last) = next_part(parts, caller).await?;
        // Some servers ignore the condition of uploads.
        if !is_last || !self.server.config.conditional_writes {
            self.free_check().await?;
        }
        if is_last {
            self.put(first).await
        } else {
            self.upload(first, parts, caller).await
        }
    }

    /// Errors: `AlreadyExists`.
    pub(super) async fn free_check(&self) -> StorageResult<()> {
        match self.note().await? {
            Some(_) => Err(StorageError::AlreadyExists(self.key)),
            None => Ok(()),
        }
    }

    async fn put(&self, body: Bytes) -> StorageResult<()> {
        let name = self.key.to_string();
        let options = self.options();
        match self.operator.write_options(&name, body, options).await {
            Ok(_) => Ok(()),
            Err(e) => self.failed(e.into()).await,
        }
    }

    async fn upload(
        &self,
        first: Bytes,
        parts: &mut Parts,
        caller: &mut Caller,
    ) -> StorageResult<()> {
        let name = self.key.to_string();
        let options = self.options();
        let mut writer = self
            .operator
            .writer_options(&name, options)
            .await
            .at(&self.container.bucket)?;
        let sent = match self.parts_send(&mut writer, first, parts, caller).await {
            Ok(()) => match writer.close().await {
                Ok(_) => return Ok(()),
                Err(e) => self.failed(e.into()).await,
            },
            Err(error) => Err(error),
        };
        if sent.is_err()
            && let Err(e) = writer.abort().await
        {
            let error = Failure::from(e);
            if !error.is_missing() {
                tracing::warn!(bucket = self.container.bucket, key = %self.key, %error, "could not abort an unfinished upload; it takes up space until the account is released or a lifecycle rule removes it");
            }
        }
        sent
    }

    /// Hands all parts to the writer. A part that fails is reported at once, however slow the client; a body
    /// that fails waits for the part before it.
    async fn parts_send(
        &self,
        writer: &mut Writer,
        first: Bytes,
        parts: &mut Parts,
        caller: &mut Caller,
    ) -> StorageResult<()> {
        let mut part = (first, false);
        loop {
            let (bytes, is_last) = part;
            let sending = pin!(writer.write(bytes));
            if is_last {
                return sending.await.at(&self.container.bucket);
            }
            part = match select(sending, pin!(next_part(parts, caller))).await {
                Either::Left((sent, gathering)) => {
                    sent.at(&self.container.bucket)?;
                    gathering.await?
                }
                Either::Right((next, sending)) => {
                    sending.await.at(&self.container.bucket)?;
                    next?
                }
            };
        }
    }

    /// The note of the object that is there; empty if it has none.
    pub(super) async fn note(&self) -> StorageResult<Option<String>> {
        match self.operator.stat(&self.key.to_string()).await {
            Ok(metadata) => {
                let notes = metadata.user_metadata();
                let note = notes.and_then(|notes| notes.get(NOTE).map(str::to_owned));
                Ok(Some(note.unwrap_or_default()))
            }
            Err(e) => match Failure::from(e) {
                failure if failure.is_missing() => Ok(None),
                failure => Err(failure.at(&self.container.bucket)),
            },
        }
    }

    /// The last request of a write has failed. It may have succeeded all the same.
    pub(super) async fn failed(&self, failure: Failure) -> StorageResult<()> {
        if failure.is_conflict() || failure.is_temporary() || failure.is_missing() {
            match self.note().await {
                Ok(Some(note)) if note == self.note => return Ok(()),
                Ok(Some(_)) => return Err(StorageError::AlreadyExists(self.key)),
                // Nobody knows whether the first request has stored it.
                Err(unknown) => return Err(unknown),
                Ok(None) => {}
            }
        }
        if failure.is_conflict() {
            return Err(StorageError::AlreadyExists(self.key));
        }
        Err(failure.at(&self.container.bucket))
    }

    pub(super) async fn remove(&self) {
        let name = self.key.to_string();
        for left in (0..REMOVALS).rev() {
            match self.operator.delete(&name).await.map_err(Failure::from) {
                Ok(()) => return,
                Err(failure) if failure.is_missing() => return,
                Err(error) if left == 0 || !error.is_worth_a_retry() => {
                    tracing::warn!(bucket = self.container.bucket, key = %self.key, %error, "could not remove an object whose client has gone; the sweep will");
                    return;
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
            }
        }
    }
}
