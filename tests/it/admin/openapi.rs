//! `/api/openapi.json`, `/api/docs`, and what every path of the API has in common.

use reqwest::Method;
use serde_json::Value;

use crate::support::TestRegistry;

#[tokio::test]
async fn the_document_and_its_page_are_public_and_load_nothing_from_elsewhere() {
    let registry = TestRegistry::start().await;
    let answer = registry
        .anonymous(Method::GET, "/api/openapi.json")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let document: Value = answer.json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let page = registry
        .anonymous(Method::GET, "/api/docs")
        .send()
        .await
        .unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = page.text().await.unwrap();
    assert!(page.contains("/api/v1/accounts/{account}"));
    for foreign in ["http://", "https://", "<script", "src="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[tokio::test]
async fn an_unsupported_method_is_told_which_ones_there_are() {
    let registry = TestRegistry::start().await;
    for (path, allow) in [
        ("/api/v1/accounts/demo", "GET, PUT, DELETE"),
        ("/api/v1/users", "GET, POST"),
        ("/v2/demo/app/manifests/x", "GET, HEAD, PUT, DELETE"),
        ("/token", "GET, POST"),
    ] {
        let request = registry.anonymous(Method::PATCH, path);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 405, "{path}");
        assert_eq!(answer.headers()["allow"], allow, "{path}");
        let form = answer.headers()["content-type"].to_str().unwrap();
        let is_problem = form == "application/problem+json";
        assert_eq!(is_problem, path.starts_with("/api/"), "{path}: {form}");
    }
}
