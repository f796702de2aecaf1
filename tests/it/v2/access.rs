//! Who may do what, and what those who may not are told.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::helpers::header;
use crate::support::{Setup, TestRegistry, assert_oci_error, image::digest};

/// A request of each kind on a repository, with the scope that it needs.
fn requests(repo: &str) -> Vec<(Method, String, &'static str)> {
    let digest = digest(b"x");
    let upload = "00000000-0000-4000-8000-000000000000";
    vec![
        (Method::GET, format!("/v2/{repo}/manifests/v1"), "pull"),
        (
            Method::GET,
            format!("/v2/{repo}/manifests/{digest}"),
            "pull",
        ),
        (Method::GET, format!("/v2/{repo}/blobs/{digest}"), "pull"),
        (Method::GET, format!("/v2/{repo}/tags/list"), "pull"),
        (
            Method::GET,
            format!("/v2/{repo}/referrers/{digest}"),
            "pull",
        ),
        (Method::PUT, format!("/v2/{repo}/manifests/v1"), "pull,push"),
        (
            Method::POST,
            format!("/v2/{repo}/blobs/uploads/"),
            "pull,push",
        ),
        (
            Method::POST,
            format!("/v2/{repo}/blobs/uploads/?digest={digest}"),
            "pull,push",
        ),
        (
            Method::GET,
            format!("/v2/{repo}/blobs/uploads/{upload}"),
            "pull,push",
        ),
        (
            Method::PATCH,
            format!("/v2/{repo}/blobs/uploads/{upload}"),
            "pull,push",
        ),
        (
            Method::PUT,
            format!("/v2/{repo}/blobs/uploads/{upload}?digest={digest}"),
            "pull,push",
        ),
        (
            Method::DELETE,
            format!("/v2/{repo}/blobs/uploads/{upload}"),
            "pull,push",
        ),
        (Method::DELETE, format!("/v2/{repo}/manifests/v1"), "delete"),
        (
            Method::DELETE,
            format!("/v2/{repo}/manifests/{digest}"),
            "delete",
        ),
        (
            Method::DELETE,
            format!("/v2/{repo}/blobs/{digest}"),
            "delete",
        ),
    ]
}

/// Status, challenge and body of an answer, with the account's name blotted out.
async fn answer(request: RequestBuilder, account: &str) -> (u16, String, String) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let challenge = answer
        .headers()
        .get("www-authenticate")
        .map_or("", |value| value.to_str().unwrap());
    let challenge = challenge.replace(account, "*");
    (
        status,
        challenge,
        answer.text().await.unwrap().replace(account, "*"),
    )
}

#[tokio::test]
async fn the_anonymous_are_told_exactly_the_scope_that_they_need() {
    let registry = TestRegistry::start().await;
    let host = registry.address;
    for (method, path, actions) in requests("demo/app") {
        let answer = registry
            .anonymous(method.clone(), &path)
            .send()
            .await
            .unwrap();
        assert_eq!(
            answer.headers().get_all("www-authenticate").iter().count(),
            1
        );
        let expected = format!(
            "Bearer realm=\"http://{host}/token\",service=\"{host}\",scope=\"repository:demo/app:{actions}\""
        );
        assert_eq!(
            header(&answer, "www-authenticate"),
            expected,
            "{method} {path}"
        );
        let body = assert_oci_error(answer, 401, "UNAUTHORIZED").await;
        assert!(
            body["errors"][0]
                .as_object()
                .unwrap()
                .contains_key("detail")
        );
    }
}

#[tokio::test]
async fn an_account_of_another_tenant_looks_like_one_that_does_not_exist() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry.push_blob("demo/app", b"x").await;
    for ((method, path, _), (_, unknown, _)) in
        requests("demo/app").into_iter().zip(requests("gone/app"))
    {
        for user in ["other", "nobody"] {
            let known = answer(registry.as_user(user, method.clone(), &path), "demo").await;
            assert_eq!(known.0, 403, "{user} {method} {path}");
            assert!(known.2.contains("\"DENIED\""), "{}", known.2);
            let unknown = answer(registry.as_user(user, method.clone(), &unknown), "gone").await;
            assert_eq!(known, unknown, "{user} {method} {path}");
        }
        let known = answer(registry.anonymous(method.clone(), &path), "demo").await;
        assert_eq!(known.0, 401);
        let unknown = answer(registry.anonymous(method.clone(), &unknown), "gone").await;
        assert_eq!(known, unknown, "{method} {path}");
    }
}

