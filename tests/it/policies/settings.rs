//! Policies in the document of an account: taken, shown, refused at the member that is wrong.

use reqwest::Method;
use serde_json::{Value, json};

use super::sent;
use crate::support::TestRegistry;

#[tokio::test]
async fn what_is_shown_can_be_sent_back() {
    let registry = TestRegistry::start().await;
    let settings = json!({
        "rbac_policies": [
            { "match_cidr": "10.0.0.0/8", "match_repository": "a", "match_username": "static:ann",
              "permissions": ["push", "pull"], "forbidden_permissions": ["delete"] },
        ],
        "tag_policies": [
            { "match_repository": ".*", "except_repository": "test/.*", "match_tag": "v.*", "except_tag": "v0",
              "block_overwrite": true, "block_delete": true },
        ],
        "gc_policies": [
            { "match_repository": ".*", "only_untagged": true, "action": "delete",
              "time_constraint": { "on": "pushed_at", "older_than": { "value": 7, "unit": "d" } } },
        ],
        "validation": { "rule_for_manifest": "size(layers) < 100", "required_labels": ["owner"] },
        "in_maintenance": true,
        "metadata": { "team": "web", "contact": "web@example.org" },
    });
    registry.settings(settings.clone()).await;
    let path = "/api/v1/accounts/demo";
    let (_, shown) = sent(registry.admin(Method::GET, path)).await;
    for (name, value) in settings.as_object().unwrap() {
        assert_eq!(&shown["account"][name], value, "{name}");
    }
    registry.settings(shown["account"].clone()).await;
    let (_, again) = sent(registry.admin(Method::GET, path)).await;
    assert_eq!(again, shown);
    registry.settings(json!({})).await;
    let (_, empty) = sent(registry.admin(Method::GET, path)).await;
    assert_eq!(empty["account"]["in_maintenance"], false);
    for name in ["tag_policies", "gc_policies", "validation", "metadata"] {
        assert_eq!(empty["account"][name], Value::Null, "{name}");
    }
}

#[tokio::test]
async fn a_wrong_member_is_named_by_its_path_and_nothing_changes() {
    let registry = TestRegistry::start().await;
    let rbac = |policy: Value| json!({ "rbac_policies": [policy] });
    for (settings, path) in [
        (
            rbac(json!({ "match_cidr": "10.0.0.0", "permissions": ["pull"] })),
            "$.rbac_policies[0].match_cidr",
        ),
        (
            rbac(json!({ "match_cidr": "0.0.0.0/0", "permissions": ["pull"] })),
            "$.rbac_policies[0].match_cidr",
        ),
        (
            rbac(json!({ "match_cidr": "::/0", "permissions": ["pull"] })),
            "$.rbac_policies[0].match_cidr",
        ),
        (
            rbac(json!({ "match_cidr": "10.1.2.3/8", "permissions": ["pull"] })),
            "$.rbac_policies[0].match_cidr",
        ),
        (
            rbac(json!({ "match_username": "a", "permissions": ["pull", "fly"] })),
            "$.rbac_policies[0].permissions[1]",
        ),
        (
            rbac(json!({ "match_repository": "a", "permissions": ["anonymous_pull", "pull"] })),
            "$.rbac_policies[0].permissions[1]",
        ),
        (
            rbac(json!({ "permissions": ["pull"] })),
            "$.rbac_policies[0]",
        ),
        (
            json!({ "tag_policies": [{ "match_repository": "a", "match_tag": "(" }] }),
            "$.tag_policies[0].match_tag",
        ),
        (
            json!({ "gc_policies": [{ "match_repository": "a", "action": "delete",
                "time_constraint": { "on": "pushed_at", "newest": 1 } }] }),
            "$.gc_policies[0].time_constraint.newest",
        ),
        (
            json!({ "validation": { "rule_for_manifest": "labels ==" } }),
            "$.validation.rule_for_manifest",
        ),
        (json!({ "metadata": { "a": 1 } }), "$.metadata.a"),
    ] {
        let request = registry.admin(Method::PUT, "/api/v1/accounts/demo");
        let (status, answer) = sent(request.json(&settings)).await;
        assert_eq!(status, 422, "{settings}: {answer}");
        assert!(
            answer.to_string().contains(&format!("\"{path}\"")),
            "{path}: {answer}"
        );
    }
    let (_, shown) = sent(registry.admin(Method::GET, "/api/v1/accounts/demo")).await;
    assert_eq!(shown["account"]["rbac_policies"], json!([]));
}
