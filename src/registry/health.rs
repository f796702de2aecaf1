//! Whether the parts that a request needs work, really tried.

use std::time::Duration;

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

impl Registry {
    /// Tries the database and every storage backend.
    pub async fn readiness(&self) -> Vec<PartHealth> {
        let mut parts = Vec::new();
        let database = tokio::time::timeout(PATIENCE, self.db.ping()).await;
        let result = database.unwrap_or_else(|_| Err(Error::unavailable("no answer in time")));
        parts.push(PartHealth {
            part: "database".into(),
            result,
        });
        for (name, driver) in self.backends.iter() {
            let result = match tokio::time::timeout(PATIENCE, driver.check()).await {
                Ok(result) => result.map_err(Error::from),
                Err(_) => Err(Error::unavailable("no answer in time")),
            };
            parts.push(PartHealth {
                part: format!("storage {name}"),
                result,
            });
        }
        parts
    }
}
