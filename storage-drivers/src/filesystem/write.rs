//! Writes an object: the body is gathered into batches, and every batch costs one blocking hop. While one batch
//! is written, the next one is gathered, so memory holds two of them and the last piece of the body.
//!
//! The file is made under its final name, exclusively, so that a crash leaves only what `list` shows. It is
//! owned by a [`NewObject`] that removes it unless it is kept. That value moves into the hops and comes back
//! from them: if the future is dropped meanwhile, the runtime drops the hop's result and the file with it, and
//! as only the first hop makes a file, no later one can bring it back.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{Either, select};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Unlink;
use super::layout::Layout;
use crate::detached::joined;
use crate::{ByteStream, ObjectKey, StorageError, StorageResult, Tenant};

/// A batch is full with this many bytes: one hop then costs little beside the copy into the page cache.
pub(super) const BATCH_BYTES: u64 = 256 * 1024;
/// Or with this many pieces: Linux takes no more in one call, and tiny pieces cost more memory than they hold.
const BATCH_PIECES: usize = 1024;

/// Pieces of a body that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pieces: Vec<Bytes>,
    is_last: bool,
}

/// A body, gathered into batches and held to its announced length.
pub(super) struct Batches {
    body: ByteStream,
    size: Option<u64>,
    seen_bytes: u64,
}

impl Batches {
    pub(super) fn new(size: Option<u64>, body: ByteStream) -> Self {
        Self {
            body,
            size,
            seen_bytes: 0,
        }
    }

    /// The next batch. Errors: `Body`, `SizeMismatch`.
    async fn next(&mut self) -> StorageResult<Batch> {
        let mut batch = Batch::default();
        let full_at = self.seen_bytes + BATCH_BYTES;
        while self.seen_bytes < full_at && batch.pieces.len() < BATCH_PIECES {
            let Some(piece) = self.body.next().await else {
                batch.is_last = true;
                break;
            };
            let piece = piece.map_err(StorageError::Body)?;
            self.seen_bytes += piece.len() as u64;
            if let Some(expected) = self.size.filter(|size| self.seen_bytes > *size) {
                return Err(self.mismatch(expected));
            }
            if !piece.is_empty() {
                batch.pieces.push(piece);
            }
        }
        match self.size {
            Some(expected) if batch.is_last && self.seen_bytes < expected => {
                Err(self.mismatch(expected))
            }
            _ => Ok(batch),
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
    pub(super) layout: Arc<Layout>,
    pub(super) tenant: Tenant,
    pub(super) key: ObjectKey,
}

/// A file that is being written, and is removed unless it is kept.
#[derive(Debug)]
struct NewObject {
    layout: Arc<Layout>,
    file: File,
    path: PathBuf,
    partial: Option<Unlink>,
}

impl NewObject {
    /// Makes the file, unless `caller` is gone: a hop waits in a queue, and one that comes late must not make what
    /// it would only have to remove again.
    fn create(target: Target, caller: &Weak<()>) -> StorageResult<Self> {
        if caller.strong_count() == 0 {
            return Err(StorageError::Body(ErrorKind::ConnectionAborted.into()));
        }
        let (file, path) = target.layout.object_create(&target.tenant, target.key)?;
        Ok(Self {
            layout: target.layout,
            file,
            partial: Some(Unlink(Some(path.clone()))),
            path,
        })
    }

    /// Writes a batch, and makes the object durable if it is the last. On error the file is gone.
    fn append(mut self, batch: &Batch) -> StorageResult<Self> {
        let outcome = pieces_write(&mut self.file, &batch.pieces)
            .and_then(|()| if batch.is_last { self.sync() } else { Ok(()) });
        match outcome {
            Ok(()) => Ok(self),
            Err(e) => {
                let error = StorageError::from_io(e, &self.layout.root);
                self.discard(error)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        if self.layout.fsync {
            self.file.sync_all()?;
        }
        match self.path.parent() {
            Some(folder) => self.layout.dir_sync(folder),
            None => Ok(()),
        }
    }

    /// Removes the file at once and passes on why. Blocks.
    fn discard<T>(mut self, error: StorageError) -> StorageResult<T> {
        drop(self.partial.take());
        Err(error)
    }

    /// Lets the file stay.
    fn keep(mut self) {
        if let Some(partial) = self.partial.take() {
            partial.disarm();
        }
    }
}

impl Drop for NewObject {
    fn drop(&mut self) {
        let Some(partial) = self.partial.take() else {
            return;
        };
        // The client hung up, and this may be a thread of the runtime: removing a large file takes a while. If
        // the runtime is shutting down, it drops the closure instead of running it, which removes the file too.
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn_blocking(move || drop(partial)));
        }
    }
}

fn pieces_write(file: &mut File, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes a whole body and returns its length in bytes. A body of one batch costs one hop.
pub(super) async fn object_write(target: Target, mut body: Batches) -> StorageResult<u64> {
    let first = body.next().await?;
    let mut is_last = first.is_last;
    // Dropped with this future.
    let alive = Arc::new(());
    let caller = Arc::downgrade(&alive);
    let mut step = spawn_blocking(move || NewObject::create(target, &caller)?.append(&first));
    while !is_last {
        let (object, next) = step_and_next(step, &mut body).await?;
        let batch = match next {
            Ok(batch) => batch,
            Err(e) => return joined(spawn_blocking(move || object.discard(e)).await),
        };
        is_last = batch.is_last;
        step = spawn_blocking(move || object.append(&batch));
    }
    // Kept here and not in the hop: if nobody waits for the result any more, the object must go.
    joined(step.await)?.keep();
    Ok(body.seen_bytes)
}

/// Waits for a hop and gathers the next batch meanwhile. A hop that fails (the disk is full) is reported at
/// once, however slow the client; a body that fails waits for the hop, whose file must be removed.
async fn step_and_next(
    step: JoinHandle<StorageResult<NewObject>>,
    body: &mut Batches,
) -> StorageResult<(NewObject, StorageResult<Batch>)> {
    match select(step, pin!(body.next())).await {
        Either::Left((object, gathering)) => {
            let object = joined(object)?;
            Ok((object, gathering.await))
        }
        Either::Right((next, step)) => Ok((joined(step.await)?, next)),
    }
}
