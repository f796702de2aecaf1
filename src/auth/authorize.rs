//! The decision: a pure function of the caller, the account and what is asked for.

use crate::{
    model::{account::Account, permission::Permission, rbac_policy::any_allows},
    oci::RepoName,
};

/// What is known of a caller when a decision on a repository is made.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The user's name; `None` for the anonymous.
    pub user: Option<&'a str>,
    /// Whether the driver gives the permission on the account's auth tenant.
    pub is_granted_by_driver: bool,
}

/// Whether the caller may do this in the repository: by a grant on the auth tenant, or by a policy of
/// the account.
pub fn repo_allows(
    account: &Account,
    repo: &RepoName,
    permission: Permission,
    caller: Caller<'_>,
) -> bool {
    (caller.user.is_some() && caller.is_granted_by_driver)
        || any_allows(
            &account.settings.rbac_policies,
            permission,
            repo,
            caller.user,
        )
}
