//! Whether the parts that a request needs work, really tried.

use std::time::Duration;

use futures::future::{join, join_all};

use super::Registry;
use crate::error::{Error, Result};

/// A part that does not answer within this is not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// A part and what is wrong with it, for the log; the client learns the part's name only.
#[derive(Debug)]
pub struct PartHealth {
    /// Such as `database` or `storage default`.
    pub part: String,
    /// Whether it works.
    pub result: Result<()>,
}

/// Whether this node can serve anybody.
#[derive(Debug)]
pub struct Readiness {
    /// The database works, and a storage backend at least.
    pub is_ready: bool,
    /// Each part.
    pub parts: Vec<PartHealth>,
}

impl Registry {
    /// Tries the database and every storage backend, side by side.
    pub async fn readiness(&self) -> Readiness {
        let backends = self.backends.iter().map(|(name, driver)| async move {
            PartHealth {
                part: format!("storage {name}"),
                result: in_time(async { Ok(driver.check().await?) }).await,
            }
        });
        let (database, backends) = join(in_time(self.db.ping()), join_all(backends)).await;
        // One backend of several that fails must not take this node away from the accounts on the others: no other
        // node reaches it either.
        let is_ready = database.is_ok() && backends.iter().any(|part| part.result.is_ok());
        let mut parts = vec![PartHealth {
            part: "database".into(),
            result: database,
        }];
        parts.extend(backends);
        Readiness { is_ready, parts }
    }
}

async fn in_time(call: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(PATIENCE, call)
        .await
        .unwrap_or_else(|_| Err(Error::unavailable("no answer in time")))
}
