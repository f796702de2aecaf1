//! A decorator for any driver: measures every call, limits how many run at once, and retries what is safe to
//! retry.
//!
//! The limit is a bulkhead: a backend that hangs takes the slots of its own and no others. A write holds its
//! slot until the object is stored. A read holds it only until the stream is returned, because a client that
//! takes its time must not keep others from the backend; how many streams are open is for the server to limit.
//! `check` takes no slot: a busy backend is not a broken one.
//!
//! What a newcomer will get wrong: a write cannot be retried, since its body is gone after the first attempt.
//! Nor may it retry when the disk is full: that does not pass in a second.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::Instrument;
use url::Url;

use crate::{
    ByteStream, ObjectKey, Op, StorageDriver, StorageError, StorageResult, StoredObject, Tenant,
};

/// The waits before the second and the third attempt.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(120)];

/// Is told about every call when it has ended.
pub trait Observer: Send + Sync + 'static {
    /// `outcome` is `ok`, `dropped` (the caller went away) or [`StorageError::label`]. `seconds` includes the
    /// wait for a slot and all attempts. Called on the caller's task: it must not block.
    fn observe(&self, backend: &str, op: &'static str, outcome: &'static str, seconds: f64);
}

/// How much of a backend may be used at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many calls may run at once.
    pub max_calls: usize,
    /// How long a call waits for its turn before it fails with a temporary error.
    pub max_wait: Duration,
    /// How long an attempt may take before it fails with a temporary error. A write is not bounded, since it takes
    /// as long as its client, nor is the counting of bytes; the drivers see to it that a backend that stands still
    /// ends those.
    pub max_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_calls: 256,
            max_wait: Duration::from_secs(10),
            max_time: Duration::from_secs(60),
        }
    }
}

/// A driver that is observed, limited and retried. `backend` is its name in metrics and logs.
pub struct ObservedDriver {
    inner: Arc<dyn StorageDriver>,
    backend: String,
    limits: Limits,
    slots: Semaphore,
    observer: Arc<dyn Observer>,
}

impl fmt::Debug for ObservedDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedDriver")
            .field("inner", &self.inner)
            .field("backend", &self.backend)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Reports a call when it is dropped, so that one whose client hung up is counted too.
struct Report<'a> {
    driver: &'a ObservedDriver,
    op: Op,
    started: Instant,
    outcome: &'static str,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        let (backend, op, outcome) = (&self.driver.backend, self.op.name(), self.outcome);
        tracing::debug!(backend, op, outcome, seconds, "a storage call has ended");
        self.driver.observer.observe(backend, op, outcome, seconds);
    }
}

impl ObservedDriver {
    /// Wraps a driver.
    pub fn new(
        inner: Arc<dyn StorageDriver>,
        backend: impl Into<String>,
        limits: Limits,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            inner,
            backend: backend.into(),
            limits,
            slots: Semaphore::new(limits.max_calls.clamp(1, Semaphore::MAX_PERMITS)),
            observer,
        }
    }

    async fn slot(&self) -> StorageResult<SemaphorePermit<'_>> {
        match tokio::time::timeout(self.limits.max_wait, self.slots.acquire()).await {
            Ok(Ok(slot)) => Ok(slot),
            // The semaphore is never closed, so this is the timeout.
            _ => Err(StorageError::temporary(format!(
                "all {} slots of storage backend {} were taken for {:?}; it is slow or the limit too low",
                self.limits.max_calls, self.backend, self.limits.max_wait
            ))),
        }
    }

    async fn observed<T>(
        &self,
        op: Op,
        call: impl Future<Output = StorageResult<T>>,
    ) -> StorageResult<T> {
        let mut report = Report {
            driver: self,
            op,
            started: Instant::now(),
            outcome: "dropped",
        };
        let span = tracing::debug_span!("storage", backend = self.backend, op = op.name());
        let result = call.instrument(span).await;
        report.outcome = result.as_ref().map_or_else(StorageError::label, |_| "ok");
        result
    }

    /// One attempt.
    async fn once<T>(
        &self,
        op: Op,
        call: impl Future<Output = StorageResult<T>>,
    ) -> StorageResult<T> {
        self.observed(op, async {
            let _slot = self.slot().await?;
            self.bounded(op, call).await
        })
        .await
    }

    /// Ends an attempt that takes too long.
    async fn bounded<T>(
        &self,
        op: Op,
        call: impl Future<Output = StorageResult<T>>,
    ) -> StorageResult<T> {
        if matches!(op, Op::Write | Op::UsedBytes) {
            return call.await;
        }
        let max_time = self.limits.max_time;
        tokio::time::timeout(max_time, call)
            .await
            .unwrap_or_else(|_| {
                let (backend, op) = (&self.backend, op.name());
                Err(StorageError::temporary(format!(
                    "storage backend {backend} did not end a {op} within {max_time:?}"
                )))
            })
    }

    /// Up to three attempts. The slot is given back between them.
    async fn retried<T, F>(&self, op: Op, call: impl Fn() -> F) -> StorageResult<T>
    where
        F: Future<Output = StorageResult<T>>,
    {
        self.observed(op, async {
            for wait in RETRY_AFTER {
                let slot = self.slot().await?;
                match self.bounded(op, call()).await {
                    Err(StorageError::Backend { temporary: true, source }) => {
                        tracing::debug!(backend = self.backend, op = op.name(), error = %source, "retrying a storage call");
                    }
                    result => return result,
                }
                drop(slot);
                tokio::time::sleep(wait).await;
            }
            let _slot = self.slot().await?;
            self.bounded(op, call()).await
        })
        .await
    }
}

#[async_trait]
impl StorageDriver for ObservedDriver {
    async fn write(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        size: Option<u64>,
        body: ByteStream,
    ) -> StorageResult<u64> {
        self.once(Op::Write, self.inner.write(tenant, key, size, body))
            .await
    }

    async fn read(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> StorageResult<ByteStream> {
        self.retried(Op::Read, || self.inner.read(tenant, key, range.clone()))
            .await
    }

    async fn delete(&self, tenant: &Tenant, key: &ObjectKey) -> StorageResult<()> {
        self.retried(Op::Delete, || self.inner.delete(tenant, key))
            .await
    }

    async fn list(
        &self,
        tenant: &Tenant,
    ) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>> {
        self.once(Op::List, self.inner.list(tenant)).await
    }

    async fn download_url(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        valid_for: Duration,
    ) -> StorageResult<Option<Url>> {
        self.retried(Op::DownloadUrl, || {
            self.inner.download_url(tenant, key, valid_for)
        })
        .await
    }

    async fn used_bytes(&self, tenant: &Tenant) -> StorageResult<u64> {
        self.retried(Op::UsedBytes, || self.inner.used_bytes(tenant))
            .await
    }

    async fn prepare_account(&self, tenant: &Tenant) -> StorageResult<()> {
        self.retried(Op::PrepareAccount, || self.inner.prepare_account(tenant))
            .await
    }

    async fn release_account(&self, tenant: &Tenant) -> StorageResult<()> {
        self.retried(Op::ReleaseAccount, || self.inner.release_account(tenant))
            .await
    }

    async fn check(&self) -> StorageResult<()> {
        self.observed(Op::Check, self.bounded(Op::Check, self.inner.check()))
            .await
    }
}
