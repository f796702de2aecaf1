//! Users of the `static_users` driver and what they are granted.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::permission::Permission;

/// The grant of every auth tenant.
pub const ANY_AUTH_TENANT: &str = "*";

/// Permissions on all accounts of an auth tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The auth tenant, or `*` for every one.
    pub auth_tenant_id: String,
    /// What may be done there.
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
}
