//! `GET` and `POST /token`: what is asked and answered.

use chrono::{DateTime, SubsecRound as _};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::helpers::{claims, header};
use crate::support::{PASSWORD, TestRegistry, assert_oci_error};

/// A query or a form.
pub fn encoded(parameters: &[(&str, &str)]) -> String {
    Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish()
}

/// `GET` with Basic credentials.
pub async fn get(registry: &TestRegistry, user: &str, parameters: &[(&str, &str)]) -> Response {
    registry
        .as_user(
            user,
            Method::GET,
            &format!("/token?{}", encoded(parameters)),
        )
        .send()
        .await
        .unwrap()
}

/// `POST` with a form.
pub async fn post(registry: &TestRegistry, form: &[(&str, &str)]) -> Response {
    registry
        .anonymous(Method::POST, "/token")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(encoded(form))
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn get_answers_with_the_token_twice_and_its_times() {
    let registry = TestRegistry::start().await;
    let service = registry.address.to_string();
    let parameters = [
        ("service", service.as_str()),
        ("scope", "repository:demo/app:pull"),
        ("account", "ann"),
        ("client_id", "docker"),
        ("offline_token", "false"),
        ("unknown", "parameter"),
    ];
    let answer = get(&registry, "ann", &parameters).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "cache-control"), "no-store");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["token"], body["access_token"]);
    assert!(body["expires_in"].as_i64().unwrap() >= 60);
    let issued_at = DateTime::parse_from_rfc3339(body["issued_at"].as_str().unwrap()).unwrap();
    assert_eq!(issued_at, registry.now().trunc_subsecs(0));
    assert!(body.get("refresh_token").is_none());
    let claims = claims(body["token"].as_str().unwrap());
    assert_eq!(claims["aud"], service);
    assert_eq!(claims["sub"], "static:ann");
    let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(lifetime, body["expires_in"].as_i64().unwrap());
    assert_eq!(
        claims["access"],
        json!([{ "type": "repository", "name": "demo/app", "actions": ["pull"] }])
    );
}

#[tokio::test]
async fn post_with_a_password_answers_with_the_token_and_its_scope() {
    let registry = TestRegistry::start().await;
    let service = registry.address.to_string();
    let answer = post(
        &registry,
        &[
            ("grant_type", "password"),
            ("username", "ann"),
            ("password", PASSWORD),
            ("service", &service),
            ("client_id", "containerd-client"),
            (
                "scope",
                "repository:demo/a:pull,push repository:demo/b:pull",
            ),
        ],
    )
    .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "cache-control"), "no-store");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        body["scope"],
        "repository:demo/a:pull,push repository:demo/b:pull"
    );
    assert!(body["expires_in"].as_i64().unwrap() >= 60);
    assert!(DateTime::parse_from_rfc3339(body["issued_at"].as_str().unwrap()).is_ok());
    assert!(body.get("refresh_token").is_none());
    let token = body["access_token"].as_str().unwrap();
    let path = "/v2/demo/a/blobs/uploads/";
    assert_eq!(
        registry
            .bearer(token, Method::POST, path)
            .send()
            .await
            .unwrap()
            .status(),
        202
    );
}

#[tokio::test]
async fn other_grant_types_are_400_so_that_clients_fall_back_to_get() {
    let registry = TestRegistry::start().await;
    for form in [
        &[][..],
        &[("grant_type", "refresh_token")],
        &[("grant_type", "client_credentials")],
        &[("grant_type", "password")],
        &[("grant_type", "password"), ("username", "ann")],
        &[("username", "ann"), ("password", PASSWORD)],
    ] {
        let answer = post(&registry, form).await;
        assert_eq!(header(&answer, "content-type"), "application/json");
        assert_oci_error(answer, 400, "BAD_REQUEST").await;
    }
}

#[tokio::test]
async fn wrong_credentials_are_401() {
    let registry = TestRegistry::start().await;
    for (user, password) in [
        ("ann", "wrong"),
        ("ann", ""),
        ("unknown", PASSWORD),
        ("", ""),
        ("ANN", PASSWORD),
    ] {
        let request = registry
            .anonymous(Method::GET, "/token")
            .basic_auth(user, Some(password));
        let answer = request.send().await.unwrap();
        assert!(header(&answer, "www-authenticate").starts_with("Basic "));
        assert_oci_error(answer, 401, "UNAUTHORIZED").await;
        let form = [
            ("grant_type", "password"),
            ("username", user),
            ("password", password),
        ];
        let answer = post(&registry, &form).await;
        assert_eq!(header(&answer, "content-type"), "application/json");
        assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    }
    for user in ["ann\0", "\0", "ann:", "\u{e9}", "ann\nx"] {
        let form = [
            ("grant_type", "password"),
            ("username", user),
            ("password", PASSWORD),
        ];
        assert_oci_error(post(&registry, &form).await, 401, "UNAUTHORIZED").await;
    }
    for value in ["Basic", "Basic !!!", "Digest x", "", "Bearer abc"] {
        let request = registry
            .anonymous(Method::GET, "/token")
            .header("Authorization", value);
        let answer = request.send().await.unwrap();
        assert!(
            header(&answer, "www-authenticate").starts_with("Basic "),
            "{value}"
        );
        assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    }
}

#[tokio::test]
async fn another_service_is_400_and_none_is_fine() {
    let registry = TestRegistry::start().await;
    let answer = get(&registry, "ann", &[("service", "other.test")]).await;
    assert_oci_error(answer, 400, "BAD_REQUEST").await;
    let form = [
        ("grant_type", "password"),
        ("username", "ann"),
        ("password", PASSWORD),
        ("service", "other.test"),
    ];
    assert_oci_error(post(&registry, &form).await, 400, "BAD_REQUEST").await;
    assert_eq!(get(&registry, "ann", &[]).await.status(), 200);
}

#[tokio::test]
async fn a_form_that_is_too_large_is_413() {
    let registry = TestRegistry::start().await;
    let scope = "x".repeat(64 * 1024);
    assert_oci_error(
        post(&registry, &[("scope", &scope)]).await,
        413,
        "SIZE_INVALID",
    )
    .await;
}
