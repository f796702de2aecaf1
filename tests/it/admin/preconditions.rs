//! `ETag`, `If-Match`, `dry_run` and paging of `/api/v1/accounts`.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::TestRegistry;

const DEMO: &str = "/api/v1/accounts/demo";

async fn put(registry: &TestRegistry, path: &str, tag: Option<&str>, order: &Value) -> Response {
    let mut request = registry.as_user("admin", Method::PUT, path).json(order);
    if let Some(tag) = tag {
        request = request.header("If-Match", tag);
    }
    request.send().await.unwrap()
}

async fn tag(registry: &TestRegistry, path: &str) -> String {
    let answer = registry.as_user("admin", Method::GET, path).send().await;
    let answer = answer.unwrap();
    answer.headers()["etag"].to_str().unwrap().to_owned()
}

fn public() -> Value {
    json!({ "rbac_policies": [{ "match_repository": "lib/.*", "permissions": ["anonymous_pull"] }] })
}

#[tokio::test]
async fn a_change_is_made_only_if_the_account_is_as_it_was_read() {
    let registry = TestRegistry::start().await;
    let first = tag(&registry, DEMO).await;
    let answer = put(&registry, DEMO, Some(&first), &public()).await;
    assert_eq!(answer.status(), 200);
    let second = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(tag(&registry, DEMO).await, second);
    let refused = put(&registry, DEMO, Some(&first), &json!({})).await;
    assert_eq!(refused.status(), 412);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "PRECONDITION_FAILED");
    assert_eq!(tag(&registry, DEMO).await, second);
    // One of several, and any.
    let several = format!("{first}, {second}");
    for fitting in [several.as_str(), "*"] {
        let answer = put(&registry, DEMO, Some(fitting), &public()).await;
        assert_eq!(answer.status(), 200, "{fitting}");
    }
    // An account that is not there fits nothing.
    let order = json!({ "auth_tenant_id": "x" });
    for tag in ["*", &second] {
        let answer = put(&registry, "/api/v1/accounts/fresh", Some(tag), &order).await;
        assert_eq!(answer.status(), 412);
    }
    let create = || {
        let request = registry.as_user("admin", Method::PUT, "/api/v1/accounts/fresh");
        request.header("If-None-Match", "*").json(&order).send()
    };
    assert_eq!(create().await.unwrap().status(), 201);
    assert_eq!(create().await.unwrap().status(), 412);
}

#[tokio::test]
async fn of_two_changes_of_the_same_state_one_is_made() {
    let registry = TestRegistry::start().await;
    for round in 0..10 {
        let tag = tag(&registry, DEMO).await;
        let order = |name: String| json!({ "metadata": { "changed_by": name } });
        let (one, other) = (
            order(format!("one {round}")),
            order(format!("other {round}")),
        );
        let (one, other) = tokio::join!(
            put(&registry, DEMO, Some(&tag), &one),
            put(&registry, DEMO, Some(&tag), &other)
        );
        let mut statuses = [one.status().as_u16(), other.status().as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412]);
    }
}