#[tokio::test]
async fn with_a_token_it_is_the_same() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let token = registry
        .token("other", &["repository:demo/app:*", "repository:gone/app:*"])
        .await;
    for ((method, path, _), (_, unknown, _)) in
        requests("demo/app").into_iter().zip(requests("gone/app"))
    {
        let known = answer(registry.bearer(&token, method.clone(), &path), "demo").await;
        assert_eq!(known.0, 401, "{method} {path}");
        assert!(
            known.1.ends_with(",error=\"insufficient_scope\""),
            "{}",
            known.1
        );
        let unknown = answer(registry.bearer(&token, method.clone(), &unknown), "gone").await;
        assert_eq!(known, unknown, "{method} {path}");
    }
}

#[tokio::test]
async fn each_user_may_do_what_the_grants_say_by_basic_and_by_token() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    for (method, path, actions) in requests("demo/app") {
        for (user, may) in [
            ("admin", true),
            ("ann", true),
            ("reader", actions == "pull"),
            ("other", false),
        ] {
            // What is refused is refused before anything else is looked at.
            let status = registry
                .as_user(user, method.clone(), &path)
                .send()
                .await
                .unwrap()
                .status();
            assert_eq!(status != 403, may, "{user} {method} {path}: {status}");
            assert_ne!(status, 401, "{user} {method} {path}");
            let token = registry
                .token(user, &["repository:demo/app:pull,push,delete"])
                .await;
            let status = registry
                .bearer(&token, method.clone(), &path)
                .send()
                .await
                .unwrap()
                .status();
            assert_eq!(status != 401, may, "{user} {method} {path}: {status}");
            assert_ne!(status, 403, "{user} {method} {path}");
        }
    }
}

#[tokio::test]
async fn wrong_credentials_are_401_even_where_everything_is_public() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry.allow_anonymous_pull(".*").await;
    let path = "/v2/demo/app/manifests/v1";
    assert_eq!(
        registry
            .anonymous(Method::GET, path)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    for path in [path, "/v2/", "/v2/_catalog"] {
        let request = registry
            .anonymous(Method::GET, path)
            .basic_auth("ann", Some("wrong"));
        let answer = request.send().await.unwrap();
        assert!(header(&answer, "www-authenticate").starts_with("Bearer realm="));
        assert_oci_error(answer, 401, "UNAUTHORIZED").await;
        for value in [
            "",
            "Basic",
            "Basic !!!",
            "Bearer",
            "Bearer a b",
            "Negotiate abc",
            "ann:secret",
        ] {
            let request = registry
                .anonymous(Method::GET, path)
                .header("Authorization", value);
            let answer = request.send().await.unwrap();
            assert!(
                header(&answer, "www-authenticate").starts_with("Bearer realm="),
                "{value}"
            );
            assert_oci_error(answer, 401, "UNAUTHORIZED").await;
        }
    }
}

#[tokio::test]
async fn a_public_repository_is_read_without_credentials_and_the_others_are_not() {
    let registry = TestRegistry::start().await;
    for repo in ["demo/public", "demo/private", "demo/public/nested"] {
        registry.push_image(repo, "v1", 1).await;
    }
    registry.allow_anonymous_pull("public").await;
    for (repo, status) in [
        ("demo/public", 200),
        ("demo/private", 401),
        ("demo/public/nested", 401),
    ] {
        for path in [
            format!("/v2/{repo}/manifests/v1"),
            format!("/v2/{repo}/tags/list"),
        ] {
            let answer = registry.anonymous(Method::GET, &path).send().await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
        }
    }
    let answer = registry
        .as_user("nobody", Method::GET, "/v2/demo/public/manifests/v1")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_configured_public_url_stands_in_the_challenge() {
    let public = |config: &mut kontor::config::Config| {
        config.server.public_url = Some("https://registry.test:8443/".parse().unwrap());
    };
    let registry = Setup::default().config(public).start().await;
    let answer = registry
        .anonymous(Method::GET, "/v2/")
        .send()
        .await
        .unwrap();
    let expected =
        "Bearer realm=\"https://registry.test:8443/token\",service=\"registry.test:8443\"";
    assert_eq!(header(&answer, "www-authenticate"), expected);
    let answer = registry
        .admin(Method::GET, "/token?service=registry.test:8443")
        .send()
        .await
        .unwrap();
    let token = answer.json::<Value>().await.unwrap()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        registry
            .bearer(&token, Method::GET, "/v2/")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}
