//! `[janitor]`: how long what nobody needs stays, and how often what is there is looked at.

use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::model::{janitor_settings::JanitorSettings, job::Job};

/// What the jobs do, and when.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JanitorConfig {
    /// How long blobs stay in a repository after the last manifest that needed them has gone.
    pub grace_seconds: u64,
    /// How long blobs stay that no manifest has needed yet: those of a push that goes on.
    pub unused_blobs_seconds: u64,
    /// How long an upload may rest before it is given up.
    pub abandoned_uploads_seconds: u64,
    /// How long objects stay in storage that belong to nothing, such as those of writes that died.
    pub loose_objects_seconds: u64,
    /// How often GC policies are carried out.
    pub gc_interval_seconds: u64,
    /// How often the content of each blob is read and compared with its digest; 0 is never.
    pub blob_validation_seconds: u64,
    /// How many bytes a second one node reads for that; 0 means any number.
    pub validation_bytes_per_second: u64,
    /// How often each manifest is compared with storage and with what it refers to; 0 is never.
    pub manifest_validation_seconds: u64,
    /// How often each container is compared with the database; 0 is never.
    pub storage_sweep_seconds: u64,
    /// How long it is known what tags pointed at.
    pub tag_history_days: u64,
    /// Jobs that this process does not run.
    pub disabled_jobs: Vec<String>,
}

impl Default for JanitorConfig {
    fn default() -> Self {
        const HOUR: u64 = 60 * 60;
        const DAY: u64 = 24 * HOUR;
        Self {
            grace_seconds: 5 * 60,
            unused_blobs_seconds: DAY,
            abandoned_uploads_seconds: DAY,
            loose_objects_seconds: HOUR,
            gc_interval_seconds: HOUR,
            blob_validation_seconds: 7 * DAY,
            validation_bytes_per_second: 32 << 20,
            manifest_validation_seconds: DAY,
            storage_sweep_seconds: DAY,
            tag_history_days: 365,
            disabled_jobs: Vec::new(),
        }
    }
}

/// The longest time, ten years: no date must overflow.
const MAX_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;

/// A write says every minute that it goes on.
const SHORTEST_LOOSE_SECONDS: u64 = 5 * 60;

impl JanitorConfig {
    /// The same as durations.
    pub fn settings(&self) -> JanitorSettings {
        let every = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        JanitorSettings {
            grace: Duration::from_secs(self.grace_seconds),
            unused_blobs: Duration::from_secs(self.unused_blobs_seconds),
            abandoned_uploads: Duration::from_secs(self.abandoned_uploads_seconds),
            loose_objects: Duration::from_secs(self.loose_objects_seconds),
            gc_interval: Duration::from_secs(self.gc_interval_seconds),
            blob_validation: every(self.blob_validation_seconds),
            validation_bytes_per_second: self.validation_bytes_per_second,
            manifest_validation: every(self.manifest_validation_seconds),
            storage_sweep: every(self.storage_sweep_seconds),
            tag_history: Duration::from_secs(self.tag_history_days * 24 * 60 * 60),
        }
    }

    /// Whether this process runs a job.
    pub fn runs(&self, job: Job) -> bool {
        !self.disabled_jobs.iter().any(|name| name == job.as_str())
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let times = [
            ("grace_seconds", self.grace_seconds, 0),
            ("unused_blobs_seconds", self.unused_blobs_seconds, 60),
            (
                "abandoned_uploads_seconds",
                self.abandoned_uploads_seconds,
                60,
            ),
            (
                "loose_objects_seconds",
                self.loose_objects_seconds,
                SHORTEST_LOOSE_SECONDS,
            ),
            ("gc_interval_seconds", self.gc_interval_seconds, 1),
            ("blob_validation_seconds", self.blob_validation_seconds, 0),
            (
                "manifest_validation_seconds",
                self.manifest_validation_seconds,
                0,
            ),
            ("storage_sweep_seconds", self.storage_sweep_seconds, 0),
        ];
        for (key, seconds, least) in times {
            if seconds < least || seconds > MAX_SECONDS {
                let reason = format!("{least} to {MAX_SECONDS} seconds");
                return Err(ConfigError::invalid(&format!("janitor.{key}"), reason));
            }
        }
        for name in &self.disabled_jobs {
            name.parse::<Job>()
                .map_err(|reason| ConfigError::invalid("janitor.disabled_jobs", reason))?;
        }
        if self.tag_history_days > MAX_SECONDS / (24 * 60 * 60) {
            return Err(ConfigError::invalid(
                "janitor.tag_history_days",
                "at most 3650 days",
            ));
        }
        Ok(())
    }
}
