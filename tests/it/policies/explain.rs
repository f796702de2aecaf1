//! `GET /api/v1/accounts/<account>/explain`

use reqwest::Method;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::sent;
use crate::support::{Setup, TestRegistry};

fn path(account: &str, query: &[(&str, &str)]) -> String {
    let query = Serializer::new(String::new()).extend_pairs(query).finish();
    format!("/api/v1/accounts/{account}/explain?{query}")
}

async fn explain(registry: &TestRegistry, who: &str, query: &[(&str, &str)]) -> (u16, Value) {
    sent(registry.as_user(who, Method::GET, &path("demo", query))).await
}

/// The answer to `admin`, with the number of the policy in place of the rule.
async fn told(registry: &TestRegistry, user: &str, question: (&str, &str), ip: &str) -> Value {
    let (action, repository) = question;
    let query = [
        ("user", user),
        ("repository", repository),
        ("action", action),
        ("ip", ip),
    ];
    let (status, mut answer) = explain(registry, "admin", &query).await;
    assert_eq!(status, 200, "{user}: {answer}");
    assert_eq!(answer["ip"], ip);
    let number = answer["rule"]["number"].take();
    json!([
        answer["allowed"],
        answer["because"],
        number,
        answer["grant"]
    ])
}

async fn with_policies() -> TestRegistry {
    let registry = TestRegistry::start().await;
    for repo in ["demo/public/a", "demo/frozen"] {
        registry.push_image(repo, "v1", 1).await;
    }
    let policies = json!([
        { "match_repository": "public/.*", "permissions": ["anonymous_pull"] },
        { "match_username": "static:nobody", "match_cidr": "10.0.0.0/8", "permissions": ["pull", "push"] },
        { "match_repository": "frozen", "forbidden_permissions": ["push"] },
        { "match_username": ".*@corp/.*", "permissions": ["pull"] },
    ]);
    registry.rbac(policies).await;
    registry
}

const NEAR: &str = "10.1.1.1";
const FAR: &str = "192.0.2.1";

#[tokio::test]
async fn every_reason_is_told_with_its_rule() {
    let registry = with_policies().await;
    for (user, question, ip, expected) in [
        (
            "",
            ("pull", "public/a"),
            FAR,
            json!([true, "policy", 0, null]),
        ),
        (
            "",
            ("pull", "app"),
            FAR,
            json!([false, "nothing_allows_it", null, null]),
        ),
        (
            "static:ann",
            ("push", "app"),
            FAR,
            json!([true, "grant", null, "given"]),
        ),
        (
            "static:ann",
            ("push", "frozen"),
            FAR,
            json!([false, "forbidden_by_policy", 2, "given"]),
        ),
        (
            "static:nobody",
            ("push", "app"),
            NEAR,
            json!([true, "policy", 1, "not_given"]),
        ),
        (
            "static:nobody",
            ("push", "app"),
            FAR,
            json!([false, "nothing_allows_it", null, "not_given"]),
        ),
        (
            "static:unheard",
            ("pull", "app"),
            FAR,
            json!([false, "nothing_allows_it", null, "not_given"]),
        ),
    ] {
        let actual = told(&registry, user, question, ip).await;
        assert_eq!(actual, expected, "{user} {question:?} {ip}");
    }
    let query = [
        ("user", "static:nobody"),
        ("repository", "a"),
        ("action", "push"),
        ("ip", NEAR),
    ];
    let (_, answer) = explain(&registry, "admin", &query).await;
    assert_eq!(answer["rule"]["policy"]["match_cidr"], "10.0.0.0/8");
}

