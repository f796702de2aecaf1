//! Those who try to keep what they had: after a revocation, after a rotation, in another tenant's account.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use storage_drivers::Op;

use super::{PULL, sent, start_public};
use crate::{
    support::{PASSWORD, TestRegistry},
    v2::helpers::claims,
};

const ROBOT: &str = "accounts/demo/robots/ci";

#[tokio::test]
async fn a_refresh_token_gets_no_other() {
    let registry = TestRegistry::start().await;
    let refresh = registry.refresh_token("ann", PASSWORD).await;
    let (status, answer) = registry
        .form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &refresh),
            ("access_type", "offline"),
            ("offline_token", "true"),
            ("scope", PULL),
        ])
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["scope"], PULL);
    assert!(answer.get("refresh_token").is_none(), "{answer}");
}

#[tokio::test]
async fn who_logs_in_again_right_after_a_revocation_is_let_in() {
    let registry = start_public().await;
    registry.push_image("demo/app", "v1", 1).await;
    let second = registry.second_node().await;
    // No time passes by the clock.
    for _ in 0..3 {
        let before = registry.token_of("ann", PASSWORD, &[PULL]).await;
        let order = json!({ "subject": "static:ann" });
        assert_eq!(
            registry.api(Method::POST, "tokens/revoke", order).await.0,
            204
        );
        // On a node that has not heard of it yet: its tokens count on both.
        let after = second.token_of("ann", PASSWORD, &[PULL]).await;
        second.registry.revocations_refresh().await.unwrap();
        for node in [&registry, &second] {
            assert_eq!(node.pull_status(&before).await, 401);
            assert_eq!(node.pull_status(&after).await, 200);
        }
    }
}

#[tokio::test]
async fn another_tenants_account_of_the_same_name_is_closed_to_old_tokens() {
    let registry = start_public().await;
    let second = registry.second_node().await;
    let account = json!({ "auth_tenant_id": "other" });
    let path = "accounts/reused";
    let put = |tenant: Value| registry.api(Method::PUT, path, tenant);
    assert_eq!(put(account).await.0, 201);
    // Repositories that do not exist yet.
    let scope = "repository:reused/app:pull,push,delete";
    let old = registry.token_of("other", PASSWORD, &[scope]).await;
    let mount = "repository:reused/*:pull";
    let everywhere = registry.token_of("other", PASSWORD, &[mount]).await;
    let status = async |node: &TestRegistry, token: &str, method: Method, path: &str| {
        let request = node.bearer(token, method, path);
        request.send().await.unwrap().status().as_u16()
    };
    let upload = "/v2/reused/app/blobs/uploads/";
    assert_eq!(status(&registry, &old, Method::POST, upload).await, 202);
    assert_eq!(registry.api(Method::DELETE, path, Value::Null).await.0, 204);
    assert_eq!(put(json!({ "auth_tenant_id": "demo" })).await.0, 201);
    registry.push_image("reused/app", "v1", 1).await;
    second.registry.revocations_refresh().await.unwrap();
    for node in [&registry, &second] {
        let tags = "/v2/reused/app/tags/list";
        assert_eq!(status(node, &old, Method::GET, tags).await, 401);
        assert_eq!(status(node, &old, Method::POST, upload).await, 401);
        assert_eq!(status(node, &everywhere, Method::GET, tags).await, 401);
        let fresh = node
            .token_of("ann", PASSWORD, &["repository:reused/app:pull"])
            .await;
        assert_eq!(status(node, &fresh, Method::GET, tags).await, 200);
    }
}

#[tokio::test]
async fn an_operators_personal_token_changes_no_password() {
    let registry = TestRegistry::start().await;
    let request = registry
        .admin(Method::POST, "/api/v1/tokens")
        .json(&json!({}));
    let (status, made) = sent(request).await;
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap();
    let bob = registry.make_bob().await;
    for name in ["bob", "admin"] {
        let path = format!("/api/v1/users/{name}/password");
        let request = registry.basic("admin", token, Method::PUT, &path);
        let (status, answer) = sent(request.json(&json!({ "password": "another one" }))).await;
        assert_eq!(status, 403, "{answer}");
    }
    assert_eq!(registry.basic_status("bob", &bob).await, 200);
}

#[tokio::test]
async fn a_token_ends_itself_and_no_other() {
    let registry = TestRegistry::start().await;
    let (first, token) = registry
        .make_personal(json!({ "permissions": ["pull"] }))
        .await;
    let (second, other) = registry.make_personal(json!({})).await;
    let delete = async |secret: &str, id: &str| {
        let path = format!("/api/v1/tokens/{id}");
        sent(registry.basic("ann", secret, Method::DELETE, &path))
            .await
            .0
    };
    assert_eq!(delete(&token, &second).await, 403);
    let revoke = registry.basic("ann", &token, Method::POST, "/api/v1/tokens/revoke");
    let order = json!({ "subject": "static:ann" });
    assert_eq!(sent(revoke.json(&order)).await.0, 403);
    assert_eq!(delete(&token, &first).await, 204);
    assert_eq!(registry.basic_status("ann", &token).await, 401);
    assert_eq!(registry.basic_status("ann", &other).await, 200);
}

