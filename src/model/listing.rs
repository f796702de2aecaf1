//! What lists show of repositories, manifests and tags, and which part of a list is asked for.

use chrono::{DateTime, Utc};

use super::gc_status::GcStatus;
use crate::oci::Digest;

/// The part of a list that is asked for.
#[derive(Debug, Clone, Default)]
pub struct PageOrder {
    /// How many entries at most; bounded where it is used.
    pub limit: Option<u64>,
    /// The name after which it begins. It need not exist.
    pub last: Option<String>,
}

/// A repository in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoSummary {
    /// The name inside the account.
    pub name: String,
    /// How many manifests it has.
    pub manifest_count: u64,
    /// How many tags it has.
    pub tag_count: u64,
    /// The bytes of its blobs, each counted once.
    pub size_bytes: u64,
    /// When a manifest was last pushed.
    pub pushed_at: Option<DateTime<Utc>>,
}

/// A manifest in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSummary {
    /// The digest of the content.
    pub digest: Digest,
    /// The media type that it was pushed with.
    pub media_type: String,
    /// Its own bytes and those of the blobs that it needs, each counted once.
    pub size_bytes: u64,
    /// When it was pushed.
    pub pushed_at: DateTime<Utc>,
    /// When it was last pulled.
    pub last_pulled_at: Option<DateTime<Utc>>,
    /// Its tags by name.
    pub tags: Vec<TagSummary>,
    /// It has more tags than are shown.
    pub has_more_tags: bool,
    /// What was wrong with it when it was last looked at.
    pub validation_error: Option<String>,
    /// What the last run of the account's GC policies made of it.
    pub gc_status: Option<GcStatus>,
}

/// A tag in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSummary {
    /// The name.
    pub name: String,
    /// The manifest that it leads to.
    pub digest: Digest,
    /// When it was last put.
    pub pushed_at: DateTime<Utc>,
    /// When something was last pulled by it.
    pub last_pulled_at: Option<DateTime<Utc>>,
}

/// The manifests that keep an account or a repository from being deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemainingManifests {
    /// How many there are.
    pub count: u64,
    /// Some of them: the repository inside the account, and the digest. Those that nothing lists come first, since
    /// the others cannot be deleted before them.
    pub next: Vec<(String, String)>,
}
