//! `/api/v1/accounts`

use reqwest::{Method, Response};
use serde_json::{Value, json};
use storage_drivers::{Op, faulty::Fault};

use crate::support::TestRegistry;

async fn problem(answer: Response, status: u16) -> String {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["status"], status);
    body["detail"].as_str().unwrap().to_owned()
}

async fn get(registry: &TestRegistry, user: &str, path: &str) -> Response {
    registry
        .as_user(user, Method::GET, path)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn an_account_is_created_shown_changed_and_deleted() {
    let registry = TestRegistry::start().await;
    let policy = json!({ "match_repository": "pub/.*", "permissions": ["anonymous_pull"] });
    let order = json!({ "auth_tenant_id": "other", "rbac_policies": [policy] });
    let answer = registry.account("fresh", order).await;
    assert_eq!(answer.status(), 201);
    let shown: Value = get(&registry, "admin", "/api/v1/accounts/fresh")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(shown["account"]["auth_tenant_id"], "other");
    assert_eq!(shown["account"]["state"], "ready");
    // What is shown can be sent back and changes nothing.
    let answer = registry.account("fresh", shown["account"].clone()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap(), shown);
    let path = "/api/v1/accounts/fresh";
    let answer = registry.admin(Method::DELETE, path).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    problem(get(&registry, "admin", path).await, 404).await;
}

#[tokio::test]
async fn others_neither_see_nor_change_an_account() {
    let registry = TestRegistry::start().await;
    for user in ["other", "nobody"] {
        let hidden = problem(get(&registry, user, "/api/v1/accounts/demo").await, 404).await;
        let absent = problem(get(&registry, user, "/api/v1/accounts/absent").await, 404).await;
        assert_eq!(
            hidden.replace("demo", "absent"),
            absent,
            "a hidden account looks absent"
        );
        let listed: Value = get(&registry, user, "/api/v1/accounts")
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(listed["accounts"], json!([]));
        let delete = registry.as_user(user, Method::DELETE, "/api/v1/accounts/demo");
        problem(delete.send().await.unwrap(), 404).await;
    }
    let put = registry
        .as_user("reader", Method::PUT, "/api/v1/accounts/demo")
        .json(&json!({}));
    problem(put.send().await.unwrap(), 403).await;
    let create = json!({ "auth_tenant_id": "demo" });
    let put = registry
        .as_user("other", Method::PUT, "/api/v1/accounts/theirs")
        .json(&create);
    problem(put.send().await.unwrap(), 403).await;
}

#[tokio::test]
async fn bad_orders_are_refused_with_the_reason() {
    let registry = TestRegistry::start().await;
    let bad_policy = json!([{ "match_repository": "(", "permissions": ["anonymous_pull"] }]);
    for (name, order, status, reason) in [
        ("new", json!({}), 422, "auth_tenant_id"),
        (
            "new",
            json!({ "auth_tenant_id": "x", "colour": 1 }),
            422,
            "colour",
        ),
        (
            "new",
            json!({ "auth_tenant_id": "x", "storage": "nowhere" }),
            403,
            "nowhere",
        ),
        ("new", json!({ "auth_tenant_id": "../x" }), 422, "tenant"),
        (
            "new",
            json!({ "auth_tenant_id": "x", "name": "old" }),
            422,
            "name",
        ),
        (
            "demo",
            json!({ "auth_tenant_id": "x" }),
            422,
            "auth_tenant_id",
        ),
        (
            "demo",
            json!({ "rbac_policies": bad_policy }),
            422,
            "rbac_policies[0]",
        ),
        (
            "Bad_Name",
            json!({ "auth_tenant_id": "x" }),
            400,
            "account name",
        ),
        (
            "demo",
            json!({ "serves_namespace": "not a host" }),
            422,
            "serves_namespace",
        ),
    ] {
        let detail = problem(registry.account(name, order.clone()).await, status).await;
        assert!(detail.contains(reason), "{order}: {detail}");
    }
}

#[tokio::test]
async fn a_namespace_has_one_account_under_all_its_names() {
    let registry = TestRegistry::start().await;
    let answer = registry
        .account("demo", json!({ "serves_namespace": "index.docker.io" }))
        .await;
    let shown: Value = answer.json().await.unwrap();
    assert_eq!(shown["account"]["serves_namespace"], "docker.io");
    let order = json!({ "auth_tenant_id": "demo", "serves_namespace": "registry-1.docker.io" });
    problem(registry.account("second", order).await, 409).await;
}

#[tokio::test]
async fn a_token_does_not_manage_accounts() {
    let registry = TestRegistry::start().await;
    let token = registry
        .token("admin", &["repository:demo/app:pull,push,delete"])
        .await;
    let request = registry
        .anonymous(Method::GET, "/api/v1/accounts")
        .bearer_auth(token);
    problem(request.send().await.unwrap(), 401).await;
    problem(
        registry
            .anonymous(Method::GET, "/api/v1/accounts")
            .send()
            .await
            .unwrap(),
        401,
    )
    .await;
}

#[tokio::test]
async fn of_two_tenants_who_want_one_name_one_gets_it() {
    let registry = TestRegistry::start().await;
    let (ours, theirs) = tokio::join!(
        registry.account("wanted", json!({ "auth_tenant_id": "ours" })),
        registry.account("wanted", json!({ "auth_tenant_id": "theirs" })),
    );
    let mut statuses = [ours.status().as_u16(), theirs.status().as_u16()];
    statuses.sort_unstable();
    // The later one finds the name taken, or finds its owner and may not change it.
    assert_eq!(statuses[0], 201, "{statuses:?}");
    assert!([400, 409].contains(&statuses[1]), "{statuses:?}");
}

#[tokio::test]
async fn an_account_with_manifests_is_kept_and_an_emptied_one_goes_with_all_its_objects() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    // An upload that nobody ends, and a blob that no manifest needs.
    let start = registry
        .admin(Method::POST, "/v2/demo/app/blobs/uploads/")
        .send()
        .await
        .unwrap();
    let location = start.headers()["location"].to_str().unwrap().to_owned();
    let patch = registry
        .admin(Method::PATCH, &location)
        .body("half")
        .send()
        .await
        .unwrap();
    assert_eq!(patch.status(), 202);
    let path = "/api/v1/accounts/demo";
    let detail = problem(
        registry.admin(Method::DELETE, path).send().await.unwrap(),
        409,
    )
    .await;
    assert!(detail.contains("still has 1 manifests"), "{detail}");
    let head = registry
        .admin(Method::HEAD, "/v2/demo/app/manifests/v1")
        .send()
        .await
        .unwrap();
    let digest = head.headers()["docker-content-digest"]
        .to_str()
        .unwrap()
        .to_owned();
    let manifest = format!("/v2/demo/app/manifests/{digest}");
    let deleted = registry
        .admin(Method::DELETE, &manifest)
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.status(), 202);
    assert_eq!(
        registry.object_count("demo").await,
        3,
        "two blobs and half of one"
    );

    // The storage fails in the middle; the deletion is taken up again.
    registry.faults.fail_next(Op::Delete, 100, Fault::Permanent);
    let answer = registry.admin(Method::DELETE, path).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let shown: Value = get(&registry, "admin", path).await.json().await.unwrap();
    assert_eq!(shown["account"]["state"], "deleting");
    let push = registry
        .admin(Method::POST, "/v2/demo/app/blobs/uploads/")
        .send()
        .await
        .unwrap();
    assert_eq!(push.status(), 404, "nothing gets into it any more");
    let rest = registry.faults.calls(Op::Delete);
    assert!(rest > 0);
    registry.faults.fail_next(Op::Delete, 0, Fault::Permanent);
    let mut status = 503;
    for _ in 0..100 {
        status = registry
            .admin(Method::DELETE, path)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16();
        if status != 503 {
            break;
        }
    }
    assert_eq!(status, 204);
    assert_eq!(registry.object_count("demo").await, 0);
}
