//! Nobody learns from an error what is there and kept from them.

use reqwest::Method;
use serde_json::Value;

use crate::support::{PASSWORD, TestRegistry};

/// The status, the challenge and the body of an answer, with the names replaced.
async fn seen(registry: &TestRegistry, user: Option<&str>, method: &Method, path: &str) -> String {
    let request = match user {
        Some(user) => registry.as_user(user, method.clone(), path),
        None => registry.anonymous(method.clone(), path),
    };
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let challenge = answer.headers().get("www-authenticate");
    let challenge = challenge.map_or(String::new(), |c| c.to_str().unwrap().to_owned());
    let body = answer.text().await.unwrap();
    let text = format!("{status} {challenge} {body}");
    NAMES
        .iter()
        .fold(text, |text, name| text.replace(name, "<name>"))
}

/// One that is there, one that is not in an account that is, one in an account that is not.
const NAMES: [&str; 3] = ["demo/app", "demo/absent", "absent/app"];

#[tokio::test]
async fn what_is_forbidden_and_what_is_not_there_look_the_same() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let digest = format!("sha256:{}", "a".repeat(64));
    for user in [None, Some("nobody"), Some("other")] {
        for (method, rest) in [
            (Method::GET, "tags/list".to_owned()),
            (Method::GET, "manifests/v1".to_owned()),
            (Method::HEAD, "manifests/v1".to_owned()),
            (Method::DELETE, "manifests/v1".to_owned()),
            (Method::GET, format!("blobs/{digest}")),
            (Method::GET, format!("referrers/{digest}")),
            (Method::POST, "blobs/uploads/".to_owned()),
            (Method::POST, format!("blobs/uploads/?mount={digest}")),
        ] {
            let mut answers = Vec::new();
            for name in NAMES {
                let path = format!("/v2/{name}/{rest}");
                let answer = seen(&registry, user, &method, &path).await;
                // The challenge to a mount names the whole account.
                answers.push(answer.replace("absent/*", "demo/*"));
            }
            let forbidden = if user.is_some() { "403" } else { "401" };
            assert!(answers[0].starts_with(forbidden), "{answers:#?}");
            assert_eq!(answers[0], answers[1], "{user:?} {method} {rest}");
            assert_eq!(answers[0], answers[2], "{user:?} {method} {rest}");
        }
    }
}

#[tokio::test]
async fn the_token_service_does_not_tell_either() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    for user in [None, Some("nobody"), Some("other")] {
        for name in NAMES {
            let path = format!("/token?scope=repository:{name}:pull,push");
            let request = match user {
                Some(user) => registry.basic(user, PASSWORD, Method::GET, &path),
                None => registry.anonymous(Method::GET, &path),
            };
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let answer: Value = answer.json().await.unwrap();
            let claims = crate::v2::helpers::claims(answer["token"].as_str().unwrap());
            assert_eq!(
                claims["access"],
                Value::Array(Vec::new()),
                "{user:?} {name}"
            );
        }
    }
}
