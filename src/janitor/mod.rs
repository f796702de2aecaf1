//! What need not happen before an answer: jobs that any number of nodes run side by side.
//!
//! A job claims a task, which takes a lease on it in the database, and works on it. A node that dies loses its lease
//! after a while, and another one goes on; so every task can be cut off anywhere and taken again.

mod audit;
mod job_loop;
mod move_account;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::registry::Registry;

/// Runs all jobs until the set is dropped.
pub fn start(registry: &Arc<Registry>) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    let moves = move_account::MoveAccount(Arc::clone(registry));
    jobs.spawn(job_loop::run(moves));
    jobs.spawn(job_loop::run(audit::SealAudit(Arc::clone(registry))));
    jobs.spawn(job_loop::run(audit::PruneAudit(Arc::clone(registry))));
    for number in 0..registry.sink_count() {
        let sink = audit::DeliverAudit(Arc::clone(registry), number);
        jobs.spawn(job_loop::run(sink));
    }
    jobs
}
