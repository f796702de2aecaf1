//! A decorator for tests: fails, cuts and delays calls on command, and counts them.
//!
//! Everything is deterministic: faults come in the order they were asked for, and a delay lasts until the test
//! ends it, never for a time.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;
use url::Url;

use crate::{
    ByteStream, ObjectKey, Op, StorageDriver, StorageError, StorageResult, StoredObject, Tenant,
};

/// How a call fails. The inner driver is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// [`StorageError::Full`]
    Full,
    /// [`StorageError::ReadOnly`]
    ReadOnly,
    /// [`StorageError::Backend`] that may pass by itself.
    Temporary,
    /// [`StorageError::Backend`] that does not pass by itself.
    Permanent,
}

impl Fault {
    fn error(self) -> StorageError {
        let place = || "faulty storage".to_owned();
        match self {
            Self::Full => StorageError::Full { place: place() },
            Self::ReadOnly => StorageError::ReadOnly { place: place() },
            Self::Temporary => StorageError::temporary("injected temporary fault"),
            Self::Permanent => StorageError::permanent("injected permanent fault"),
        }
    }
}

#[derive(Debug, Default)]
struct Plan {
    /// For each operation: what becomes of the coming calls, soonest first: of how many calls, and their fault.
    faults: HashMap<Op, Vec<(u32, Option<Fault>)>>,
    /// For each operation: what its calls wait for.
    gates: HashMap<Op, watch::Receiver<bool>>,
    /// After how many bytes the bodies of the coming reads break off, soonest first; `None` is not at all.
    cuts: Vec<Option<u64>>,
}

/// The test's handle on a [`FaultyDriver`]. Clones share one state.
#[derive(Debug, Clone)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
    calls: watch::Sender<HashMap<Op, u64>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            plan: Arc::default(),
            calls: watch::Sender::new(HashMap::new()),
        }
    }
}

/// Holds calls back until it is opened or dropped.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// Lets all calls pass, those that wait and those to come.
    pub fn open(self) {
        self.0.send_replace(true);
    }
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next `calls` calls of `op` fail, after those that were ordered to fail before.
    pub fn fail_next(&self, op: Op, calls: u32, fault: Fault) {
        self.order(op, calls, Some(fault));
    }

    /// Lets the next `calls` calls of `op` pass, after those that faults were ordered for before. What is ordered
    /// next is for the calls after them.
    pub fn pass_next(&self, op: Op, calls: u32) {
        self.order(op, calls, None);
    }

    fn order(&self, op: Op, calls: u32, fault: Option<Fault>) {
        if calls > 0 {
            self.plan()
                .faults
                .entry(op)
                .or_default()
                .push((calls, fault));
        }
    }

    /// Makes the body of the next successful read break off after `bytes` bytes.
    pub fn cut_next_read(&self, bytes: u64) {
        self.plan().cuts.push(Some(bytes));
    }

    /// Lets the bodies of the next `reads` successful reads come whole, after those that were ordered to break off
    /// before. What is ordered next is for the reads after them.
    pub fn spare_next_reads(&self, reads: u32) {
        self.plan().cuts.extend((0..reads).map(|_| None));
    }

    /// Takes back the orders that have not come about yet.
    pub fn clear(&self) {
        let mut plan = self.plan();
        plan.faults.clear();
        plan.cuts.clear();
    }

    /// Makes calls of `op` wait until the gate is opened. They are counted when they arrive.
    #[must_use = "a dropped gate is open"]
    pub fn hold(&self, op: Op) -> Gate {
        let (gate, receiver) = watch::channel(false);
        self.plan().gates.insert(op, receiver);
        Gate(gate)
    }

    /// How many calls of `op` have arrived.
    pub fn calls(&self, op: Op) -> u64 {
        self.calls.borrow().get(&op).copied().unwrap_or(0)
    }

    /// Waits until `calls` calls of `op` have arrived since the beginning.
    pub async fn calls_reached(&self, op: Op, calls: u64) {
        let reached = |seen: &HashMap<Op, u64>| seen.get(&op).is_some_and(|n| *n >= calls);
        // It cannot fail: the sender lives as long as we do.
        let _ = self.calls.subscribe().wait_for(reached).await;
    }

    async fn arrive(&self, op: Op) -> StorageResult<()> {
        // Before it is counted: whoever sees the count may set another gate, which is for the next call.
        let gate = self.plan().gates.get(&op).cloned();
        self.calls
            .send_modify(|calls| *calls.entry(op).or_default() += 1);
        if let Some(mut gate) = gate {
            // An error means that the gate was dropped, which opens it.
            let _ = gate.wait_for(|is_open| *is_open).await;
        }
        match self.fault_take(op) {
            Some(fault) => Err(fault.error()),
            None => Ok(()),
        }
    }

    fn fault_take(&self, op: Op) -> Option<Fault> {
        let mut plan = self.plan();
        let faults = plan.faults.get_mut(&op)?;
        let (calls, fault) = faults.first_mut()?;
        let fault = *fault;
        *calls -= 1;
        if *calls == 0 {
            faults.remove(0);
        }
        fault
    }

    fn cut_take(&self) -> Option<u64> {
        let mut plan = self.plan();
        if plan.cuts.is_empty() {
            return None;
        }
        plan.cuts.remove(0)
    }
}

