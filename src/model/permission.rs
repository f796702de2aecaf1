//! What somebody may do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A permission on an account and all its repositories.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// See that the account exists, its settings and its repositories.
    View,
    /// Read blobs, manifests and tags.
    Pull,
    /// Write blobs, manifests and tags.
    Push,
    /// Delete blobs, manifests and tags.
    Delete,
    /// Create, change and delete the account itself.
    Change,
    /// See the quotas of an auth tenant.
    QuotaView,
    /// Change the quotas of an auth tenant.
    QuotaChange,
}

impl Permission {
    /// All permissions.
    pub const ALL: [Self; 7] = [
        Self::View,
        Self::Pull,
        Self::Push,
        Self::Delete,
        Self::Change,
        Self::QuotaView,
        Self::QuotaChange,
    ];

    /// The name in policies, tokens and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Change => "change",
            Self::QuotaView => "quota_view",
            Self::QuotaChange => "quota_change",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.as_str() == text)
            .ok_or_else(|| {
                let all = Self::ALL.map(Self::as_str).join(", ");
                format!("{text:?} is none of {all}")
            })
    }
}
