//! Runs the jobs of the registry, each in a loop of its own, until the process stops.
//!
//! What the jobs are and what they do is in `registry/jobs.rs`. This knows only time: when to look again, when to rest
//! after a failure, when to stop.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tracing::{debug, warn};

use crate::{
    error::{Error, Result},
    model::job::Job,
    registry::Registry,
    telemetry::Metrics,
};

/// How long a job rests after many failures in a row.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How often it is looked for how long tasks have been due.
const STATUS_EVERY: Duration = Duration::from_secs(15);

/// The loops of a process.
#[derive(Debug)]
pub struct Janitor {
    loops: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Janitor {
    /// Starts to run jobs.
    pub fn start(registry: &Arc<Registry>, metrics: &Metrics, jobs: Vec<Job>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut loops = JoinSet::new();
        for job in jobs {
            let worker = Worker {
                registry: Arc::clone(registry),
                metrics: metrics.clone(),
                stopped: stopped.clone(),
            };
            loops.spawn(worker.run(job));
        }
        loops.spawn(show_status(Arc::clone(registry), metrics.clone(), stopped));
        Self { loops, stop }
    }

    /// Lets the tasks that go on end, for `patience` at most. Those that do not are cut off: another node, or this one
    /// after its next start, takes them again when their leases end.
    pub async fn stop(mut self, patience: Duration) {
        self.stop.send_replace(true);
        let ended = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, ended).await.is_err() {
            debug!("jobs were cut off");
        }
    }
}

struct Worker {
    registry: Arc<Registry>,
    metrics: Metrics,
    stopped: watch::Receiver<bool>,
}

impl Worker {
    /// Does what is due, until the process stops.
    async fn run(mut self, job: Job) {
        let mut failures = 0_u32;
        while !*self.stopped.borrow() {
            let rest = match self.run_one(job).await {
                Ok(true) => {
                    failures = 0;
                    continue;
                }
                Ok(false) => {
                    failures = 0;
                    job.pause()
                }
                Err(error) => {
                    warn!(job = job.as_str(), error = ?error, "a job failed");
                    failures += 1;
                    (job.pause() * 2_u32.saturating_pow(failures.min(6))).min(LONGEST_REST)
                }
            };
            let rest = self.registry.jittered(rest);
            // An error means that the sender is gone, and the process with it.
            let _ = tokio::time::timeout(rest, self.stopped.wait_for(|stopped| *stopped)).await;
        }
    }

    async fn run_one(&self, job: Job) -> Result<bool> {
        let begun = Instant::now();
        // A bug must not end the loop; the task's lease runs out, and it is tried again.
        let done = AssertUnwindSafe(self.registry.job_run_one(job)).catch_unwind();
        let done = done
            .await
            .unwrap_or_else(|_| Err(Error::internal("a task panicked")));
        let outcome = match &done {
            Ok(false) => return done,
            Ok(true) => "success",
            Err(_) => "failure",
        };
        let name = job.as_str();
        self.metrics
            .janitor_tasks
            .with_label_values(&[name, outcome])
            .inc();
        self.metrics
            .janitor_seconds
            .with_label_values(&[name])
            .observe(begun.elapsed().as_secs_f64());
        done
    }
}

/// Shows for how long tasks have been due.
async fn show_status(
    registry: Arc<Registry>,
    metrics: Metrics,
    mut stopped: watch::Receiver<bool>,
) {
    while !*stopped.borrow() {
        // What keeps it from being known is told by the jobs themselves.
        for status in registry.jobs_status().await.unwrap_or_default() {
            metrics
                .janitor_overdue
                .with_label_values(&[status.job.as_str()])
                .set(i64::try_from(status.overdue.as_secs()).unwrap_or(i64::MAX));
        }
        let rest = registry.jittered(STATUS_EVERY);
        let _ = tokio::time::timeout(rest, stopped.wait_for(|stopped| *stopped)).await;
    }
}
