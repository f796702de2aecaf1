//! The loop that every job runs in.

use std::{fmt, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use tracing::warn;

use crate::error::{Error, Result};

/// How long a job that found nothing to do waits before it looks again.
const PAUSE: Duration = Duration::from_secs(1);

/// Something that is done again and again, a task at a time.
pub(super) trait Job: Send + Sync + 'static {
    /// For logs.
    const NAME: &'static str;
    /// What is to be done, with the lease on it.
    type Task: fmt::Debug + Send;

    /// Takes a task on, if one is due.
    fn claim(&self) -> impl Future<Output = Result<Option<Self::Task>>> + Send;

    /// Does it. A failure is noted with the task, so that it is not due again at once.
    fn process(&self, task: Self::Task) -> impl Future<Output = Result<()>> + Send;
}

/// Does what is due, for ever.
pub(super) async fn run<J: Job>(job: J) {
    loop {
        match run_one(&job).await {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                warn!(job = J::NAME, error = ?error, "a job failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Does one task; `false` if none is due.
async fn run_one<J: Job>(job: &J) -> Result<bool> {
    let Some(task) = job.claim().await? else {
        return Ok(false);
    };
    tracing::debug!(job = J::NAME, ?task, "working");
    // A bug must not end the loop; the task's lease runs out, and it is tried again.
    let done = AssertUnwindSafe(job.process(task)).catch_unwind().await;
    done.unwrap_or_else(|_| Err(Error::internal("a task panicked")))?;
    Ok(true)
}
