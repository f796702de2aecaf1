//! `ETag`, `If-Match`, `If-None-Match` and `dry_run` of every `PUT` below `/api/v1`; accounts have more of it in
//! `preconditions.rs`.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{PASSWORD, TestRegistry};

const BOB: &str = "/api/v1/users/bob";
const ROBOT: &str = "/api/v1/accounts/demo/robots/ci";

/// Something with a `PUT`, and documents for it that differ by a number.
struct Target {
    path: &'static str,
    order: fn(u64) -> Value,
    /// Where they differ.
    changed: &'static str,
}

const TARGETS: [Target; 5] = [
    Target {
        path: "/api/v1/accounts/demo",
        order: |n| json!({ "metadata": { "n": n.to_string() } }),
        changed: "$.metadata",
    },
    Target {
        path: "/api/v1/accounts/demo/quota",
        order: |n| json!({ "bytes": { "limit": n } }),
        changed: "$.bytes.limit",
    },
    Target {
        path: "/api/v1/auth-tenants/demo/quota",
        order: |n| json!({ "repositories": { "limit": n } }),
        changed: "$.repositories.limit",
    },
    Target {
        path: ROBOT,
        order: |n| json!({ "description": n.to_string(), "permissions": ["pull"] }),
        changed: "$.description",
    },
    Target {
        path: BOB,
        order: |n| json!({ "grants": [{ "auth_tenant_id": n.to_string(), "permissions": ["view"] }] }),
        changed: "$.grants[0]",
    },
];

/// A registry with the user `bob`, and the robot `ci` with this secret.
async fn start() -> (TestRegistry, String) {
    let registry = TestRegistry::start().await;
    let bob = json!({ "name": "bob", "password": PASSWORD });
    let request = registry.admin(Method::POST, "/api/v1/users").json(&bob);
    assert_eq!(request.send().await.unwrap().status(), 201);
    let robot = json!({ "name": "ci", "permissions": ["pull"] });
    let path = "/api/v1/accounts/demo/robots";
    let request = registry.admin(Method::POST, path).json(&robot);
    let made: Value = request.send().await.unwrap().json().await.unwrap();
    let secret = made["secret"].as_str().unwrap().to_owned();
    (registry, secret)
}

/// A `PUT` as `admin`, with a header or without.
async fn put(
    registry: &TestRegistry,
    path: &str,
    header: Option<(&str, &str)>,
    order: &Value,
) -> Response {
    let mut request = registry.admin(Method::PUT, path).json(order);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    request.send().await.unwrap()
}

fn read(tag: &str) -> Option<(&str, &str)> {
    Some(("If-Match", tag))
}

fn tag_of(answer: &Response) -> String {
    answer.headers()["etag"].to_str().unwrap().to_owned()
}

async fn tag(registry: &TestRegistry, path: &str) -> String {
    tag_of(&registry.get(path).await)
}

async fn changes(answer: Response) -> Value {
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.unwrap()["changes"].clone()
}

#[tokio::test]
async fn a_change_is_made_only_if_all_is_as_it_was_read() {
    let (registry, _) = start().await;
    for Target { path, order, .. } in TARGETS {
        let first = tag(&registry, path).await;
        let answer = put(&registry, path, read(&first), &order(1)).await;
        assert_eq!(answer.status(), 200, "{path}");
        let second = tag_of(&answer);
        assert_ne!(first, second, "{path}");
        assert_eq!(tag(&registry, path).await, second, "{path}");
        let new = ("If-None-Match", "*");
        let weak = format!("W/{second}");
        for refused in [read(&first), read(&weak), read("\"x\""), Some(new)] {
            for query in ["", "?dry_run=true"] {
                let answer = put(&registry, &format!("{path}{query}"), refused, &order(2)).await;
                assert_eq!(answer.status(), 412, "{path}{query} {refused:?}");
                let problem: Value = answer.json().await.unwrap();
                assert_eq!(problem["code"], "PRECONDITION_FAILED");
            }
        }
        assert_eq!(tag(&registry, path).await, second, "{path}");
        let several = format!("{first}, {second}");
        for fitting in [several.as_str(), "*"] {
            let answer = put(&registry, path, read(fitting), &order(1)).await;
            assert_eq!(tag_of(&answer), second, "{path} {fitting}");
        }
    }
}

