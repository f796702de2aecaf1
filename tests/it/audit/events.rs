//! Each kind of decision has an event with the right who, outcome and target, written with the change or not at all.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    PASSWORD, TestRegistry,
    image::{OCI_MANIFEST, bytes, digest, manifest},
};

#[tokio::test]
async fn a_push_tells_who_what_and_where_from() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 100);
    let blob = registry.push_blob("demo/app", &content).await;
    let answer = registry
        .admin(Method::PUT, "/v2/demo/app/manifests/v1?tag=v2")
        .header("Content-Type", OCI_MANIFEST)
        .header("User-Agent", "tester/1")
        .body(manifest(&content, &[]).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let request_id = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let event = registry.audit_last("action=manifest.push").await;
    assert_eq!(event["outcome"], "success");
    assert_eq!(event["who"]["name"], "static:admin");
    assert_eq!(event["client"], "127.0.0.1");
    assert_eq!(event["user_agent"], "tester/1");
    assert_eq!(event["request_id"], request_id);
    assert_eq!(event["account"], "demo");
    assert_eq!(event["auth_tenant_id"], "demo");
    assert_eq!(event["target"]["repository"], "demo/app");
    assert_eq!(event["target"]["tags"], json!(["v1", "v2"]));
    let digest = digest(manifest(&content, &[]).to_string().as_bytes());
    assert_eq!(event["target"]["digest"], digest.to_string());
    let event = registry.audit_last("action=blob.push").await;
    assert_eq!(event["target"]["digest"], blob.to_string());
    assert_eq!(event["auth_tenant_id"], "demo");
}

#[tokio::test]
async fn every_way_to_push_a_blob_has_one_event() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 100);
    let start = registry
        .admin(Method::POST, "/v2/demo/app/blobs/uploads/")
        .send()
        .await
        .unwrap();
    let location = start.headers()["location"].to_str().unwrap().to_owned();
    let digest = digest(&content);
    let answer = registry
        .admin(Method::PUT, &format!("{location}?digest={digest}"))
        .body(content)
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 201);
    assert_eq!(registry.audit_events("action=blob.push").await.len(), 1);
    let path = format!("/v2/demo/other/blobs/uploads/?mount={digest}&from=demo/app");
    let answer = registry.admin(Method::POST, &path).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let event = registry.audit_last("action=blob.mount").await;
    assert_eq!(event["target"]["repository"], "demo/other");
    assert_eq!(event["target"]["name"], "demo/app");
    assert_eq!(registry.audit_events("action=blob.push").await.len(), 1);
}

#[tokio::test]
async fn a_change_that_fails_leaves_no_event() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob("demo/app", &bytes(1, 100)).await;
    let image = registry.push_image("demo/app", "v1", 5).await;
    let before = registry.audit_events("outcome=success").await;
    let config = image["config"]["digest"].as_str().unwrap();
    for (method, path, body, status) in [
        // In use.
        (
            Method::DELETE,
            format!("/v2/demo/app/blobs/{config}"),
            "",
            409,
        ),
        // Unknown.
        (Method::DELETE, "/v2/demo/app/manifests/v9".into(), "", 404),
        // Other bytes than its digest says.
        (
            Method::POST,
            format!("/v2/demo/app/blobs/uploads/?digest={blob}"),
            "other",
            400,
        ),
        // Refers to what is not there.
        (
            Method::PUT,
            "/v2/demo/app/manifests/v2".into(),
            &*manifest(b"nowhere", &[]).to_string(),
            400,
        ),
        // The account holds manifests.
        (Method::DELETE, "/api/v1/accounts/demo".into(), "", 409),
        (
            Method::DELETE,
            "/api/v1/accounts/demo/robots/none".into(),
            "",
            404,
        ),
    ] {
        let request = registry.admin(method, &path).body(body.to_owned());
        let answer = request.header("Content-Type", OCI_MANIFEST).send().await;
        assert_eq!(answer.unwrap().status(), status, "{path}");
    }
    let after = registry.audit_events("outcome=success").await;
    let only_changes = |events: Vec<Value>| {
        let is_login = |event: &Value| event["action"] == "login";
        events.into_iter().filter(|e| !is_login(e)).count()
    };
    assert_eq!(only_changes(after), only_changes(before));
}

