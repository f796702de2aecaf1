//! Work that runs to its end though the one who asked for it has gone away.
//!
//! A future that is dropped stops at once, wherever it was. What has to be undone then is undone by a task that
//! goes on by itself and learns that nobody waits any more.

use std::future::Future;

use tokio::sync::oneshot;
use tokio::task::JoinError;
use tracing::Instrument;

use crate::{StorageError, StorageResult};

/// The one who waits for the work.
#[derive(Debug)]
pub(crate) struct Caller(oneshot::Receiver<()>);

impl Caller {
    /// Returns when nobody waits any more. May be called again.
    pub(crate) async fn gone(&mut self) {
        // Nothing is ever sent: this ends when the other side is dropped.
        let _ = (&mut self.0).await;
    }
}

/// Runs `work` in a task of its own and waits for it.
pub(crate) async fn detached<T, F>(work: impl FnOnce(Caller) -> F) -> StorageResult<T>
where
    T: Send + 'static,
    F: Future<Output = StorageResult<T>> + Send + 'static,
{
    let (_waits, gone) = oneshot::channel::<()>();
    let task = work(Caller(gone)).in_current_span();
    joined(tokio::spawn(task).await)
}

/// The outcome of a task or a blocking hop. One that did not end means a bug or a runtime that is shutting down.
pub(crate) fn joined<T>(outcome: Result<StorageResult<T>, JoinError>) -> StorageResult<T> {
    outcome.unwrap_or_else(|e| {
        Err(StorageError::Backend {
            temporary: e.is_cancelled(),
            source: Box::new(e),
        })
    })
}
