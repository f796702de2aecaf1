//! `/api/v1/tokens`

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use super::{PULL, sent};
use crate::{
    support::{PASSWORD, TestRegistry},
    v2::helpers::claims,
};

const TOKENS: &str = "/api/v1/tokens";

#[tokio::test]
async fn a_token_is_made_shown_used_and_ended() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let order = json!({ "description": "laptop", "expires_in_seconds": 3600 });
    let (status, made) = sent(registry.as_user("ann", Method::POST, TOKENS).json(&order)).await;
    assert_eq!((status, &made["login"]), (201, &json!("ann")));
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("kontor_pat_"));
    let asked = "repository:demo/app:pull,push,delete";
    assert_eq!(registry.granted("ann", token, asked).await, asked);
    assert_eq!(registry.granted("static:ann", token, PULL).await, PULL);
    let access = registry.token_of("ann", token, &[PULL]).await;
    let id = made["personal_token"]["id"].as_str().unwrap();
    let claims = claims(&access);
    assert_eq!(claims["sub"], "static:ann");
    assert_eq!(claims["origin"], format!("personal token {id}"));

    let (_, listed) = sent(registry.as_user("ann", Method::GET, TOKENS)).await;
    let [one] = listed["personal_tokens"].as_array().unwrap().as_slice() else {
        panic!("{listed}")
    };
    assert_eq!(
        (&one["id"], &one["description"]),
        (&json!(id), &json!("laptop"))
    );
    assert!(one["last_used_at"].is_string());
    assert!(!listed.to_string().contains(token));
    let (_, others) = sent(registry.as_user("reader", Method::GET, TOKENS)).await;
    assert_eq!(others["personal_tokens"], json!([]));

    let path = format!("{TOKENS}/{id}");
    let delete = async |user: &str| sent(registry.as_user(user, Method::DELETE, &path)).await.0;
    assert_eq!(delete("reader").await, 404, "it is not theirs");
    assert_eq!(registry.basic_status("ann", token).await, 200);
    let refresh = registry.refresh_token("ann", token).await;
    assert_eq!(delete("ann").await, 204);
    assert_eq!(registry.basic_status("ann", token).await, 401);
    assert_eq!(registry.refresh(&refresh, PULL).await.0, 401);
    assert_eq!(registry.pull_status(&access).await, 401);
    assert_eq!(delete("ann").await, 404);
}

#[tokio::test]
async fn a_narrowed_token_is_good_for_nothing_more() {
    let registry = TestRegistry::start().await;
    let (_, token) = registry
        .make_personal(json!({ "permissions": ["pull"] }))
        .await;
    let asked = "repository:demo/app:pull,push,delete";
    assert_eq!(registry.granted("ann", &token, asked).await, PULL);
    let push = registry.basic("ann", &token, Method::POST, "/v2/demo/app/blobs/uploads/");
    assert_eq!(sent(push).await.0, 403);
    let refresh = registry.refresh_token("ann", &token).await;
    let (status, answer) = registry.refresh(&refresh, asked).await;
    assert_eq!((status, &answer["scope"]), (200, &json!(PULL)));
    let account = registry.basic("ann", &token, Method::GET, "/api/v1/accounts/demo");
    assert_eq!(
        sent(account).await.0,
        404,
        "it may not even see the account"
    );
    // A token of one user is no token of another.
    for other in ["reader", "admin", "", "static:reader", "robot:ann", "ANN"] {
        assert_eq!(registry.basic_status(other, &token).await, 401, "{other}");
    }
}

#[tokio::test]
async fn a_token_makes_no_other_and_changes_no_password() {
    let registry = TestRegistry::start().await;
    let password = registry.make_bob().await;
    let make = registry.basic("bob", &password, Method::POST, TOKENS);
    let token = sent(make.json(&json!({}))).await.1["token"].clone();
    let token = token.as_str().unwrap();
    let more = registry.basic("bob", token, Method::POST, TOKENS);
    assert_eq!(sent(more.json(&json!({}))).await.0, 403);
    let change = registry
        .basic("bob", token, Method::PUT, "/api/v1/users/bob/password")
        .json(&json!({ "password": "taken over!" }));
    assert_eq!(sent(change).await.0, 403);
    assert_eq!(registry.basic_status("bob", &password).await, 200);
}

#[tokio::test]
async fn a_token_ends_at_its_time() {
    let registry = TestRegistry::start().await;
    let (_, short) = registry
        .make_personal(json!({ "expires_in_seconds": 60 }))
        .await;
    let at = registry.now() + TimeDelta::seconds(120);
    let (_, dated) = registry.make_personal(json!({ "expires_at": at })).await;
    let (_, month) = registry.make_personal(json!({})).await;
    let statuses = async || {
        [
            registry.basic_status("ann", &short).await,
            registry.basic_status("ann", &dated).await,
            registry.basic_status("ann", &month).await,
        ]
    };
    registry.pass(59);
    assert_eq!(statuses().await, [200, 200, 200]);
    registry.pass(1);
    assert_eq!(statuses().await, [401, 200, 200]);
    registry.pass(60);
    assert_eq!(statuses().await, [401, 401, 200]);
    registry.pass(30 * 86_400);
    assert_eq!(statuses().await, [401, 401, 401]);
}

#[tokio::test]
async fn bad_orders_are_refused_with_the_reason() {
    let registry = TestRegistry::start().await;
    let longest = registry.config.auth.personal_token_seconds;
    let soon = registry.now() + TimeDelta::hours(1);
    for (order, reason) in [
        (json!({ "permissions": [] }), "good for nothing"),
        (json!({ "permissions": ["fly"] }), "fly"),
        (json!({ "expires_in_seconds": longest + 1 }), "days at most"),
        (json!({ "expires_in_seconds": 0 }), "past"),
        (json!({ "expires_in_seconds": -1 }), "-1"),
        (json!({ "expires_at": "2020-01-01T00:00:00Z" }), "past"),
        (
            json!({ "expires_at": soon, "expires_in_seconds": 60 }),
            "exclude",
        ),
        (json!({ "description": "x".repeat(257) }), "256 bytes"),
        (json!({ "colour": 1 }), "colour"),
        (json!([]), ""),
    ] {
        let request = registry.as_user("ann", Method::POST, TOKENS).json(&order);
        let (status, problem) = sent(request).await;
        assert_eq!(status, 422, "{order}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{order}: {detail}");
    }
    let path = format!("{TOKENS}/not-an-id");
    assert_eq!(
        sent(registry.as_user("ann", Method::DELETE, &path)).await.0,
        400
    );
    let anonymous = registry.anonymous(Method::POST, TOKENS).json(&json!({}));
    assert_eq!(sent(anonymous).await, {
        let other = registry.anonymous(Method::GET, TOKENS);
        sent(other).await
    });
    assert_eq!(registry.basic_status("ann", PASSWORD).await, 200);
    let (_, listed) = sent(registry.as_user("ann", Method::GET, TOKENS)).await;
    assert_eq!(listed["personal_tokens"], Value::Array(Vec::new()));
}
