//! What the GC policies make of one image, as it is stored with the manifest and shown.
//!
//! What a newcomer gets wrong: it is what the last run found. It is kept in the database as JSON, so members are added
//! and never renamed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::gc_policy::GcPolicy;

/// A GC policy with its place in the account's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NumberedGcPolicy {
    /// Its place, from 0.
    pub number: usize,
    /// The policy as it was.
    pub policy: GcPolicy,
}

/// The rule by which an image goes or stays; the first that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum GcStatus {
    /// It stays: it, or something that refers to it as its subject, was pushed within the last 10 minutes.
    ProtectedByRecentUpload,
    /// It stays: its repository or one of its tags is held.
    ProtectedByHold {
        /// When the hold ends.
        until: DateTime<Utc>,
    },
    /// It stays: a tag policy keeps one of its tags from being deleted.
    ProtectedByTagPolicy {
        /// The policy's place in the account's `tag_policies`, from 0.
        number: usize,
    },
    /// It stays: an index that stays lists it.
    ProtectedByParent {
        /// The digest of one such index.
        parent: String,
    },
    /// It stays: it is about a manifest that stays, such as a signature.
    ProtectedBySubject {
        /// The digest of that manifest.
        subject: String,
    },
    /// It stays: the first policy that matches says so.
    ProtectedByPolicy {
        /// The policy's place in the account's `gc_policies`, from 0.
        number: usize,
        /// The policy.
        policy: GcPolicy,
    },
    /// It stays: no policy matches.
    Kept {
        /// Those that will match when it is older.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schema(required = false)]
        relevant_policies: Vec<NumberedGcPolicy>,
    },
    /// It goes: the first policy that matches says so.
    Delete {
        /// The policy's place in the account's `gc_policies`, from 0.
        number: usize,
        /// The policy.
        policy: GcPolicy,
    },
    /// It goes with the manifest that it is about.
    DeleteWith {
        /// The digest of that manifest.
        subject: String,
    },
    /// It goes with the indexes that list it: nothing else leads to it.
    DeleteWithParent {
        /// The digest of one such index.
        parent: String,
    },
}

impl GcStatus {
    /// Whether the image goes.
    pub fn is_deletion(&self) -> bool {
        matches!(
            self,
            Self::Delete { .. } | Self::DeleteWith { .. } | Self::DeleteWithParent { .. }
        )
    }
}
