//! Secrets of our making, as they are stored: what they are for and how long they are good.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::identity::Identity;

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// A robot logs in with it.
    Robot,
    /// A person logs in with it instead of a password.
    Personal,
    /// A client gets new access tokens for it.
    Refresh,
}

impl SecretKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Robot, Self::Personal, Self::Refresh];

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Robot => "robot",
            Self::Personal => "personal",
            Self::Refresh => "refresh",
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SecretKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no kind of secret"))
    }
}

/// What is said of the origin of somebody who logs in with a personal token.
pub fn origin_of(id: Uuid) -> String {
    format!("personal token {id}")
}

/// A secret, without the secret itself.
#[derive(Debug, Clone)]
pub struct StoredSecret {
    /// Its name in lists, logs and revocations.
    pub id: Uuid,
    /// What it is for.
    pub kind: SecretKind,
    /// Who logs in with it, as it was when the secret was made.
    pub identity: Identity,
    /// What its owner noted.
    pub description: String,
    /// The registry's name that a refresh token is good for.
    pub audience: Option<String>,
    /// The secret that a refresh token was got with.
    pub parent_id: Option<Uuid>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// By whom, as `<driver>:<user>`.
    pub created_by: String,
    /// When it ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl StoredSecret {
    /// Whether it is still good.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}
