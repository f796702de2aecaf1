//! `/api/v1/users`

use reqwest::Method;
use serde_json::{Value, json};

use super::{PULL, sent, start_public};
use crate::support::{PASSWORD, TestRegistry};

#[tokio::test]
async fn a_user_is_made_shown_changed_and_removed() {
    let registry = TestRegistry::start().await;
    let grant = json!({ "auth_tenant_id": "demo", "permissions": ["pull"] });
    let order = json!({ "name": "bob", "grants": [grant] });
    let answer = registry
        .admin(Method::POST, "/api/v1/users")
        .json(&order)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let made: Value = answer.json().await.unwrap();
    let password = made["password"].as_str().unwrap();
    assert_eq!(registry.basic_status("bob", password).await, 200);
    assert_eq!(registry.granted("bob", password, PULL).await, PULL);

    let (_, shown) = registry.api(Method::GET, "users/bob", Value::Null).await;
    assert_eq!(
        shown["user"],
        json!({ "name": "bob", "grants": [grant], "is_disabled": false })
    );
    let (_, listed) = registry.api(Method::GET, "users", Value::Null).await;
    assert!(listed["users"].as_array().unwrap().contains(&shown["user"]));
    assert!(!listed.to_string().contains("argon2"), "{listed}");
    // What is shown can be sent back and changes nothing.
    let (status, same) = registry
        .api(Method::PUT, "users/bob", shown["user"].clone())
        .await;
    assert_eq!((status, &same["user"]), (200, &shown["user"]));
    assert_eq!(same["changes"], json!([]));
    let (_, none) = registry
        .api(Method::PUT, "users/bob", json!({ "grants": [] }))
        .await;
    assert_eq!(none["user"]["grants"], json!([]));
    assert_eq!(registry.granted("bob", password, PULL).await, "");

    let chosen = json!({ "name": "eve", "password": "a good password" });
    let (status, made) = registry.api(Method::POST, "users", chosen).await;
    assert_eq!((status, made.get("password")), (201, None));
    assert_eq!(registry.basic_status("eve", "a good password").await, 200);

    let delete = registry.api(Method::DELETE, "users/bob", Value::Null).await;
    assert_eq!(delete.0, 204);
    assert_eq!(registry.basic_status("bob", password).await, 401);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(registry.api(method, "users/bob", Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn bad_orders_are_refused_with_the_reason() {
    let registry = TestRegistry::start().await;
    registry.make_bob().await;
    for (method, path, order, status, reason) in [
        ("POST", "users", json!({ "name": "bob" }), 409, "already"),
        ("POST", "users", json!({ "name": "a:b" }), 422, "colon"),
        ("POST", "users", json!({ "name": "a/b" }), 422, "slash"),
        ("POST", "users", json!({}), 422, "name"),
        (
            "POST",
            "users",
            json!({ "name": "x", "password": "short" }),
            422,
            "8 characters",
        ),
        (
            "POST",
            "users",
            json!({ "name": "x", "password_hash": "y" }),
            422,
            "password_hash",
        ),
        (
            "POST",
            "users",
            json!({ "name": "x", "grants": [{ "auth_tenant_id": "demo", "permissions": ["fly"] }] }),
            422,
            "fly",
        ),
        ("PUT", "users/bob", json!({}), 422, "grants"),
        (
            "PUT",
            "users/bob",
            json!({ "name": "eve", "grants": [] }),
            422,
            "name",
        ),
        ("PUT", "users/eve", json!({ "grants": [] }), 404, "eve"),
        (
            "PUT",
            "users/bob/password",
            json!({ "password": "x" }),
            422,
            "8 characters",
        ),
        (
            "PUT",
            "users/bob/password",
            json!({ "password": "long enough", "old": 1 }),
            422,
            "old",
        ),
    ] {
        let method = method.parse().unwrap();
        let (actual, problem) = registry.api(method, path, order.clone()).await;
        assert_eq!(actual, status, "{path} {order}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{path} {order}: {detail}");
    }
    let large = json!({ "name": "x".repeat(70_000) });
    assert_eq!(registry.api(Method::POST, "users", large).await.0, 413);
}

#[tokio::test]
async fn only_operators_manage_users_and_others_do_not_learn_who_there_is() {
    let registry = TestRegistry::start().await;
    registry.make_bob().await;
    for user in ["ann", "other", "nobody"] {
        let as_user = |method: Method, path: &str| {
            let document = json!({ "password": "long enough" });
            registry
                .as_user(user, method, &format!("/api/v1/users{path}"))
                .json(&document)
        };
        for (method, path) in [
            (Method::GET, ""),
            (Method::PUT, "/bob/password"),
            (Method::DELETE, "/bob"),
        ] {
            assert_eq!(sent(as_user(method, path)).await.0, 403, "{user} {path}");
        }
        let (status, there) = sent(as_user(Method::GET, "/bob")).await;
        let absent = sent(as_user(Method::GET, "/absent")).await;
        assert_eq!((status, there), absent);
        assert_eq!(absent.0, 403);
        let make = registry
            .as_user(user, Method::POST, "/api/v1/users")
            .json(&json!({ "name": "new" }));
        assert_eq!(sent(make).await.0, 403);
    }
    // Who may do everything to the accounts of one tenant only is no operator, and neither is a narrowed token.
    let order = json!({ "permissions": ["view", "pull", "push", "delete", "change"] });
    let made = registry.api(Method::POST, "tokens", order).await.1;
    let token = made["token"].as_str().unwrap();
    let list = registry.basic("admin", token, Method::GET, "/api/v1/users");
    assert_eq!(sent(list).await.0, 403);
    let anonymous = registry.anonymous(Method::GET, "/api/v1/users/bob");
    assert_eq!(sent(anonymous).await.0, 401);
}

#[tokio::test]
async fn nobody_disables_or_removes_themselves() {
    let registry = TestRegistry::start().await;
    let disable = json!({ "grants": [], "is_disabled": true });
    assert_eq!(
        registry.api(Method::PUT, "users/admin", disable).await.0,
        409
    );
    let delete = registry.api(Method::DELETE, "users/admin", Value::Null);
    assert_eq!(delete.await.0, 409);
}

/// All that a user can log in with.
struct Everything {
    password: String,
    personal: String,
    refresh: String,
    access: String,
}

impl Everything {
    async fn of_bob(registry: &TestRegistry) -> Self {
        let password = registry.make_bob().await;
        let make = registry
            .basic("bob", &password, Method::POST, "/api/v1/tokens")
            .json(&json!({}));
        let personal = sent(make).await.1["token"].as_str().unwrap().to_owned();
        let refresh = registry.refresh_token("bob", &password).await;
        let access = registry.token_of("bob", &password, &[PULL]).await;
        Self {
            password,
            personal,
            refresh,
            access,
        }
    }

    /// The statuses of pulling by token, refreshing, the personal token at `/v2/` and `/token`, the password at both.
    async fn statuses(&self, registry: &TestRegistry) -> [u16; 6] {
        let login = |secret: &str| {
            let secret = secret.to_owned();
            async move { registry.login("bob", &secret, &[]).await.status().as_u16() }
        };
        [
            registry.pull_status(&self.access).await,
            registry.refresh(&self.refresh, PULL).await.0,
            registry.basic_status("bob", &self.personal).await,
            login(&self.personal).await,
            registry.basic_status("bob", &self.password).await,
            login(&self.password).await,
        ]
    }
}

#[tokio::test]
async fn a_new_password_ends_what_was_got_with_the_old_one_on_all_nodes() {
    let registry = start_public().await;
    registry.push_image("demo/app", "v1", 1).await;
    let second = registry.second_node().await;
    let bob = Everything::of_bob(&registry).await;
    for node in [&registry, &second] {
        assert_eq!(bob.statuses(node).await, [200; 6]);
    }
    let own = registry
        .basic(
            "bob",
            &bob.password,
            Method::PUT,
            "/api/v1/users/bob/password",
        )
        .json(&json!({ "password": "brand new one" }));
    assert_eq!(sent(own).await.0, 204);
    second.registry.revocations_refresh().await.unwrap();
    for node in [&registry, &second] {
        assert_eq!(bob.statuses(node).await, [401; 6]);
        assert_eq!(node.basic_status("bob", "brand new one").await, 200);
    }
    registry.pass(2);
    let fresh = registry.token_of("bob", "brand new one", &[PULL]).await;
    assert_eq!(registry.pull_status(&fresh).await, 200);
    // An operator may do so too.
    let order = json!({ "password": "one by admin" });
    let set = registry.api(Method::PUT, "users/bob/password", order);
    assert_eq!(set.await.0, 204);
    assert_eq!(registry.pull_status(&fresh).await, 401);
}

#[tokio::test]
async fn a_disabled_user_is_refused_everywhere_on_all_nodes() {
    let registry = start_public().await;
    registry.push_image("demo/app", "v1", 1).await;
    let second = registry.second_node().await;
    let bob = Everything::of_bob(&registry).await;
    assert_eq!(bob.statuses(&second).await, [200; 6]);
    let (_, shown) = registry.api(Method::GET, "users/bob", Value::Null).await;
    let mut user = shown["user"].clone();
    user["is_disabled"] = json!(true);
    let (status, _) = registry.api(Method::PUT, "users/bob", user.clone()).await;
    assert_eq!(status, 200);
    second.registry.revocations_refresh().await.unwrap();
    for node in [&registry, &second] {
        assert_eq!(bob.statuses(node).await, [401; 6]);
    }
    user["is_disabled"] = json!(false);
    registry.api(Method::PUT, "users/bob", user).await;
    let after = bob.statuses(&registry).await;
    assert_eq!(
        after,
        [401, 401, 401, 401, 200, 200],
        "only the password is back"
    );
}

#[tokio::test]
async fn fewer_rights_count_at_once_for_tokens_that_are_out_already() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let bob = Everything::of_bob(&registry).await;
    let (status, _) = registry
        .api(Method::PUT, "users/bob", json!({ "grants": [] }))
        .await;
    assert_eq!(status, 200);
    assert_eq!(registry.pull_status(&bob.access).await, 401);
    let (status, answer) = registry.refresh(&bob.refresh, PULL).await;
    assert_eq!((status, &answer["scope"]), (200, &json!("")));
}

#[tokio::test]
async fn a_removed_user_leaves_nothing_to_a_new_one_of_the_same_name() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let bob = Everything::of_bob(&registry).await;
    registry.api(Method::DELETE, "users/bob", Value::Null).await;
    registry.make_bob().await;
    assert_eq!(bob.statuses(&registry).await, [401; 6]);
    // Users of the configuration are not to be changed here.
    let order = json!({ "password": "long enough" });
    let set = registry
        .as_user("ann", Method::PUT, "/api/v1/users/ann/password")
        .json(&order);
    assert_eq!(sent(set).await.0, 404);
    assert_eq!(registry.basic_status("ann", PASSWORD).await, 200);
}
