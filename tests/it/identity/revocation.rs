//! `POST /api/v1/tokens/revoke`

use reqwest::Method;
use serde_json::{Value, json};

use super::{PULL, sent, start_public};
use crate::{
    support::{PASSWORD, TestRegistry},
    v2::helpers::claims,
};

async fn revoke(registry: &TestRegistry, user: &str, order: Value) -> u16 {
    let request = registry.as_user(user, Method::POST, "/api/v1/tokens/revoke");
    sent(request.json(&order)).await.0
}

#[tokio::test]
async fn all_of_a_subject_ends_on_all_nodes_and_after_a_restart() {
    let registry = start_public().await;
    registry.push_image("demo/app", "v1", 1).await;
    let second = registry.second_node().await;
    let token = registry.token_of("ann", PASSWORD, &[PULL]).await;
    let readers = registry.token_of("reader", PASSWORD, &[PULL]).await;
    let (_, personal) = registry.make_personal(json!({})).await;
    for node in [&registry, &second] {
        assert_eq!(node.pull_status(&token).await, 200);
    }
    let order = json!({ "subject": "static:ann" });
    assert_eq!(revoke(&registry, "ann", order).await, 204);
    assert_eq!(registry.pull_status(&token).await, 401);
    second.registry.revocations_refresh().await.unwrap();
    let restarted = registry.second_node().await;
    for node in [&registry, &second, &restarted] {
        assert_eq!(node.pull_status(&token).await, 401);
        assert_eq!(node.basic_status("ann", &personal).await, 401);
        assert_eq!(node.pull_status(&readers).await, 200, "others keep theirs");
        assert_eq!(node.basic_status("ann", PASSWORD).await, 200);
    }
    registry.pass(2);
    let fresh = registry.token_of("ann", PASSWORD, &[PULL]).await;
    assert_eq!(registry.pull_status(&fresh).await, 200);
}

#[tokio::test]
async fn one_token_ends_by_its_jti() {
    let registry = start_public().await;
    registry.push_image("demo/app", "v1", 1).await;
    let second = registry.second_node().await;
    let (first, other) = (
        registry.token_of("ann", PASSWORD, &[PULL]).await,
        registry.token_of("ann", PASSWORD, &[PULL]).await,
    );
    let order = json!({ "jti": claims(&first)["jti"] });
    assert_eq!(revoke(&registry, "admin", order).await, 204);
    second.registry.revocations_refresh().await.unwrap();
    for node in [&registry, &second] {
        assert_eq!(node.pull_status(&first).await, 401);
        assert_eq!(node.pull_status(&other).await, 200);
    }
}

#[tokio::test]
async fn a_revoked_token_finishes_no_upload_either() {
    let registry = TestRegistry::start().await;
    let scope = "repository:demo/app:pull,push";
    let token = registry.token("ann", &[scope]).await;
    let start = registry.bearer(&token, Method::POST, "/v2/demo/app/blobs/uploads/");
    let start = start.send().await.unwrap();
    assert_eq!(start.status(), 202);
    let location = start.headers()["location"].to_str().unwrap().to_owned();
    registry.pass(registry.config.auth.push_token_seconds as i64 + 1);
    let patch = |token: &str| registry.bearer(token, Method::PATCH, &location).body("x");
    let late = patch(&token).send().await.unwrap();
    assert_eq!(late.status(), 202, "it has expired, and may go on");
    let order = json!({ "subject": "static:ann" });
    assert_eq!(revoke(&registry, "admin", order).await, 204);
    assert_eq!(patch(&token).send().await.unwrap().status(), 401);
    registry.pass(3600);
    registry.registry.identity_sweep().await.unwrap();
    registry.registry.revocations_refresh().await.unwrap();
    assert_eq!(patch(&token).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn only_operators_revoke_what_is_not_theirs() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let token = registry.token("ann", &[PULL]).await;
    let jti = claims(&token)["jti"].clone();
    for user in ["reader", "other", "nobody"] {
        assert_eq!(
            revoke(&registry, user, json!({ "subject": "static:ann" })).await,
            403
        );
        assert_eq!(revoke(&registry, user, json!({ "jti": jti })).await, 403);
    }
    for order in [
        json!({}),
        json!({ "jti": "x", "subject": "y" }),
        json!({ "sub": "static:ann" }),
    ] {
        assert_eq!(revoke(&registry, "admin", order).await, 422);
    }
    assert_eq!(registry.pull_status(&token).await, 200);
    let anonymous = registry
        .anonymous(Method::POST, "/api/v1/tokens/revoke")
        .json(&json!({ "jti": jti }));
    assert_eq!(sent(anonymous).await.0, 401);
}
