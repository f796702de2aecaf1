//! RBAC policies over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use super::{pull_from, sent, start_behind_proxy};
use crate::support::TestRegistry;

#[tokio::test]
async fn a_network_may_pull_what_others_may_not() {
    let registry = start_behind_proxy().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry
        .rbac(json!([
            { "match_cidr": "10.0.0.0/8", "permissions": ["anonymous_pull"] },
            { "match_cidr": "2001:db8::/32", "permissions": ["pull"] },
        ]))
        .await;
    for (user, from, status) in [
        (None, "10.1.2.3", 200),
        (None, "11.1.2.3", 401),
        (None, "2001:db8::1", 401),
        (Some("nobody"), "10.1.2.3", 200),
        (Some("nobody"), "2001:db8::1", 200),
        (Some("nobody"), "2001:db9::1", 403),
        (Some("reader"), "2001:db9::1", 200),
    ] {
        let actual = pull_from(&registry, user, "demo/app", from).await;
        assert_eq!(actual, status, "{user:?} {from}");
    }
}

#[tokio::test]
async fn an_address_that_a_stranger_claims_does_not_count() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry
        .rbac(json!([{ "match_cidr": "10.0.0.0/8", "permissions": ["anonymous_pull"] }]))
        .await;
    assert_eq!(
        pull_from(&registry, None, "demo/app", "10.1.2.3").await,
        401
    );
}

#[tokio::test]
async fn what_is_forbidden_is_taken_from_grants_robots_and_other_policies() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/prod", "v1", 1).await;
    let (status, robot) = sent(
        registry
            .admin(Method::POST, "/api/v1/accounts/demo/robots")
            .json(&json!({ "name": "ci", "permissions": ["pull", "push", "delete"] })),
    )
    .await;
    assert_eq!(status, 201);
    let secret = robot["secret"].as_str().unwrap();
    let path = "/v2/demo/prod/blobs/uploads/";
    let statuses = async || {
        let robot = registry.anonymous(Method::POST, path);
        let robot = sent(robot.basic_auth("demo+ci", Some(secret))).await.0;
        let ann = sent(registry.as_user("ann", Method::POST, path)).await.0;
        let nobody = sent(registry.as_user("nobody", Method::POST, path)).await.0;
        [ann, nobody, robot]
    };
    let give = json!({ "match_username": "static:.*", "permissions": ["pull", "push"] });
    registry.rbac(json!([give])).await;
    assert_eq!(statuses().await, [202, 202, 202]);
    let forbid = json!({ "match_repository": "prod", "forbidden_permissions": ["push"] });
    registry.rbac(json!([give, forbid])).await;
    assert_eq!(statuses().await, [403, 403, 403]);
    registry.rbac(json!([forbid, give])).await;
    assert_eq!(statuses().await, [403, 403, 403]);
    let forbid = json!({ "match_username": "robot:.*", "forbidden_permissions": ["push"] });
    registry.rbac(json!([give, forbid])).await;
    assert_eq!(statuses().await, [202, 202, 403]);
    // Pulls are not forbidden by any of this.
    assert_eq!(
        pull_from(&registry, Some("ann"), "demo/prod", "").await,
        200
    );
}

#[tokio::test]
async fn logging_in_is_never_worse_than_not_logging_in() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let public = json!({ "match_repository": "app", "permissions": ["anonymous_pull"] });
    let not_ann = json!({ "match_username": "static:ann", "forbidden_permissions": ["pull"] });
    registry.rbac(json!([public, not_ann])).await;
    for user in [None, Some("ann"), Some("nobody")] {
        assert_eq!(pull_from(&registry, user, "demo/app", "").await, 200);
    }
    registry.rbac(json!([not_ann])).await;
    assert_eq!(pull_from(&registry, Some("ann"), "demo/app", "").await, 403);
    assert_eq!(
        pull_from(&registry, Some("reader"), "demo/app", "").await,
        200
    );
    let not_public =
        json!({ "match_repository": ".*", "forbidden_permissions": ["anonymous_pull"] });
    registry.rbac(json!([public, not_public])).await;
    for (user, status) in [(None, 401), (Some("ann"), 200), (Some("nobody"), 403)] {
        assert_eq!(pull_from(&registry, user, "demo/app", "").await, status);
    }
}

#[tokio::test]
async fn a_token_has_what_the_address_of_the_login_may() {
    let registry = start_behind_proxy().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry
        .rbac(json!([
            { "match_cidr": "10.0.0.0/8", "permissions": ["pull"] },
            { "match_cidr": "192.0.2.0/24", "forbidden_permissions": ["pull", "push"] },
        ]))
        .await;
    let granted = async |user: &str, scope: &str, from: &str| {
        let query = format!("/token?service=registry.test&scope=repository:demo/{scope}");
        let request = registry.as_user(user, Method::GET, &query);
        let (status, answer) = sent(request.header("X-Forwarded-For", from)).await;
        assert_eq!(status, 200, "{answer}");
        let token = answer["token"].as_str().unwrap().to_owned();
        let access = crate::v2::helpers::claims(&token)["access"].take();
        let actions = access
            .get(0)
            .map_or(Value::Null, |first| first["actions"].clone());
        (token, actions)
    };
    let all = "app:pull,push,delete";
    for (user, scope, from, actions) in [
        ("nobody", all, "10.1.2.3", json!(["pull"])),
        ("nobody", all, "11.1.2.3", Value::Null),
        ("ann", all, "11.1.2.3", json!(["delete", "pull", "push"])),
        ("ann", all, "192.0.2.1", json!(["delete"])),
        ("ann", "*:pull", "11.1.2.3", json!(["pull"])),
        ("ann", "*:pull", "192.0.2.1", Value::Null),
    ] {
        let (_, mut actual) = granted(user, scope, from).await;
        if let Some(actions) = actual.as_array_mut() {
            actions.sort_by_key(ToString::to_string);
        }
        assert_eq!(actual, actions, "{user} {scope} {from}");
    }
    // It is good elsewhere as well, as long as it lives.
    let (token, _) = granted("nobody", all, "10.1.2.3").await;
    let request = registry.bearer(&token, Method::GET, "/v2/demo/app/tags/list");
    let (status, _) = sent(request.header("X-Forwarded-For", "11.1.2.3")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_mount_takes_nothing_from_where_pulling_is_forbidden() {
    let registry = TestRegistry::start().await;
    let digest = registry.push_blob("demo/secret", b"layer").await;
    let path = format!("/v2/demo/app/blobs/uploads/?mount={digest}&from=demo/secret");
    let anywhere = format!("/v2/demo/app/blobs/uploads/?mount={digest}");
    registry
        .rbac(json!([{ "match_repository": "secret", "match_username": ".*", "forbidden_permissions": ["pull"] }]))
        .await;
    let token = registry
        .token(
            "ann",
            &["repository:demo/app:pull,push", "repository:demo/*:pull"],
        )
        .await;
    for path in [&path, &anywhere] {
        let (status, _) = sent(registry.as_user("ann", Method::POST, path)).await;
        assert_eq!(status, 202, "{path}");
        let (status, _) = sent(registry.bearer(&token, Method::POST, path)).await;
        assert_eq!(status, 202, "{path}");
    }
    registry.rbac(json!([])).await;
    let (status, _) = sent(registry.as_user("ann", Method::POST, &path)).await;
    assert_eq!(status, 201);
}