#[tokio::test]
async fn machines_have_rights_and_grants_of_keystone_are_not_known() {
    let registry = with_policies().await;
    let robot = json!({ "name": "ci", "permissions": ["pull"], "repositories": ["app"] });
    let robots = registry.admin(Method::POST, "/api/v1/accounts/demo/robots");
    assert_eq!(sent(robots.json(&robot)).await.0, 201);
    let (keystone, stranger) = ("u@corp/p@corp", "u@x/p@x");
    let robot = "robot:demo+ci";
    for (user, question, expected) in [
        (
            robot,
            ("pull", "app"),
            json!([true, "machine_rights", null, null]),
        ),
        (
            "demo+ci",
            ("push", "app"),
            json!([false, "nothing_allows_it", null, null]),
        ),
        (
            robot,
            ("push", "frozen"),
            json!([false, "forbidden_by_policy", 2, null]),
        ),
        (
            keystone,
            ("pull", "app"),
            json!([true, "policy", 3, "unknown"]),
        ),
        (
            keystone,
            ("push", "app"),
            json!([null, "grant_unknown", null, "unknown"]),
        ),
        (
            stranger,
            ("pull", "app"),
            json!([null, "grant_unknown", null, "unknown"]),
        ),
        (
            stranger,
            ("push", "frozen"),
            json!([false, "forbidden_by_policy", 2, "unknown"]),
        ),
        (
            stranger,
            ("pull", "public/a"),
            json!([true, "policy", 0, "unknown"]),
        ),
    ] {
        let actual = told(&registry, user, question, FAR).await;
        assert_eq!(actual, expected, "{user} {question:?}");
    }
}

#[tokio::test]
async fn service_identities_have_rights_and_grants_of_an_identity_provider_are_not_known() {
    let corp = json!({ "issuer": "https://issuer.test", "audiences": ["kontor"] });
    let issuer = move |config: &mut kontor::config::Config| {
        let corp = serde_json::from_value(corp).unwrap();
        config.auth.oidc.insert("corp".to_owned(), corp);
    };
    let registry = Setup::default().config(issuer).start().await;
    registry
        .settings(json!({
            "service_identities": [
                { "name": "deploy", "issuer": "corp", "match_claims": { "sub": "x" }, "permissions": ["pull", "push"],
                  "repositories": ["app"] },
            ],
            "rbac_policies": [
                { "match_username": "oidc.corp:ann", "permissions": ["pull"] },
                { "match_username": "service:.*", "forbidden_permissions": ["push"] },
            ],
        }))
        .await;
    for (user, question, expected) in [
        (
            "service:demo+deploy",
            ("pull", "app"),
            json!([true, "machine_rights", null, null]),
        ),
        (
            "demo+deploy",
            ("pull", "other"),
            json!([false, "nothing_allows_it", null, null]),
        ),
        (
            "service:demo+deploy",
            ("push", "app"),
            json!([false, "forbidden_by_policy", 1, null]),
        ),
        (
            "oidc.corp:ann",
            ("pull", "app"),
            json!([true, "policy", 0, "unknown"]),
        ),
        (
            "oidc.corp:ann",
            ("push", "app"),
            json!([null, "grant_unknown", null, "unknown"]),
        ),
    ] {
        let actual = told(&registry, user, question, FAR).await;
        assert_eq!(actual, expected, "{user} {question:?}");
    }
    // A robot and a service identity are not mixed up.
    let query = [
        ("user", "robot:demo+deploy"),
        ("repository", "app"),
        ("action", "pull"),
    ];
    assert_eq!(explain(&registry, "admin", &query).await.0, 422);
}

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let registry = with_policies().await;
    for user in ["ann", "reader", "nobody", "other"] {
        for repo in ["public/a", "frozen"] {
            for (action, method, rest) in [
                ("pull", Method::GET, "tags/list"),
                ("push", Method::POST, "blobs/uploads/"),
                ("delete", Method::DELETE, "manifests/absent"),
            ] {
                let name = format!("static:{user}");
                // Without an address, that of the question counts, which is that of the request here.
                let query = [
                    ("user", name.as_str()),
                    ("repository", repo),
                    ("action", action),
                ];
                let (_, answer) = explain(&registry, "admin", &query).await;
                let path = format!("/v2/demo/{repo}/{rest}");
                let (status, _) = sent(registry.as_user(user, method.clone(), &path)).await;
                assert_eq!(answer["allowed"], status != 403, "{user} {repo} {action}");
                assert_eq!(answer["ip"], "127.0.0.1");
            }
        }
    }
}

