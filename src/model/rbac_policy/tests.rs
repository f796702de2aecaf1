//! Whom a policy meets, and which policies are refused.

use serde_json::{Value, json};

use super::*;

fn policy(document: Value) -> RbacPolicy {
    serde_json::from_value(document).unwrap()
}

fn visitor<'a>(repo: &'a RepoName, user: Option<&'a str>, client: Option<&str>) -> Visitor<'a> {
    Visitor {
        owner: "tests",
        repo: Some(repo),
        user,
        client: client.map(|address| address.parse().unwrap()),
    }
}

fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

#[test]
fn patterns_match_the_whole_name() {
    use PolicyPermission::AnonymousPull;
    let public = policy(json!({"match_repository": "lib", "permissions": ["anonymous_pull"]}));
    for (name, is_met) in [("lib", true), ("library", false), ("my/lib", false)] {
        let name = repo(name);
        assert_eq!(
            public.gives(AnonymousPull, visitor(&name, None, None)),
            is_met
        );
    }
    // An alternation must not escape the anchors.
    let either = policy(json!({"match_repository": "a|b", "permissions": ["anonymous_pull"]}));
    assert!(!either.gives(AnonymousPull, visitor(&repo("abc"), None, None)));
}

#[test]
fn a_policy_gives_and_forbids_what_it_names_to_those_that_it_meets() {
    use PolicyPermission::{Delete, Pull, Push};
    let team = policy(json!({
        "match_repository": "team/.*", "match_username": "static:(ann|bob)", "match_cidr": "10.0.0.0/8",
        "permissions": ["pull"], "forbidden_permissions": ["push"],
    }));
    let (inside, outside) = (repo("team/x"), repo("x"));
    let bob = Some("static:bob");
    for (name, user, client, is_met) in [
        (&inside, bob, Some("10.1.2.3"), true),
        (&inside, bob, Some("::ffff:10.1.2.3"), true),
        (&inside, bob, Some("11.1.2.3"), false),
        (&inside, bob, Some("2001:db8::1"), false),
        (&inside, Some("static:bobby"), Some("10.1.2.3"), false),
        (&inside, None, Some("10.1.2.3"), false),
        (&outside, bob, Some("10.1.2.3"), false),
    ] {
        let visitor = visitor(name, user, client);
        assert_eq!(team.gives(Pull, visitor), is_met, "{visitor:?}");
        assert_eq!(team.forbids(Push, visitor), is_met, "{visitor:?}");
        assert!(!team.gives(Push, visitor) && !team.forbids(Pull, visitor));
        assert!(!team.gives(Delete, visitor) && !team.forbids(Delete, visitor));
    }
}

#[test]
fn an_unknown_address_is_given_nothing_and_forbidden_everything() {
    let policy = policy(json!({
        "match_cidr": "10.0.0.0/8", "permissions": ["pull"], "forbidden_permissions": ["push"],
    }));
    let name = repo("x");
    let nowhere = visitor(&name, Some("static:ann"), None);
    assert!(!policy.gives(PolicyPermission::Pull, nowhere));
    assert!(policy.forbids(PolicyPermission::Push, nowhere));
}

#[test]
fn policies_that_mean_nothing_are_refused_at_their_member() {
    for (document, path) in [
        (
            json!({"match_repository": "(", "permissions": ["anonymous_pull"]}),
            "match_repository",
        ),
        (
            json!({"match_repository": "", "permissions": ["anonymous_pull"]}),
            "match_repository",
        ),
        (
            json!({"match_username": "[", "permissions": ["pull"]}),
            "match_username",
        ),
        (json!({"permissions": ["anonymous_pull"]}), ""),
        (json!({"match_repository": "x"}), "permissions"),
        (
            json!({"match_repository": "x", "match_username": "y", "permissions": ["anonymous_pull"]}),
            "match_username",
        ),
        (
            json!({"match_username": "y", "permissions": ["pull"], "forbidden_permissions": ["anonymous_pull"]}),
            "match_username",
        ),
        (
            json!({"match_repository": "x", "permissions": ["anonymous_pull", "push"]}),
            "permissions[1]",
        ),
        (
            json!({"match_cidr": "10.0.0.0/8", "permissions": ["pull", "delete"]}),
            "permissions[1]",
        ),
        (
            json!({"match_cidr": "10.0.0.0/8", "permissions": ["anonymous_first_pull"]}),
            "permissions[0]",
        ),
        (
            json!({"match_username": "x", "permissions": ["pull", "push", "pull"]}),
            "permissions[2]",
        ),
        (
            json!({"match_username": "x", "permissions": ["pull"], "forbidden_permissions": ["push", "pull"]}),
            "forbidden_permissions[1]",
        ),
        (
            json!({"match_cidr": "0.0.0.0/0", "permissions": ["pull"]}),
            "match_cidr",
        ),
        (
            json!({"match_cidr": "::/0", "permissions": ["pull"]}),
            "match_cidr",
        ),
        (
            json!({"match_cidr": "10.1.2.3/8", "permissions": ["pull"]}),
            "match_cidr",
        ),
        (
            json!({"match_repository": "a{1000}{1000}{1000}", "permissions": ["anonymous_pull"]}),
            "match_repository",
        ),
    ] {
        let refused = policy(document.clone()).validate().unwrap_err();
        assert_eq!(refused.path, path, "{document}: {refused}");
    }
    let every = policy(json!({"match_cidr": "::/0", "permissions": ["pull"]}));
    assert!(
        every
            .validate()
            .unwrap_err()
            .reason
            .contains("leave match_cidr out")
    );
    let host = policy(json!({"match_cidr": "10.1.2.3/8", "permissions": ["pull"]}));
    assert!(host.validate().unwrap_err().reason.contains("10.0.0.0/8"));
}

#[test]
fn policies_of_keppel_are_taken() {
    for document in [
        json!({"match_repository": "library/.*", "permissions": ["anonymous_pull"]}),
        json!({"match_repository": "library/alpine", "match_username": "u@d", "permissions": ["pull", "push"]}),
        json!({"match_cidr": "192.0.2.0/24", "permissions": ["pull"]}),
        json!({"match_cidr": "192.0.2.0/24", "permissions": ["anonymous_pull", "anonymous_first_pull"]}),
        json!({"match_username": ".*", "permissions": [], "forbidden_permissions": ["delete"]}),
        json!({"match_repository": "prod/.*", "permissions": [], "forbidden_permissions": ["push"]}),
    ] {
        assert_eq!(policy(document.clone()).validate(), Ok(()), "{document}");
        assert_eq!(
            serde_json::to_value(policy(document.clone())).unwrap(),
            document
        );
    }
}

#[test]
fn networks_that_are_none_are_named() {
    for text in ["10.0.0.0", "10.0.0.0/33", "example.org/8", ""] {
        let document = json!({"match_cidr": text, "permissions": ["pull"]});
        let error = serde_json::from_value::<RbacPolicy>(document).unwrap_err();
        assert!(
            error.to_string().contains("is not a network such as"),
            "{error}"
        );
    }
}
