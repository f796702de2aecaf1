//! Settings that were accepted and cannot be meant so: policies that never match, or change nothing.
//!
//! A warning refuses nothing: what it is based on, such as the names that users may have, can change. A newcomer will want
//! to warn of everything that looks odd; only what surely has no effect is told, and what everybody gets wrong once.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    account::AccountSettings,
    pattern::can_contain,
    policy_match::no_repository,
    rbac_policy::{PolicyPermission, RbacPolicy},
    warning::Warning,
};

impl AccountSettings {
    /// What is accepted but cannot be meant so.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut found = Vec::new();
        for (number, policy) in self.rbac_policies.iter().enumerate() {
            let own = alone(policy).into_iter();
            let beside = beside(&self.rbac_policies, number).into_iter();
            let path = format!("rbac_policies[{number}]");
            found.extend(own.chain(beside).map(|warning| warning.below(&path)));
        }
        for (number, policy) in self.tag_policies.iter().enumerate() {
            let path = format!("tag_policies[{number}]");
            let own = policy.warnings().into_iter();
            found.extend(own.map(|warning| warning.below(&path)));
            if self.tag_policies[..number].contains(policy) {
                found.push(Warning::new(path, "an earlier policy says the same"));
            }
        }
        for (number, policy) in self.gc_policies.iter().enumerate() {
            let path = format!("gc_policies[{number}]");
            let own = policy.warnings().into_iter();
            found.extend(own.map(|warning| warning.below(&path)));
            if self.gc_policies[..number].contains(policy) {
                found.push(Warning::new(path, "an earlier policy says the same"));
            }
        }
        found
    }
}

/// What can be seen of a policy without the others.
fn alone(policy: &RbacPolicy) -> Vec<Warning> {
    let mut found = Vec::new();
    if policy.match_cidr.is_some_and(is_mapped) {
        let message = "it matches no address: those of IPv4 are compared as IPv4";
        found.push(Warning::new("match_cidr", message));
    }
    let repository = policy.match_repository.as_deref().and_then(no_repository);
    found.extend(repository.map(|warning| warning.below("match_repository")));
    if let Some(pattern) = &policy.match_username
        && !can_contain(pattern, |c| matches!(c, ':' | '/'))
    {
        let message = "it matches no user: users are called static:<name>, oidc.<issuer>:<name>, robot:<account>+<name>, \
             service:<account>+<name>, or <user>@<domain>/<project>@<domain>";
        found.push(Warning::new("match_username", message));
    }
    let gives = |permission| policy.permissions.contains(&permission);
    if gives(PolicyPermission::AnonymousFirstPull) {
        let message =
            "anonymous_first_pull has no effect: the account replicates no other registry";
        found.push(Warning::new("permissions", message));
    }
    if gives(PolicyPermission::Push) && !gives(PolicyPermission::Pull) {
        let message =
            "push without pull: clients look whether something is there before they push it";
        found.push(Warning::new("permissions", message));
    }
    found
}

/// What the other policies make of one.
fn beside(policies: &[RbacPolicy], number: usize) -> Vec<Warning> {
    let policy = &policies[number];
    let is_within = |mine: &[PolicyPermission], theirs: &[PolicyPermission]| {
        mine.iter().all(|permission| theirs.contains(permission))
    };
    let like = |other: &&RbacPolicy| other.matches_like(policy);
    let covers = |other: &RbacPolicy| {
        is_within(&policy.permissions, &other.permissions)
            && is_within(&policy.forbidden_permissions, &other.forbidden_permissions)
    };
    let earlier = policies[..number].iter().filter(like).any(covers);
    let mut found = Vec::new();
    if earlier {
        found.push(Warning::new(
            "",
            "an earlier policy that matches the same says all that it says",
        ));
    }
    let forbidden = policies.iter().filter(like).any(|other| {
        !policy.permissions.is_empty()
            && is_within(&policy.permissions, &other.forbidden_permissions)
    });
    if forbidden {
        let message = "another policy that matches the same forbids all that it gives";
        found.push(Warning::new("permissions", message));
    }
    found
}

