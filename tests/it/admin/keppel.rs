//! `/keppel/v1`

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::TestRegistry;

const ACCOUNTS: &str = "/keppel/v1/accounts";

async fn send(registry: &TestRegistry, user: &str, method: Method, path: &str) -> Response {
    registry.as_user(user, method, path).send().await.unwrap()
}

async fn shown(registry: &TestRegistry, user: &str, path: &str) -> Value {
    let answer = send(registry, user, Method::GET, path).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

async fn put(registry: &TestRegistry, user: &str, name: &str, account: Value) -> Response {
    registry
        .as_user(user, Method::PUT, &format!("{ACCOUNTS}/{name}"))
        .json(&json!({ "account": account }))
        .send()
        .await
        .unwrap()
}

/// An error is one line of text.
async fn refused(answer: Response, status: u16) -> String {
    let (actual, kind) = (
        answer.status(),
        answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned(),
    );
    let text = answer.text().await.unwrap();
    assert_eq!(actual, status, "{text}");
    assert!(kind.starts_with("text/plain"), "{kind}");
    assert!(
        text.ends_with('\n') && text.trim().lines().count() == 1,
        "{text:?}"
    );
    text
}

#[tokio::test]
async fn the_driver_is_public_and_the_rest_is_not() {
    let registry = TestRegistry::start().await;
    let info = registry.anonymous(Method::GET, "/keppel/v1").send().await;
    let info: Value = info.unwrap().json().await.unwrap();
    assert_eq!(info.as_object().unwrap().len(), 1);
    assert!(info["auth_driver"].is_string());
    for path in [ACCOUNTS, "/keppel/v1/peers", "/keppel/v1/accounts/demo"] {
        let answer = registry.anonymous(Method::GET, path).send().await.unwrap();
        assert!(answer.headers().contains_key("www-authenticate"));
        refused(answer, 401).await;
    }
    let peers = shown(&registry, "nobody", "/keppel/v1/peers").await;
    assert_eq!(peers, json!({ "peers": [] }));
    for path in [
        "/keppel/v1/accounts/demo/sublease",
        "/keppel/v1/nothing",
        "/keppel/v2",
    ] {
        refused(send(&registry, "admin", Method::GET, path).await, 404).await;
    }
    refused(send(&registry, "admin", Method::POST, ACCOUNTS).await, 405).await;
}

#[tokio::test]
async fn an_account_is_created_shown_changed_and_deleted() {
    let registry = TestRegistry::start().await;
    let policies = json!([{ "match_repository": "library/.*", "permissions": ["anonymous_pull"] }]);
    let order = json!({ "auth_tenant_id": "other", "rbac_policies": policies });
    // Twice is as good as once.
    for _ in 0..2 {
        let answer = put(&registry, "other", "first", order.clone()).await;
        assert_eq!(answer.status(), 200);
        let account: Value = answer.json().await.unwrap();
        let account = &account["account"];
        assert_eq!(account["name"], "first");
        assert_eq!(account["auth_tenant_id"], "other");
        assert_eq!(account["metadata"], Value::Null);
        assert_eq!(
            account["rbac_policies"][0]["match_repository"],
            "library/.*"
        );
        for ours in [
            "storage",
            "proxy_downloads",
            "state",
            "allow_sparse_manifests",
        ] {
            assert!(account.get(ours).is_none(), "{ours}");
        }
        // What is shown can be sent back.
        let mut back = account.clone();
        back.as_object_mut().unwrap().remove("name");
        assert_eq!(put(&registry, "other", "first", back).await.status(), 200);
    }
    let path = format!("{ACCOUNTS}/first");
    let one = shown(&registry, "other", &path).await;
    let all = shown(&registry, "other", ACCOUNTS).await;
    assert_eq!(all["accounts"], json!([one["account"]]));
    refused(send(&registry, "ann", Method::GET, &path).await, 404).await;
    refused(send(&registry, "ann", Method::DELETE, &path).await, 404).await;
    let theirs = shown(&registry, "ann", ACCOUNTS).await;
    assert_eq!(theirs["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(
        send(&registry, "other", Method::DELETE, &path)
            .await
            .status(),
        204
    );
    refused(send(&registry, "other", Method::GET, &path).await, 404).await;
}

#[tokio::test]
async fn a_change_leaves_the_settings_that_keppel_does_not_know() {
    let registry = TestRegistry::start().await;
    let ours = json!({
        "proxy_downloads": true,
        "serves_namespace": "docker.io",
        "rbac_policies": [{ "match_repository": "a", "permissions": ["anonymous_pull"] }],
    });
    assert_eq!(registry.account("demo", ours).await.status(), 200);
    let answer = put(
        &registry,
        "admin",
        "demo",
        json!({ "auth_tenant_id": "demo" }),
    )
    .await;
    assert_eq!(answer.status(), 200);
    let account = shown(&registry, "admin", "/api/v1/accounts/demo").await;
    assert_eq!(account["account"]["proxy_downloads"], true);
    assert_eq!(account["account"]["serves_namespace"], "docker.io");
    assert_eq!(account["account"]["rbac_policies"], json!([]));
}

#[tokio::test]
async fn who_may_change_but_not_see_an_account_resets_nothing() {
    let registry = TestRegistry::start().await;
    let ours = json!({ "proxy_downloads": true });
    assert_eq!(registry.account("demo", ours).await.status(), 200);
    let order = json!({ "description": "blind", "permissions": ["change"] });
    let (status, answer) = registry.api(Method::POST, "tokens", order).await;
    assert_eq!(status, 201, "{answer}");
    let secret = answer["token"].as_str().unwrap();
    let blind = registry
        .anonymous(Method::PUT, &format!("{ACCOUNTS}/demo"))
        .basic_auth("admin", Some(secret))
        .json(&json!({ "account": { "auth_tenant_id": "demo" } }));
    refused(blind.send().await.unwrap(), 409).await;
    let account = shown(&registry, "admin", "/api/v1/accounts/demo").await;
    assert_eq!(account["account"]["proxy_downloads"], true);
}

#[tokio::test]
async fn bad_orders_are_refused_in_its_way() {
    let registry = TestRegistry::start().await;
    let replication = json!({ "strategy": "on_first_use", "upstream": "keppel.example.com" });
    let filter = json!([{ "os": "linux", "architecture": "amd64" }]);
    let bad_policy = json!([{ "match_repository": "library/.+" }]);
    for (user, name, account, status) in [
        ("admin", "new", json!({}), 422),
        ("admin", "new", json!(""), 400),
        (
            "admin",
            "new",
            json!({ "auth_tenant_id": "x", "colour": 1 }),
            400,
        ),
        (
            "admin",
            "new",
            json!({ "auth_tenant_id": "x", "name": "new" }),
            400,
        ),
        (
            "admin",
            "new",
            json!({ "auth_tenant_id": "x", "replication": replication }),
            422,
        ),
        (
            "admin",
            "demo",
            json!({ "auth_tenant_id": "demo", "replication": replication }),
            409,
        ),
        (
            "admin",
            "new",
            json!({ "auth_tenant_id": "x", "platform_filter": filter }),
            422,
        ),
        (
            "admin",
            "demo",
            json!({ "auth_tenant_id": "demo", "platform_filter": filter }),
            409,
        ),
        (
            "admin",
            "new",
            json!({ "auth_tenant_id": "x", "rbac_policies": bad_policy }),
            422,
        ),
        ("admin", "demo", json!({ "auth_tenant_id": "x" }), 422),
        ("other", "demo", json!({ "auth_tenant_id": "other" }), 409),
        ("other", "new", json!({ "auth_tenant_id": "demo" }), 403),
        ("reader", "demo", json!({ "auth_tenant_id": "demo" }), 403),
    ] {
        refused(put(&registry, user, name, account).await, status).await;
    }
    let request = registry.admin(Method::PUT, &format!("{ACCOUNTS}/new"));
    let answer = request.body(r#"{"account":???}"#).send().await.unwrap();
    refused(answer, 400).await;
    refused(
        send(&registry, "admin", Method::GET, &format!("{ACCOUNTS}/new")).await,
        404,
    )
    .await;
    let empty = json!({ "auth_tenant_id": "demo", "metadata": {}, "platform_filter": [], "replication": null, "in_maintenance": true });
    assert_eq!(put(&registry, "admin", "demo", empty).await.status(), 200);
}

#[tokio::test]
async fn metadata_and_maintenance_are_those_of_the_account() {
    let registry = TestRegistry::start().await;
    let order =
        json!({ "auth_tenant_id": "demo", "metadata": { "a": "b" }, "in_maintenance": true });
    let answer = put(&registry, "admin", "demo", order).await;
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["account"]["metadata"], json!({ "a": "b" }));
    assert_eq!(answer["account"]["in_maintenance"], true);
    let shown = registry
        .admin(Method::GET, "/api/v1/accounts/demo")
        .send()
        .await;
    let shown: Value = shown.unwrap().json().await.unwrap();
    assert_eq!(shown["account"]["metadata"], json!({ "a": "b" }));
    assert_eq!(shown["account"]["in_maintenance"], true);
}

#[tokio::test]
async fn repositories_manifests_and_tags_are_listed_and_deleted() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/team/app", "v1", 1).await;
    registry.push_image("demo/web", "v1", 2).await;
    let path = format!("{ACCOUNTS}/demo/repositories");
    let page = shown(&registry, "reader", &format!("{path}?limit=1")).await;
    assert_eq!(page["truncated"], true);
    let repo = &page["repositories"][0];
    assert_eq!(
        (&repo["name"], &repo["tag_count"]),
        (&json!("team/app"), &json!(1))
    );
    assert_eq!(repo["pushed_at"], registry.now().timestamp());
    let page = shown(
        &registry,
        "reader",
        &format!("{path}?limit=1&marker=team/app"),
    )
    .await;
    assert_eq!(page["repositories"][0]["name"], "web");
    assert!(page.get("truncated").is_none());

    let manifests = format!("{path}/team/app/_manifests");
    let page = shown(&registry, "reader", &manifests).await;
    let manifest = &page["manifests"][0];
    let digest = manifest["digest"].as_str().unwrap();
    assert_eq!(manifest["tags"][0]["name"], "v1");
    assert_eq!(manifest["last_pulled_at"], Value::Null);
    assert_eq!(manifest["vulnerability_status"], "Pending");
    for user in ["other", "nobody"] {
        for path in [&path, &manifests] {
            refused(send(&registry, user, Method::GET, path).await, 404).await;
        }
    }

    let account = send(
        &registry,
        "admin",
        Method::DELETE,
        &format!("{ACCOUNTS}/demo"),
    )
    .await;
    assert_eq!(account.status(), 409);
    let body: Value = account.json().await.unwrap();
    assert_eq!(body["remaining_manifests"]["count"], 2);
    let next = json!({ "repository": "team/app", "digest": digest });
    assert_eq!(body["remaining_manifests"]["next"][0], next);

    let tag = format!("{path}/team/app/_tags/v1");
    refused(send(&registry, "reader", Method::DELETE, &tag).await, 403).await;
    refused(send(&registry, "other", Method::DELETE, &tag).await, 404).await;
    assert_eq!(
        send(&registry, "ann", Method::DELETE, &tag).await.status(),
        204
    );
    let page = shown(&registry, "reader", &manifests).await;
    assert!(page["manifests"][0].get("tags").is_none());
    let repo = format!("{path}/team/app");
    assert_eq!(
        send(&registry, "ann", Method::DELETE, &repo).await.status(),
        409
    );
    let manifest = format!("{manifests}/{digest}");
    assert_eq!(
        send(&registry, "ann", Method::DELETE, &manifest)
            .await
            .status(),
        204
    );
    assert_eq!(
        send(&registry, "ann", Method::DELETE, &repo).await.status(),
        204
    );
    refused(send(&registry, "ann", Method::DELETE, &repo).await, 404).await;
}