#[tokio::test]
async fn of_two_changes_of_the_same_state_one_is_made() {
    let (registry, _) = start().await;
    let other_node = registry.second_node().await;
    for Target { path, order, .. } in TARGETS {
        for round in 0..5 {
            let tag = tag(&registry, path).await;
            let read = Some(("If-Match", tag.as_str()));
            let (one, other) = (order(2 * round + 10), order(2 * round + 11));
            let (one, other) = tokio::join!(
                put(&registry, path, read, &one),
                put(&other_node, path, read, &other)
            );
            let mut statuses = [one.status().as_u16(), other.status().as_u16()];
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 412], "{path}");
        }
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let (registry, _) = start().await;
    for Target {
        path,
        order,
        changed,
    } in TARGETS
    {
        let before = registry.get(path).await;
        let tag = tag_of(&before);
        let shown: Value = before.json().await.unwrap();
        let dry = format!("{path}?dry_run=true");
        let answer = put(&registry, &dry, Some(("If-Match", &tag)), &order(7)).await;
        assert!(answer.headers().get("etag").is_none(), "{path}");
        let planned = changes(answer).await;
        assert_eq!(planned[0]["path"], changed, "{path}");
        assert_eq!(planned.as_array().unwrap().len(), 1, "{path}");
        let after = registry.get(path).await;
        assert_eq!(tag_of(&after), tag, "{path}");
        assert_eq!(after.json::<Value>().await.unwrap(), shown, "{path}");
        // The change itself says the same, and then there is nothing left to change.
        let made = changes(put(&registry, path, None, &order(7)).await).await;
        assert_eq!(made, planned, "{path}");
        let again = changes(put(&registry, &dry, None, &order(7)).await).await;
        assert_eq!(again, json!([]), "{path}");
        for bad in ["dryrun=true", "dry_run=yes", "dry_run=true&dry_run=true"] {
            let answer = put(&registry, &format!("{path}?{bad}"), None, &order(8)).await;
            assert_eq!(answer.status(), 422, "{path}?{bad}");
        }
        let answer = put(&registry, &dry, None, &json!({ "colour": {} })).await;
        assert_eq!(answer.status(), 422, "{path}");
        let request = registry.as_user("reader", Method::PUT, &dry);
        let refused = request.json(&order(8)).send().await.unwrap().status();
        assert!([403, 404].contains(&refused.as_u16()), "{path}: {refused}");
    }
    for absent in ["/api/v1/users/eve", "/api/v1/accounts/demo/robots/eve"] {
        for query in ["", "?dry_run=true"] {
            let order = json!({ "grants": [] });
            let order = if absent.contains("robots") {
                json!({ "permissions": ["pull"] })
            } else {
                order
            };
            let answer = put(&registry, &format!("{absent}{query}"), None, &order).await;
            assert_eq!(answer.status(), 404, "{absent}{query}");
        }
    }
}

#[tokio::test]
async fn a_dry_run_makes_no_secret_and_takes_nothing_back() {
    let (registry, secret) = start().await;
    let login = async |user: &str, secret: &str| {
        let request = registry.basic(user, secret, Method::GET, "/v2/");
        request.send().await.unwrap().status().as_u16()
    };
    let logins = async || {
        [
            login("demo+ci", &secret).await,
            login("bob", PASSWORD).await,
        ]
    };
    let robot = json!({ "permissions": ["pull"], "is_disabled": true });
    let answer = put(&registry, &format!("{ROBOT}?dry_run=true"), None, &robot).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["robot"]["secrets"].as_array().unwrap().len(), 1);
    assert!(!answer.to_string().contains("kontor_robot_"), "{answer}");
    let bob = json!({ "grants": [], "is_disabled": true });
    let answer = put(&registry, &format!("{BOB}?dry_run=true"), None, &bob).await;
    let text = answer.text().await.unwrap();
    assert!(
        text.contains("$.is_disabled") && !text.contains("argon2"),
        "{text}"
    );
    assert_eq!(logins().await, [200, 200]);
    // A login is no change.
    let before = tag(&registry, ROBOT).await;
    registry.clock.advance(chrono::TimeDelta::hours(1));
    assert_eq!(logins().await, [200, 200]);
    assert_eq!(tag(&registry, ROBOT).await, before);
    // A rotation is one.
    let rotate = registry.admin(Method::POST, &format!("{ROBOT}/secrets"));
    assert_eq!(rotate.json(&json!({})).send().await.unwrap().status(), 201);
    assert_ne!(tag(&registry, ROBOT).await, before);
}

#[tokio::test]
async fn a_password_is_changed_only_if_the_user_is_as_read() {
    let (registry, _) = start().await;
    let path = &format!("{BOB}/password");
    let dry = &format!("{path}?dry_run=true");
    let first = tag(&registry, BOB).await;
    let read = Some(("If-Match", first.as_str()));
    let login = async |password: &str| {
        let request = registry.basic("bob", password, Method::GET, "/v2/");
        request.send().await.unwrap().status().as_u16()
    };
    let order = json!({ "password": "another password" });
    // The present password looks like any other: nobody tries one out like this.
    let same = changes(put(&registry, dry, read, &json!({ "password": PASSWORD })).await).await;
    let other = put(&registry, dry, read, &order).await;
    assert!(other.headers().get("etag").is_none());
    assert_eq!(changes(other).await, same);
    assert_eq!(
        same,
        json!([{ "path": "$.password", "before": null, "after": null }])
    );
    let short = put(&registry, dry, read, &json!({ "password": "short" })).await;
    assert_eq!(short.status(), 422);
    assert_eq!(tag(&registry, BOB).await, first);
    assert_eq!(login(PASSWORD).await, 200);

    let answer = put(&registry, path, read, &order).await;
    assert_eq!(answer.status(), 204);
    let second = tag_of(&answer);
    assert_eq!(tag(&registry, BOB).await, second);
    assert_eq!(login("another password").await, 200);
    let third = json!({ "password": "a third password" });
    for (path, header) in [
        (path, read),
        (dry, read),
        (path, Some(("If-None-Match", "*"))),
    ] {
        let answer = put(&registry, path, header, &third).await;
        assert_eq!(answer.status(), 412, "{path}");
    }
    // Not even a password that is the same is the same change.
    let again = put(&registry, path, Some(("If-Match", &second)), &order).await;
    assert_ne!(tag_of(&again), second);
}
