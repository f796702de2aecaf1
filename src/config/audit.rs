//! The audit trail: how long it is kept, and where it goes besides the database.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::ConfigError;

/// The audit trail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// After how many days events are removed from the database, once all sinks have them; 0 keeps them for ever.
    pub keep_days: u32,
    /// A file that gets every event as a JSON line.
    pub file: Option<PathBuf>,
    /// Whether standard output gets every event as a JSON line.
    pub stdout: bool,
}

impl AuditConfig {
    /// How long events are kept, if not for ever.
    pub fn keep(&self) -> Option<Duration> {
        let seconds = u64::from(self.keep_days) * 86_400;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.keep_days > 36_500 {
            return Err(ConfigError::invalid(
                "audit.keep_days",
                "at most 100 years: 36500",
            ));
        }
        if self
            .file
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            return Err(ConfigError::invalid(
                "audit.file",
                "it must be the path of a file",
            ));
        }
        Ok(())
    }
}
