//! `GET /api/v1/audit`: who may read what, filters, pages.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestRegistry;

/// A registry with events in two auth tenants.
async fn with_two_tenants() -> TestRegistry {
    let registry = TestRegistry::start().await;
    let account = json!({ "auth_tenant_id": "other" });
    assert_eq!(registry.account("other", account).await.status(), 201);
    registry.push_image("demo/app", "v1", 1).await;
    registry.push_image("other/app", "v1", 1).await;
    registry.audit_settle().await;
    registry
}

#[tokio::test]
async fn a_tenant_sees_its_own_events_and_no_others() {
    let registry = with_two_tenants().await;
    let seen = async |query: &str| {
        let path = format!("/api/v1/audit?limit=1000&{query}");
        let answer = registry.as_user("other", Method::GET, &path).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200, "{query}");
        answer.json::<Value>().await.unwrap()["events"]
            .as_array()
            .unwrap()
            .clone()
    };
    for query in ["auth_tenant=other", "account=other"] {
        let events = seen(query).await;
        assert!(events.len() >= 3, "{query}");
        for event in events {
            assert_eq!(event["event"]["auth_tenant_id"], "other");
        }
    }
    // Both filters at once are both held.
    let events = seen("auth_tenant=other&account=other&action=manifest.push").await;
    assert_eq!(events.len(), 1);
    for (user, query, status) in [
        ("other", "", 403),
        ("other", "user=static:admin", 403),
        ("other", "auth_tenant=demo", 403),
        ("other", "auth_tenant=*", 403),
        ("other", "account=demo", 404),
        ("other", "account=demo&auth_tenant=other", 404),
        ("other", "account=other&auth_tenant=demo", 403),
        ("other", "account=none", 404),
        ("other", "account=%2F", 404),
        // May read the account, but not manage it.
        ("ann", "account=demo", 403),
        ("ann", "auth_tenant=demo", 403),
        ("nobody", "account=demo", 404),
        ("nobody", "auth_tenant=other", 403),
        ("nobody", "auth_tenant=nowhere", 403),
    ] {
        assert_eq!(
            registry.audit_status(user, query).await,
            status,
            "{user} {query}"
        );
    }
    let answer = registry
        .anonymous(Method::GET, "/api/v1/audit")
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 401);
    let token = registry.token("admin", &["registry:catalog:*"]).await;
    let stolen = registry.anonymous(Method::GET, "/api/v1/audit");
    let answer = stolen.bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn an_account_that_changed_hands_keeps_its_past_to_itself() {
    let registry = TestRegistry::start().await;
    let account = |tenant: &str| json!({ "auth_tenant_id": tenant });
    registry.account("acme", account("before")).await;
    let gone = registry.admin(Method::DELETE, "/api/v1/accounts/acme");
    assert_eq!(gone.send().await.unwrap().status(), 204);
    assert_eq!(
        registry.account("acme", account("other")).await.status(),
        201
    );
    registry.audit_settle().await;
    let path = "/api/v1/audit?account=acme";
    let answer = registry.as_user("other", Method::GET, path).send().await;
    let answer: Value = answer.unwrap().json().await.unwrap();
    let events = answer["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{answer}");
    assert_eq!(events[0]["event"]["action"], "account.create");
    assert_eq!(registry.audit_events("account=acme").await.len(), 3);
}

#[tokio::test]
async fn filters_and_pages() {
    let registry = with_two_tenants().await;
    let all = registry.audit_events("").await;
    let mut paged: Vec<Value> = Vec::new();
    let mut before = String::new();
    loop {
        let path = format!("/api/v1/audit?limit=4{before}");
        let answer = registry.admin(Method::GET, &path).send().await.unwrap();
        let page: Value = answer.json().await.unwrap();
        let events = page["events"].as_array().unwrap();
        assert!(events.len() <= 4);
        paged.extend(events.iter().map(|event| event["event"].clone()));
        match page["next_before"].as_i64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    paged.reverse();
    // The requests of this test are events too.
    assert_eq!(
        paged[..all.len().min(paged.len())],
        all[..paged.len().min(all.len())]
    );
    assert!(paged.len() >= all.len() - 4);
    assert_eq!(registry.audit_events("action=manifest.push").await.len(), 2);
    let query = "action=manifest.push&account=other&user=static:admin&outcome=success";
    assert_eq!(registry.audit_events(query).await.len(), 1);
    assert!(registry.audit_events("user=static:other").await.is_empty());
    let now = registry.now();
    let time = |minutes: i64| {
        let at = now + chrono::TimeDelta::minutes(minutes);
        at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };
    let until = format!("until={}", time(-1));
    assert!(registry.audit_events(&until).await.is_empty());
    let both = format!("since={}&until={}&action=blob.push", time(-1), time(1));
    assert_eq!(registry.audit_events(&both).await.len(), 4);
    for query in [
        "action=fly",
        "outcome=maybe",
        "since=yesterday",
        "limit=0",
        "limit=x",
        "before=-1",
        "acount=demo",
        "user=%00",
    ] {
        assert_eq!(registry.audit_status("admin", query).await, 422, "{query}");
    }
    assert_eq!(registry.audit_status("admin", "limit=99999999").await, 200);
}
