//! Refresh tokens: `offline_token`, `access_type=offline`, `grant_type=refresh_token`.

use reqwest::Method;
use serde_json::{Value, json};

use super::{PULL, start_public};
use crate::support::{PASSWORD, Setup, TestRegistry};

const PUSH: &str = "repository:demo/app:pull,push";

#[tokio::test]
async fn both_forms_give_one_to_who_asks_and_it_gets_tokens_for_any_scope() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let by_get = registry.refresh_token("ann", PASSWORD).await;
    let form = [
        ("grant_type", "password"),
        ("username", "ann"),
        ("password", PASSWORD),
        ("access_type", "offline"),
    ];
    let by_post = registry.form(&form).await.1["refresh_token"].clone();
    let by_post = by_post.as_str().unwrap();
    assert!(
        registry
            .form(&form[..3])
            .await
            .1
            .get("refresh_token")
            .is_none()
    );
    for token in [by_get.as_str(), by_post, by_post] {
        let (status, answer) = registry.refresh(token, PUSH).await;
        assert_eq!((status, &answer["scope"]), (200, &json!(PUSH)));
        let access = answer["access_token"].as_str().unwrap();
        assert_eq!(registry.pull_status(access).await, 200);
        let (_, answer) = registry.refresh(token, PULL).await;
        assert_eq!(answer["scope"], PULL);
    }
    // The anonymous get none.
    let anonymous = registry.anonymous(Method::GET, "/token?offline_token=true");
    let anonymous: Value = anonymous.send().await.unwrap().json().await.unwrap();
    assert!(anonymous.get("refresh_token").is_none());
}

