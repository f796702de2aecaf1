//! Rate limits: who shares a bucket with whom, what the client is told, and that nothing else is counted.

use chrono::TimeDelta;
use kontor::{
    config::{Config, RateLimitBackend},
    db::rate_limits::rate_limits_sweep,
    model::rate_limit::bucket_time,
};
use reqwest::{Method, Response};
use serde_json::json;

use super::helpers::{REPO, header};
use crate::support::{PASSWORD, Setup, TestRegistry, assert_oci_error};

const MANIFEST: &str = "/v2/demo/app/manifests/v1";

fn limited(config: &mut Config) {
    config.rate_limits.manifest_pulls = Some("1 per minute, burst 2".parse().unwrap());
}

/// A registry with an image, where two pulls are free.
async fn start(change: impl FnOnce(&mut Config) + Send + 'static) -> TestRegistry {
    let registry = Setup::default()
        .config(|config| {
            limited(config);
            config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
            config.server.public_url = Some("https://registry.test/".parse().unwrap());
            change(config);
        })
        .start()
        .await;
    registry.push_image(REPO, "v1", 1).await;
    registry
}

async fn pull(registry: &TestRegistry, user: &str) -> Response {
    let request = registry.as_user(user, Method::GET, MANIFEST);
    request.send().await.unwrap()
}

