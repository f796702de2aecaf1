//! What lies in the trash, what tags have pointed at, and what must not be deleted: as lists show it.

use chrono::{DateTime, Utc};

use crate::oci::{Digest, Tag};

/// A deleted manifest that can come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashSummary {
    /// The repository inside the account.
    pub repository: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The media type that it was pushed with.
    pub media_type: String,
    /// Its own bytes and those of the blobs that it needs, each counted once.
    pub size_bytes: u64,
    /// The tags that pointed at it.
    pub tags: Vec<Tag>,
    /// When it was deleted.
    pub deleted_at: DateTime<Utc>,
    /// Who deleted it.
    pub deleted_by: String,
    /// The manifest whose deletion took it with it; it comes back with that.
    pub deleted_with: Option<Digest>,
    /// When it goes for good.
    pub purge_at: DateTime<Utc>,
}

/// A change of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagChangeEntry {
    /// Its number: later changes of the tag have larger ones.
    pub id: i64,
    /// What the tag points at since then; nothing if it was deleted.
    pub digest: Option<Digest>,
    /// When.
    pub changed_at: DateTime<Utc>,
    /// Who changed it; empty if nobody noted that then.
    pub changed_by: String,
}

/// Whether a manifest that a tag once pointed at can still be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// It can be pulled.
    Present,
    /// It was deleted and can be restored.
    Trash,
    /// It is gone for good.
    Gone,
}

impl Whereabouts {
    /// The name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Trash => "trash",
            Self::Gone => "gone",
        }
    }
}

/// What must not be deleted or changed until a date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegalHold {
    /// The repository inside the account.
    pub repository: String,
    /// The tag; none holds the whole repository.
    pub tag: Option<Tag>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// Who placed it, or changed it last.
    pub placed_by: String,
    /// When.
    pub placed_at: DateTime<Utc>,
}