#[tokio::test]
async fn one_is_good_for_its_host_and_as_nothing_else() {
    let registry = TestRegistry::start().await;
    let token = registry.refresh_token("ann", PASSWORD).await;
    let body = format!("grant_type=refresh_token&refresh_token={token}");
    let ask = |host: Option<&str>| {
        let mut request = registry
            .anonymous(Method::POST, "/token")
            .body(body.clone());
        if let Some(host) = host {
            request = request.header("Host", host);
        }
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(ask(None).await, 200);
    assert_eq!(ask(Some("other.test")).await, 401);
    // As a password, as a bearer token.
    assert_eq!(registry.basic_status("ann", &token).await, 401);
    assert_eq!(registry.login("ann", &token, &[]).await.status(), 401);
    assert_eq!(registry.pull_status(&token).await, 401);
    let path = "/api/v1/me";
    let bearer = registry.bearer(&token, Method::GET, path);
    assert_eq!(bearer.send().await.unwrap().status(), 401);
    // What it is not.
    let (_, personal) = registry.make_personal(json!({})).await;
    let access = registry.token("ann", &[PULL]).await;
    let cut = &token[..token.len() - 1];
    for wrong in [personal.as_str(), &access, cut, "", "x", "kontor_refresh_"] {
        assert_eq!(registry.refresh(wrong, PULL).await.0, 401, "{wrong}");
    }
}

#[tokio::test]
async fn one_ends_at_its_time() {
    let registry = TestRegistry::start().await;
    let token = registry.refresh_token("ann", PASSWORD).await;
    let lifetime = registry.config.auth.refresh_token_seconds as i64;
    registry.pass(lifetime - 1);
    assert_eq!(registry.refresh(&token, PULL).await.0, 200);
    registry.pass(1);
    assert_eq!(registry.refresh(&token, PULL).await.0, 401);
}

#[tokio::test]
async fn one_ends_with_the_secret_that_it_was_got_with() {
    let registry = TestRegistry::start().await;
    // A personal token that ends by itself.
    let (_, short) = registry
        .make_personal(json!({ "expires_in_seconds": 60 }))
        .await;
    let by_short = registry.refresh_token("ann", &short).await;
    assert_eq!(registry.refresh(&by_short, PULL).await.0, 200);
    registry.pass(60);
    assert_eq!(registry.refresh(&by_short, PULL).await.0, 401);
    // A robot's secret that a rotation lets end.
    let first = registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    let by_first = registry.refresh_token("demo+ci", &first).await;
    let rotate = json!({ "overlap_seconds": 60 });
    let path = "accounts/demo/robots/ci/secrets";
    let rotated = registry.api(Method::POST, path, rotate).await.1;
    let second = rotated["secret"].as_str().unwrap();
    let by_second = registry.refresh_token("demo+ci", second).await;
    registry.pass(59);
    assert_eq!(registry.refresh(&by_first, PULL).await.0, 200);
    registry.pass(1);
    assert_eq!(registry.refresh(&by_first, PULL).await.0, 401);
    assert_eq!(registry.refresh(&by_second, PULL).await.0, 200);
    // And one that is removed.
    let id = rotated["robot_secret"]["id"].as_str().unwrap();
    let path = format!("{path}/{id}");
    let delete = registry.api(Method::DELETE, &path, Value::Null);
    assert_eq!(delete.await.0, 204);
    assert_eq!(registry.refresh(&by_second, PULL).await.0, 401);
}

#[tokio::test]
async fn one_that_was_revoked_stays_so_on_all_nodes() {
    let registry = start_public().await;
    let second = registry.second_node().await;
    let token = registry.refresh_token("ann", PASSWORD).await;
    assert_eq!(second.refresh(&token, PULL).await.0, 200);
    let order = json!({ "subject": "static:ann" });
    let revoke = registry.api(Method::POST, "tokens/revoke", order);
    assert_eq!(revoke.await.0, 204);
    for _ in 0..2 {
        assert_eq!(registry.refresh(&token, PULL).await.0, 401);
        assert_eq!(second.refresh(&token, PULL).await.0, 401);
    }
    registry.pass(5);
    assert_eq!(registry.refresh(&token, PULL).await.0, 401);
}

#[tokio::test]
async fn nobody_has_more_than_64() {
    let registry = TestRegistry::start().await;
    let mut tokens = Vec::new();
    for _ in 0..66 {
        tokens.push(registry.refresh_token("ann", PASSWORD).await);
        registry.pass(1);
    }
    for (number, expected) in [(0, 401), (1, 401), (2, 200), (65, 200)] {
        let (status, _) = registry.refresh(&tokens[number], PULL).await;
        assert_eq!(status, expected, "{number}");
    }
}

#[tokio::test]
async fn there_are_none_if_the_configuration_says_so() {
    let none = |config: &mut kontor::config::Config| config.auth.refresh_token_seconds = 0;
    let registry = Setup::default().config(none).start().await;
    let answer = registry
        .login("ann", PASSWORD, &[("offline_token", "true")])
        .await;
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    assert!(answer.get("refresh_token").is_none());
}

#[tokio::test]
async fn wrong_ones_are_told_and_stopped() {
    let few = |config: &mut kontor::config::Config| {
        config.auth.login_limits.per_address = 3;
        config.auth.login_limits.window_seconds = 60;
    };
    let registry = Setup::default().config(few).start().await;
    let token = registry.refresh_token("ann", PASSWORD).await;
    let unused = registry.refresh_token("ann", PASSWORD).await;
    // Whoever was let in here once is not stopped for what others do.
    registry.audit_events("action=login").await;
    assert_eq!(registry.refresh(&token, PULL).await.0, 200);
    for (number, status) in [401, 401, 401, 429].into_iter().enumerate() {
        let wrong = format!("kontor_refresh_{number:043}");
        assert_eq!(registry.refresh(&wrong, PULL).await.0, status);
    }
    assert_eq!(registry.refresh(&unused, PULL).await.0, 429);
    assert_eq!(registry.refresh(&token, PULL).await.0, 200);
    // A success is told by its token, and names somebody.
    let mut events = registry.audit_events("action=login").await;
    events.retain(|event| event.get("who").is_none());
    let count = |outcome: &str| events.iter().filter(|e| e["outcome"] == outcome).count();
    assert_eq!((count("failure"), count("denied"), events.len()), (3, 1, 4));
    for event in &events {
        assert!(event.get("client").is_some());
        assert!(!event.to_string().contains("kontor_refresh_0"));
    }
    registry.pass(60);
    assert_eq!(registry.refresh(&unused, PULL).await.0, 200);
}