#[tokio::test]
async fn no_change_is_made_if_its_event_cannot_be_written() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry.audit_settle().await;
    registry
        .db
        .execute_for_tests("ALTER TABLE audit_events RENAME TO elsewhere".into())
        .await
        .unwrap();
    let delete = || registry.registry_delete();
    assert_eq!(delete().await, 500);
    let content = bytes(1, 100);
    let answer = registry
        .admin(Method::PUT, "/v2/demo/app/manifests/v2")
        .header("Content-Type", OCI_MANIFEST)
        .body(manifest(&content, &[]).to_string())
        .send();
    assert_eq!(answer.await.unwrap().status(), 500);
    registry
        .db
        .execute_for_tests("ALTER TABLE elsewhere RENAME TO audit_events".into())
        .await
        .unwrap();
    let tag = |tag: &str| registry.admin(Method::HEAD, &format!("/v2/demo/app/manifests/{tag}"));
    assert_eq!(tag("v1").send().await.unwrap().status(), 200);
    assert_eq!(tag("v2").send().await.unwrap().status(), 404);
    assert_eq!(delete().await, 202);
    assert_eq!(registry.audit_events("action=tag.delete").await.len(), 1);
}

impl TestRegistry {
    async fn registry_delete(&self) -> u16 {
        let request = self.admin(Method::DELETE, "/v2/demo/app/manifests/v1");
        request.send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn deletions_tell_what_is_gone() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let digest = digest(&serde_json::to_vec(&image).unwrap()).to_string();
    let config = image["config"]["digest"].as_str().unwrap();
    for path in [
        "/v2/demo/app/manifests/v1".to_owned(),
        format!("/v2/demo/app/manifests/{digest}"),
        format!("/v2/demo/app/blobs/{config}"),
    ] {
        let answer = registry.admin(Method::DELETE, &path).send().await.unwrap();
        assert_eq!(answer.status(), 202, "{path}");
    }
    let event = registry.audit_last("action=tag.delete").await;
    assert_eq!(event["target"]["tags"], json!(["v1"]));
    let event = registry.audit_last("action=manifest.delete").await;
    assert_eq!(event["target"]["digest"], digest);
    let event = registry.audit_last("action=blob.delete").await;
    assert_eq!(event["target"]["digest"], config);
    assert_eq!(event["auth_tenant_id"], "demo");
}

#[tokio::test]
async fn pulls_are_told_if_the_account_wants_it() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let config = image["config"]["digest"].as_str().unwrap();
    let blob = format!("/v2/demo/app/blobs/{config}");
    let pull = async || {
        for path in ["/v2/demo/app/manifests/v1", blob.as_str()] {
            let answer = registry.as_user("ann", Method::GET, path).send().await;
            assert_eq!(answer.unwrap().status(), 200);
            let answer = registry.as_user("ann", Method::HEAD, path).send().await;
            assert_eq!(answer.unwrap().status(), 200);
        }
    };
    pull().await;
    assert!(
        registry
            .audit_events("action=manifest.pull")
            .await
            .is_empty()
    );
    assert!(registry.audit_events("action=blob.pull").await.is_empty());
    let answer = registry
        .account("demo", json!({ "audit_pulls": true }))
        .await;
    assert_eq!(answer.status(), 200);
    let event = registry.audit_last("action=account.update").await;
    assert_eq!(event["reason"], "changed: audit_pulls");
    pull().await;
    let events = registry.audit_events("action=manifest.pull").await;
    assert_eq!(events.len(), 1, "HEAD is no pull");
    assert_eq!(events[0]["who"]["name"], "static:ann");
    assert_eq!(events[0]["target"]["tags"], json!(["v1"]));
    assert!(events[0]["target"]["digest"].is_string());
    assert_eq!(events[0]["auth_tenant_id"], "demo");
    let events = registry.audit_events("action=blob.pull").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["target"]["digest"], config);
}

