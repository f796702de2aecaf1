//! The decision against a table, and against a second, naive implementation on everything that can differ.

use serde_json::json;

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
        version: 1,
    }
}

fn policy(document: serde_json::Value) -> RbacPolicy {
    let policy: RbacPolicy = serde_json::from_value(document).unwrap();
    policy.validate().unwrap();
    policy
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

fn machine<'a>(policy_name: &'a str, rights: &'a AccountRights) -> Caller<'a> {
    Caller::Machine {
        policy_name,
        rights,
    }
}

fn asked(permission: Permission, client: &str) -> Asked {
    Asked {
        permission,
        client: client.parse().ok(),
    }
}

fn policies_of_the_table() -> Vec<RbacPolicy> {
    vec![
        policy(json!({"match_repository": "public/.*", "permissions": ["anonymous_pull"]})),
        policy(
            json!({"match_repository": "team/.*", "match_username": "static:ann|bob@d/p@d",
            "permissions": ["pull", "push"]}),
        ),
        policy(
            json!({"match_repository": "office/.*", "match_cidr": "10.0.0.0/8",
            "permissions": ["anonymous_pull", "push"]}),
        ),
        policy(json!({"match_repository": ".*/frozen", "permissions": [],
            "forbidden_permissions": ["push", "delete", "anonymous_pull"]})),
        policy(
            json!({"match_username": "static:mallory|robot:acme.*", "match_cidr": "192.0.2.0/24",
            "forbidden_permissions": ["pull", "push"]}),
        ),
    ]
}

#[test]
fn who_may_do_what() {
    use Permission::{Delete, Pull, Push};
    let account = account(policies_of_the_table());
    let robot = rights("acme", &[Pull, Push], &["ci/.*"]);
    let robot = machine("robot:acme+ci", &robot);
    let everywhere = rights("acme", &[Pull], &[]);
    let everywhere = machine("robot:acme+all", &everywhere);
    let foreign = rights("other", &[Pull, Push, Delete], &[]);
    let foreign = machine("robot:other+ci", &foreign);
    let only_pull = BTreeSet::from([Pull]);
    let narrowed = |policy_name, is_granted_by_driver| Caller::Person {
        policy_name,
        is_granted_by_driver,
        narrowed_to: Some(&only_pull),
    };
    let (ann, eve, mallory) = ("static:ann", "static:eve", "static:mallory");
    let (home, office, evil) = ("198.51.100.1", "10.1.1.1", "192.0.2.66");
    let table = [
        (Caller::Anonymous, Pull, "public/a", home, "policy 0"),
        (Caller::Anonymous, Push, "public/a", home, "nothing"),
        (Caller::Anonymous, Pull, "team/a", home, "nothing"),
        (Caller::Anonymous, Pull, "office/a", office, "policy 2"),
        (Caller::Anonymous, Pull, "office/a", home, "nothing"),
        (Caller::Anonymous, Pull, "office/a", "", "nothing"),
        (Caller::Anonymous, Push, "office/a", office, "nothing"),
        (
            Caller::Anonymous,
            Pull,
            "public/frozen",
            home,
            "forbidden 3",
        ),
        (
            person(ann, false),
            Pull,
            "public/frozen",
            home,
            "forbidden 3",
        ),
        (person(ann, true), Pull, "public/frozen", home, "grant"),
        (person(ann, false), Pull, "public/a", home, "policy 0"),
        (person(ann, false), Push, "team/a", home, "policy 1"),
        (person(ann, false), Push, "team/frozen", home, "forbidden 3"),
        (person(ann, false), Delete, "team/a", home, "nothing"),
        (person(ann, false), Pull, "other/a", home, "nothing"),
        (person(ann, false), Push, "office/a", office, "policy 2"),
        (person(ann, false), Push, "office/a", home, "nothing"),
        (person("ann", false), Pull, "team/a", home, "nothing"),
        (person("oidc.x:ann", false), Pull, "team/a", home, "nothing"),
        (person("bob@d/p@d", false), Pull, "team/a", home, "policy 1"),
        (
            person("static:bob@d/p@d", false),
            Pull,
            "team/a",
            home,
            "nothing",
        ),
        (person(eve, true), Delete, "other/a", home, "grant"),
        (
            person(eve, true),
            Delete,
            "other/frozen",
            home,
            "forbidden 3",
        ),
        (person(mallory, true), Push, "other/a", home, "grant"),
        (person(mallory, true), Push, "other/a", evil, "forbidden 4"),
        (person(mallory, true), Push, "other/a", "", "forbidden 4"),
        // Logging in must not be worse than not logging in.
        (person(mallory, true), Pull, "public/a", evil, "policy 0"),
        (narrowed(ann, true), Pull, "other/a", home, "grant"),
        (narrowed(ann, true), Push, "other/a", home, "narrowed"),
        (narrowed(ann, false), Push, "team/a", home, "narrowed"),
        (narrowed(ann, false), Pull, "team/a", home, "policy 1"),
        (robot, Pull, "ci/a", home, "machine"),
        (robot, Push, "ci/a", home, "machine"),
        (robot, Push, "ci/frozen", home, "forbidden 3"),
        (robot, Push, "ci/a", evil, "forbidden 4"),
        (robot, Delete, "ci/a", home, "nothing"),
        (robot, Pull, "ci", home, "nothing"),
        (robot, Pull, "team/a", home, "nothing"),
        (robot, Push, "office/a", office, "nothing"),
        (robot, Pull, "public/a", home, "policy 0"),
        (everywhere, Pull, "any/thing", home, "machine"),
        (foreign, Pull, "ci/a", home, "nothing"),
        (foreign, Push, "public/a", home, "nothing"),
    ];
    for (caller, permission, repo, client, expected) in table {
        let repo = repo.parse().unwrap();
        let actual = repo_decision(&account, &repo, asked(permission, client), caller);
        assert_eq!(
            words(actual),
            expected,
            "{caller:?} {permission} {repo} {client}"
        );
    }
}

/// A decision in a word or two; that `allowed` fits the reason is checked on the way.
fn words(decision: Decision) -> String {
    let (allowed, words) = match decision.because {
        Reason::Grant => (true, "grant".to_owned()),
        Reason::MachineRights => (true, "machine".to_owned()),
        Reason::Policy(number) => (true, format!("policy {number}")),
        Reason::ForbiddenByPolicy(number) => (false, format!("forbidden {number}")),
        Reason::CredentialNarrowed => (false, "narrowed".to_owned()),
        Reason::NothingAllowsIt => (false, "nothing".to_owned()),
    };
    assert_eq!(decision.allowed, allowed, "{decision:?}");
    words
}

#[test]
fn who_may_do_it_everywhere() {
    use Permission::{Change, Delete, Pull, View};
    let account = account(vec![
        policy(
            json!({"match_repository": "secret", "match_username": "static:ann|robot:acme.all",
            "match_cidr": "192.0.2.0/24", "forbidden_permissions": ["pull"]}),
        ),
        policy(json!({"match_username": ".*", "permissions": ["pull"]})),
    ]);
    let robot = rights("acme", &[Pull], &["ci/.*"]);
    let everywhere = rights("acme", &[Pull], &[]);
    let foreign = rights("other", &[Pull, Delete], &[]);
    let only_pull = BTreeSet::from([Pull]);
    let narrowed = |policy_name| Caller::Person {
        policy_name,
        is_granted_by_driver: true,
        narrowed_to: Some(&only_pull),
    };
    let (home, evil) = ("198.51.100.1", "192.0.2.66");
    let table = [
        (Caller::Anonymous, Pull, home, "nothing"),
        (person("static:ann", false), Pull, home, "nothing"),
        (person("static:ann", true), Pull, home, "grant"),
        (person("static:ann", true), Pull, evil, "forbidden 0"),
        (person("static:ann", true), Pull, "", "forbidden 0"),
        (person("static:ann", true), Change, evil, "grant"),
        (person("static:eve", true), Pull, evil, "grant"),
        (narrowed("static:eve"), Pull, home, "grant"),
        (narrowed("static:eve"), View, home, "narrowed"),
        (machine("robot:acme+ci", &robot), Pull, home, "nothing"),
        (
            machine("robot:acme+all", &everywhere),
            Pull,
            home,
            "machine",
        ),
        (
            machine("robot:acme+all", &everywhere),
            Pull,
            evil,
            "forbidden 0",
        ),
        (
            machine("robot:acme+all", &everywhere),
            View,
            home,
            "nothing",
        ),
        (machine("robot:other+x", &foreign), Pull, home, "nothing"),
    ];
    for (caller, permission, client, expected) in table {
        let actual = account_decision(&account, asked(permission, client), caller);
        assert_eq!(words(actual), expected, "{caller:?} {permission} {client}");
    }
}

/// The same decision, written as the documentation says it, without patterns and prefixes: texts are compared.
fn naive(account: &Account, repo: &str, asked: Asked, caller: Caller<'_>) -> bool {
    let wanted = asked.permission.as_str();
    let user = match caller {
        Caller::Anonymous => None,
        Caller::Person { policy_name, .. } | Caller::Machine { policy_name, .. } => {
            Some(policy_name)
        }
    };
    let mut given = BTreeSet::new();
    let mut forbidden = BTreeSet::new();
    for policy in &account.settings.rbac_policies {
        if let Some(wanted) = &policy.match_repository
            && wanted != ".*"
            && wanted != repo
        {
            continue;
        }
        if let Some(wanted) = &policy.match_username
            && (user.is_none() || (wanted != ".*" && Some(wanted.as_str()) != user))
        {
            continue;
        }
        let names = |list: &[PolicyPermission]| list.iter().map(|p| p.as_str()).collect::<Vec<_>>();
        let is_near = asked
            .client
            .map(|client| client.to_string().starts_with("10."));
        if policy.match_cidr.is_none() || is_near == Some(true) {
            given.extend(names(&policy.permissions));
        }
        if policy.match_cidr.is_none() || is_near != Some(false) {
            forbidden.extend(names(&policy.forbidden_permissions));
        }
    }
    let is_public = given.contains("anonymous_pull") && !forbidden.contains("anonymous_pull");
    if wanted == "pull" && is_public {
        return true;
    }
    match caller {
        Caller::Anonymous => false,
        Caller::Person {
            is_granted_by_driver,
            narrowed_to,
            ..
        } => {
            let is_good = narrowed_to.is_none_or(|rest| rest.contains(&asked.permission));
            is_good
                && !forbidden.contains(wanted)
                && (is_granted_by_driver || given.contains(wanted))
        }
        Caller::Machine { rights, .. } => {
            !forbidden.contains(wanted)
                && rights.account == account.name
                && rights.permissions.contains(&asked.permission)
                && (rights.repositories.is_empty()
                    || rights.repositories.iter().any(|p| p == ".*" || p == repo))
        }
    }
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
    const USER_PATTERNS: [Option<&str>; 6] = [
        None,
        Some(".*"),
        Some("static:ann"),
        Some("oidc:eve"),
        Some("u@d/p@d"),
        Some("robot:x"),
    ];
    const CLIENTS: [&str; 3] = ["10.1.2.3", "192.0.2.1", ""];
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut outcomes = [0_u32; 2];
    let mut reasons = BTreeSet::new();
    for _ in 0..30_000 {
        let policies = (0..random.below(4))
            .map(|_| RbacPolicy {
                match_cidr: (random.below(3) == 0).then(|| "10.0.0.0/8".parse().unwrap()),
                match_repository: (random.below(4) > 0)
                    .then(|| (*random.pick(&REPO_PATTERNS)).to_owned()),
                match_username: random.pick(&USER_PATTERNS).map(str::to_owned),
                permissions: random.subset(&PolicyPermission::ALL).into_iter().collect(),
                forbidden_permissions: (0..random.below(3))
                    .map(|_| *random.pick(&PolicyPermission::ALL))
                    .collect(),
            })
            // Of those that are refused when they are stored, these would be decided otherwise.
            .filter(|policy| {
                let public = PolicyPermission::AnonymousPull;
                let is_public = policy.permissions.contains(&public)
                    || policy.forbidden_permissions.contains(&public);
                !(is_public && policy.match_username.is_some())
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
            1 => machine("robot:x", &rights),
            _ => Caller::Person {
                policy_name: USERS[random.below(USERS.len())],
                is_granted_by_driver: random.below(3) == 0,
                narrowed_to: (random.below(2) == 0).then_some(&narrowed),
            },
        };
        let asked = asked(
            *random.pick(&Permission::ALL),
            CLIENTS[random.below(CLIENTS.len())],
        );
        let repo = *random.pick(&REPOS);
        let actual = repo_decision(&account, &repo.parse().unwrap(), asked, caller);
        let expected = naive(&account, repo, asked, caller);
        assert_eq!(
            actual.allowed, expected,
            "{account:?} {repo} {asked:?} {caller:?}"
        );
        outcomes[usize::from(actual.allowed)] += 1;
        reasons.insert(words(actual).split(' ').next().unwrap().to_owned());
        // Who may do it everywhere may do it in each.
        if account_decision(&account, asked, caller).allowed {
            assert!(actual.allowed, "{account:?} {repo} {asked:?} {caller:?}");
        }
    }
    // Neither answer is rare, so that neither side can be a constant.
    assert!(outcomes.iter().all(|count| *count > 4_000), "{outcomes:?}");
    assert_eq!(reasons.len(), 6, "{reasons:?}");
}
