//! Which tokens are accepted.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use super::helpers::{claims, header};
use crate::support::{TestRegistry, assert_oci_error};

const PATH: &str = "/v2/demo/app/tags/list";
const SCOPE: &str = "repository:demo/app:pull";

async fn assert_refused(registry: &TestRegistry, token: &str) {
    for path in ["/v2/", PATH] {
        let answer = registry
            .bearer(token, Method::GET, path)
            .send()
            .await
            .unwrap();
        let challenge = header(&answer, "www-authenticate");
        assert!(
            challenge.ends_with(",error=\"invalid_token\""),
            "{challenge}"
        );
        assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    }
}

#[tokio::test]
async fn a_token_is_good_until_it_expires() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let token = registry.token("ann", &[SCOPE]).await;
    let lifetime = registry.config.auth.pull_token_seconds as i64;
    registry.clock.advance(TimeDelta::seconds(lifetime - 1));
    assert_eq!(
        registry
            .bearer(&token, Method::GET, PATH)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    registry.clock.advance(TimeDelta::seconds(1));
    assert_refused(&registry, &token).await;
}

#[tokio::test]
async fn a_token_for_pushing_lasts_longer_than_one_for_pulling() {
    let registry = TestRegistry::start().await;
    let lifetime = |token: &str| {
        let claims = claims(token);
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
    };
    let auth = &registry.config.auth;
    assert_eq!(
        lifetime(&registry.token("ann", &[SCOPE]).await),
        auth.pull_token_seconds as i64
    );
    let push = registry
        .token("ann", &["repository:demo/app:pull,push"])
        .await;
    assert_eq!(lifetime(&push), auth.push_token_seconds as i64);
    // Asking is not enough.
    let asked = registry
        .token("reader", &["repository:demo/app:pull,push"])
        .await;
    assert_eq!(lifetime(&asked), auth.pull_token_seconds as i64);
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused() {
    let registry = TestRegistry::start().await;
    let token = registry.token("ann", &[SCOPE]).await;
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    let mut more = claims(&token);
    more["access"][0]["actions"] = json!(["pull", "push", "delete"]);
    let mut none = header.clone();
    none["alg"] = json!("none");
    let mut symmetric = header.clone();
    symmetric["alg"] = json!("HS256");
    let mut unknown_key = header;
    unknown_key["kid"] = json!("0000000000000000");
    let flipped = if parts[2].starts_with('A') { "B" } else { "A" };
    for forged in [
        format!("{}.{}.{}", parts[0], encode(&more), parts[2]),
        format!("{}.{}.{flipped}{}", parts[0], parts[1], &parts[2][1..]),
        format!("{}.{}.", encode(&none), encode(&more)),
        format!("{}.{}.{}", encode(&none), parts[1], parts[2]),
        format!("{}.{}.{}", encode(&symmetric), parts[1], parts[2]),
        format!("{}.{}.{}", encode(&unknown_key), parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        "abc".to_owned(),
        "a.b.c".to_owned(),
    ] {
        assert_refused(&registry, &forged).await;
    }
    assert_eq!(
        registry
            .bearer(&token, Method::GET, "/v2/")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_token_of_another_registry_is_refused() {
    let registry = TestRegistry::start().await;
    let other = TestRegistry::start().await;
    assert_refused(&registry, &other.token("ann", &[SCOPE]).await).await;
}

#[tokio::test]
async fn a_token_for_another_host_name_of_this_registry_is_refused() {
    let registry = TestRegistry::start().await;
    let token = registry.token("ann", &[SCOPE]).await;
    let request = registry
        .bearer(&token, Method::GET, "/v2/")
        .header("Host", "other.test");
    assert_oci_error(request.send().await.unwrap(), 401, "UNAUTHORIZED").await;
    let request = registry
        .as_user("ann", Method::GET, "/token?service=other.test")
        .header("Host", "other.test");
    let token = request.send().await.unwrap().json::<Value>().await.unwrap()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_refused(&registry, &token).await;
    let request = registry
        .bearer(&token, Method::GET, "/v2/")
        .header("Host", "OTHER.test");
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_token_of_one_node_is_good_on_another_with_the_same_key() {
    use crate::support::Setup;
    let public = |config: &mut kontor::config::Config| {
        config.server.public_url = Some("https://registry.test/".parse().unwrap());
    };
    let first = Setup::default().config(public).start().await;
    let second = first.second_node().await;
    let answer = first
        .as_user("ann", Method::GET, "/token?service=registry.test")
        .send()
        .await
        .unwrap();
    let token = answer.json::<Value>().await.unwrap()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        second
            .bearer(&token, Method::GET, "/v2/")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_token_allows_what_it_says_and_nothing_else() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry.push_image("demo/app2", "v1", 1).await;
    let token = registry
        .token(
            "admin",
            &["repository:demo/app:pull", "repository:demo/app2:delete"],
        )
        .await;
    for (method, path, status, scope) in [
        (Method::GET, "/v2/demo/app/manifests/v1", 200, ""),
        (
            Method::GET,
            "/v2/demo/app2/manifests/v1",
            401,
            "repository:demo/app2:pull",
        ),
        (
            Method::GET,
            "/v2/demo/ap/tags/list",
            401,
            "repository:demo/ap:pull",
        ),
        (
            Method::GET,
            "/v2/demo/app/nested/tags/list",
            401,
            "repository:demo/app/nested:pull",
        ),
        (
            Method::POST,
            "/v2/demo/app/blobs/uploads/",
            401,
            "repository:demo/app:pull,push",
        ),
        (
            Method::DELETE,
            "/v2/demo/app/manifests/v1",
            401,
            "repository:demo/app:delete",
        ),
        (Method::DELETE, "/v2/demo/app2/manifests/v1", 202, ""),
        (Method::GET, "/v2/_catalog", 401, "registry:catalog:*"),
    ] {
        let answer = registry
            .bearer(&token, method.clone(), path)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        if status == 401 {
            let expected = format!(",scope=\"{scope}\",error=\"insufficient_scope\"");
            let challenge = header(&answer, "www-authenticate");
            assert!(challenge.ends_with(&expected), "{challenge}");
        }
    }
}

#[tokio::test]
async fn a_scope_on_all_repositories_is_for_mounting_only() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let token = registry.token("ann", &["repository:demo/*:pull"]).await;
    let answer = registry
        .bearer(&token, Method::GET, PATH)
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn the_management_api_takes_no_tokens() {
    let registry = TestRegistry::start().await;
    let token = registry.token("admin", &["registry:catalog:*"]).await;
    let answer = registry
        .bearer(&token, Method::GET, "/api/v1/accounts")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 401);
}
