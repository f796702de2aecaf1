//! The decision against a table, and against a second, naive implementation on everything that can differ.

use super::*;
use crate::model::{
    account::AccountSettings,
    rbac_policy::{PolicyPermission, RbacPolicy},
};

fn account(policies: Vec<RbacPolicy>) -> Account {
    Account {
        name: "acme".parse().unwrap(),
        auth_tenant_id: "t".into(),
        storage: "default".into(),
        settings: AccountSettings {
            rbac_policies: policies,
            ..AccountSettings::default()
        },
        is_deleting: false,
    }
}

fn policy(repo: &str, user: Option<&str>, permissions: &[PolicyPermission]) -> RbacPolicy {
    RbacPolicy {
        match_repository: repo.into(),
        match_username: user.map(Into::into),
        permissions: permissions.iter().copied().collect(),
    }
}

fn rights(account: &str, permissions: &[Permission], repositories: &[&str]) -> AccountRights {
    AccountRights {
        account: account.parse().unwrap(),
        permissions: permissions.iter().copied().collect(),
        repositories: repositories.iter().map(ToString::to_string).collect(),
    }
}

fn person(policy_name: &str, is_granted_by_driver: bool) -> Caller<'_> {
    Caller::Person {
        policy_name,
        is_granted_by_driver,
        narrowed_to: None,
    }
}

#[test]
fn who_may_do_what() {
    use Permission::{Change, Delete, Pull, Push, View};
    let account = account(vec![
        policy("public/.*", None, &[PolicyPermission::AnonymousPull]),
        policy(
            "team/.*",
            Some("static:ann|bob@d/p@d"),
            &[PolicyPermission::Pull, PolicyPermission::Push],
        ),
    ]);
    let robot = rights("acme", &[Pull, Push], &["ci/.*"]);
    let everywhere = rights("acme", &[Pull], &[]);
    let foreign = rights("other", &[Pull, Push, Delete], &[]);
    let only_pull = BTreeSet::from([Pull]);
    let narrowed = |policy_name, is_granted_by_driver| Caller::Person {
        policy_name,
        is_granted_by_driver,
        narrowed_to: Some(&only_pull),
    };
    let table = [
        (Caller::Anonymous, Pull, "public/a", true),
        (Caller::Anonymous, Push, "public/a", false),
        (Caller::Anonymous, Pull, "team/a", false),
        (person("static:ann", false), Pull, "public/a", true),
        (person("static:ann", false), Push, "team/a", true),
        (person("static:ann", false), Delete, "team/a", false),
        (person("static:ann", false), Pull, "other/a", false),
        (person("ann", false), Pull, "team/a", false),
        (person("oidc.x:ann", false), Pull, "team/a", false),
        (person("bob@d/p@d", false), Pull, "team/a", true),
        (person("static:bob@d/p@d", false), Pull, "team/a", false),
        (person("static:eve", true), Delete, "other/a", true),
        (narrowed("static:ann", true), Pull, "other/a", true),
        (narrowed("static:ann", true), Push, "other/a", false),
        (narrowed("static:ann", false), Push, "team/a", false),
        (narrowed("static:ann", false), Pull, "team/a", true),
        (Caller::Machine(&robot), Pull, "ci/a", true),
        (Caller::Machine(&robot), Push, "ci/a", true),
        (Caller::Machine(&robot), Delete, "ci/a", false),
        (Caller::Machine(&robot), Pull, "ci", false),
        (Caller::Machine(&robot), Pull, "team/a", false),
        (Caller::Machine(&robot), Pull, "public/a", true),
        (Caller::Machine(&everywhere), Pull, "any/thing", true),
        (Caller::Machine(&foreign), Pull, "ci/a", false),
        (Caller::Machine(&foreign), Push, "public/a", false),
    ];
    for (caller, permission, repo, expected) in table {
        let repo = repo.parse().unwrap();
        let actual = repo_allows(&account, &repo, permission, caller);
        assert_eq!(actual, expected, "{caller:?} {permission} {repo}");
    }
    let table = [
        (Caller::Anonymous, Pull, false),
        (person("static:ann", false), Pull, false),
        (person("static:eve", true), Change, true),
        (narrowed("static:eve", true), Pull, true),
        (narrowed("static:eve", true), View, false),
        (Caller::Machine(&robot), Pull, false),
        (Caller::Machine(&everywhere), Pull, true),
        (Caller::Machine(&everywhere), View, false),
        (Caller::Machine(&foreign), Pull, false),
    ];
    for (caller, permission, expected) in table {
        let actual = account_allows(&account, permission, caller);
        assert_eq!(actual, expected, "{caller:?} {permission}");
    }
}