#[tokio::test]
async fn a_deletion_can_be_bound_to_what_was_read() {
    let registry = TestRegistry::start().await;
    let stale = tag(&registry, DEMO).await;
    assert_eq!(put(&registry, DEMO, None, &public()).await.status(), 200);
    let delete = |tag: String| {
        let request = registry.as_user("admin", Method::DELETE, DEMO);
        request.header("If-Match", tag).send()
    };
    assert_eq!(delete(stale).await.unwrap().status(), 412);
    let current = tag(&registry, DEMO).await;
    assert_eq!(delete(current).await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let registry = TestRegistry::start().await;
    let dry = format!("{DEMO}?dry_run=true");
    let before = tag(&registry, DEMO).await;
    let answer = put(&registry, &dry, Some(&before), &public()).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().get("etag").is_none());
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["created"], false);
    assert_eq!(
        answer["changes"],
        json!([{
            "path": "$.rbac_policies[0]",
            "before": null,
            "after": public()["rbac_policies"][0],
        }])
    );
    assert_eq!(
        answer["account"]["rbac_policies"],
        public()["rbac_policies"]
    );
    assert_eq!(tag(&registry, DEMO).await, before);
    // The real change says the same, and after it there is nothing left to change.
    let made: Value = put(&registry, DEMO, None, &public())
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(made, answer);
    let again = put(&registry, &dry, None, &public()).await;
    let again: Value = again.json().await.unwrap();
    assert_eq!(again["changes"], json!([]));
    // A new account.
    let new = "/api/v1/accounts/fresh";
    let order = json!({ "auth_tenant_id": "x" });
    let answer = put(&registry, &format!("{new}?dry_run=true"), None, &order).await;
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["created"], true);
    let shown = registry.as_user("admin", Method::GET, new).send().await;
    assert_eq!(shown.unwrap().status(), 404);
    // All that would be refused is refused, and a misspelt parameter is no change.
    for (path, order, status) in [
        (dry.as_str(), json!({ "colour": 1 }), 422),
        (&dry, json!({ "storage": "other" }), 422),
        ("/api/v1/accounts/fresh?dry_run=true", json!({}), 422),
        ("/api/v1/accounts/demo?dryrun=true", json!({}), 422),
        ("/api/v1/accounts/demo?dry_run=yes", json!({}), 422),
        (
            "/api/v1/accounts/demo?dry_run=true&dry_run=false",
            json!({}),
            422,
        ),
    ] {
        let answer = put(&registry, path, None, &order).await;
        assert_eq!(answer.status(), status, "{path} {order}");
    }
    let request = registry.as_user("reader", Method::PUT, &dry);
    let refused = request.json(&public()).send().await.unwrap();
    assert_eq!(refused.status(), 403);
}

#[tokio::test]
async fn a_policy_that_never_matches_is_accepted_with_a_warning() {
    let registry = TestRegistry::start().await;
    let order = json!({ "rbac_policies": [
        { "match_repository": "UPPER", "permissions": ["anonymous_pull"] },
    ] });
    let answer: Value = put(&registry, DEMO, None, &order)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        answer["warnings"][0]["path"],
        "rbac_policies[0].match_repository"
    );
}

#[tokio::test]
async fn accounts_come_in_pages_and_each_one_once() {
    let registry = TestRegistry::start().await;
    for number in 0..7 {
        let tenant = if number % 2 == 0 { "demo" } else { "elsewhere" };
        let order = json!({ "auth_tenant_id": tenant });
        let answer = registry.account(&format!("page-{number}"), order).await;
        assert_eq!(answer.status(), 201);
    }
    for (user, expected) in [
        (
            "admin",
            vec![
                "demo", "page-0", "page-1", "page-2", "page-3", "page-4", "page-5", "page-6",
            ],
        ),
        ("ann", vec!["demo", "page-0", "page-2", "page-4", "page-6"]),
        ("nobody", vec![]),
    ] {
        let mut seen = Vec::new();
        let mut path = "/api/v1/accounts?limit=2".to_owned();
        loop {
            let answer = registry.as_user(user, Method::GET, &path).send().await;
            let page: Value = answer.unwrap().json().await.unwrap();
            let accounts = page["accounts"].as_array().unwrap();
            assert!(accounts.len() <= 2);
            seen.extend(
                accounts
                    .iter()
                    .map(|a| a["name"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next"].as_str() else {
                break;
            };
            path = format!("/api/v1/accounts?limit=2&last={next}");
        }
        let mine = |name: &&String| expected.contains(&name.as_str()) || !name.starts_with("page");
        assert!(seen.iter().all(|name| mine(&name)), "{user}: {seen:?}");
        let pages: Vec<_> = seen
            .iter()
            .filter(|name| name.starts_with("page"))
            .collect();
        let wanted: Vec<_> = expected
            .iter()
            .filter(|name| name.starts_with("page"))
            .collect();
        assert_eq!(pages, wanted, "{user}");
    }
    for bad in [
        "limit=0",
        "limit=x",
        "limit=-1",
        "page=2",
        "limit=1&limit=2",
    ] {
        let path = format!("/api/v1/accounts?{bad}");
        let answer = registry.as_user("admin", Method::GET, &path).send().await;
        assert_eq!(answer.unwrap().status(), 422, "{bad}");
    }
}