#[tokio::test]
async fn a_rotation_without_overlap_ends_the_tokens_too() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let secret = registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    let token = registry.token_of("demo+ci", &secret, &[PULL]).await;
    let rotate = async |overlap: u32| {
        let order = json!({ "overlap_seconds": overlap });
        let (status, answer) = registry
            .api(Method::POST, &format!("{ROBOT}/secrets"), order)
            .await;
        assert_eq!(status, 201, "{answer}");
        answer["secret"].as_str().unwrap().to_owned()
    };
    let second = rotate(60).await;
    assert_eq!(registry.pull_status(&token).await, 200);
    let token = registry.token_of("demo+ci", &second, &[PULL]).await;
    rotate(0).await;
    assert_eq!(registry.pull_status(&token).await, 401);
}

#[tokio::test]
async fn a_token_is_not_valid_for_longer_than_the_secret_it_was_got_with() {
    let registry = TestRegistry::start().await;
    let (_, personal) = registry
        .make_personal(json!({ "expires_in_seconds": 60 }))
        .await;
    let asked = "repository:demo/app:pull,push";
    let claims = claims(&registry.token_of("ann", &personal, &[asked]).await);
    let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!((0..=60).contains(&lifetime), "{lifetime}");
}

#[tokio::test]
async fn an_accounts_owner_takes_back_what_its_machines_got() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let secret = registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    let token = registry.token_of("demo+ci", &secret, &[PULL]).await;
    let revoke = async |user: &str, subject: &str| {
        let request = registry.as_user(user, Method::POST, "/api/v1/tokens/revoke");
        sent(request.json(&json!({ "subject": subject }))).await.0
    };
    // `other` has everything in another auth tenant, `ann` may not change this one's accounts.
    assert_eq!(revoke("other", "robot:demo+ci").await, 404);
    assert_eq!(revoke("ann", "robot:demo+ci").await, 403);
    assert_eq!(registry.pull_status(&token).await, 200);
    let account = json!({ "auth_tenant_id": "other" });
    assert_eq!(
        registry
            .api(Method::PUT, "accounts/theirs", account)
            .await
            .0,
        201
    );
    assert_eq!(revoke("other", "robot:theirs+ci").await, 204);
    assert_eq!(revoke("other", "service:theirs+deploy").await, 204);
    assert_eq!(revoke("other", "static:ann").await, 403);
    assert_eq!(revoke("admin", "robot:demo+ci").await, 204);
    assert_eq!(registry.pull_status(&token).await, 401);
}

