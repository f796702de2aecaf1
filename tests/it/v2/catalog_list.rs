//! `GET /v2/_catalog`

use chrono::TimeDelta;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::helpers::{header, next_page};
use crate::support::{TestRegistry, assert_oci_error, image::bytes};

/// Repositories of `demo`, and of an account of another tenant.
async fn registry() -> TestRegistry {
    let registry = TestRegistry::start().await;
    assert_eq!(
        registry
            .account("abc", json!({ "auth_tenant_id": "other" }))
            .await
            .status(),
        201
    );
    for repo in ["demo/b", "demo/a", "demo/a/nested", "abc/secret"] {
        registry.push_image(repo, "v1", 1).await;
    }
    registry
}

async fn list(registry: &TestRegistry, user: &str, query: &str) -> Response {
    registry
        .as_user(user, Method::GET, &format!("/v2/_catalog{query}"))
        .send()
        .await
        .unwrap()
}

async fn repositories(answer: Response) -> Vec<String> {
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    serde_json::from_value(body["repositories"].clone()).unwrap()
}

#[tokio::test]
async fn the_anonymous_are_challenged_even_where_everything_is_public() {
    let registry = registry().await;
    registry.allow_anonymous_pull(".*").await;
    let answer = registry
        .anonymous(Method::GET, "/v2/_catalog")
        .send()
        .await
        .unwrap();
    let challenge = header(&answer, "www-authenticate");
    assert!(
        challenge.ends_with(",scope=\"registry:catalog:*\""),
        "{challenge}"
    );
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn an_anonymous_token_lists_nothing() {
    let registry = registry().await;
    registry.allow_anonymous_pull(".*").await;
    let path = format!(
        "/token?service={}&scope=registry:catalog:*",
        registry.address
    );
    let answer = registry.anonymous(Method::GET, &path).send().await.unwrap();
    let token = answer.json::<Value>().await.unwrap()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = registry
        .bearer(&token, Method::GET, "/v2/_catalog")
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn everybody_sees_the_accounts_of_their_own_tenant_only() {
    let registry = registry().await;
    let demo = ["demo/a", "demo/a/nested", "demo/b"];
    for (user, expected) in [
        (
            "admin",
            &["abc/secret", "demo/a", "demo/a/nested", "demo/b"][..],
        ),
        ("ann", &demo),
        ("reader", &demo),
        ("other", &["abc/secret"]),
        ("nobody", &[]),
    ] {
        assert_eq!(
            repositories(list(&registry, user, "").await).await,
            expected,
            "{user}"
        );
        let token = registry.token(user, &["registry:catalog:*"]).await;
        let answer = registry
            .bearer(&token, Method::GET, "/v2/_catalog")
            .send()
            .await
            .unwrap();
        assert_eq!(repositories(answer).await, expected, "{user}");
    }
}

#[tokio::test]
async fn pages_begin_after_last_and_have_n_repositories() {
    let registry = registry().await;
    let link = |n: u32, last: &str| Some(format!("/v2/_catalog?n={n}&last={last}"));
    for (query, expected, next) in [
        ("?n=2", &["abc/secret", "demo/a"][..], link(2, "demo%2Fa")),
        ("?n=2&last=demo%2Fa", &["demo/a/nested", "demo/b"], None),
        (
            "?n=1&last=demo/a",
            &["demo/a/nested"],
            link(1, "demo%2Fa%2Fnested"),
        ),
        ("?last=demo/b", &[], None),
        (
            "?last=bcd/zzz",
            &["demo/a", "demo/a/nested", "demo/b"],
            None,
        ),
        (
            "?last=",
            &["abc/secret", "demo/a", "demo/a/nested", "demo/b"],
            None,
        ),
        ("?n=0", &[], None),
        (
            "?n=99999999999999999999",
            &["abc/secret", "demo/a", "demo/a/nested", "demo/b"],
            None,
        ),
    ] {
        let answer = list(&registry, "admin", query).await;
        assert_eq!(next_page(&answer), next, "{query}");
        assert_eq!(repositories(answer).await, expected, "{query}");
    }
}

#[tokio::test]
async fn paging_never_reaches_into_another_tenant() {
    let registry = registry().await;
    let (mut found, mut page) = (Vec::new(), Some("/v2/_catalog?n=1".to_owned()));
    while let Some(address) = page {
        let answer = registry
            .as_user("ann", Method::GET, &address)
            .send()
            .await
            .unwrap();
        page = next_page(&answer);
        found.extend(repositories(answer).await);
    }
    assert_eq!(found, ["demo/a", "demo/a/nested", "demo/b"]);
    assert_eq!(
        repositories(list(&registry, "ann", "?last=abc/aaa").await).await,
        found
    );
}

#[tokio::test]
async fn bad_parameters_are_400() {
    let registry = registry().await;
    for (query, code) in [
        ("?n=abc", "BAD_REQUEST"),
        ("?n=-1", "BAD_REQUEST"),
        ("?last=Upper/case", "NAME_INVALID"),
        ("?last=demo/..", "NAME_INVALID"),
    ] {
        assert_oci_error(list(&registry, "admin", query).await, 400, code).await;
    }
}

#[tokio::test]
async fn a_repository_is_listed_while_it_has_a_manifest() {
    let registry = TestRegistry::start().await;
    registry.push_blob("demo/app", &bytes(1, 10)).await;
    let answer = list(&registry, "admin", "").await;
    assert_eq!(
        answer.json::<Value>().await.unwrap(),
        json!({ "repositories": [] })
    );
    registry.push_image("demo/app", "v1", 1).await;
    assert_eq!(
        repositories(list(&registry, "admin", "").await).await,
        ["demo/app"]
    );
    let answer = registry.head("/v2/demo/app/manifests/v1").await;
    let manifest = header(&answer, "docker-content-digest").to_owned();
    registry.delete("/v2/demo/app/manifests/v1").await;
    assert_eq!(
        repositories(list(&registry, "admin", "").await).await,
        ["demo/app"]
    );
    registry
        .delete(&format!("/v2/demo/app/manifests/{manifest}"))
        .await;
    assert!(
        repositories(list(&registry, "admin", "").await)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_token_without_the_catalog_scope_or_an_expired_one_is_401() {
    let registry = registry().await;
    let token = registry.token("admin", &["repository:demo/a:pull"]).await;
    let answer = registry
        .bearer(&token, Method::GET, "/v2/_catalog")
        .send()
        .await
        .unwrap();
    let challenge = header(&answer, "www-authenticate");
    assert!(
        challenge.ends_with(",scope=\"registry:catalog:*\",error=\"insufficient_scope\""),
        "{challenge}"
    );
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    let token = registry.token("admin", &["registry:catalog:*"]).await;
    registry.clock.advance(TimeDelta::days(1));
    let answer = registry
        .bearer(&token, Method::GET, "/v2/_catalog")
        .send()
        .await
        .unwrap();
    assert!(header(&answer, "www-authenticate").ends_with("error=\"invalid_token\""));
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
}