#[tokio::test]
async fn logins_and_tokens_tell_how_they_ended() {
    let registry = TestRegistry::start().await;
    registry.audit_settle().await;
    let token = registry
        .token("ann", &["repository:demo/app:pull,push,delete"])
        .await;
    let event = registry
        .audit_last("user=static:ann&action=token.issue")
        .await;
    assert_eq!(event["outcome"], "success");
    assert_eq!(event["account"], "demo");
    let jti = event["who"]["token_id"].as_str().unwrap().to_owned();
    assert!(!jti.is_empty() && !token.contains(&jti));
    // What is done with the token names it.
    let content = bytes(1, 10);
    let path = format!("/v2/demo/app/blobs/uploads/?digest={}", digest(&content));
    let request = registry.anonymous(Method::POST, &path).bearer_auth(&token);
    assert_eq!(request.body(content).send().await.unwrap().status(), 201);
    let event = registry.audit_last("action=blob.push").await;
    assert_eq!(event["who"]["name"], "static:ann");
    assert_eq!(event["who"]["token_id"], jti.as_str());
    // Nothing of what was asked for.
    registry
        .token("nobody", &["repository:demo/app:pull"])
        .await;
    let event = registry
        .audit_last("user=static:nobody&action=token.issue")
        .await;
    assert_eq!(event["outcome"], "denied");
    assert_eq!(event["auth_tenant_id"], "demo");
    // Less than was asked for.
    registry
        .token("reader", &["repository:demo/app:pull,push"])
        .await;
    let event = registry
        .audit_last("user=static:reader&action=token.issue")
        .await;
    assert_eq!(event["outcome"], "success");
    assert_eq!(event["target"]["name"], "repository:demo/app:pull");
    assert_eq!(event["reason"], "asked for repository:demo/app:pull,push");
    // Wrong passwords.
    assert_eq!(registry.login("ann", "wrong", &[]).await.status(), 401);
    let event = registry.audit_last("action=login&outcome=failure").await;
    assert_eq!(event["who"]["name"], "ann");
    let success = registry.audit_last("action=login&user=static:ann").await;
    assert_eq!(success["outcome"], "success");
}

#[tokio::test]
async fn too_many_logins_are_denied_logins() {
    let registry = TestRegistry::start().await;
    let mut status = 401;
    for _ in 0..200 {
        let answer = registry.login("ann", "wrong", &[]);
        status = answer.await.status().as_u16();
        if status == 429 {
            break;
        }
        registry.clock.advance(chrono::TimeDelta::milliseconds(1));
    }
    assert_eq!(status, 429);
    let event = registry.audit_last("action=login&outcome=denied").await;
    assert_eq!(event["who"]["name"], "ann");
}

