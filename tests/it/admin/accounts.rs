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
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["account"], shown["account"]);
    assert_eq!(answer["changes"], json!([]));
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
async fn only_who_may_create_accounts_learns_that_a_name_is_taken() {
    let registry = TestRegistry::start().await;
    let serves = json!({ "auth_tenant_id": "demo", "serves_namespace": "docker.io" });
    let made = registry.account("public", serves).await;
    assert_eq!(made.status(), 201);
    let put = async |user: &str, name: &str, query: &str, tenant: &str| {
        let path = format!("/api/v1/accounts/{name}{query}");
        let request = registry.as_user(user, Method::PUT, &path);
        let answer = request.json(&json!({ "auth_tenant_id": tenant })).send();
        let answer = answer.await.unwrap();
        let status = answer.status().as_u16();
        (status, problem(answer, status).await)
    };
    for query in ["", "?dry_run=true"] {
        for tenant in ["demo", "other", "nobody"] {
            let taken = put("nobody", "public", query, tenant).await;
            let absent = put("nobody", "absent", query, tenant).await;
            assert_eq!(taken, absent, "who may create none learns nothing");
            assert_eq!(taken.0, 403);
        }
        assert_eq!(put("other", "public", query, "demo").await.0, 403);
        let (status, told) = put("other", "public", query, "other").await;
        assert_eq!(status, 409);
        assert_eq!(told, "the account name public is taken");
    }
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
    assert!([409, 422].contains(&statuses[1]), "{statuses:?}");
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

async fn etag(registry: &TestRegistry, name: &str) -> String {
    let answer = get(registry, "admin", &format!("/api/v1/accounts/{name}")).await;
    assert_eq!(answer.status(), 200);
    answer.headers()["etag"].to_str().unwrap().to_owned()
}

/// A `PUT` of `demo` with a header.
async fn put_if(registry: &TestRegistry, header: (&str, &str), document: Value) -> Response {
    registry
        .admin(Method::PUT, "/api/v1/accounts/demo")
        .header(header.0, header.1)
        .json(&document)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_version_that_has_passed_changes_and_deletes_nothing() {
    let registry = TestRegistry::start().await;
    let first = etag(&registry, "demo").await;
    let sparse = json!({ "allow_sparse_manifests": true });
    let answer = put_if(&registry, ("if-match", &first), sparse.clone()).await;
    assert_eq!(answer.status(), 200);
    let second = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(etag(&registry, "demo").await, second);
    // What changes nothing is no new version.
    let answer = put_if(&registry, ("if-match", &second), sparse).await;
    assert_eq!(answer.headers()["etag"], second);

    let proxy = json!({ "proxy_downloads": true });
    let answer = put_if(&registry, ("if-match", &first), proxy.clone()).await;
    problem(answer, 412).await;
    problem(put_if(&registry, ("if-none-match", "*"), proxy).await, 412).await;
    let answer = put_if(&registry, ("if-none-match", &first), json!({})).await;
    problem(answer, 400).await;
    let path = "/api/v1/accounts/demo";
    let delete = |tag: &str| {
        registry
            .admin(Method::DELETE, path)
            .header("if-match", tag)
            .send()
    };
    problem(delete(&first).await.unwrap(), 412).await;
    let shown: Value = get(&registry, "admin", path).await.json().await.unwrap();
    assert_eq!(shown["account"]["state"], "ready");
    assert_eq!(shown["account"]["proxy_downloads"], false);
    assert_eq!(delete(&second).await.unwrap().status(), 204);
    // One of this name that is made later is another one.
    registry.clock.advance(chrono::TimeDelta::seconds(1));
    let answer = put_if(
        &registry,
        ("if-match", &second),
        json!({ "auth_tenant_id": "demo" }),
    );
    problem(answer.await, 412).await;
    let answer = put_if(
        &registry,
        ("if-none-match", "*"),
        json!({ "auth_tenant_id": "demo" }),
    )
    .await;
    assert_eq!(answer.status(), 201);
    assert!(![&first, &second].contains(&&etag(&registry, "demo").await));
}

#[tokio::test]
async fn of_two_who_have_read_the_same_one_is_refused() {
    let registry = TestRegistry::start().await;
    for round in 0..5 {
        let read = etag(&registry, "demo").await;
        let host = |who: &str| json!({ "serves_namespace": format!("{who}{round}.example.org") });
        let (ours, theirs) = tokio::join!(
            put_if(&registry, ("if-match", &read), host("a")),
            put_if(&registry, ("if-match", &read), host("b")),
        );
        let mut statuses = [ours.status().as_u16(), theirs.status().as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412]);
    }
    let (ours, theirs) = tokio::join!(
        registry
            .admin(Method::PUT, "/api/v1/accounts/fresh")
            .header("if-none-match", "*")
            .json(&json!({ "auth_tenant_id": "demo" }))
            .send(),
        registry
            .admin(Method::PUT, "/api/v1/accounts/fresh")
            .header("if-none-match", "*")
            .json(&json!({ "auth_tenant_id": "demo" }))
            .send(),
    );
    let mut statuses = [
        ours.unwrap().status().as_u16(),
        theirs.unwrap().status().as_u16(),
    ];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 412]);
}

