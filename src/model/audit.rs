//! The audit event: who decided what, where from, with which outcome and why.
//!
//! Pure: how events are linked is in `audit_chain.rs`, how they are stored in `db/audit.rs`. What a newcomer gets
//! wrong: the bytes of [`AuditEvent::to_json`] are hashed and kept for years, so members are added at their end and
//! left out when empty, and never renamed; and no secret gets into an event, also not into a reason.

use std::{fmt, net::IpAddr, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    account::Account,
    identity::{Facts, Identity},
    request_origin::RequestOrigin,
};
use crate::{
    error::{Error, Result},
    oci::Digest,
};

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident, $wire:literal, $verb:literal, $target:literal;)*) => {
        /// What was decided about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum AuditAction {
            $($(#[$doc])* #[serde(rename = $wire)] $name,)*
        }

        impl AuditAction {
            /// All actions.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in events and filters.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }

            /// The word of CADF (DSP0262, annex A.2) for it.
            pub fn cadf_verb(self) -> &'static str {
                match self { $(Self::$name => $verb,)* }
            }

            /// What it is done to, as the end of a CADF resource type.
            pub fn cadf_target(self) -> &'static str {
                match self { $(Self::$name => $target,)* }
            }
        }
    };
}

actions! {
    /// Somebody logs in.
    Login, "login", "authenticate", "user";
    /// Somebody asks for an access token.
    TokenIssue, "token.issue", "create", "token";
    /// Tokens are taken back.
    TokenRevoke, "token.revoke", "revoke", "token";
    /// A request was refused.
    Access, "access", "deny", "access";
    /// An account is made.
    AccountCreate, "account.create", "create", "account";
    /// An account's settings and policies change.
    AccountUpdate, "account.update", "update", "account";
    /// An account goes.
    AccountDelete, "account.delete", "delete", "account";
    /// An account moves to another storage backend.
    AccountMove, "account.move", "update", "account";
    /// The limits of an account or an auth tenant change.
    QuotaUpdate, "quota.update", "update", "quota";
    /// The books of an auth tenant are counted again.
    QuotaRecount, "quota.recount", "update", "quota";
    /// A repository goes.
    RepositoryDelete, "repository.delete", "delete", "repository";
    /// A manifest or a tag is pushed.
    ManifestPush, "manifest.push", "create", "manifest";
    /// A manifest is pulled.
    ManifestPull, "manifest.pull", "read", "manifest";
    /// A manifest goes.
    ManifestDelete, "manifest.delete", "delete", "manifest";
    /// A manifest comes back from the trash.
    ManifestRestore, "manifest.restore", "restore", "manifest";
    /// A manifest goes out of the trash for good.
    ManifestPurge, "manifest.purge", "delete", "manifest";
    /// A tag goes.
    TagDelete, "tag.delete", "delete", "tag";
    /// A deleted tag comes back.
    TagRestore, "tag.restore", "restore", "tag";
    /// A legal hold is placed or changed.
    HoldPlace, "hold.place", "create", "hold";
    /// A legal hold is lifted before its time.
    HoldLift, "hold.lift", "delete", "hold";
    /// A blob is pushed.
    BlobPush, "blob.push", "create", "blob";
    /// A blob is mounted from another repository.
    BlobMount, "blob.mount", "create", "blob";
    /// A blob is pulled.
    BlobPull, "blob.pull", "read", "blob";
    /// A blob goes out of a repository.
    BlobDelete, "blob.delete", "delete", "blob";
    /// A robot is made.
    RobotCreate, "robot.create", "create", "robot";
    /// A robot changes.
    RobotUpdate, "robot.update", "update", "robot";
    /// A robot goes.
    RobotDelete, "robot.delete", "delete", "robot";
    /// A robot gets a new secret.
    RobotRotate, "robot.rotate", "renew", "robot";
    /// A robot loses a secret.
    RobotSecretDelete, "robot.secret_delete", "delete", "robot";
    /// A user is made.
    UserCreate, "user.create", "create", "user";
    /// A user changes.
    UserUpdate, "user.update", "update", "user";
    /// A user goes.
    UserDelete, "user.delete", "delete", "user";
    /// A user gets a new password.
    UserPassword, "user.password", "update", "user";
    /// A personal token is made.
    PersonalTokenCreate, "personal_token.create", "create", "token";
    /// A personal token goes.
    PersonalTokenDelete, "personal_token.delete", "delete", "token";
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AuditAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|action| action.as_str() == text);
        found.copied().ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|action| action.as_str()).collect();
            format!("{text:?} is none of {}", all.join(", "))
        })
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It was allowed and done.
    Success,
    /// It was tried, and what was shown or sent was wrong.
    Failure,
    /// It was not allowed.
    Denied,
}

impl AuditOutcome {
    /// The name in events and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
        }
    }
}

impl FromStr for AuditOutcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Success, Self::Failure, Self::Denied]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| format!("{text:?} is none of success, failure, denied"))
    }
}

/// Who decided, or wanted to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditWho {
    /// `<driver>:<user>`; of a login that failed, the name that was offered.
    pub name: String,
    /// The identifier of the user at the identity service, where names can change hands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The project that the user acts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Who answers for a machine or a secret: whoever made the robot, the personal token, the subject of a foreign
    /// token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// The name (`jti`) of the access token that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
}

