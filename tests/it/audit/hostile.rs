//! What strangers send does not stop the audit trail, and does not fill it.

use reqwest::Method;
use serde_json::json;

use crate::support::{PASSWORD, TestRegistry};

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
