//! Users of the `static_users` driver and what they are granted.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    permission::Permission,
    precondition::{EntityTag, Tagged},
};

/// The grant of every auth tenant.
pub const ANY_AUTH_TENANT: &str = "*";

/// The longest name of a user, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// What a name of a user must be like.
pub const USER_NAME_RULE: &str = "a user name has 1 to 128 bytes, no colon, slash or control character, and no space at its ends";

/// The shortest password (NIST SP 800-63B, section 3.1.1.2, asks for 8 at least).
const MIN_PASSWORD_CHARS: usize = 8;

/// The longest, so that hashing cannot be made slow.
const MAX_PASSWORD_BYTES: usize = 1024;

/// What a password must be like.
pub const PASSWORD_RULE: &str = "a password has 8 characters at least and 1024 bytes at most";

/// Whether somebody can have this password.
pub fn is_password(secret: &str) -> bool {
    secret.chars().count() >= MIN_PASSWORD_CHARS && secret.len() <= MAX_PASSWORD_BYTES
}

/// Whether somebody can be called so: a colon would end the name in Basic authentication, a slash would make it
/// look like one of Keystone in policies.
pub fn is_user_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.trim() == name
        && !name.contains(|c: char| matches!(c, ':' | '/') || c.is_control())
}

/// Permissions on all accounts of an auth tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The auth tenant, or `*` for every one.
    pub auth_tenant_id: String,
    /// What may be done there.
    #[schema(value_type = Vec<Permission>)]
    pub permissions: BTreeSet<Permission>,
}

impl Grant {
    /// Every permission everywhere.
    pub fn everything() -> Self {
        Self {
            auth_tenant_id: ANY_AUTH_TENANT.to_owned(),
            permissions: Permission::ALL.into_iter().collect(),
        }
    }

    /// Whether this grant gives `permission` on the accounts of `auth_tenant_id`.
    pub fn gives(&self, permission: Permission, auth_tenant_id: &str) -> bool {
        (self.auth_tenant_id == ANY_AUTH_TENANT || self.auth_tenant_id == auth_tenant_id)
            && self.permissions.contains(&permission)
    }
}

/// A user who logs in with a name and a password.
#[derive(Debug, Clone)]
pub struct User {
    /// The login name.
    pub name: String,
    /// An argon2id hash in PHC form.
    pub password_hash: String,
    /// What the user may do.
    pub grants: Vec<Grant>,
    /// Whether the user cannot log in.
    pub is_disabled: bool,
}

impl Tagged for User {
    /// A new password makes another tag. The hash of it has a random salt that nobody is shown, so nothing can be tried
    /// out on the tag.
    fn tag(&self) -> EntityTag {
        EntityTag::of_document(&json!({
            "name": self.name,
            "password_hash": self.password_hash,
            "grants": self.grants,
            "is_disabled": self.is_disabled,
        }))
    }
}
