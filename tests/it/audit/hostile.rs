//! What strangers send does not stop the audit trail, and does not fill it.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{PASSWORD, Setup, TestRegistry};

/// A login by the form of the token service, which takes any name.
async fn form_login(registry: &TestRegistry, name: &str) -> u16 {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "password")
        .append_pair("username", name)
        .append_pair("password", "wrong wrong")
        .finish();
    let request = registry
        .anonymous(Method::POST, "/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn names_that_no_database_takes_keep_nothing_back() {
    let registry = TestRegistry::start().await;
    assert_eq!(form_login(&registry, "a\0b\nc").await, 401);
    let account = "x".repeat(5000);
    let path = format!(
        "/token?service={}&scope=repository:{account}/y:pull",
        registry.address
    );
    let token = registry.anonymous(Method::GET, &path).send().await.unwrap();
    assert_eq!(token.status(), 200);
    // What comes after them is written all the same.
    registry.token("ann", &["repository:demo/app:pull"]).await;
    let login = registry.audit_last("action=login&user=abc").await;
    assert_eq!(login["outcome"], "failure");
    let issued = registry.audit_events("action=token.issue").await;
    // They are of one moment, so their order is not known.
    let (ours, theirs): (Vec<_>, Vec<_>) =
        issued.iter().partition(|event| event["account"] == "demo");
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    assert_eq!(theirs[0]["account"], json!(null));
    assert!(theirs[0].to_string().len() < 4000);
}

#[tokio::test]
async fn a_secret_in_the_place_of_a_name_is_not_kept() {
    let registry = TestRegistry::start().await;
    let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
    for pasted in ["kontor_pat_0123456789abcdef0123456789abcdef", jwt] {
        form_login(&registry, pasted).await;
    }
    for event in registry.audit_events("action=login").await {
        let text = event.to_string();
        assert!(
            !text.contains("kontor_pat_0") && !text.contains(jwt),
            "{text}"
        );
    }
}

#[tokio::test]
async fn refusals_of_the_other_apis_are_told_too() {
    let registry = TestRegistry::start().await;
    for (method, path) in [
        (Method::DELETE, "/keppel/v1/accounts/demo"),
        (Method::GET, "/keppel/v1/quotas/demo"),
        (Method::GET, "/api/v1/auth-tenants/demo/quota"),
    ] {
        let request = registry.basic("nobody", PASSWORD, method.clone(), path);
        let status = request.send().await.unwrap().status().as_u16();
        assert!([403, 404].contains(&status), "{path}: {status}");
        let told = registry
            .audit_last("action=access&user=static:nobody")
            .await;
        assert_eq!(told["target"]["name"], format!("{method} {path}"));
    }
}

/// Those of the events that stand for others, and the others.
fn told(events: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    events
        .into_iter()
        .partition(|event| event.get("left_out").is_some())
}

#[tokio::test]
async fn too_many_logins_are_one_event_and_a_number() {
    let few = |config: &mut kontor::config::Config| {
        config.auth.login_limits.per_user_and_address = 2;
        config.auth.login_limits.window_seconds = 60;
    };
    let registry = Setup::default().config(few).start().await;
    for status in [401, 401, 429, 429, 429, 429] {
        assert_eq!(form_login(&registry, "ann").await, status);
    }
    let query = "action=login&outcome=denied";
    let (sums, single) = told(registry.audit_events(query).await);
    assert_eq!((sums.len(), single.len()), (0, 1));
    assert_eq!(single[0]["who"]["name"], "ann");
    registry.clock.advance(TimeDelta::seconds(60));
    let (sums, single) = told(registry.audit_events(query).await);
    assert_eq!((sums.len(), single.len()), (1, 1));
    assert_eq!(sums[0]["left_out"], 3);
    assert_eq!(sums[0]["client"], single[0]["client"]);
    // The failures themselves are told one by one: they are few.
    let failures = registry.audit_events("action=login&outcome=failure").await;
    assert_eq!(failures.len(), 2);
}

#[tokio::test]
async fn anonymous_tokens_and_refusals_are_bounded_and_those_of_people_are_not() {
    let registry = TestRegistry::start().await;
    let service = registry.address;
    let scope = format!("/token?service={service}&scope=repository:demo/app:pull");
    let anonymous = registry.anonymous(Method::GET, &scope).send();
    let anonymous: Value = anonymous.await.unwrap().json().await.unwrap();
    let anonymous = anonymous["token"].as_str().unwrap();
    let own = registry
        .token("nobody", &["repository:demo/app:pull"])
        .await;
    let path = "/v2/demo/app/manifests/v1";
    for _ in 1..62 {
        let token = registry.anonymous(Method::GET, &scope).send().await;
        assert_eq!(token.unwrap().status(), 200);
    }
    for _ in 0..62 {
        for token in [anonymous, &own] {
            let refused = registry
                .anonymous(Method::GET, path)
                .bearer_auth(token)
                .send();
            assert_eq!(refused.await.unwrap().status(), 401);
        }
        registry
            .token("nobody", &["repository:demo/app:pull"])
            .await;
    }
    registry.clock.advance(TimeDelta::seconds(60));
    for (action, who, of_people) in [("token.issue", "anonymous", 63), ("access", "", 62)] {
        let events = registry.audit_events(&format!("action={action}")).await;
        let (sums, single) = told(events);
        let (strangers, people): (Vec<_>, Vec<_>) = single
            .iter()
            .partition(|event| event["who"]["name"].as_str().unwrap_or_default() == who);
        assert_eq!((strangers.len(), people.len()), (60, of_people), "{action}");
        assert!(people.iter().all(|e| e["who"]["name"] == "static:nobody"));
        assert_eq!(
            (sums.len(), &sums[0]["left_out"]),
            (1, &json!(2)),
            "{action}"
        );
    }
}

#[tokio::test]
async fn what_was_left_out_is_told_before_the_end() {
    let registry = TestRegistry::start().await;
    for _ in 0..61 {
        let token = registry.anonymous(Method::GET, "/token").send().await;
        assert_eq!(token.unwrap().status(), 200);
    }
    registry.registry.audit_close().await.unwrap();
    let (sums, single) = told(registry.audit_events("action=token.issue").await);
    assert_eq!((sums.len(), single.len()), (1, 60));
}