#[tokio::test]
async fn a_name_cannot_be_locked_out_from_afar() {
    let limits = |config: &mut kontor::config::Config| {
        config.auth.login_limits.per_user = 2;
        config.auth.login_limits.per_user_and_address = 2;
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let registry = crate::support::Setup::default()
        .config(limits)
        .start()
        .await;
    let secret = registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    let from = async |address: &str, user: &str, secret: &str| {
        let request = registry.basic(user, secret, Method::GET, "/v2/");
        let request = request.header("X-Forwarded-For", address);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(from("192.0.2.1", "ann", PASSWORD).await, 200);
    for _ in 0..2 {
        assert_eq!(from("198.51.100.1", "ann", "wrong").await, 401);
        assert_eq!(from("198.51.100.1", "demo+ci", "wrong").await, 401);
    }
    assert_eq!(from("198.51.100.2", "ann", "wrong").await, 429);
    assert_eq!(from("192.0.2.1", "ann", PASSWORD).await, 200, "from home");
    assert_eq!(
        from("192.0.2.7", "demo+ci", &secret).await,
        200,
        "cannot be guessed"
    );
}

#[tokio::test]
async fn the_last_user_of_the_database_stays() {
    let registry = TestRegistry::start().await;
    registry.make_bob().await;
    assert_eq!(
        registry
            .api(Method::DELETE, "users/bob", Value::Null)
            .await
            .0,
        204
    );
    let all = [
        "view",
        "pull",
        "push",
        "delete",
        "change",
        "quota_view",
        "quota_change",
    ];
    let order = json!({ "name": "root", "password": "another password",
        "grants": [{ "auth_tenant_id": "*", "permissions": all }] });
    assert_eq!(registry.api(Method::POST, "users", order).await.0, 201);
    let as_root =
        |method: Method, path: &str| registry.basic("root", "another password", method, path);
    assert_eq!(
        sent(as_root(Method::DELETE, "/api/v1/users/admin")).await.0,
        204
    );
    // One is left, whoever asks.
    let (status, answer) = registry
        .api(Method::DELETE, "users/root", Value::Null)
        .await;
    assert_eq!(status, 409, "{answer}");
}

#[tokio::test]
async fn a_service_identity_that_is_changed_takes_its_tokens_back() {
    // An issuer that is never called: nobody shows a token.
    let issuer = |config: &mut kontor::config::Config| {
        let provider =
            json!({ "issuer": "https://issuer.test", "audiences": ["a"], "people": false });
        let provider = serde_json::from_value(provider).unwrap();
        config.auth.oidc.insert("ci".to_owned(), provider);
    };
    let registry = crate::support::Setup::default()
        .config(issuer)
        .start()
        .await;
    let identity = |permission: &str| json!({ "name": "deploy", "issuer": "ci", "match_claims": { "sub": "x" }, "permissions": [permission] });
    let put = async |identities: Value| {
        let account = json!({ "service_identities": identities });
        let (status, answer) = registry.api(Method::PUT, "accounts/demo", account).await;
        assert_eq!(status, 200, "{answer}");
        let revoked = kontor::db::revocations::revocation_list;
        let revoked = registry.db.read(revoked).await.unwrap();
        revoked
            .into_iter()
            .map(|one| (one.revoked.parts().1.to_owned(), one.version))
            .collect::<Vec<_>>()
    };
    let subject = |version: i64| vec![("service:demo+deploy".to_owned(), version)];
    assert_eq!(put(json!([identity("push")])).await, []);
    assert_eq!(put(json!([identity("push")])).await, [], "nothing is lost");
    assert_eq!(put(json!([identity("pull")])).await, subject(1));
    assert_eq!(put(json!([])).await, subject(2));
}

#[tokio::test]
async fn drivers_that_do_not_exist_are_named() {
    let registry = TestRegistry::start().await;
    for (order, expected) in [
        (&["static"][..], None),
        (&["static", "keystone"], Some("keystone")),
    ] {
        let mut config = registry.config.clone();
        config.auth.drivers = order.iter().map(ToString::to_string).collect();
        let error = kontor::app::App::build(config)
            .err()
            .map(|error| error.to_string());
        match expected {
            None => assert_eq!(error, None),
            Some(name) => assert!(error.unwrap().contains(name)),
        }
    }
}

/// A deletion of another tenant's account stops at its next step once the name is somebody else's, and takes nothing.
async fn deletion_that_comes_late(op: Op) {
    let registry = start_public().await;
    let path = "accounts/reused";
    let put = |tenant: &str| registry.api(Method::PUT, path, json!({ "auth_tenant_id": tenant }));
    assert_eq!(put("other").await.0, 201);
    let old = registry.push_blob("reused/app", b"of the old owner").await;
    let gate = registry.faults.hold(op);
    let late = registry
        .basic("other", PASSWORD, Method::DELETE, "/api/v1/accounts/reused")
        .send();
    let late = tokio::spawn(late);
    let waits = registry.faults.calls_reached(op, 1);
    tokio::time::timeout(Duration::from_secs(30), waits)
        .await
        .unwrap();
    // From here on nothing is held but what has arrived: a second request ends the deletion, and others take the name.
    registry.faults.hold(op).open();
    assert_eq!(registry.api(Method::DELETE, path, Value::Null).await.0, 204);
    assert_eq!(put("demo").await.0, 201);
    registry.push_image("reused/app", "v1", 1).await;
    registry
        .push_blob("reused/app", b"that no manifest needs")
        .await;
    let robot = json!({ "name": "ci", "permissions": ["pull"] });
    let robots = "accounts/reused/robots";
    assert_eq!(registry.api(Method::POST, robots, robot).await.0, 201);
    let objects = registry.object_count("reused").await;
    let scope = "repository:reused/app:pull";
    let token = registry.token_of("ann", PASSWORD, &[scope]).await;

    gate.open();
    let late = late.await.unwrap().unwrap();
    assert_eq!(late.status(), 404, "{}", late.text().await.unwrap());
    assert_eq!(registry.object_count("reused").await, objects);
    let status = async |path: &str| {
        let request = registry.bearer(&token, Method::GET, path);
        request.send().await.unwrap().status().as_u16()
    };
    // The token was not revoked either.
    assert_eq!(status("/v2/reused/app/manifests/v1").await, 200);
    assert_eq!(status(&format!("/v2/reused/app/blobs/{old}")).await, 404);
    let (found, shown) = registry.api(Method::GET, path, Value::Null).await;
    assert_eq!(
        (found, &shown["account"]["auth_tenant_id"]),
        (200, &json!("demo"))
    );
    assert_ne!(shown["account"]["state"], "deleting");
    let robot = registry.api(Method::GET, "accounts/reused/robots/ci", Value::Null);
    assert_eq!(robot.await.0, 200);
    registry.push_blob("reused/app", b"it goes on").await;
    let report = registry.registry.check(true).await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    // The trail has one deletion: the one that was ended.
    let deletions = registry.audit_events("action=account.delete&account=reused");
    assert_eq!(deletions.await.len(), 1);
}

#[tokio::test]
async fn a_deletion_that_waited_for_an_object_takes_nothing_of_the_next_owner() {
    deletion_that_comes_late(Op::Delete).await;
}

#[tokio::test]
async fn a_deletion_that_waited_for_the_container_takes_nothing_of_the_next_owner() {
    deletion_that_comes_late(Op::ReleaseAccount).await;
}