#[tokio::test]
async fn refusals_are_told_also_those_that_look_like_404() {
    let registry = TestRegistry::start().await;
    let denied = async |user: &str, method: Method, path: &str, status: u16| {
        let answer = registry.as_user(user, method, path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        registry.audit_last("action=access&outcome=denied").await
    };
    let path = "/v2/demo/app/manifests/v1?secret=hunter2";
    let event = denied("nobody", Method::GET, path, 403).await;
    assert_eq!(event["who"]["name"], "static:nobody");
    assert_eq!(event["account"], "demo");
    assert_eq!(event["auth_tenant_id"], "demo");
    assert_eq!(event["target"]["name"], "GET /v2/demo/app/manifests/v1");
    let event = denied("nobody", Method::GET, "/api/v1/accounts/demo", 404).await;
    assert_eq!(event["target"]["name"], "GET /api/v1/accounts/demo");
    assert_eq!(event["auth_tenant_id"], "demo");
    let event = denied("reader", Method::DELETE, "/api/v1/accounts/demo", 403).await;
    assert_eq!(event["who"]["name"], "static:reader");
    let event = denied("ann", Method::GET, "/api/v1/users", 403).await;
    assert_eq!(event["target"]["name"], "GET /api/v1/users");
    let count = registry.audit_events("action=access").await.len();
    // Something that does not exist, and a client that asks what it needs, are not refused.
    let answer = registry.admin(Method::GET, "/api/v1/accounts/none").send();
    assert_eq!(answer.await.unwrap().status(), 404);
    let answer = registry.anonymous(Method::GET, "/v2/demo/app/tags/list");
    assert_eq!(answer.send().await.unwrap().status(), 401);
    assert_eq!(registry.audit_events("action=access").await.len(), count);
    // A token that does not allow it, and one that is none.
    let token = registry.token("ann", &["repository:demo/app:pull"]).await;
    let delete = registry.anonymous(Method::DELETE, "/v2/demo/app/manifests/v1");
    assert_eq!(
        delete.bearer_auth(&token).send().await.unwrap().status(),
        401
    );
    let event = registry.audit_last("action=access").await;
    assert_eq!(event["who"]["name"], "static:ann");
    assert!(event["who"]["token_id"].is_string());
    let forged = registry.anonymous(Method::GET, "/v2/").bearer_auth("a.b.c");
    assert_eq!(forged.send().await.unwrap().status(), 401);
    let event = registry.audit_last("action=access").await;
    assert!(event["who"].is_null());
    assert_eq!(
        registry.audit_events("action=access").await.len(),
        count + 2
    );
}

#[tokio::test]
async fn the_management_of_everything_is_told() {
    let registry = TestRegistry::start().await;
    // Events of one moment have no order; those of the start come first.
    registry.audit_settle().await;
    let api = async |method: Method, path: &str, document: Value| {
        let (status, answer) = registry.api(method, path, document).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    };
    let last = async |action: &str, name: Option<&str>| {
        let event = registry.audit_last(&format!("action={action}")).await;
        assert_eq!(event["who"]["name"], "static:admin", "{action}");
        assert_eq!(event["outcome"], "success");
        assert!(event["request_id"].is_string());
        if let Some(name) = name {
            assert_eq!(event["target"]["name"], name, "{action}");
        }
        event
    };
    let account = json!({ "auth_tenant_id": "acme" });
    api(Method::PUT, "accounts/acme", account).await;
    assert_eq!(last("account.create", None).await["auth_tenant_id"], "acme");
    let robot = json!({ "name": "ci", "permissions": ["pull"] });
    let made = api(Method::POST, "accounts/acme/robots", robot).await;
    assert_eq!(last("robot.create", Some("ci")).await["account"], "acme");
    let secret = made["secret"].as_str().unwrap().to_owned();
    api(
        Method::PUT,
        "accounts/acme/robots/ci",
        json!({ "permissions": ["push"] }),
    )
    .await;
    last("robot.update", Some("ci")).await;
    // What the robot does is on behalf of who made it.
    let status = registry.login("acme+ci", &secret, &[]).await.status();
    assert_eq!(status, 200);
    let event = registry.audit_last("action=login&account=acme").await;
    assert_eq!(event["who"]["name"], "robot:acme+ci");
    let made_by = event["who"]["on_behalf_of"].as_str().unwrap();
    assert!(made_by.ends_with("of static:admin"), "{made_by}");
    let made = api(Method::POST, "accounts/acme/robots/ci/secrets", json!({})).await;
    last("robot.rotate", Some("ci")).await;
    let id = made["robot_secret"]["id"].as_str().unwrap();
    let path = format!("accounts/acme/robots/ci/secrets/{id}");
    api(Method::DELETE, &path, json!({})).await;
    last("robot.secret_delete", Some("ci")).await;
    api(Method::DELETE, "accounts/acme/robots/ci", json!({})).await;
    last("robot.delete", Some("ci")).await;
    api(Method::DELETE, "accounts/acme", json!({})).await;
    assert_eq!(last("account.delete", None).await["auth_tenant_id"], "acme");
    let password = "a long enough password";
    let user = json!({ "name": "zoe", "password": password, "grants": [] });
    api(Method::POST, "users", user).await;
    last("user.create", Some("zoe")).await;
    api(Method::PUT, "users/zoe", json!({ "grants": [] })).await;
    last("user.update", Some("zoe")).await;
    let new = json!({ "password": "another long password" });
    api(Method::PUT, "users/zoe/password", new).await;
    last("user.password", Some("zoe")).await;
    let token = api(Method::POST, "tokens", json!({ "description": "x" })).await;
    last(
        "personal_token.create",
        token["personal_token"]["id"].as_str(),
    )
    .await;
    let subject = json!({ "subject": "static:zoe" });
    api(Method::POST, "tokens/revoke", subject).await;
    last("token.revoke", Some("static:zoe")).await;
    let id = token["personal_token"]["id"].as_str().unwrap();
    api(Method::DELETE, &format!("tokens/{id}"), json!({})).await;
    last("personal_token.delete", Some(id)).await;
    api(Method::DELETE, "users/zoe", json!({})).await;
    last("user.delete", Some("zoe")).await;
    // No secret is in any event.
    let personal = token["token"].as_str().unwrap();
    let all = registry.audit_events("").await;
    let all: String = all.iter().map(Value::to_string).collect();
    for secret in [
        PASSWORD,
        password,
        "another long password",
        &secret,
        personal,
    ] {
        assert!(!secret.is_empty() && !all.contains(secret));
    }
}

#[tokio::test]
async fn the_first_start_is_the_registrys_own_doing() {
    let registry = TestRegistry::start().await;
    let event = registry.audit_last("action=account.create").await;
    assert_eq!(event["who"]["name"], "system:kontor");
    assert!(event["client"].is_null());
    let event = registry.audit_last("action=user.create").await;
    assert_eq!(event["target"]["name"], "admin");
}
