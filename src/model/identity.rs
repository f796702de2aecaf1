//! Who somebody is, once they were authenticated, and what is known of their rights.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::{account_rights::AccountRights, permission::Permission, user::Grant};

/// The name of the Keystone driver: its users are called otherwise in policies.
pub const KEYSTONE: &str = "keystone";

/// Somebody who was authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The driver that knows the user.
    pub driver: String,
    /// The user's name, unambiguous within the driver.
    pub user: String,
    /// What the driver knows about the user's rights.
    pub facts: Facts,
    /// What is left of them with the credential that was used; `None` if it is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed_to: Option<BTreeSet<Permission>>,
    /// Where the credential comes from, for audit: who made a robot, the subject of a foreign token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// What was known about somebody's rights when they logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Facts {
    /// The driver looks them up when it is asked.
    Stored,
    /// A Keystone token's, for the rules of an oslo.policy file.
    Keystone {
        /// The names of the roles on the project.
        roles: Vec<String>,
        /// `user_id`, `project_id` and the like.
        attributes: BTreeMap<String, String>,
    },
    /// Grants that were derived from what an identity provider says.
    Granted {
        /// The grants.
        grants: Vec<Grant>,
    },
    /// A robot's or a service identity's: rights on one account, and nothing else.
    Account(AccountRights),
}

impl Identity {
    /// A user of a driver.
    pub fn new(driver: impl Into<String>, user: impl Into<String>, facts: Facts) -> Self {
        Self {
            driver: driver.into(),
            user: user.into(),
            facts,
            narrowed_to: None,
            origin: None,
        }
    }

    /// Whether they logged in with a token instead of what proves who they are.
    pub fn is_by_token(&self) -> bool {
        self.origin.is_some()
    }

    /// The name in RBAC policies: `user@domain/project@domain` for users of Keystone, `driver:name` for all
    /// others.
    pub fn policy_name(&self) -> String {
        if self.driver == KEYSTONE {
            self.user.clone()
        } else {
            self.to_string()
        }
    }
}

/// The name in logs and tokens.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.driver, self.user)
    }
}
