//! Names of repositories in paths: the grammar, and what tries to climb out of it.

use serde_json::Value;

use super::helpers::header;
use crate::support::{TestRegistry, image::digest};

/// A request of each kind, as it goes over the wire.
fn requests(repo: &str) -> Vec<(&'static str, String)> {
    let digest = digest(b"x");
    vec![
        ("GET", format!("/v2/{repo}/manifests/v1")),
        ("PUT", format!("/v2/{repo}/manifests/v1")),
        ("DELETE", format!("/v2/{repo}/manifests/v1")),
        ("GET", format!("/v2/{repo}/blobs/{digest}")),
        ("DELETE", format!("/v2/{repo}/blobs/{digest}")),
        ("POST", format!("/v2/{repo}/blobs/uploads/")),
        ("POST", format!("/v2/{repo}/blobs/uploads/?digest={digest}")),
        (
            "PATCH",
            format!("/v2/{repo}/blobs/uploads/00000000-0000-4000-8000-000000000000"),
        ),
        ("GET", format!("/v2/{repo}/tags/list")),
        ("GET", format!("/v2/{repo}/referrers/{digest}")),
    ]
}

#[tokio::test]
async fn a_name_outside_the_grammar_is_400_for_every_request() {
    let registry = TestRegistry::start().await;
    let long = format!("demo/{}", "a".repeat(251));
    assert_eq!(long.len(), 256);
    for repo in [
        "app",
        "demo/App",
        "Demo/app",
        "demo/..",
        "demo/../other/app",
        "../demo/app",
        "demo/%2e%2e/app",
        "demo/%2E%2E%2Fapp",
        "demo/..%2f..%2fetc",
        "demo/./app",
        "demo//app",
        "demo/app/",
        "demo/a..b",
        "demo/a___b",
        "demo/a._b",
        "demo/_a",
        "demo/a_",
        "demo/-a",
        "demo/a-",
        "-demo/app",
        "demo-/app",
        "de.mo/app",
        "de_mo/app",
        "demo/a%20b",
        "demo/a+b",
        "demo/a:b",
        "demo/a@b",
        "demo/a%00b",
        "demo/a%0d%0ab",
        "demo/%ff",
        "demo/%c3%a9",
        "demo/%5c..%5capp",
        "demo/*",
        "%20demo/app",
        &format!("{}/app", "a".repeat(49)),
        &long,
    ] {
        for (method, path) in requests(repo) {
            let (status, body) = registry.raw(method, &path);
            assert_eq!(status, 400, "{method} {path}: {body}");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["errors"][0]["code"], "NAME_INVALID", "{method} {path}");
        }
    }
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn a_path_that_no_route_can_take_is_never_a_failure_of_the_registry() {
    let registry = TestRegistry::start().await;
    for path in [
        "/v2//tags/list",
        "/v2/../../etc/passwd",
        "/v2/%2e%2e/%2e%2e/etc/passwd",
        "/v2/demo/app/manifests/..",
        "/v2/demo/app/manifests/%2e%2e",
        "/v2/demo/app/manifests/%2e%2e%2f%2e%2e%2fsecret",
        "/v2/demo/app/manifests/%00",
        "/v2/demo/app/manifests/%ff",
        "/v2/demo/app/manifests/%",
        "/v2/demo/app/manifests/%zz",
        "/v2/demo/app/blobs/..",
        "/v2/demo/app/blobs/sha256:../../../../etc/passwd",
        "/v2/demo/app/blobs/%ff",
        "/v2/demo/app/referrers/..%2f",
        "/v2/demo/app/tags/list?n=%ff&last=%ff%00",
        "/v2/demo/app/tags/list?&&==&n",
        "/v2/_catalog?last=%ff",
        "/v2/demo/app/tags/list/",
        "/v2/demo/%",
        "/..",
        "/%",
    ] {
        for method in ["GET", "PUT", "DELETE", "POST", "PATCH", "OPTIONS", "BREW"] {
            let (status, body) = registry.raw(method, path);
            assert!(
                (400..500).contains(&status),
                "{method} {path}: {status} {body}"
            );
        }
    }
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn every_name_of_the_grammar_can_be_pushed_pulled_and_listed() {
    let registry = TestRegistry::start().await;
    let longest = format!("demo/{}", "a".repeat(250));
    assert_eq!(longest.len(), 255);
    let mut expected = Vec::new();
    for repo in [
        "demo/a",
        "demo/0",
        "demo/a.b_c__d-e---f",
        "demo/a/b/c/d/e/f",
        "demo/demo/demo",
        "demo/v2",
        "demo/tags/list",
        "demo/manifests/latest",
        "demo/blobs/uploads",
        "demo/referrers/blobs",
        &longest,
    ] {
        registry.push_image(repo, "v1", 1).await;
        assert_eq!(
            registry
                .get(&format!("/v2/{repo}/manifests/v1"))
                .await
                .status(),
            200,
            "{repo}"
        );
        let answer = registry.get(&format!("/v2/{repo}/tags/list")).await;
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body, serde_json::json!({ "name": repo, "tags": ["v1"] }));
        let answer = registry
            .get(&format!("/v2/{repo}/referrers/{}", digest(b"x")))
            .await;
        assert_eq!(answer.status(), 200, "{repo}");
        let location = registry.begin_upload(repo).await;
        let answer = registry.finish(&location, &digest(b"x"), b"x").await;
        assert_eq!(
            header(&answer, "location"),
            format!("/v2/{repo}/blobs/{}", digest(b"x"))
        );
        expected.push(repo.to_owned());
    }
    expected.sort();
    let body: Value = registry.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(body["repositories"], serde_json::json!(expected));
}