/// A `PUT` that is only tried.
async fn dry_run(registry: &TestRegistry, user: &str, name: &str, document: Value) -> Response {
    registry
        .as_user(
            user,
            Method::PUT,
            &format!("/api/v1/accounts/{name}?dry_run=true"),
        )
        .json(&document)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_dry_run_shows_what_would_change_and_changes_nothing() {
    let registry = TestRegistry::start().await;
    let before = etag(&registry, "demo").await;
    let order =
        json!({ "allow_sparse_manifests": true, "serves_namespace": "registry-1.docker.io" });
    let answer = dry_run(&registry, "admin", "demo", order).await;
    assert_eq!(answer.status(), 200);
    let shown: Value = answer.json().await.unwrap();
    assert_eq!(shown["created"], false);
    assert_eq!(
        shown["changes"],
        json!([
            { "path": "$.allow_sparse_manifests", "before": false, "after": true },
            { "path": "$.serves_namespace", "before": null, "after": "docker.io" },
        ])
    );
    assert_eq!(shown["account"]["serves_namespace"], "docker.io");
    assert_eq!(etag(&registry, "demo").await, before);

    let answer = dry_run(
        &registry,
        "admin",
        "fresh",
        json!({ "auth_tenant_id": "other" }),
    )
    .await;
    assert_eq!(answer.status(), 200);
    let shown: Value = answer.json().await.unwrap();
    assert_eq!(shown["created"], true);
    let path = json!({ "path": "$.auth_tenant_id", "before": null, "after": "other" });
    assert!(shown["changes"].as_array().unwrap().contains(&path));
    problem(get(&registry, "admin", "/api/v1/accounts/fresh").await, 404).await;
    let tenant = storage_drivers::Tenant {
        account: "fresh".into(),
        auth_tenant_id: "other".into(),
    };
    let key = storage_drivers::ObjectKey::Chunk(uuid::Uuid::nil());
    let body = Box::pin(futures::stream::empty());
    let written = registry.storage.write(&tenant, &key, None, body).await;
    let label = written.unwrap_err().label();
    assert_eq!(label, "not_prepared", "there is no container");
}

#[tokio::test]
async fn a_dry_run_makes_the_checks_of_a_change() {
    let registry = TestRegistry::start().await;
    let other = json!({ "auth_tenant_id": "other", "serves_namespace": "ghcr.io" });
    assert_eq!(registry.account("second", other).await.status(), 201);
    let bad_policy = json!([{ "match_repository": "(", "permissions": ["anonymous_pull"] }]);
    for (user, name, document, status) in [
        ("admin", "demo", json!({ "rbac_policies": bad_policy }), 422),
        ("admin", "demo", json!({ "colour": 1 }), 422),
        (
            "admin",
            "demo",
            json!({ "serves_namespace": "ghcr.io" }),
            409,
        ),
        ("admin", "fresh", json!({}), 422),
        (
            "admin",
            "fresh",
            json!({ "auth_tenant_id": "x", "storage": "nowhere" }),
            403,
        ),
        ("ann", "demo", json!({}), 403),
        ("other", "demo", json!({}), 422),
        ("other", "demo", json!({ "auth_tenant_id": "other" }), 409),
        ("other", "fresh", json!({ "auth_tenant_id": "demo" }), 403),
    ] {
        let answer = dry_run(&registry, user, name, document.clone()).await;
        let dry = problem(answer, status).await;
        let path = format!("/api/v1/accounts/{name}");
        let real = registry.as_user(user, Method::PUT, &path).json(&document);
        assert_eq!(problem(real.send().await.unwrap(), status).await, dry);
    }
    for query in [
        "dry_run=maybe",
        "dry_run=",
        "dryrun=true",
        "dry_run=true&dry_run=true",
    ] {
        let path = format!("/api/v1/accounts/fresh?{query}");
        let put = registry
            .admin(Method::PUT, &path)
            .json(&json!({ "auth_tenant_id": "demo" }));
        problem(put.send().await.unwrap(), 422).await;
    }
    problem(get(&registry, "admin", "/api/v1/accounts/fresh").await, 404).await;
}

#[tokio::test]
async fn the_pages_of_the_accounts_have_each_account_once_and_others_none() {
    let registry = TestRegistry::start().await;
    for number in 0..7 {
        let tenant = if number % 2 == 0 { "demo" } else { "other" };
        let name = format!("a{number}");
        let answer = registry
            .account(&name, json!({ "auth_tenant_id": tenant }))
            .await;
        assert_eq!(answer.status(), 201);
    }
    for (user, expected) in [
        ("reader", vec!["a0", "a2", "a4", "a6", "demo"]),
        ("other", vec!["a1", "a3", "a5"]),
        (
            "admin",
            vec!["a0", "a1", "a2", "a3", "a4", "a5", "a6", "demo"],
        ),
        ("nobody", vec![]),
    ] {
        let mut names = Vec::new();
        let mut path = "/api/v1/accounts?limit=2".to_owned();
        loop {
            let page: Value = get(&registry, user, &path).await.json().await.unwrap();
            let accounts = page["accounts"].as_array().unwrap();
            assert!(accounts.len() <= 2);
            names.extend(
                accounts
                    .iter()
                    .map(|a| a["name"].as_str().unwrap().to_owned()),
            );
            match page["next"].as_str() {
                Some(next) => path = format!("/api/v1/accounts?limit=2&last={next}"),
                None => break,
            }
        }
        assert_eq!(names, expected, "{user}");
    }
    for query in ["limit=0", "limit=x", "n=1", "limit=1&limit=2"] {
        let path = format!("/api/v1/accounts?{query}");
        problem(get(&registry, "admin", &path).await, 422).await;
    }
    let odd = get(
        &registry,
        "admin",
        "/api/v1/accounts?last=a5%00&limit=99999",
    )
    .await;
    let odd: Value = odd.json().await.unwrap();
    assert_eq!(odd["accounts"][0]["name"], "a6");
}

#[tokio::test]
async fn the_manifests_that_are_in_the_way_of_a_deletion_are_named() {
    let registry = TestRegistry::start().await;
    for number in 0..12 {
        registry
            .push_image("demo/app", &format!("v{number}"), number)
            .await;
    }
    let mut rounds = 0;
    loop {
        let answer = registry
            .admin(Method::DELETE, "/api/v1/accounts/demo")
            .send()
            .await
            .unwrap();
        if answer.status() == 204 {
            break;
        }
        assert_eq!(answer.status(), 409);
        let body: Value = answer.json().await.unwrap();
        let remaining = &body["context"]["remaining_manifests"];
        let next = remaining["next"].as_array().unwrap();
        assert_eq!(remaining["count"], 12 - 10 * rounds);
        assert_eq!(next.len(), if rounds == 0 { 10 } else { 2 });
        for manifest in next {
            assert_eq!(manifest["repository"], "app");
            let digest = manifest["digest"].as_str().unwrap();
            let path = format!("/api/v1/accounts/demo/repositories/app/_manifests/{digest}");
            let deleted = registry.admin(Method::DELETE, &path).send().await.unwrap();
            assert_eq!(deleted.status(), 204);
        }
        rounds += 1;
    }
    assert_eq!(rounds, 2);
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn who_has_not_logged_in_learns_how_to_and_no_more() {
    let registry = TestRegistry::start().await;
    let answer = registry.anonymous(Method::GET, "/api/v1").send().await;
    let info: Value = answer.unwrap().json().await.unwrap();
    assert_eq!(info["api_version"], "v1");
    assert!(!info["auth_drivers"].as_array().unwrap().is_empty());
    assert!(info.get("version").is_none() && info.get("storage_backends").is_none());
    let info: Value = get(&registry, "nobody", "/api/v1")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(info["storage_backends"], json!(["default"]));
    assert!(info["version"].is_string());
    let wrong = registry
        .anonymous(Method::GET, "/api/v1")
        .basic_auth("admin", Some("wrong"));
    problem(wrong.send().await.unwrap(), 401).await;
}

#[tokio::test]
async fn very_many_blobs_go_in_several_requests() {
    let registry = TestRegistry::start().await;
    registry
        .db
        .execute_for_tests(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2150) \
             INSERT INTO blobs (account_name, digest, size_bytes, pushed_at) \
             SELECT a.name, 'sha256:' || n.i, 0, a.created_at FROM n, accounts a WHERE a.name = 'demo'"
                .to_owned(),
        )
        .await
        .unwrap();
    let before = etag(&registry, "demo").await;
    let path = "/api/v1/accounts/demo";
    let answer = registry.admin(Method::DELETE, path).send().await.unwrap();
    assert_eq!(answer.status(), 409);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        body["context"],
        json!({ "remaining_blobs": { "count": 150 } })
    );
    let shown: Value = get(&registry, "admin", path).await.json().await.unwrap();
    assert_eq!(shown["account"]["state"], "deleting");
    assert_ne!(etag(&registry, "demo").await, before);
    let keppel = get(&registry, "admin", "/keppel/v1/accounts/demo").await;
    let keppel: Value = keppel.json().await.unwrap();
    assert_eq!(keppel["account"]["state"], "deleting");
    problem(dry_run(&registry, "admin", "demo", json!({})).await, 409).await;
    let answer = registry.admin(Method::DELETE, path).send().await.unwrap();
    assert_eq!(answer.status(), 204);
}
