//! Why a blob is there: what needs it, in which repositories.

use chrono::{DateTime, Utc};

use super::gc_plan::GcHold;
use crate::oci::Digest;

/// A blob of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFacts {
    /// The digest.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// When it came into the account.
    pub pushed_at: DateTime<Utc>,
}

/// A repository that has the blob, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMount {
    /// The name inside the account.
    pub repository: String,
    /// Until when it stays though nothing needs it.
    pub kept_until: DateTime<Utc>,
    /// Some of the manifests that need it.
    pub manifests: Vec<Digest>,
    /// There are more.
    pub has_more_manifests: bool,
    /// Some of the deleted manifests that need it if they come back.
    pub trash: Vec<TrashedManifest>,
    /// There are more.
    pub has_more_in_trash: bool,
    /// Holds on the repository, and on tags of manifests that need it.
    pub holds: Vec<GcHold>,
}

/// A deleted manifest that can come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Until when.
    pub purge_at: DateTime<Utc>,
}
