//! Guessing passwords: failed logins are counted.

use reqwest::{Method, Response};

use crate::support::{PASSWORD, Setup, TestRegistry, assert_oci_error};

const HERE: &str = "192.0.2.1";
const ELSEWHERE: &str = "198.51.100.1";

/// Three failures of a user from one address, five from one address.
async fn start() -> TestRegistry {
    let change = |config: &mut kontor::config::Config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.auth.login_limits.per_user_and_address = 3;
        config.auth.login_limits.per_user = 100;
        config.auth.login_limits.per_address = 5;
        config.auth.login_limits.window_seconds = 60;
    };
    Setup::default().config(change).start().await
}

async fn try_at(
    registry: &TestRegistry,
    path: &str,
    address: &str,
    (user, password): (&str, &str),
) -> Response {
    let request = registry
        .basic(user, password, Method::GET, path)
        .header("X-Forwarded-For", address);
    request.send().await.unwrap()
}

async fn status(registry: &TestRegistry, address: &str, login: (&str, &str)) -> u16 {
    let answer = try_at(registry, "/v2/", address, login).await;
    answer.status().as_u16()
}

#[tokio::test]
async fn after_three_failures_not_even_the_right_password_is_taken_from_there() {
    let registry = start().await;
    let (right, wrong) = (("ann", PASSWORD), ("ann", "wrong"));
    for path in ["/v2/", "/token", "/api/v1/me"] {
        let answer = try_at(&registry, path, HERE, wrong).await;
        assert_eq!(answer.status(), 401, "{path}");
    }
    for path in ["/v2/", "/token"] {
        let answer = try_at(&registry, path, HERE, right).await;
        let wait: u64 = answer.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert_oci_error(answer, 429, "TOOMANYREQUESTS").await;
    }
    let problem = try_at(&registry, "/api/v1/me", HERE, right).await;
    assert_eq!(problem.status(), 429);
    assert!(problem.headers().contains_key("retry-after"));
    assert_eq!(
        problem.headers()["content-type"],
        "application/problem+json"
    );
    // Others are not stopped, nor she from elsewhere.
    assert_eq!(status(&registry, HERE, ("reader", PASSWORD)).await, 200);
    assert_eq!(status(&registry, ELSEWHERE, right).await, 200);
    // What the client says of itself before the proxy does, counts for nothing.
    let forged = format!("{ELSEWHERE}, {HERE}");
    assert_eq!(status(&registry, &forged, right).await, 429);
    registry.pass(59);
    assert_eq!(status(&registry, HERE, right).await, 429);
    registry.pass(1);
    assert_eq!(status(&registry, HERE, right).await, 200);
}

#[tokio::test]
async fn a_success_forgives_what_the_user_failed_before() {
    let registry = start().await;
    for _ in 0..2 {
        for _ in 0..2 {
            assert_eq!(status(&registry, HERE, ("ann", "wrong")).await, 401);
        }
        assert_eq!(status(&registry, HERE, ("ann", PASSWORD)).await, 200);
    }
}

#[tokio::test]
async fn an_address_that_tries_many_names_is_stopped_but_not_who_logged_in_from_there() {
    let registry = start().await;
    assert_eq!(status(&registry, HERE, ("ann", PASSWORD)).await, 200);
    for number in 0..5 {
        let name = format!("guess{number}");
        assert_eq!(status(&registry, HERE, (&name, PASSWORD)).await, 401);
    }
    assert_eq!(status(&registry, HERE, ("reader", PASSWORD)).await, 429);
    assert_eq!(status(&registry, HERE, ("ann", PASSWORD)).await, 200);
    assert_eq!(
        status(&registry, ELSEWHERE, ("reader", PASSWORD)).await,
        200
    );
}

/// All that a client sees of an answer, without what is different for each.
async fn seen(answer: Response) -> (u16, Vec<(String, String)>, String) {
    let status = answer.status().as_u16();
    let mut headers: Vec<_> = answer
        .headers()
        .iter()
        .filter(|(name, _)| !["date", "x-request-id", "retry-after"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (status, headers, answer.text().await.unwrap())
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_have_the_same_answer() {
    let registry = start().await;
    let unknown_robot = format!("kontor_robot_{}", "A".repeat(43));
    for path in ["/v2/", "/token", "/api/v1/me"] {
        let known = seen(try_at(&registry, path, HERE, ("ann", "wrong")).await).await;
        let unknown = seen(try_at(&registry, path, ELSEWHERE, ("nemo", "wrong")).await).await;
        assert_eq!(known, unknown, "{path}");
        assert_eq!(known.0, 401);
        let address = format!("203.0.113.{}", path.len());
        let robot = ("absent+ci", unknown_robot.as_str());
        assert_eq!(
            known,
            seen(try_at(&registry, path, &address, robot).await).await
        );
    }
    // Being stopped looks the same too.
    let known = seen(try_at(&registry, "/v2/", HERE, ("ann", "wrong")).await).await;
    let unknown = seen(try_at(&registry, "/v2/", ELSEWHERE, ("nemo", "wrong")).await).await;
    assert_eq!(known, unknown);
    assert_eq!(known.0, 429);
}