impl From<&Identity> for AuditWho {
    fn from(identity: &Identity) -> Self {
        let attribute = |name: &str| match &identity.facts {
            Facts::Keystone { attributes, .. } => attributes.get(name).cloned(),
            _ => None,
        };
        Self {
            name: identity.to_string(),
            id: attribute("user_id"),
            project_id: attribute("project_id"),
            on_behalf_of: identity.origin.clone(),
            token_id: None,
        }
    }
}

/// What it was done to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditTarget {
    /// The repository, with its account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The manifest or blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The tags that were set, moved, read or deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Anything else: a user, a robot, the scopes of a token, the path of a refused request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Its own name.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// What about.
    pub action: AuditAction,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Who; nobody if the caller is anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<AuditWho>,
    /// The client's address; without one the registry itself did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// What the client says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Leads to the request in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The account that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Who owned that account then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_tenant_id: Option<String>,
    /// What it was done to.
    #[serde(default)]
    pub target: AuditTarget,
    /// Why, or what is special.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// This event stands for so many of strangers that were not written one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u32>,
}

/// How much of a text that comes from outside is kept, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

/// A text that may come from outside: no database has to refuse it, and nobody fills the trail with it.
fn bounded(text: &str) -> String {
    let mut kept = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if kept.len() + character.len_utf8() > MAX_TEXT_BYTES {
            kept.push('…');
            break;
        }
        kept.push(character);
    }
    kept
}

impl AuditEvent {
    /// Who does it, as a name to be stored with what was done.
    pub fn who_name(&self) -> &str {
        self.who.as_ref().map_or("anonymous", |who| &who.name)
    }

    /// A success of nobody in particular.
    pub fn new(id: Uuid, at: DateTime<Utc>, action: AuditAction) -> Self {
        Self {
            id,
            at,
            action,
            outcome: AuditOutcome::Success,
            who: None,
            client: None,
            user_agent: None,
            request_id: None,
            account: None,
            auth_tenant_id: None,
            target: AuditTarget::default(),
            reason: None,
            left_out: None,
        }
    }

    /// Adds who, and where from. What was offered as a name may be anything.
    #[must_use]
    pub fn by(mut self, who: Option<AuditWho>, origin: &RequestOrigin) -> Self {
        self.who = who.map(|who| AuditWho {
            name: bounded(&who.name),
            ..who
        });
        self.client = origin.client;
        self.user_agent = origin.user_agent.clone();
        self.request_id = (!origin.request_id.is_empty()).then(|| origin.request_id.clone());
        self
    }

    /// Adds the account.
    #[must_use]
    pub fn on(mut self, account: &Account) -> Self {
        self.account = Some(account.name.to_string());
        self.auth_tenant_id = Some(account.auth_tenant_id.clone());
        self
    }

    /// Adds the manifest or blob.
    #[must_use]
    pub fn of(mut self, digest: &Digest) -> Self {
        self.target.digest = Some(digest.to_string());
        self
    }

    /// Adds the name of what it was done to.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.target.name = Some(bounded(&name.into()));
        self
    }

    /// Adds how it ended, and why.
    #[must_use]
    pub fn ended(mut self, outcome: AuditOutcome, reason: impl Into<String>) -> Self {
        (self.outcome, self.reason) = (outcome, Some(bounded(&reason.into())));
        self
    }

    /// The event as it is hashed and stored: JSON with the members in this order.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }
}

/// An event with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedEvent {
    /// Its place, from 1.
    pub seq: i64,
    /// The hash of all events so far, hexadecimal.
    pub hash: String,
    /// The event, exactly as it was hashed.
    pub event: String,
}

/// Which events somebody asks for.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of one account.
    pub account: Option<String>,
    /// Of one auth tenant.
    pub auth_tenant_id: Option<String>,
    /// Of one user, `<driver>:<user>`.
    pub user: Option<String>,
    /// About this.
    pub action: Option<AuditAction>,
    /// With this outcome.
    pub outcome: Option<AuditOutcome>,
    /// Not before this.
    pub since: Option<DateTime<Utc>>,
    /// Before this.
    pub until: Option<DateTime<Utc>>,
    /// Before this place in the chain.
    pub before: Option<i64>,
    /// How many at most.
    pub limit: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_and_keeps_its_bytes() {
        let at = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let event = AuditEvent::new(Uuid::from_u128(1), at, AuditAction::RobotCreate)
            .named("ci")
            .ended(AuditOutcome::Denied, "no \"right\"");
        let json = event.to_json().unwrap();
        assert_eq!(
            json,
            r#"{"id":"00000000-0000-0000-0000-000000000001","at":"2023-11-14T22:13:20.123456Z","action":"robot.create","outcome":"denied","target":{"name":"ci"},"reason":"no \"right\""}"#
        );
        let read: AuditEvent = serde_json::from_str(&json).unwrap();
        assert_eq!(read, event);
        assert_eq!(read.to_json().unwrap(), json);
    }

    #[test]
    fn names_of_actions_are_unique_and_read_back() {
        for action in AuditAction::ALL {
            assert_eq!(action.as_str().parse::<AuditAction>().as_ref(), Ok(action));
            let json = serde_json::to_string(action).unwrap();
            assert_eq!(json, format!("\"{action}\""));
        }
        assert!("login ".parse::<AuditAction>().is_err());
    }
}
