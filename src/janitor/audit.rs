//! Seals, prunes and delivers the audit trail.

use std::sync::Arc;

use super::job_loop::Job;
use crate::{
    error::Result,
    registry::{Registry, audit_delivery::SinkTask},
};

/// Writes what was collected on this node, and seals what all nodes have written.
pub(super) struct SealAudit(pub(super) Arc<Registry>);

impl Job for SealAudit {
    const NAME: &'static str = "seal_audit";
    type Task = ();

    async fn claim(&self) -> Result<Option<()>> {
        Ok(self.0.audit_is_waiting().await?.then_some(()))
    }

    async fn process(&self, (): ()) -> Result<()> {
        self.0.audit_seal().await
    }
}

/// Removes events that need not be kept any more.
pub(super) struct PruneAudit(pub(super) Arc<Registry>);

impl Job for PruneAudit {
    const NAME: &'static str = "prune_audit";
    type Task = ();

    async fn claim(&self) -> Result<Option<()>> {
        Ok(self.0.audit_prune().await?.then_some(()))
    }

    /// What is left is the next task.
    async fn process(&self, (): ()) -> Result<()> {
        Ok(())
    }
}

/// Delivers to one sink, by its number.
pub(super) struct DeliverAudit(pub(super) Arc<Registry>, pub(super) usize);

impl Job for DeliverAudit {
    const NAME: &'static str = "deliver_audit";
    type Task = SinkTask;

    async fn claim(&self) -> Result<Option<SinkTask>> {
        self.0.sink_claim(self.1).await
    }

    async fn process(&self, task: SinkTask) -> Result<()> {
        self.0.sink_deliver(task).await
    }
}
