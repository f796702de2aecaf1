//! `/api/v1/.../quota`, and the metrics.

use std::time::{Duration, Instant};

use diesel::RunQueryDsl as _;
use kontor::{
    db::{
        Conn,
        quotas::{book_lock, limits_set},
    },
    model::quota::{BookKind, Limits, Resource},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{ACCOUNT, TENANT, start, start_with};
use crate::support::TestRegistry;

async fn status(registry: &TestRegistry, user: &str, method: Method, path: &str) -> u16 {
    let request = registry.as_user(user, method, path);
    let order = json!({ "bytes": { "limit": 5 } });
    request.json(&order).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn who_may_see_and_set_what() {
    let registry = start().await;
    // Of the account: who may see it, and who may change it.
    for (user, get, put) in [
        ("owner", 200, 200),
        ("ann", 200, 403),
        ("reader", 200, 403),
        ("quota-reader", 404, 404),
        ("other", 404, 404),
        ("nobody", 404, 404),
    ] {
        assert_eq!(
            status(&registry, user, Method::GET, ACCOUNT).await,
            get,
            "{user}"
        );
        assert_eq!(
            status(&registry, user, Method::PUT, ACCOUNT).await,
            put,
            "{user}"
        );
    }
    // Of the auth tenant: its own admin cannot raise what the operator has set.
    for (user, get, put) in [
        ("owner", 200, 403),
        ("quota-reader", 200, 403),
        ("ann", 404, 404),
        ("other", 404, 404),
        ("nobody", 404, 404),
    ] {
        assert_eq!(
            status(&registry, user, Method::GET, TENANT).await,
            get,
            "{user}"
        );
        assert_eq!(
            status(&registry, user, Method::PUT, TENANT).await,
            put,
            "{user}"
        );
        assert_eq!(
            status(&registry, user, Method::DELETE, TENANT).await,
            put,
            "{user}"
        );
    }
    for path in [ACCOUNT, TENANT] {
        let answer = registry.anonymous(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
    assert_eq!(registry.quota(TENANT).await["bytes"]["limit"], json!(null));
    // A hidden auth tenant looks like one that does not exist.
    let detail = async |tenant: &str| {
        let path = format!("/api/v1/auth-tenants/{tenant}/quota");
        let answer = registry.as_user("ann", Method::GET, &path).send().await;
        let problem: Value = answer.unwrap().json().await.unwrap();
        problem["detail"].as_str().unwrap().replace(tenant, "x")
    };
    assert_eq!(detail("other").await, detail("absent").await);
}

#[tokio::test]
async fn what_is_shown_can_be_sent_back_and_parts_can_be_left_out() {
    let registry = start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry.limit(ACCOUNT, "bytes", 5000).await;
    registry.limit(ACCOUNT, "manifests", 0).await;
    let shown = registry.quota(ACCOUNT).await;
    assert_eq!(shown["bytes"]["limit"], 5000);
    assert_eq!(shown["manifests"], json!({ "limit": 0, "used": 1 }));
    assert_eq!(shown["repositories"], json!({ "limit": null, "used": 1 }));
    let put = async |document: Value| {
        let request = registry.admin(Method::PUT, ACCOUNT).json(&document);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let mut same = shown.clone();
    same["changes"] = json!([]);
    // How much of it is trash is told to those who ask.
    assert_eq!(
        same["bytes"].as_object_mut().unwrap().remove("trash"),
        Some(json!(0))
    );
    assert_eq!(put(shown).await, (200, same));
    for (document, path) in [
        (json!({ "byte": { "limit": 1 } }), "$.byte"),
        (json!({ "bytes": { "limit": -1 } }), "$.bytes.limit"),
        (json!({ "bytes": { "limit": "1" } }), "$.bytes.limit"),
        (
            json!({ "manifests": { "limit": u64::MAX } }),
            "$.manifests.limit",
        ),
    ] {
        let (status, problem) = put(document.clone()).await;
        assert_eq!(status, 422, "{document}");
        assert_eq!(problem["path"], path, "{problem}");
    }
}

#[tokio::test]
async fn orders_side_by_side_keep_what_they_do_not_name() {
    let registry = start().await;
    let second = registry.second_node().await;
    // The auth tenant `fresh` has no book before the first order.
    let fresh = "/api/v1/auth-tenants/fresh/quota";
    for path in [fresh, TENANT, ACCOUNT] {
        for round in 1..=10 {
            tokio::join!(
                registry.limit(path, "bytes", round),
                second.limit(path, "manifests", round),
                registry.limit(path, "repositories", round),
            );
            let quota = registry.quota(path).await;
            for resource in ["bytes", "manifests", "repositories"] {
                assert_eq!(quota[resource]["limit"], round, "{path} {resource}");
            }
        }
    }
}

#[tokio::test]
async fn an_order_keeps_what_one_before_it_sets_while_it_waits() {
    let registry = start().await;
    let (held, is_held) = tokio::sync::oneshot::channel();
    let first = registry.db.write(move |conn| {
        book_lock(conn, BookKind::AuthTenant, "demo")?;
        held.send(()).unwrap();
        // On PostgreSQL, until the other waits for the row. SQLite has one writer: there it cannot even begin.
        let waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))";
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Conn::Postgres(c) = &mut *conn
            && diesel::sql_query(waiting).execute(c)? == 0
        {
            assert!(Instant::now() < deadline, "nobody waits");
        }
        let limits = Limits::default().with(Resource::Bytes, Some(5));
        limits_set(conn, (BookKind::AuthTenant, "demo"), Some(&limits))
    });
    let second = async {
        is_held.await.unwrap();
        registry.limit(TENANT, "manifests", 7).await
    };
    let (first, _) = tokio::join!(first, second);
    first.unwrap();
    let quota = registry.quota(TENANT).await;
    assert_eq!(quota["bytes"]["limit"], 5);
    assert_eq!(quota["manifests"]["limit"], 7);
}

#[tokio::test]
async fn what_is_used_does_not_change_the_tag_of_a_quota() {
    let registry = start().await;
    let tag = async |path: &str| registry.get(path).await.headers()["etag"].clone();
    let before = [tag(ACCOUNT).await, tag(TENANT).await];
    registry.push_image("demo/app", "v1", 1).await;
    assert_eq!([tag(ACCOUNT).await, tag(TENANT).await], before);
    // A dry run shows what is used and makes no limits of its own.
    let dry = format!("{TENANT}?dry_run=true");
    let answer = registry.limit(&dry, "manifests", 7).await;
    assert_eq!(answer["manifests"], json!({ "limit": 7, "used": 1 }));
    let change = json!({ "path": "$.manifests.limit", "before": null, "after": 7 });
    assert_eq!(answer["changes"], json!([change]));
    assert_eq!(tag(TENANT).await, before[1]);
}

#[tokio::test]
async fn metrics_show_quotas_only_if_the_operator_wants_it() {
    let metrics = async |registry: &TestRegistry| {
        let answer = registry.anonymous(Method::GET, "/metrics").send().await;
        answer.unwrap().text().await.unwrap()
    };
    let registry = start().await;
    assert!(!metrics(&registry).await.contains("quota_used"));
    let registry = start_with(|config| config.quotas.metrics = true).await;
    registry.push_blob("demo/app", b"four").await;
    registry.limit(TENANT, "bytes", 100).await;
    let text = metrics(&registry).await;
    let used = "kontor_quota_used{of=\"account\",owner=\"demo\",resource=\"bytes\"} 4";
    let limit = "kontor_quota_limit{of=\"auth_tenant\",owner=\"demo\",resource=\"bytes\"} 100";
    assert!(text.contains(used) && text.contains(limit), "{text}");
    assert!(!text.contains("kontor_quota_limit{of=\"account\""));
    // They are read anew after some seconds.
    registry.push_blob("demo/app", b"five!").await;
    assert!(metrics(&registry).await.contains(used));
    registry.clock.advance(chrono::TimeDelta::seconds(11));
    assert!(metrics(&registry).await.contains("resource=\"bytes\"} 9"));
}