/// The same decision, written as the documentation says it, without patterns: names are compared.
fn naive(account: &Account, repo: &str, permission: Permission, caller: Caller<'_>) -> bool {
    let mut allowed = false;
    for policy in &account.settings.rbac_policies {
        let fits_repo = policy.match_repository == ".*" || policy.match_repository == repo;
        for given in &policy.permissions {
            let (wanted, needs_user) = match given {
                PolicyPermission::AnonymousPull => (Permission::Pull, false),
                PolicyPermission::Pull => (Permission::Pull, true),
                PolicyPermission::Push => (Permission::Push, true),
                PolicyPermission::Delete => (Permission::Delete, true),
            };
            let user = match caller {
                Caller::Person {
                    policy_name,
                    narrowed_to,
                    ..
                } if narrowed_to.is_none_or(|rest| rest.contains(&permission)) => Some(policy_name),
                _ => None,
            };
            let fits_user = !needs_user
                || match (&policy.match_username, user) {
                    (Some(pattern), Some(user)) => pattern == ".*" || pattern == user,
                    (None, Some(_)) => true,
                    (_, None) => false,
                };
            allowed |= fits_repo && fits_user && wanted == permission;
        }
    }
    match caller {
        Caller::Anonymous => {}
        Caller::Person {
            is_granted_by_driver,
            narrowed_to,
            ..
        } => {
            allowed |=
                is_granted_by_driver && narrowed_to.is_none_or(|rest| rest.contains(&permission));
        }
        Caller::Machine(rights) => {
            allowed |= rights.account == account.name
                && rights.permissions.contains(&permission)
                && (rights.repositories.is_empty()
                    || rights.repositories.iter().any(|p| p == ".*" || p == repo));
        }
    }
    allowed
}

/// A small generator (xorshift64): the same cases in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn subset<T: Copy + Ord>(&mut self, from: &[T]) -> BTreeSet<T> {
        from.iter()
            .copied()
            .filter(|_| self.below(2) == 0)
            .collect()
    }
}

#[test]
fn a_naive_implementation_decides_alike() {
    const REPOS: [&str; 3] = ["a", "b", "a/b"];
    const REPO_PATTERNS: [&str; 4] = ["a", "b", "a/b", ".*"];
    const USERS: [&str; 3] = ["static:ann", "oidc:eve", "u@d/p@d"];
    const USER_PATTERNS: [Option<&str>; 5] = [
        None,
        Some(".*"),
        Some("static:ann"),
        Some("oidc:eve"),
        Some("u@d/p@d"),
    ];
    const GIVEN: [PolicyPermission; 4] = [
        PolicyPermission::AnonymousPull,
        PolicyPermission::Pull,
        PolicyPermission::Push,
        PolicyPermission::Delete,
    ];
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut outcomes = [0_u32; 2];
    for _ in 0..20_000 {
        let policies = (0..random.below(3))
            .map(|_| RbacPolicy {
                match_repository: (*random.pick(&REPO_PATTERNS)).to_owned(),
                match_username: random.pick(&USER_PATTERNS).map(str::to_owned),
                permissions: random.subset(&GIVEN),
            })
            // Those that are refused when they are stored: validating each takes too long.
            .filter(|policy| {
                let is_public = policy
                    .permissions
                    .contains(&PolicyPermission::AnonymousPull);
                let is_public_only = is_public && policy.permissions.len() == 1;
                policy.match_username.is_some() != is_public
                    && (policy.match_username.is_some() || is_public_only)
            })
            .collect();
        let account = account(policies);
        let narrowed = random.subset(&Permission::ALL);
        let rights = AccountRights {
            account: random.pick(&["acme", "other"]).parse().unwrap(),
            permissions: random.subset(&Permission::ALL),
            repositories: (0..random.below(3))
                .map(|_| (*random.pick(&REPO_PATTERNS)).to_owned())
                .collect(),
        };
        let caller = match random.below(4) {
            0 => Caller::Anonymous,
            1 => Caller::Machine(&rights),
            _ => Caller::Person {
                policy_name: USERS[random.below(USERS.len())],
                is_granted_by_driver: random.below(3) == 0,
                narrowed_to: (random.below(2) == 0).then_some(&narrowed),
            },
        };
        let permission = *random.pick(&Permission::ALL);
        let repo = *random.pick(&REPOS);
        let actual = repo_allows(&account, &repo.parse().unwrap(), permission, caller);
        let expected = naive(&account, repo, permission, caller);
        assert_eq!(
            actual, expected,
            "{account:?} {repo} {permission} {caller:?}"
        );
        outcomes[usize::from(actual)] += 1;
    }
    // Neither answer is rare, so that neither side can be a constant.
    assert!(outcomes.iter().all(|count| *count > 2_000), "{outcomes:?}");
}
