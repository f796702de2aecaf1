//! Writes an object: a body of one part with one PUT, a longer one as an upload of parts. While a part is sent
//! the next one is gathered; OpenDAL keeps one more, so that a write needs memory for three parts.
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

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::{Either, select};
use opendal::options::WriteOptions;
use opendal::{Operator, Writer};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::failure::{At, Failure};
use crate::{ByteStream, ObjectKey, StorageError, StorageResult};

/// The name of the note that says which write has made an object.
const NOTE: &str = "kontor-write";
/// How often the removal of an object that nobody wants is tried.
const REMOVALS: u32 = 3;

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

    /// The next piece of the body that is not empty. Errors: `Body`, `SizeMismatch`.
    async fn piece(&mut self) -> StorageResult<Option<Bytes>> {
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
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) operator: Operator,
    pub(super) bucket: String,
    pub(super) key: ObjectKey,
    pub(super) options: WriteOptions,
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

/// What the task says, unless nobody listens.
type Outcome = oneshot::Sender<StorageResult<Stored>>;

/// Writes a whole body and returns its length in bytes.
pub(super) async fn object_write(mut target: Target, parts: Parts) -> StorageResult<u64> {
    let note = format!("{:016x}", RandomState::new().hash_one(target.key));
    target.options.user_metadata = Some([(NOTE.to_owned(), note)].into());
    let (mut outcome, result) = oneshot::channel();
    let task = async move {
        let stored = target.write(parts, &mut outcome).await;
        // If nobody takes it, it is dropped here or with the channel, and with it the object.
        drop(outcome.send(stored));
    };
    tokio::spawn(task.in_current_span());
    match result.await {
        Ok(stored) => Ok(stored?.keep()),
        Err(_) => Err(StorageError::temporary(
            "a write was given up because the server is shutting down",
        )),
    }
}

/// The next part, unless the client hangs up first.
async fn next_part(parts: &mut Parts, outcome: &mut Outcome) -> StorageResult<Part> {
    tokio::select! {
        part = parts.next() => part,
        () = outcome.closed() => Err(StorageError::Body(ErrorKind::ConnectionAborted.into())),
    }
}

impl Target {
    async fn write(self, mut parts: Parts, outcome: &mut Outcome) -> StorageResult<Stored> {
        // Without conditional writes, and for uploads, whose condition some servers ignore.
        let is_conditional = self.options.if_not_exists;
        let (first, is_last) = next_part(&mut parts, outcome).await?;
        if (!is_last || !is_conditional) && self.note().await?.is_some() {
            return Err(StorageError::AlreadyExists(self.key));
        }
        if is_last {
            self.put(first).await?;
        } else {
            self.upload(first, &mut parts, outcome).await?;
        }
        Ok(Stored {
            target: Some(self),
            size_bytes: parts.seen_bytes,
        })
    }

    async fn put(&self, body: Bytes) -> StorageResult<()> {
        let name = self.key.to_string();
        let options = self.options.clone();
        match self.operator.write_options(&name, body, options).await {
            Ok(_) => Ok(()),
            Err(e) => self.failed(e.into()).await,
        }
    }

    async fn upload(
        &self,
        first: Bytes,
        parts: &mut Parts,
        outcome: &mut Outcome,
    ) -> StorageResult<()> {
        let name = self.key.to_string();
        let options = self.options.clone();
        let mut writer = self
            .operator
            .writer_options(&name, options)
            .await
            .at(&self.bucket)?;
        let sent = match self.parts_send(&mut writer, first, parts, outcome).await {
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
                tracing::warn!(bucket = self.bucket, key = %self.key, %error, "could not abort an unfinished upload; it takes up space until the account is released or a lifecycle rule removes it");
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
        outcome: &mut Outcome,
    ) -> StorageResult<()> {
        let mut part = (first, false);
        loop {
            let (bytes, is_last) = part;
            let sending = pin!(writer.write(bytes));
            if is_last {
                return sending.await.at(&self.bucket);
            }
            part = match select(sending, pin!(next_part(parts, outcome))).await {
                Either::Left((sent, gathering)) => {
                    sent.at(&self.bucket)?;
                    gathering.await?
                }
                Either::Right((next, sending)) => {
                    sending.await.at(&self.bucket)?;
                    next?
                }
            };
        }
    }

    /// The note of the object that is there; empty if it has none.
    async fn note(&self) -> StorageResult<Option<String>> {
        match self.operator.stat(&self.key.to_string()).await {
            Ok(metadata) => {
                let notes = metadata.user_metadata();
                let note = notes.and_then(|notes| notes.get(NOTE).map(str::to_owned));
                Ok(Some(note.unwrap_or_default()))
            }
            Err(e) => match Failure::from(e) {
                failure if failure.is_missing() => Ok(None),
                failure => Err(failure.at(&self.bucket)),
            },
        }
    }

    /// The last request of a write has failed. It may have succeeded all the same.
    async fn failed(&self, failure: Failure) -> StorageResult<()> {
        if failure.is_conflict() || failure.is_temporary() || failure.is_missing() {
            let notes = self.options.user_metadata.as_ref();
            let own = notes.and_then(|notes| notes.get(NOTE));
            match self.note().await {
                Ok(Some(note)) if own == Some(&note) => return Ok(()),
                Ok(Some(_)) => return Err(StorageError::AlreadyExists(self.key)),
                // Nobody knows whether the first request has stored it.
                Err(unknown) => return Err(unknown),
                Ok(None) => {}
            }
        }
        if failure.is_conflict() {
            return Err(StorageError::AlreadyExists(self.key));
        }
        Err(failure.at(&self.bucket))
    }

    async fn remove(&self) {
        let name = self.key.to_string();
        for left in (0..REMOVALS).rev() {
            match self.operator.delete(&name).await.map_err(Failure::from) {
                Ok(()) => return,
                Err(failure) if failure.is_missing() => return,
                Err(error) if left == 0 || !error.is_worth_a_retry() => {
                    tracing::warn!(bucket = self.bucket, key = %self.key, %error, "could not remove an object whose client has gone; the sweep will");
                    return;
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
            }
        }
    }
}
