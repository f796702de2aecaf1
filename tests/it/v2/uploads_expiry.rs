//! Uploads that last longer than the token they began with (moby#33558).

use chrono::TimeDelta;
use reqwest::{Method, Response};

use super::helpers::{REPO, header};
use crate::support::{TestRegistry, assert_oci_error, image::digest};

const SCOPE: &str = "repository:demo/app:pull,push";

async fn start(registry: &TestRegistry, token: &str) -> Response {
    registry
        .bearer(token, Method::POST, &format!("/v2/{REPO}/blobs/uploads/"))
        .send()
        .await
        .unwrap()
}

/// Ends the upload of `hello`, of which `last` is still to come.
async fn finish(
    registry: &TestRegistry,
    token: &str,
    location: &str,
    last: &'static str,
) -> Response {
    let path = format!("{location}?digest={}", digest(b"hello"));
    let request = registry.bearer(token, Method::PUT, &path);
    request.body(last).send().await.unwrap()
}

async fn assert_expired(answer: Response) {
    let challenge = header(&answer, "www-authenticate");
    assert!(
        challenge.ends_with(",error=\"invalid_token\""),
        "{challenge}"
    );
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
}

/// A push token and the time that it is valid.
async fn push_token(registry: &TestRegistry) -> (String, TimeDelta) {
    let lifetime = registry.config.auth.push_token_seconds;
    (
        registry.token("ann", &[SCOPE]).await,
        TimeDelta::seconds(lifetime as i64 + 1),
    )
}

#[tokio::test]
async fn a_token_that_expired_meanwhile_may_append_and_finish() {
    let registry = TestRegistry::start().await;
    let (token, lifetime) = push_token(&registry).await;
    let location = header(&start(&registry, &token).await, "location").to_owned();
    registry.clock.advance(lifetime);
    let answer = registry
        .bearer(&token, Method::GET, &location)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    let answer = registry
        .bearer(&token, Method::PATCH, &location)
        .body("hel")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(
        finish(&registry, &token, &location, "lo").await.status(),
        201
    );
}

#[tokio::test]
async fn a_token_that_expired_may_neither_begin_an_upload_nor_do_anything_else() {
    let registry = TestRegistry::start().await;
    let (token, lifetime) = push_token(&registry).await;
    registry.push_image(REPO, "v1", 1).await;
    registry.clock.advance(lifetime);
    assert_expired(start(&registry, &token).await).await;
    let blob = digest(b"x");
    for (method, path) in [
        (
            Method::POST,
            format!("/v2/{REPO}/blobs/uploads/?digest={blob}"),
        ),
        (
            Method::POST,
            format!("/v2/{REPO}/blobs/uploads/?mount={blob}"),
        ),
        (Method::PUT, format!("/v2/{REPO}/manifests/v2")),
        (Method::GET, format!("/v2/{REPO}/manifests/v1")),
        (Method::GET, format!("/v2/{REPO}/blobs/{blob}")),
        (Method::GET, format!("/v2/{REPO}/tags/list")),
        (Method::GET, format!("/v2/{REPO}/referrers/{blob}")),
        (Method::GET, "/v2/".to_owned()),
    ] {
        assert_expired(registry.bearer(&token, method, &path).send().await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_token_that_had_expired_before_an_upload_began_may_not_finish_it() {
    let registry = TestRegistry::start().await;
    let (token, lifetime) = push_token(&registry).await;
    registry.clock.advance(lifetime);
    let location = registry.begin_upload(REPO).await;
    assert_expired(finish(&registry, &token, &location, "hello").await).await;
    let answer = registry
        .bearer(&token, Method::PATCH, &location)
        .body("x")
        .send()
        .await
        .unwrap();
    assert_expired(answer).await;
    let answer = registry
        .bearer(&token, Method::DELETE, &location)
        .send()
        .await
        .unwrap();
    assert_expired(answer).await;
    assert_eq!(header(&registry.get(&location).await, "range"), "0-0");
}

#[tokio::test]
async fn the_grace_ends_a_day_after_the_token_expired() {
    let registry = TestRegistry::start().await;
    let (token, lifetime) = push_token(&registry).await;
    let location = header(&start(&registry, &token).await, "location").to_owned();
    registry.clock.advance(lifetime + TimeDelta::hours(23));
    let answer = registry
        .bearer(&token, Method::PATCH, &location)
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    registry.clock.advance(TimeDelta::hours(1));
    assert_expired(finish(&registry, &token, &location, "x").await).await;
}

#[tokio::test]
async fn the_grace_is_for_the_token_s_own_repository_and_actions() {
    let registry = TestRegistry::start().await;
    let lifetime = push_token(&registry).await.1;
    let others = registry
        .token("ann", &["repository:demo/other:pull,push"])
        .await;
    let pull = registry.token("ann", &["repository:demo/app:pull"]).await;
    let location = registry.begin_upload(REPO).await;
    registry.clock.advance(lifetime);
    for token in [others, pull] {
        let answer = finish(&registry, &token, &location, "x").await;
        assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    }
    assert_eq!(registry.get(&location).await.status(), 204);
}
