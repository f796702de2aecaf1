//! `?ns=`: requests that containerd sends to a mirror.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::helpers::header;
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{bytes, digest},
};

/// A registry whose account `demo` stands for Docker Hub, and one image that everybody may pull.
async fn registry() -> (TestRegistry, Value) {
    let registry = TestRegistry::start().await;
    let policy = json!({ "match_repository": "library/.*", "permissions": ["anonymous_pull"] });
    let settings = json!({ "serves_namespace": "docker.io", "rbac_policies": [policy] });
    assert_eq!(registry.account("demo", settings).await.status(), 200);
    let image = registry.push_image("demo/library/nginx", "v1", 1).await;
    (registry, image)
}

async fn get(registry: &TestRegistry, path: &str) -> Response {
    registry.anonymous(Method::GET, path).send().await.unwrap()
}

#[tokio::test]
async fn a_head_by_tag_and_a_get_by_digest_both_succeed() {
    let (registry, image) = registry().await;
    let path = "/v2/library/nginx/manifests/v1?ns=docker.io";
    let answer = registry.anonymous(Method::HEAD, path).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "oci-namespace"), "docker.io");
    let manifest = header(&answer, "docker-content-digest").to_owned();
    let answer = get(
        &registry,
        &format!("/v2/library/nginx/manifests/{manifest}?ns=docker.io"),
    )
    .await;
    assert_eq!(header(&answer, "oci-namespace"), "docker.io");
    assert_eq!(answer.json::<Value>().await.unwrap(), image);
    let layer = bytes(2, 1000);
    let path = format!("/v2/library/nginx/blobs/{}?ns=docker.io", digest(&layer));
    let answer = registry
        .anonymous(Method::GET, &path)
        .header("Range", "bytes=10-19")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 206);
    assert_eq!(header(&answer, "oci-namespace"), "docker.io");
    assert_eq!(answer.bytes().await.unwrap(), layer[10..20]);
}

#[tokio::test]
async fn docker_hub_is_known_by_all_its_names_and_answered_by_the_one_that_was_asked() {
    let (registry, _) = registry().await;
    for namespace in [
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "DOCKER.io",
    ] {
        let answer = get(
            &registry,
            &format!("/v2/library/nginx/manifests/v1?ns={namespace}"),
        )
        .await;
        assert_eq!(answer.status(), 200, "{namespace}");
        assert_eq!(header(&answer, "oci-namespace"), namespace);
    }
}

#[tokio::test]
async fn the_full_name_works_with_ns_as_well() {
    let (registry, _) = registry().await;
    let answer = get(
        &registry,
        "/v2/demo/library/nginx/manifests/v1?ns=docker.io",
    )
    .await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn an_unknown_namespace_is_ignored() {
    let (registry, _) = registry().await;
    let long = "a".repeat(300);
    for namespace in [
        "ghcr.io",
        "",
        "127.0.0.1:80",
        "http://169.254.169.254/",
        "%ff",
        "docker.io%00",
        &long,
    ] {
        let path = format!("/v2/demo/library/nginx/manifests/v1?ns={namespace}");
        let answer = get(&registry, &path).await;
        assert_eq!(answer.status(), 200, "{namespace}");
        assert!(
            answer.headers().get("oci-namespace").is_none(),
            "{namespace}"
        );
        // There is no account `library`, of which the anonymous learn nothing.
        let answer = get(
            &registry,
            &format!("/v2/library/nginx/manifests/v1?ns={namespace}"),
        )
        .await;
        assert_eq!(answer.status(), 401, "{namespace}");
    }
}

#[tokio::test]
async fn what_is_missing_is_404_at_once_and_says_whose_answer_it_is() {
    let (registry, _) = registry().await;
    for reference in ["v2".to_owned(), digest(b"unknown").to_string()] {
        let path = format!("/v2/library/nginx/manifests/{reference}?ns=docker.io");
        let answer = get(&registry, &path).await;
        assert_eq!(header(&answer, "oci-namespace"), "docker.io");
        assert_oci_error(answer, 404, "MANIFEST_UNKNOWN").await;
    }
}

#[tokio::test]
async fn a_challenge_asks_for_the_full_name_and_a_token_for_it_is_enough() {
    let (registry, _) = registry().await;
    registry.push_image("demo/private/app", "v1", 5).await;
    let path = "/v2/private/app/manifests/v1?ns=docker.io";
    let answer = get(&registry, path).await;
    let challenge = header(&answer, "www-authenticate");
    assert!(
        challenge.ends_with(",scope=\"repository:demo/private/app:pull\""),
        "{challenge}"
    );
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    // containerd asks for the name that it knows as well.
    let scopes = [
        "repository:private/app:pull",
        "repository:demo/private/app:pull",
    ];
    let token = registry.token("ann", &scopes).await;
    let answer = registry
        .bearer(&token, Method::GET, path)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_namespace_belongs_to_one_account() {
    let (registry, _) = registry().await;
    let settings = json!({ "auth_tenant_id": "demo", "serves_namespace": "docker.io" });
    assert_eq!(registry.account("second", settings).await.status(), 409);
    let settings = json!({ "auth_tenant_id": "demo", "serves_namespace": "ghcr.io" });
    assert_eq!(registry.account("second", settings).await.status(), 201);
    registry
        .push_image("second/library/nginx", "other", 9)
        .await;
    let path = "/v2/library/nginx/tags/list?ns=ghcr.io";
    let body: Value = registry.get(path).await.json().await.unwrap();
    assert_eq!(body["tags"], json!(["other"]));
}

#[tokio::test]
async fn the_link_to_the_next_page_works_without_ns() {
    let (registry, _) = registry().await;
    registry.push_image("demo/library/nginx", "v2", 1).await;
    let answer = get(&registry, "/v2/library/nginx/tags/list?n=1&ns=docker.io").await;
    let next = super::helpers::next_page(&answer).unwrap();
    let body: Value = get(&registry, &next).await.json().await.unwrap();
    assert_eq!(body["tags"], json!(["v2"]));
}
