//! `/api/v1/accounts/<account>/robots`, and what robots may do.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::{PULL, sent, start_public};
use crate::{support::TestRegistry, v2::helpers::claims};

const ROBOTS: &str = "accounts/demo/robots";
const ROBOT: &str = "accounts/demo/robots/ci";

#[tokio::test]
async fn a_robot_is_made_shown_changed_and_removed() {
    let registry = TestRegistry::start().await;
    let order = json!({ "name": "ci", "description": "builds", "permissions": ["pull", "push"], "repositories": ["app"] });
    let (status, made) = registry.api(Method::POST, ROBOTS, order.clone()).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("kontor_robot_"));
    let robot = &made["robot"];
    assert_eq!(robot["login"], "demo+ci");
    assert_eq!(robot["created_by"], "static:admin");
    assert_eq!(robot["last_used_at"], Value::Null);
    assert_eq!(robot["secrets"].as_array().unwrap().len(), 1);
    assert_eq!(registry.api(Method::POST, ROBOTS, order).await.0, 409);

    assert_eq!(registry.basic_status("demo+ci", secret).await, 200);
    // The whole name has a colon, which only the form can carry.
    let whole = registry.granted("robot:demo+ci", secret, PULL).await;
    assert_eq!(whole, PULL);
    assert_eq!(registry.basic_status("demo+other", secret).await, 401);
    let (_, shown) = registry.api(Method::GET, ROBOT, Value::Null).await;
    for used in [&shown["robot"], &shown["robot"]["secrets"][0]] {
        let at = used["last_used_at"].as_str().unwrap();
        assert!(at.ends_with('Z'), "{at}");
        assert_eq!(at.parse::<DateTime<Utc>>().unwrap(), registry.now());
    }
    assert!(!shown.to_string().contains(secret));
    let (_, listed) = registry.api(Method::GET, ROBOTS, Value::Null).await;
    assert_eq!(listed["robots"], json!([shown["robot"]]));
    // What is shown can be sent back and changes nothing.
    let (status, same) = registry
        .api(Method::PUT, ROBOT, shown["robot"].clone())
        .await;
    assert_eq!((status, &same["robot"]), (200, &shown["robot"]));
    assert_eq!(same["changes"], json!([]));

    let delete = registry.api(Method::DELETE, ROBOT, Value::Null).await;
    assert_eq!(delete.0, 204);
    assert_eq!(registry.basic_status("demo+ci", secret).await, 401);
    assert_eq!(registry.api(Method::GET, ROBOT, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_robot_has_its_own_rights_and_those_of_everybody() {
    let registry = TestRegistry::start().await;
    for account in ["demo", "theirs"] {
        let policies = json!([
            { "match_repository": "public/.*", "permissions": ["anonymous_pull"] },
            { "match_repository": "open/.*", "match_username": ".*", "permissions": ["pull", "push"] },
        ]);
        let order = json!({ "auth_tenant_id": account, "rbac_policies": policies });
        assert!(registry.account(account, order).await.status().is_success());
    }
    let order = json!({ "permissions": ["pull", "push"], "repositories": ["app", "team/.*"] });
    let secret = registry.make_robot(order).await;
    for (name, granted) in [
        ("demo/app", "pull,push"),
        ("demo/team/a", "pull,push"),
        ("demo/apple", ""),
        ("demo/my/app", ""),
        ("demo/public/a", "pull"),
        ("demo/open/a", ""),
        ("theirs/app", ""),
        ("theirs/public/a", "pull"),
        ("theirs/open/a", ""),
        ("absent/app", ""),
        ("demo/*", ""),
    ] {
        let asked = format!("repository:{name}:pull,push,delete");
        let expected = match granted {
            "" => String::new(),
            granted => format!("repository:{name}:{granted}"),
        };
        let actual = registry.granted("demo+ci", &secret, &asked).await;
        assert_eq!(actual, expected);
    }
    // The same by Basic.
    let start = |name: &str| {
        let path = format!("/v2/{name}/blobs/uploads/");
        let request = registry.basic("demo+ci", &secret, Method::POST, &path);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(start("demo/app").await, 202);
    assert_eq!(start("demo/open/a").await, 403);
    assert_eq!(start("theirs/app").await, 403);
    // A robot manages nothing.
    for (method, path) in [
        (Method::GET, "users"),
        (Method::PUT, "accounts/demo"),
        (Method::POST, ROBOTS),
        (Method::POST, "tokens"),
    ] {
        let request = registry
            .basic("demo+ci", &secret, method, &format!("/api/v1/{path}"))
            .json(&json!({ "name": "more", "permissions": ["pull"] }));
        let status = sent(request).await.0;
        assert!([422, 403, 404].contains(&status), "{path}: {status}");
    }
}

#[tokio::test]
async fn a_token_says_which_robot_it_is_for_and_who_answers_for_it() {
    let registry = TestRegistry::start().await;
    let secret = registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    let claims = claims(&registry.token_of("demo+ci", &secret, &[PULL]).await);
    assert_eq!(claims["sub"], "robot:demo+ci");
    let origin = claims["origin"].as_str().unwrap();
    assert!(origin.starts_with("robot ") && origin.ends_with(" of static:admin"));
}

#[tokio::test]
async fn a_robot_ends_at_its_time() {
    let registry = TestRegistry::start().await;
    let at = registry.now() + TimeDelta::hours(1);
    let secret = registry
        .make_robot(json!({ "permissions": ["pull"], "expires_at": at }))
        .await;
    registry.pass(3599);
    assert_eq!(registry.basic_status("demo+ci", &secret).await, 200);
    registry.pass(1);
    assert_eq!(registry.basic_status("demo+ci", &secret).await, 401);
    assert_eq!(registry.login("demo+ci", &secret, &[]).await.status(), 401);
    // What is shown can be sent back, though its end has passed; another end must lie ahead.
    let order = json!({ "permissions": ["pull"], "expires_at": at, "is_disabled": true });
    let (status, answer) = registry.api(Method::PUT, ROBOT, order).await;
    assert_eq!(status, 200, "{answer}");
    let order = json!({ "permissions": ["pull"], "expires_at": at - TimeDelta::seconds(1) });
    assert_eq!(registry.api(Method::PUT, ROBOT, order).await.0, 422);
}

#[tokio::test]
async fn a_disabled_robot_is_refused_on_all_nodes() {
    let registry = start_public().await;
    registry.push_image("demo/app", "v1", 1).await;
    let second = registry.second_node().await;
    let secret = registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    let token = registry.token_of("demo+ci", &secret, &[PULL]).await;
    let refresh = registry.refresh_token("demo+ci", &secret).await;
    assert_eq!(second.pull_status(&token).await, 200);
    let order = json!({ "permissions": ["pull"], "is_disabled": true });
    assert_eq!(registry.api(Method::PUT, ROBOT, order).await.0, 200);
    second.registry.revocations_refresh().await.unwrap();
    for node in [&registry, &second] {
        assert_eq!(node.basic_status("demo+ci", &secret).await, 401);
        assert_eq!(node.pull_status(&token).await, 401);
        assert_eq!(node.refresh(&refresh, PULL).await.0, 401);
    }
}

#[tokio::test]
async fn two_secrets_overlap_and_a_third_ends_the_oldest() {
    let registry = TestRegistry::start().await;
    let first = registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    let rotate = async |order: Value| {
        let path = format!("{ROBOT}/secrets");
        let (status, answer) = registry.api(Method::POST, &path, order).await;
        assert_eq!(status, 201, "{answer}");
        assert_eq!(answer["login"], "demo+ci");
        answer["secret"].as_str().unwrap().to_owned()
    };
    let status = async |secret: &str| registry.basic_status("demo+ci", secret).await;
    registry.pass(1);
    let second = rotate(json!({})).await;
    assert_eq!((status(&first).await, status(&second).await), (200, 200));
    registry.pass(86_399);
    assert_eq!(status(&first).await, 200);
    registry.pass(1);
    assert_eq!((status(&first).await, status(&second).await), (401, 200));

    let third = rotate(json!({ "overlap_seconds": 3600 })).await;
    registry.pass(1);
    let fourth = rotate(json!({ "overlap_seconds": 3600 })).await;
    let now = [&second, &third, &fourth];
    assert_eq!(
        [
            status(now[0]).await,
            status(now[1]).await,
            status(now[2]).await
        ],
        [401, 200, 200],
        "there are two at most"
    );
    let (_, shown) = registry.api(Method::GET, ROBOT, Value::Null).await;
    let secrets = shown["robot"]["secrets"].as_array().unwrap().clone();
    assert_eq!(secrets.len(), 2, "{shown}");
    let id = secrets[1]["id"].as_str().unwrap();
    let path = format!("{ROBOT}/secrets/{id}");
    assert_eq!(
        registry.api(Method::DELETE, &path, Value::Null).await.0,
        204
    );
    assert_eq!(
        registry.api(Method::DELETE, &path, Value::Null).await.0,
        404
    );
    assert_eq!((status(&third).await, status(&fourth).await), (200, 401));

    let fifth = rotate(json!({ "overlap_seconds": 0 })).await;
    assert_eq!((status(&third).await, status(&fifth).await), (401, 200));
    let at = registry.now() + TimeDelta::hours(1);
    let sixth = rotate(json!({ "expires_at": at, "overlap_seconds": 0 })).await;
    registry.pass(3600);
    assert_eq!(status(&sixth).await, 401);
}

#[tokio::test]
async fn robots_go_with_their_account() {
    let registry = TestRegistry::start().await;
    let make = async || {
        let order = json!({ "auth_tenant_id": "demo" });
        assert_eq!(registry.account("gone", order).await.status(), 201);
        let order = json!({ "name": "ci", "permissions": ["pull"] });
        let made = registry.api(Method::POST, "accounts/gone/robots", order);
        let made = made.await.1;
        made["secret"].as_str().unwrap().to_owned()
    };
    let secret = make().await;
    assert_eq!(registry.basic_status("gone+ci", &secret).await, 200);
    let delete = registry.api(Method::DELETE, "accounts/gone", Value::Null);
    assert_eq!(delete.await.0, 204);
    assert_eq!(registry.basic_status("gone+ci", &secret).await, 401);
    let again = make().await;
    assert_eq!(registry.basic_status("gone+ci", &secret).await, 401);
    assert_eq!(registry.basic_status("gone+ci", &again).await, 200);
}

#[tokio::test]
async fn others_neither_see_nor_make_robots() {
    let registry = TestRegistry::start().await;
    registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    let order = json!({ "name": "mine", "permissions": ["pull"] });
    for user in ["other", "nobody"] {
        for (method, path) in [
            (Method::GET, ""),
            (Method::POST, ""),
            (Method::GET, "/ci"),
            (Method::DELETE, "/ci"),
            (Method::POST, "/ci/secrets"),
        ] {
            let ask = |account: &str| {
                let path = format!("/api/v1/accounts/{account}/robots{path}");
                let document = match path.ends_with("secrets") {
                    true => json!({}),
                    false => order.clone(),
                };
                sent(
                    registry
                        .as_user(user, method.clone(), &path)
                        .json(&document),
                )
            };
            let (hidden, absent) = (ask("demo").await, ask("absent").await);
            assert_eq!(hidden.0, 404, "{user} {method} {path}");
            let hidden = hidden.1.to_string().replace("demo", "absent");
            assert_eq!(hidden, absent.1.to_string());
        }
    }
    // Who may see the account sees its robots, but changes nothing.
    let list = registry.as_user("reader", Method::GET, &format!("/api/v1/{ROBOTS}"));
    assert_eq!(sent(list).await.0, 200);
    let make = registry.as_user("ann", Method::POST, &format!("/api/v1/{ROBOTS}"));
    assert_eq!(sent(make.json(&order)).await.0, 403);
}

#[tokio::test]
async fn bad_orders_are_refused_with_the_reason() {
    let registry = TestRegistry::start().await;
    registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    for (method, path, order, reason) in [
        (
            "POST",
            "",
            json!({ "name": "x", "permissions": ["change"] }),
            "change",
        ),
        (
            "POST",
            "",
            json!({ "name": "x", "permissions": [] }),
            "permission",
        ),
        ("POST", "", json!({ "name": "x" }), "permissions"),
        ("POST", "", json!({ "permissions": ["pull"] }), "name"),
        (
            "POST",
            "",
            json!({ "name": "X y", "permissions": ["pull"] }),
            "name",
        ),
        (
            "POST",
            "",
            json!({ "name": "x", "permissions": ["pull"], "repositories": ["("] }),
            "not usable",
        ),
        (
            "POST",
            "",
            json!({ "name": "x", "permissions": ["pull"], "account": "other" }),
            "account",
        ),
        (
            "POST",
            "",
            json!({ "name": "x", "permissions": ["pull"], "expires_at": "2020-01-01T00:00:00Z" }),
            "past",
        ),
        (
            "POST",
            "",
            json!({ "name": "x", "permissions": ["pull"], "expires_at": "tomorrow" }),
            "expires_at",
        ),
        (
            "POST",
            "",
            json!({ "name": "x", "permissions": ["pull"], "expires_at": "+12020-01-01T00:00:00Z" }),
            "",
        ),
        (
            "PUT",
            "/ci",
            json!({ "name": "x", "permissions": ["pull"] }),
            "name",
        ),
        (
            "POST",
            "/ci/secrets",
            json!({ "overlap_seconds": -1 }),
            "-1",
        ),
        (
            "POST",
            "/ci/secrets",
            json!({ "overlap_seconds": 4_000_000_000_u32 }),
            "30 days",
        ),
        ("POST", "/ci/secrets", json!({ "overlap": 1 }), "overlap"),
    ] {
        let (status, problem) = registry
            .api(
                method.parse().unwrap(),
                &format!("{ROBOTS}{path}"),
                order.clone(),
            )
            .await;
        assert_eq!(status, 422, "{order}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{order}: {detail}");
    }
}