async fn pull_from(registry: &TestRegistry, address: &str) -> u16 {
    let request = registry.anonymous(Method::GET, MANIFEST);
    let request = request.header("X-Forwarded-For", address);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn too_many_pulls_are_429_until_the_time_that_the_client_is_told() {
    for backend in [RateLimitBackend::Process, RateLimitBackend::Database] {
        let registry = start(move |config| config.rate_limits.backend = backend).await;
        for remaining in ["1", "0"] {
            let answer = pull(&registry, "ann").await;
            assert_eq!(answer.status(), 200);
            assert_eq!(header(&answer, "x-ratelimit-action"), "pullmanifest");
            assert_eq!(header(&answer, "x-ratelimit-limit"), "2");
            assert_eq!(header(&answer, "x-ratelimit-remaining"), remaining);
        }
        registry.clock.advance(TimeDelta::seconds(10));
        let answer = pull(&registry, "ann").await;
        assert_eq!(header(&answer, "retry-after"), "50");
        assert_eq!(header(&answer, "x-ratelimit-limit"), "2");
        assert_eq!(header(&answer, "x-ratelimit-remaining"), "0");
        assert_eq!(header(&answer, "x-ratelimit-reset"), "110");
        assert_oci_error(answer, 429, "TOOMANYREQUESTS").await;
        registry.clock.advance(TimeDelta::seconds(49));
        assert_eq!(pull(&registry, "ann").await.status(), 429);
        registry.clock.advance(TimeDelta::seconds(1));
        assert_eq!(pull(&registry, "ann").await.status(), 200);
        assert_eq!(pull(&registry, "ann").await.status(), 429);
    }
}

#[tokio::test]
async fn a_bucket_is_an_identitys_in_one_account_however_it_logs_in() {
    let registry = start(|_| {}).await;
    registry
        .account("second", json!({ "auth_tenant_id": "demo" }))
        .await;
    let order = |name: &str| json!({ "name": name, "permissions": ["pull"] });
    let mut secrets = Vec::new();
    for name in ["one", "two"] {
        let (_, made) = registry
            .api(Method::POST, "accounts/demo/robots", order(name))
            .await;
        secrets.push(made["secret"].as_str().unwrap().to_owned());
    }
    let token = registry
        .token_of("ann", PASSWORD, &["repository:demo/app:pull"])
        .await;
    let by_token = async || {
        let request = registry.bearer(&token, Method::GET, MANIFEST);
        request.send().await.unwrap().status().as_u16()
    };
    let robot = async |number: usize| {
        let name = ["demo+one", "demo+two"][number];
        let request = registry.basic(name, &secrets[number], Method::GET, MANIFEST);
        request.send().await.unwrap().status().as_u16()
    };
    // The password and a token count together.
    assert_eq!(pull(&registry, "ann").await.status(), 200);
    assert_eq!(by_token().await, 200);
    assert_eq!(by_token().await, 429);
    assert_eq!(pull(&registry, "ann").await.status(), 429);
    // Others are not held up: another user, each robot, another account.
    assert_eq!(pull(&registry, "reader").await.status(), 200);
    assert_eq!(
        [robot(0).await, robot(0).await, robot(0).await],
        [200, 200, 429]
    );
    assert_eq!(robot(1).await, 200);
    let elsewhere = "/v2/second/app/manifests/v1";
    let answer = registry.as_user("ann", Method::GET, elsewhere);
    assert_eq!(answer.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn the_anonymous_are_counted_by_address_and_ipv6_by_network() {
    let registry = start(|_| {}).await;
    registry.allow_anonymous_pull("app").await;
    assert_eq!(pull_from(&registry, "203.0.113.1").await, 200);
    assert_eq!(pull_from(&registry, "203.0.113.1").await, 200);
    assert_eq!(pull_from(&registry, "203.0.113.1").await, 429);
    assert_eq!(pull_from(&registry, "203.0.113.2").await, 200);
    for (address, status) in [
        ("2001:db8::1", 200),
        ("2001:db8::2", 200),
        ("2001:db8::3", 429),
        ("2001:db8:0:1::1", 200),
    ] {
        assert_eq!(pull_from(&registry, address).await, status, "{address}");
    }
    // Who logs in from a busy address has a bucket of their own.
    assert_eq!(pull(&registry, "ann").await.status(), 200);
}

#[tokio::test]
async fn who_may_not_pull_is_not_counted_and_learns_nothing() {
    let registry = start(|_| {}).await;
    for _ in 0..4 {
        let answer = pull(&registry, "nobody").await;
        assert!(!answer.headers().contains_key("x-ratelimit-limit"));
        assert_oci_error(answer, 403, "DENIED").await;
        assert_eq!(pull_from(&registry, "203.0.113.1").await, 401);
    }
}

#[tokio::test]
async fn head_is_free_and_what_is_missing_counts() {
    let registry = start(|_| {}).await;
    for _ in 0..4 {
        let answer = registry.head(MANIFEST).await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("x-ratelimit-limit"));
    }
    for remaining in ["1", "0"] {
        let answer = registry.get("/v2/demo/app/manifests/nothing").await;
        assert_eq!(header(&answer, "x-ratelimit-remaining"), remaining);
        assert_oci_error(answer, 404, "MANIFEST_UNKNOWN").await;
    }
    assert_eq!(registry.get(MANIFEST).await.status(), 429);
}

#[tokio::test]
async fn each_kind_has_its_own_bucket() {
    let registry = Setup::default()
        .config(|config| {
            let rate = || Some("1 per day, burst 2".parse().unwrap());
            config.rate_limits.manifest_pushes = rate();
            config.rate_limits.blob_pushes = rate();
            config.rate_limits.blob_pulls = rate();
        })
        .start()
        .await;
    // A configuration and a layer; then the manifest.
    let manifest = registry.push_image(REPO, "v1", 1).await;
    let start = registry.admin(Method::POST, "/v2/demo/app/blobs/uploads/");
    let answer = start.send().await.unwrap();
    assert_eq!(header(&answer, "x-ratelimit-action"), "pushblob");
    assert_oci_error(answer, 429, "TOOMANYREQUESTS").await;
    let config = manifest["config"]["digest"].as_str().unwrap();
    let blob = format!("/v2/demo/app/blobs/{config}");
    for status in [200, 200, 429] {
        let answer = registry.get(&blob).await;
        assert_eq!(answer.status(), status);
        assert_eq!(header(&answer, "x-ratelimit-action"), "pullblob");
    }
    assert_eq!(registry.head(&blob).await.status(), 200);
    for status in [201, 429] {
        let put = registry.admin(Method::PUT, MANIFEST);
        let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
        let put = put.header("Content-Type", media_type);
        let answer = put.body(manifest.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(header(&answer, "x-ratelimit-action"), "pushmanifest");
    }
    // Manifests are pulled without a limit here.
    for _ in 0..4 {
        let answer = registry.get(MANIFEST).await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("x-ratelimit-limit"));
    }
}

#[tokio::test]
async fn nodes_share_buckets_in_the_database_only() {
    for (backend, status) in [
        (RateLimitBackend::Process, 200),
        (RateLimitBackend::Database, 429),
    ] {
        let registry = start(move |config| config.rate_limits.backend = backend).await;
        let other = registry.second_node().await;
        for _ in 0..2 {
            assert_eq!(pull(&registry, "ann").await.status(), 200);
        }
        assert_eq!(pull(&other, "ann").await.status(), status);
    }
}

#[tokio::test]
async fn of_many_at_once_only_the_burst_gets_through() {
    for backend in [RateLimitBackend::Process, RateLimitBackend::Database] {
        let registry = start(move |config| config.rate_limits.backend = backend).await;
        let pulls = (0..20).map(|_| pull(&registry, "ann"));
        let answers = futures::future::join_all(pulls).await;
        let of = |status: u16| answers.iter().filter(|a| a.status() == status).count();
        assert_eq!((of(200), of(429)), (2, 18));
    }
}

#[tokio::test]
async fn empty_buckets_are_removed_from_the_database() {
    let registry = start(|config| config.rate_limits.backend = RateLimitBackend::Database).await;
    for _ in 0..2 {
        pull(&registry, "ann").await;
    }
    registry.clock.advance(TimeDelta::seconds(60));
    registry.registry.rate_limits_sweep().await.unwrap();
    let answer = pull(&registry, "ann").await;
    assert_eq!(header(&answer, "x-ratelimit-remaining"), "0");
    registry.clock.advance(TimeDelta::seconds(119));
    let sweep = async || {
        let now = bucket_time(registry.now());
        let sweep = move |conn: &mut kontor::db::Conn| rate_limits_sweep(conn, now);
        registry.db.write(sweep).await.unwrap()
    };
    assert_eq!(sweep().await, 0, "what is not empty stays");
    registry.clock.advance(TimeDelta::seconds(1));
    assert_eq!(sweep().await, 1);
}