/// A driver that does as its [`Faults`] say, and otherwise as the inner driver.
#[derive(Debug)]
pub struct FaultyDriver {
    inner: Arc<dyn StorageDriver>,
    faults: Faults,
}

impl FaultyDriver {
    /// Wraps a driver and returns the handle with it.
    pub fn wrap(inner: Arc<dyn StorageDriver>) -> (Arc<dyn StorageDriver>, Faults) {
        let faults = Faults::default();
        let driver = Self {
            inner,
            faults: faults.clone(),
        };
        (Arc::new(driver), faults)
    }
}

/// Passes on `bytes` bytes and then an error.
fn body_cut(body: ByteStream, bytes: u64) -> ByteStream {
    stream::unfold(Some((body, bytes)), |state| async move {
        let (mut body, left) = state?;
        let broken = || io::Error::new(io::ErrorKind::ConnectionReset, "injected cut");
        match body.next().await {
            Some(Ok(mut piece)) if left > 0 => {
                piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - piece.len() as u64;
                Some((Ok(piece), Some((body, left))))
            }
            Some(Err(e)) => Some((Err(e), None)),
            // Also when the body was no longer than this: the test has asked for an error.
            _ => Some((Err(broken()), None)),
        }
    })
    .boxed()
}

#[async_trait]
impl StorageDriver for FaultyDriver {
    async fn write(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        size: Option<u64>,
        body: ByteStream,
    ) -> StorageResult<u64> {
        self.faults.arrive(Op::Write).await?;
        self.inner.write(tenant, key, size, body).await
    }

    async fn read(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> StorageResult<ByteStream> {
        self.faults.arrive(Op::Read).await?;
        let body = self.inner.read(tenant, key, range).await?;
        Ok(match self.faults.cut_take() {
            Some(bytes) => body_cut(body, bytes),
            None => body,
        })
    }

    async fn delete(&self, tenant: &Tenant, key: &ObjectKey) -> StorageResult<()> {
        self.faults.arrive(Op::Delete).await?;
        self.inner.delete(tenant, key).await
    }

    async fn list(
        &self,
        tenant: &Tenant,
    ) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>> {
        self.faults.arrive(Op::List).await?;
        self.inner.list(tenant).await
    }

    async fn download_url(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        valid_for: Duration,
    ) -> StorageResult<Option<Url>> {
        self.faults.arrive(Op::DownloadUrl).await?;
        self.inner.download_url(tenant, key, valid_for).await
    }

    async fn used_bytes(&self, tenant: &Tenant) -> StorageResult<u64> {
        self.faults.arrive(Op::UsedBytes).await?;
        self.inner.used_bytes(tenant).await
    }

    async fn prepare_account(&self, tenant: &Tenant) -> StorageResult<()> {
        self.faults.arrive(Op::PrepareAccount).await?;
        self.inner.prepare_account(tenant).await
    }

    async fn release_account(&self, tenant: &Tenant) -> StorageResult<()> {
        self.faults.arrive(Op::ReleaseAccount).await?;
        self.inner.release_account(tenant).await
    }

    async fn check(&self) -> StorageResult<()> {
        self.faults.arrive(Op::Check).await?;
        self.inner.check().await
    }
}
