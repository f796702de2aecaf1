//! What is true of every answer under `/v2/`.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use super::helpers::header;
use crate::support::{TestRegistry, assert_oci_error, image::digest};

/// Requests that meet all kinds of answers: the status, who asks, for what. `-` are the anonymous.
const REQUESTS: &[&str] = &[
    "200 admin GET /v2/",
    "200 admin HEAD /v2/",
    "200 admin GET /v2",
    "401 - GET /v2/",
    "401 - GET /v2/demo/app/tags/list",
    "403 other GET /v2/demo/app/tags/list",
    "405 admin POST /v2/",
    "405 admin POST /v2/_catalog",
    "405 admin POST /v2/demo/app/tags/list",
    "405 admin POST /v2/demo/app/manifests/v1",
    "405 admin GET /v2/demo/app/blobs/uploads/",
    "405 admin PUT /v2/demo/app/blobs/BLOB",
    "405 admin PUT /v2/demo/app/referrers/BLOB",
    "404 admin GET /v2/nothing",
    "404 admin GET /v2/demo/app/nothing/here",
    "404 admin GET /v2/demo/app/manifests/",
    "200 admin GET /v2/demo/app/manifests/v1",
    "200 admin HEAD /v2/demo/app/manifests/v1",
    "404 admin GET /v2/demo/app/manifests/v2",
    "404 admin HEAD /v2/demo/app/manifests/v2",
    "400 admin PUT /v2/demo/app/manifests/v2",
    "200 admin GET /v2/demo/app/blobs/BLOB",
    "400 admin GET /v2/demo/App/tags/list",
    "202 admin POST /v2/demo/app/blobs/uploads/",
    "201 admin POST /v2/demo/app/blobs/uploads/?digest=EMPTY",
    "202 admin DELETE /v2/demo/app/manifests/v1",
];

#[tokio::test]
async fn every_answer_names_the_version_of_the_api_and_the_request() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let blob = registry.push_blob("demo/app", b"content").await;
    let mut seen = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for line in REQUESTS {
        let fields: Vec<&str> = line.split(' ').collect();
        let [status, user, method, path] = fields[..] else {
            panic!("{line}");
        };
        let (status, method): (u16, Method) = (status.parse().unwrap(), method.parse().unwrap());
        let path = path
            .replace("BLOB", blob.as_str())
            .replace("EMPTY", digest(b"").as_str());
        let request = match user {
            "-" => registry.anonymous(method.clone(), &path),
            user => registry.as_user(user, method.clone(), &path),
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        let versions = answer.headers().get_all("docker-distribution-api-version");
        assert_eq!(
            versions.iter().collect::<Vec<_>>(),
            ["registry/2.0"],
            "{method} {path}"
        );
        assert!(
            ids.insert(header(&answer, "x-request-id").to_owned()),
            "a request id came twice"
        );
        seen.insert(status);
        if status >= 400 && method != Method::HEAD {
            assert_eq!(
                header(&answer, "content-type"),
                "application/json",
                "{method} {path}"
            );
            let body: Value = answer.json().await.unwrap();
            let error = body["errors"][0].as_object().unwrap();
            assert!(error.contains_key("detail"), "{method} {path}");
            assert!(!error["code"].as_str().unwrap().is_empty());
            assert!(!error["message"].as_str().unwrap().is_empty());
        }
    }
    assert_eq!(
        seen,
        BTreeSet::from([200, 201, 202, 400, 401, 403, 404, 405])
    );
}

#[tokio::test]
async fn a_method_or_path_that_does_not_exist_is_an_oci_error() {
    let registry = TestRegistry::start().await;
    let answer = registry
        .admin(Method::PATCH, "/v2/demo/app/manifests/v1")
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 405, "UNSUPPORTED").await;
    let answer = registry
        .admin(Method::GET, "/v2/demo/app/sbom")
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 404, "NOT_FOUND").await;
}

#[tokio::test]
async fn a_refused_push_of_a_large_body_is_answered_and_the_registry_goes_on() {
    let registry = TestRegistry::start().await;
    let path = format!("/v2/demo/app/blobs/uploads/?digest={}", digest(b""));
    let body = vec![0; 100_000];
    let answer = registry
        .anonymous(Method::POST, &path)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    assert_eq!(registry.get("/v2/").await.status(), 200);
}