/// Whether all addresses of a network are IPv4 addresses in the clothes of IPv6, which requests are never told to have.
fn is_mapped(network: IpNet) -> bool {
    let IpNet::V6(network) = network else {
        return false;
    };
    let is_v4 = |address| matches!(IpAddr::V6(address).to_canonical(), IpAddr::V4(_));
    is_v4(network.network()) && is_v4(network.broadcast())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn warned(settings: Value) -> Vec<String> {
        let settings: AccountSettings = serde_json::from_value(settings).unwrap();
        assert_eq!(settings.validate(), Ok(()));
        let found = settings.warnings().into_iter();
        found.map(|warning| warning.path).collect()
    }

    #[test]
    fn settings_that_are_meant_so_are_not_warned_of() {
        let nothing: [&str; 0] = [];
        assert_eq!(warned(json!({})), nothing);
        let settings = json!({
            "rbac_policies": [
                {"match_repository": "public/.*", "permissions": ["anonymous_pull"]},
                {"match_username": ".*", "permissions": ["pull"]},
                {"match_username": ".*@corp/.*", "permissions": ["pull", "push"]},
                {"match_username": "static:ann|robot:acme\\+ci", "match_repository": "a", "permissions": ["pull", "push"]},
                {"match_cidr": "10.0.0.0/8", "permissions": ["pull"]},
                {"match_cidr": "2001:db8::/32", "permissions": ["pull"], "forbidden_permissions": ["push"]},
                {"match_repository": "public/.*", "permissions": [], "forbidden_permissions": ["delete"]},
            ],
            "tag_policies": [{"match_repository": ".*", "match_tag": "v.*", "block_overwrite": true}],
            "gc_policies": [{"match_repository": ".*", "only_untagged": true, "action": "delete"}],
        });
        assert_eq!(warned(settings), nothing);
    }

    #[test]
    fn policies_that_can_never_match_are_warned_of() {
        for (policy, path) in [
            (
                json!({"match_repository": "Team/.*", "permissions": ["anonymous_pull"]}),
                "match_repository",
            ),
            (
                json!({"match_username": "ann", "permissions": ["pull"]}),
                "match_username",
            ),
            (
                json!({"match_cidr": "::ffff:10.0.0.0/104", "permissions": ["pull"]}),
                "match_cidr",
            ),
            (
                json!({"match_username": ".*", "permissions": ["push"]}),
                "permissions",
            ),
            (
                json!({"match_repository": "a", "permissions": ["anonymous_pull", "anonymous_first_pull"]}),
                "permissions",
            ),
        ] {
            let expected = format!("rbac_policies[0].{path}");
            assert_eq!(warned(json!({"rbac_policies": [policy]})), [expected]);
        }
        let settings = json!({
            "tag_policies": [{"match_repository": "a b", "block_push": true}],
            "gc_policies": [{"match_repository": ".*", "except_repository": ".*", "action": "delete"}],
        });
        let expected = [
            "tag_policies[0].match_repository",
            "gc_policies[0].except_repository",
        ];
        assert_eq!(warned(settings), expected);
    }

    #[test]
    fn policies_that_others_make_useless_are_warned_of() {
        let give = |permissions: Value| json!({"match_username": ".*", "permissions": permissions});
        let forbid = json!({"match_username": ".*", "forbidden_permissions": ["push", "pull"]});
        for (policies, expected) in [
            (
                json!([give(json!(["pull", "push"])), give(json!(["push", "pull"]))]),
                vec!["rbac_policies[1]"],
            ),
            (
                json!([give(json!(["pull", "push"])), give(json!(["pull"]))]),
                vec!["rbac_policies[1]"],
            ),
            (
                json!([give(json!(["pull"])), give(json!(["pull", "push"]))]),
                vec![],
            ),
            (
                json!([give(json!(["pull"])), forbid]),
                vec!["rbac_policies[0].permissions"],
            ),
            (json!([give(json!(["pull", "delete"])), forbid]), vec![]),
        ] {
            assert_eq!(
                warned(json!({"rbac_policies": policies})),
                expected,
                "{policies}"
            );
        }
        let tag = json!({"match_repository": "a", "block_push": true});
        assert_eq!(
            warned(json!({"tag_policies": [tag, tag]})),
            ["tag_policies[1]"]
        );
        let gc = json!({"match_repository": "a", "action": "delete"});
        assert_eq!(warned(json!({"gc_policies": [gc, gc]})), ["gc_policies[1]"]);
    }
}
