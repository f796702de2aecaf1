//! Work that says now and then that it goes on, so that the janitor does not take it for dead.

use std::time::Duration;

use tracing::warn;

use crate::error::Result;

/// The longest pause between two beats.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Runs `work`, and `beat` meanwhile, three times at least within `patience`, which is 3 seconds or more.
pub(super) async fn beating<T, F: Future<Output = Result<()>>>(
    patience: Duration,
    beat: impl Fn() -> F,
    work: impl Future<Output = T>,
) -> T {
    let pause = LONGEST_PAUSE.min(patience / 3).max(Duration::from_secs(1));
    let beats = async {
        loop {
            tokio::time::sleep(pause).await;
            if let Err(error) = beat().await {
                warn!(error = ?error, "it could not be noted that work goes on");
            }
        }
    };
    // Both go on side by side, since they may wait for the same connection.
    tokio::select! {
        done = work => done,
        never = beats => never,
    }
}
