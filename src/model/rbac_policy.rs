//! RBAC policies: what an account lets named users, or everybody, do with some of its repositories.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    pattern::{self, Pattern},
    permission::Permission,
};
use crate::oci::RepoName;

/// What a policy may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyPermission {
    /// Pull without logging in.
    AnonymousPull,
    /// Pull by the users that match.
    Pull,
    /// Push by the users that match.
    Push,
    /// Delete by the users that match.
    Delete,
}

impl PolicyPermission {
    fn gives(self, permission: Permission, is_anonymous: bool) -> bool {
        match self {
            // What everybody may pull, a user may pull too.
            Self::AnonymousPull => permission == Permission::Pull,
            Self::Pull => !is_anonymous && permission == Permission::Pull,
            Self::Push => !is_anonymous && permission == Permission::Push,
            Self::Delete => !is_anonymous && permission == Permission::Delete,
        }
    }
}

/// One rule of an account. A request is allowed if any rule allows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RbacPolicy {
    /// A regular expression over the repository's name inside the account; it must match the whole.
    pub match_repository: String,
    /// A regular expression over the user's name, such as `static:ann` or, from Keystone,
    /// `user@domain/project@domain`; it must match the whole. Not with `anonymous_pull`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_username: Option<String>,
    /// What is allowed.
    pub permissions: BTreeSet<PolicyPermission>,
}

impl RbacPolicy {
    /// Says what is wrong with the rule, if anything is.
    pub fn validate(&self) -> Result<(), String> {
        if self.permissions.is_empty() {
            return Err("a policy must have at least one permission".into());
        }
        let is_anonymous = self.permissions.contains(&PolicyPermission::AnonymousPull);
        match &self.match_username {
            Some(_) if is_anonymous => {
                return Err("anonymous_pull cannot be narrowed by match_username".into());
            }
            None if self
                .permissions
                .iter()
                .any(|p| *p != PolicyPermission::AnonymousPull) =>
            {
                return Err(
                    "pull, push and delete need match_username; \".*\" is every user".into(),
                );
            }
            _ => {}
        }
        for pattern in [Some(&self.match_repository), self.match_username.as_ref()]
            .into_iter()
            .flatten()
        {
            pattern::check(pattern)?;
        }
        Ok(())
    }

    /// Whether this rule allows `permission` on `repo`; `user` is `None` for the anonymous.
    pub fn allows(&self, permission: Permission, repo: &RepoName, user: Option<&str>) -> bool {
        let is_given = self
            .permissions
            .iter()
            .any(|p| p.gives(permission, user.is_none()));
        is_given
            && Pattern::new(&self.match_repository).matches(repo.as_str())
            && match (&self.match_username, user) {
                (Some(pattern), Some(user)) => Pattern::new(pattern).matches(user),
                (Some(_), None) => false,
                (None, _) => true,
            }
    }
}

/// Whether any of the rules allows it.
pub fn any_allows(
    policies: &[RbacPolicy],
    permission: Permission,
    repo: &RepoName,
    user: Option<&str>,
) -> bool {
    policies
        .iter()
        .any(|policy| policy.allows(permission, repo, user))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(
        repository: &str,
        username: Option<&str>,
        permissions: &[PolicyPermission],
    ) -> RbacPolicy {
        RbacPolicy {
            match_repository: repository.into(),
            match_username: username.map(Into::into),
            permissions: permissions.iter().copied().collect(),
        }
    }

    fn repo(name: &str) -> RepoName {
        name.parse().unwrap()
    }

    #[test]
    fn patterns_match_the_whole_name() {
        let public = policy("lib", None, &[PolicyPermission::AnonymousPull]);
        assert!(public.allows(Permission::Pull, &repo("lib"), None));
        assert!(!public.allows(Permission::Pull, &repo("library"), None));
        assert!(!public.allows(Permission::Pull, &repo("my/lib"), None));
        // An alternation must not escape the anchors.
        let either = policy("a|b", None, &[PolicyPermission::AnonymousPull]);
        assert!(!either.allows(Permission::Pull, &repo("abc"), None));
    }

    #[test]
    fn anonymous_pull_gives_nothing_but_pull() {
        let public = policy(".*", None, &[PolicyPermission::AnonymousPull]);
        assert!(public.allows(Permission::Pull, &repo("x"), Some("ann")));
        for permission in [
            Permission::Push,
            Permission::Delete,
            Permission::View,
            Permission::Change,
        ] {
            assert!(!public.allows(permission, &repo("x"), None), "{permission}");
        }
    }

    #[test]
    fn user_rules_never_reach_the_anonymous() {
        let team = policy(
            "team/.*",
            Some("ann|bob"),
            &[PolicyPermission::Pull, PolicyPermission::Push],
        );
        assert!(team.allows(Permission::Push, &repo("team/x"), Some("bob")));
        assert!(!team.allows(Permission::Push, &repo("team/x"), Some("bobby")));
        assert!(!team.allows(Permission::Delete, &repo("team/x"), Some("bob")));
        assert!(!team.allows(Permission::Pull, &repo("team/x"), None));
    }

    #[test]
    fn useless_rules_are_refused_with_a_reason() {
        for bad in [
            policy("(", None, &[PolicyPermission::AnonymousPull]),
            policy("x", Some("y"), &[PolicyPermission::AnonymousPull]),
            policy("x", None, &[PolicyPermission::Push]),
            policy("x", Some("y"), &[]),
            policy(
                "a{1000}{1000}{1000}",
                None,
                &[PolicyPermission::AnonymousPull],
            ),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        assert!(
            policy("x", Some(".*"), &[PolicyPermission::Push])
                .validate()
                .is_ok()
        );
    }
}
