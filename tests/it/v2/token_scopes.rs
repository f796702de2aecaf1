//! `GET` and `POST /token`: which scopes are granted.

use reqwest::Method;
use serde_json::{Value, json};

use super::helpers::claims;
use super::token::{encoded, get, post};
use crate::support::{PASSWORD, TestRegistry};

#[tokio::test]
async fn scopes_are_merged_cut_to_what_the_user_may_and_never_an_error() {
    let registry = TestRegistry::start().await;
    for (user, asked, granted) in [
        (
            "ann",
            &["repository:demo/app:pull"][..],
            "repository:demo/app:pull",
        ),
        (
            "ann",
            &["repository:demo/app:push,pull"],
            "repository:demo/app:pull,push",
        ),
        (
            "ann",
            &["repository:demo/app:pull", "repository:demo/app:pull,push"],
            "repository:demo/app:pull,push",
        ),
        (
            "ann",
            &["repository:demo/app:push", "repository:demo/app:pull"],
            "repository:demo/app:pull,push",
        ),
        (
            "ann",
            &["repository:demo/a:pull repository:demo/b:push"],
            "repository:demo/a:pull repository:demo/b:push",
        ),
        (
            "ann",
            &["repository:demo/a:pull+repository:demo/b:push"],
            "repository:demo/a:pull repository:demo/b:push",
        ),
        (
            "ann",
            &[
                "repository:demo/a:pull repository:demo/b:pull",
                "repository:demo/a:push",
            ],
            "repository:demo/a:pull,push repository:demo/b:pull",
        ),
        (
            "ann",
            &["repository(plugin):demo/app:pull"],
            "repository:demo/app:pull",
        ),
        (
            "ann",
            &[
                "repository(plugin):demo/app:pull",
                "repository:demo/app:push",
            ],
            "repository:demo/app:pull,push",
        ),
        (
            "ann",
            &["repository:demo/app:*"],
            "repository:demo/app:pull,push,delete",
        ),
        ("ann", &["repository:demo/*:pull"], "repository:demo/*:pull"),
        (
            "ann",
            &["repository:demo/*:pull,push,delete"],
            "repository:demo/*:pull",
        ),
        (
            "reader",
            &["repository:demo/app:pull,push,delete"],
            "repository:demo/app:pull",
        ),
        ("reader", &["repository:demo/app:push"], ""),
        ("nobody", &["repository:demo/app:pull,push"], ""),
        ("nobody", &["repository:demo/*:pull"], ""),
        ("other", &["repository:demo/app:*"], ""),
        (
            "other",
            &["repository:unknown/app:*", "repository:unknown/*:pull"],
            "",
        ),
        (
            "ann",
            &["repository:unknown/app:pull", "repository:demo/app:pull"],
            "repository:demo/app:pull",
        ),
        ("ann", &["repository:demo/app:fly"], ""),
        (
            "ann",
            &["repository:demo/app:pull,fly"],
            "repository:demo/app:pull",
        ),
        ("ann", &["repository:localhost:5000/demo/app:pull"], ""),
        (
            "ann",
            &[
                "repository:demo/../other:pull",
                "repository:Demo/App:pull",
                "repository:app:pull",
            ],
            "",
        ),
        (
            "ann",
            &[
                "nonsense",
                "",
                ":::",
                "repository",
                "repository:demo/app",
                "repository:demo/app:",
            ],
            "",
        ),
        ("ann", &["teapot:demo/app:pull", "registry:all:*"], ""),
        ("ann", &["registry:catalog:*"], "registry:catalog:*"),
        ("ann", &["registry:catalog:pull"], ""),
        ("ann", &[], ""),
    ] {
        let mut form = vec![
            ("grant_type", "password"),
            ("username", user),
            ("password", PASSWORD),
        ];
        form.extend(asked.iter().map(|scope| ("scope", *scope)));
        let answer = post(&registry, &form).await;
        assert_eq!(answer.status(), 200, "{user} {asked:?}");
        assert_eq!(
            answer.json::<Value>().await.unwrap()["scope"],
            granted,
            "{user} {asked:?}"
        );
        // The other form grants the same.
        let answer = get(&registry, user, &form[3..]).await;
        let token = answer.json::<Value>().await.unwrap()["token"]
            .as_str()
            .unwrap()
            .to_owned();
        let access = claims(&token)["access"].as_array().unwrap().clone();
        let access: Vec<String> = access
            .iter()
            .map(|scope| {
                let actions: Vec<String> =
                    serde_json::from_value(scope["actions"].clone()).unwrap();
                let (kind, name) = (
                    scope["type"].as_str().unwrap(),
                    scope["name"].as_str().unwrap(),
                );
                format!("{kind}:{name}:{}", actions.join(","))
            })
            .collect();
        assert_eq!(access.join(" "), granted, "{user} {asked:?}");
    }
}

#[tokio::test]
async fn the_anonymous_get_what_is_public() {
    let registry = TestRegistry::start().await;
    registry.allow_anonymous_pull("public/.*").await;
    let scopes = [
        ("scope", "repository:demo/public/a:pull,push"),
        ("scope", "repository:demo/private:pull"),
    ];
    let answer = registry
        .anonymous(Method::GET, &format!("/token?{}", encoded(&scopes)))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let claims = claims(
        answer.json::<Value>().await.unwrap()["token"]
            .as_str()
            .unwrap(),
    );
    assert_eq!(claims["sub"], "");
    assert_eq!(
        claims["access"],
        json!([{ "type": "repository", "name": "demo/public/a", "actions": ["pull"] }])
    );
}

#[tokio::test]
async fn a_policy_grants_what_it_says_to_whom_it_says() {
    let registry = TestRegistry::start().await;
    let policy = json!({ "match_repository": "team/.*", "match_username": "static:nob.*", "permissions": ["pull", "push"] });
    assert_eq!(
        registry
            .account("demo", json!({ "rbac_policies": [policy] }))
            .await
            .status(),
        200
    );
    for (user, repo, granted) in [
        ("nobody", "demo/team/a", "repository:demo/team/a:pull,push"),
        ("nobody", "demo/other", ""),
        ("nobody", "demo/my/team/a", ""),
        ("other", "demo/team/a", ""),
    ] {
        let scope = format!("repository:{repo}:pull,push,delete");
        let form = [
            ("grant_type", "password"),
            ("username", user),
            ("password", PASSWORD),
            ("scope", &scope),
        ];
        let body: Value = post(&registry, &form).await.json().await.unwrap();
        assert_eq!(body["scope"], granted, "{user} {repo}");
    }
}

#[tokio::test]
async fn a_request_for_very_many_scopes_is_answered() {
    let registry = TestRegistry::start().await;
    let scopes: Vec<String> = (0..200)
        .map(|number| format!("repository:demo/r{number}:pull"))
        .collect();
    let scopes = scopes.join(" ");
    let form = [
        ("grant_type", "password"),
        ("username", "ann"),
        ("password", PASSWORD),
        ("scope", &scopes),
    ];
    let body: Value = post(&registry, &form).await.json().await.unwrap();
    assert!(
        body["scope"]
            .as_str()
            .unwrap()
            .starts_with("repository:demo/r0:pull repository:demo/r1:pull")
    );
    let token = body["access_token"].as_str().unwrap();
    let path = "/v2/demo/r0/tags/list";
    assert_eq!(
        registry
            .bearer(token, Method::GET, path)
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
}