#[tokio::test]
async fn others_rights_are_told_to_those_who_manage_the_account_only() {
    let registry = with_policies().await;
    let query = |user| [("user", user), ("repository", "app"), ("action", "pull")];
    for (who, user, status) in [
        ("reader", "", 200),
        ("reader", "static:reader", 200),
        ("reader", "static:ann", 403),
        ("reader", "u@corp/p@corp", 403),
        ("reader", "robot:demo+ci", 403),
        ("admin", "static:ann", 200),
        ("other", "", 404),
        ("other", "static:other", 404),
        ("other", "static:ann", 404),
        ("nobody", "static:nobody", 404),
    ] {
        let (actual, answer) = explain(&registry, who, &query(user)).await;
        assert_eq!(actual, status, "{who} {user}: {answer}");
    }
    let hidden = explain(&registry, "other", &query("")).await;
    let absent = registry.as_user("other", Method::GET, &path("absent", &query("")));
    let absent = sent(absent).await;
    let detail = hidden.1["detail"]
        .as_str()
        .unwrap()
        .replace("demo", "absent");
    assert_eq!(
        (hidden.0, detail.as_str()),
        (404, absent.1["detail"].as_str().unwrap())
    );
    let anonymous = registry.anonymous(Method::GET, &path("demo", &query("")));
    assert_eq!(sent(anonymous).await.0, 401);
}

#[tokio::test]
async fn a_narrowed_token_is_told_so_and_an_ended_robot_too() {
    let registry = with_policies().await;
    let (_, made) = sent(
        registry
            .as_user("ann", Method::POST, "/api/v1/tokens")
            .json(&json!({ "permissions": ["view", "pull"] })),
    )
    .await;
    let token = made["token"].as_str().unwrap();
    let query = [
        ("user", "static:ann"),
        ("repository", "app"),
        ("action", "push"),
    ];
    let request = registry.anonymous(Method::GET, &path("demo", &query));
    let (status, answer) = sent(request.basic_auth("ann", Some(token))).await;
    assert_eq!(
        (status, &answer["because"]),
        (200, &json!("credential_narrowed"))
    );
    assert_eq!(answer["allowed"], false);

    let robot = json!({ "name": "old", "permissions": ["pull"], "is_disabled": true });
    let robots = registry.admin(Method::POST, "/api/v1/accounts/demo/robots");
    let (status, made) = sent(robots.json(&robot)).await;
    assert_eq!(status, 201, "{made}");
    let question = ("pull", "app");
    let told = told(&registry, "robot:demo+old", question, "10.0.0.1").await;
    assert_eq!(told, json!([false, "cannot_log_in", null, null]));
}

#[tokio::test]
async fn questions_that_cannot_be_answered_say_what_is_wrong() {
    let registry = with_policies().await;
    for (query, field) in [
        (vec![("action", "pull")], "$.repository"),
        (
            vec![("repository", "Not A Name"), ("action", "pull")],
            "$.repository",
        ),
        (vec![("repository", "a")], "$.action"),
        (vec![("repository", "a"), ("action", "change")], "$.action"),
        (
            vec![
                ("repository", "a"),
                ("action", "pull"),
                ("ip", "10.0.0.0/8"),
            ],
            "$.ip",
        ),
        (
            vec![("repository", "a"), ("action", "pull"), ("user", "ann")],
            "$.user",
        ),
        (
            vec![
                ("repository", "a"),
                ("action", "pull"),
                ("user", "ldap:ann"),
            ],
            "$.user",
        ),
        (
            vec![
                ("repository", "a"),
                ("action", "pull"),
                ("user", "robot:demo+none"),
            ],
            "$.user",
        ),
        (
            vec![
                ("repository", "a"),
                ("action", "pull"),
                ("user", "robot:other+ci"),
            ],
            "$.user",
        ),
        (
            vec![
                ("repository", "a"),
                ("action", "pull"),
                ("user", "service:demo+x"),
            ],
            "$.user",
        ),
        (
            vec![("repository", "a"), ("repository", "b"), ("action", "pull")],
            "$.repository",
        ),
        (
            vec![("repository", "a"), ("action", "pull"), ("usr", "x")],
            "$",
        ),
    ] {
        let (status, answer) = explain(&registry, "admin", &query).await;
        assert_eq!(status, 422, "{query:?}: {answer}");
        assert!(
            answer.to_string().contains(&format!("\"{field}\"")),
            "{query:?}: {answer}"
        );
    }
}
