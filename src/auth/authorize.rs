//! The decision: a pure function of the account, what is asked for, and who asks.
//!
//! Everything that has to be looked up was looked up before. What a newcomer gets wrong: what everybody may do needs no
//! right of one's own, so it is asked first, and a credential that was narrowed takes nothing of it away.

use std::collections::BTreeSet;

use crate::{
    model::{
        account::Account, account_rights::AccountRights, permission::Permission,
        rbac_policy::any_allows,
    },
    oci::RepoName,
};

/// What is known of a caller when a decision is made.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// Nobody has logged in.
    Anonymous,
    /// A person, or a machine that a driver knows as one.
    Person {
        /// The name in the account's policies.
        policy_name: &'a str,
        /// Whether the driver gives the permission on the account's auth tenant.
        is_granted_by_driver: bool,
        /// What the credential that was used is good for, if not for everything.
        narrowed_to: Option<&'a BTreeSet<Permission>>,
    },
    /// A robot or a service identity: its own rights, which no policy adds to.
    Machine(&'a AccountRights),
}

impl Caller<'_> {
    fn credential_is_good_for(&self, permission: Permission) -> bool {
        match self {
            Self::Person {
                narrowed_to: Some(rest),
                ..
            } => rest.contains(&permission),
            _ => true,
        }
    }
}

/// Whether the caller may do this in a repository of the account.
pub fn repo_allows(
    account: &Account,
    repo: &RepoName,
    permission: Permission,
    caller: Caller<'_>,
) -> bool {
    let policies = &account.settings.rbac_policies;
    if any_allows(policies, permission, repo, None) {
        return true;
    }
    if !caller.credential_is_good_for(permission) {
        return false;
    }
    match caller {
        Caller::Anonymous => false,
        Caller::Machine(rights) => rights.allows(permission, &account.name, repo),
        Caller::Person {
            policy_name,
            is_granted_by_driver,
            ..
        } => is_granted_by_driver || any_allows(policies, permission, repo, Some(policy_name)),
    }
}

/// Whether the caller may do this in every repository of the account, and with the account itself.
pub fn account_allows(account: &Account, permission: Permission, caller: Caller<'_>) -> bool {
    caller.credential_is_good_for(permission)
        && match caller {
            Caller::Anonymous => false,
            Caller::Machine(rights) => rights.allows_everywhere(permission, &account.name),
            Caller::Person {
                is_granted_by_driver,
                ..
            } => is_granted_by_driver,
        }
}

#[cfg(test)]
mod tests;
