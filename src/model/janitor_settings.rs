//! How long what nobody needs stays, and how often what is there is looked at.

use std::time::Duration;

/// The times of the janitor's jobs, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct JanitorSettings {
    /// How long blobs stay in a repository after the last manifest that needed them has gone.
    pub grace: Duration,
    /// How long blobs stay that no manifest has needed yet.
    pub unused_blobs: Duration,
    /// How long an upload may rest before it is given up.
    pub abandoned_uploads: Duration,
    /// How long objects stay in storage that belong to nothing.
    pub loose_objects: Duration,
    /// How often GC policies are carried out.
    pub gc_interval: Duration,
    /// How often the content of each blob is read; `None` is never.
    pub blob_validation: Option<Duration>,
    /// How many bytes a second one node reads for that; 0 means any number.
    pub validation_bytes_per_second: u64,
    /// How often each manifest is compared with storage and with what it refers to; `None` is never.
    pub manifest_validation: Option<Duration>,
    /// How often each container is compared with the database; `None` is never.
    pub storage_sweep: Option<Duration>,
    /// How long it is known what tags pointed at.
    pub tag_history: Duration,
}
