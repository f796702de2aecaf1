//! Rights on one account and nothing else: what a robot or a service identity has.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    account::Account,
    invalid_field::InvalidField,
    pattern::{self, Pattern},
    permission::Permission,
};
use crate::oci::{AccountName, RepoName};

/// How many patterns of repositories there may be.
const MAX_PATTERNS: usize = 32;

/// Rights on some repositories of one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccountRights {
    /// The account.
    #[schema(value_type = String)]
    pub account: AccountName,
    /// What may be done there: any of view, pull, push and delete.
    #[schema(value_type = Vec<Permission>)]
    pub permissions: BTreeSet<Permission>,
    /// Regular expressions over the repository's name inside the account, of which one must match the
    /// whole. Without any, all repositories are meant.
    pub repositories: Vec<String>,
}

impl AccountRights {
    /// Says what is wrong, if anything is.
    pub fn validate(&self) -> Result<(), InvalidField> {
        use Permission::{Delete, Pull, Push, View};
        if self.permissions.is_empty() {
            let reason = "at least one permission is needed";
            return Err(InvalidField::new("permissions", reason));
        }
        if let Some(other) = self
            .permissions
            .iter()
            .find(|p| ![View, Pull, Push, Delete].contains(p))
        {
            let reason = format!("{other} is not for machines; view, pull, push and delete are");
            return Err(InvalidField::new("permissions", reason));
        }
        if self.repositories.len() > MAX_PATTERNS {
            let reason = format!("at most {MAX_PATTERNS} patterns");
            return Err(InvalidField::new("repositories", reason));
        }
        for (number, pattern) in self.repositories.iter().enumerate() {
            pattern::check(pattern)
                .map_err(|reason| InvalidField::new(format!("repositories[{number}]"), reason))?;
        }
        Ok(())
    }

    /// Whether this may be done in the repository.
    pub fn allows(&self, permission: Permission, account: &Account, repo: &RepoName) -> bool {
        self.allows_in(permission, &account.name)
            && (self.repositories.is_empty()
                || self
                    .repositories
                    .iter()
                    .any(|p| Pattern::of(&account.auth_tenant_id, p).matches(repo.as_str())))
    }

    /// Whether this may be done in all repositories of the account.
    pub fn allows_everywhere(&self, permission: Permission, account: &AccountName) -> bool {
        self.allows_in(permission, account) && self.repositories.is_empty()
    }

    /// Whether this may be done in the account, in some of its repositories at least.
    pub fn allows_in(&self, permission: Permission, account: &AccountName) -> bool {
        self.account == *account && self.permissions.contains(&permission)
    }
}
