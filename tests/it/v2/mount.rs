//! `POST /v2/<name>/blobs/uploads/?mount=<digest>`

use reqwest::{Method, Response};
use serde_json::json;

use super::helpers::{REPO, header};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{bytes, digest},
};

async fn mount(registry: &TestRegistry, query: &str) -> Response {
    registry
        .admin(Method::POST, &format!("/v2/{REPO}/blobs/uploads/?{query}"))
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_mounted_blob_is_readable_through_both_and_stored_once() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 100);
    let blob = registry.push_blob("demo/base", &content).await;
    let answer = mount(&registry, &format!("mount={blob}&from=demo/base")).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(
        header(&answer, "location"),
        format!("/v2/{REPO}/blobs/{blob}")
    );
    assert_eq!(header(&answer, "docker-content-digest"), blob.as_str());
    for repo in [REPO, "demo/base"] {
        assert_eq!(
            registry
                .get(&format!("/v2/{repo}/blobs/{blob}"))
                .await
                .bytes()
                .await
                .unwrap(),
            content
        );
    }
    assert_eq!(registry.object_count("demo").await, 1);
}

#[tokio::test]
async fn without_from_the_blob_is_looked_for_in_the_account() {
    let registry = TestRegistry::start().await;
    let content = bytes(1, 100);
    let blob = registry.push_blob("demo/base", &content).await;
    let answer = mount(&registry, &format!("mount={blob}")).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(
        registry
            .get(&format!("/v2/{REPO}/blobs/{blob}"))
            .await
            .bytes()
            .await
            .unwrap(),
        content
    );
}

#[tokio::test]
async fn what_cannot_be_mounted_becomes_an_upload_that_works() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob("demo/base", &bytes(1, 100)).await;
    let unknown = digest(b"unknown");
    for query in [
        format!("mount={unknown}&from=demo/base"),
        format!("mount={unknown}"),
        format!("mount={blob}&from=demo/unknown"),
        format!("mount={blob}&from=unknown/app"),
        format!("mount={blob}&from=base"),
        format!("mount={blob}&from="),
        format!("mount={blob}&from=demo/../base"),
        format!("mount={blob}&from=Demo/Base"),
    ] {
        let answer = mount(&registry, &query).await;
        assert_eq!(answer.status(), 202, "{query}");
        let location = header(&answer, "location").to_owned();
        assert!(
            location.starts_with(&format!("/v2/{REPO}/blobs/uploads/")),
            "{location}"
        );
        assert_eq!(header(&answer, "range"), "0-0");
        assert_eq!(
            registry
                .head(&format!("/v2/{REPO}/blobs/{blob}"))
                .await
                .status(),
            404,
            "{query}"
        );
        assert_eq!(registry.delete(&location).await.status(), 204, "{query}");
    }
    let answer = mount(&registry, &format!("mount={unknown}&from=demo/base")).await;
    let location = header(&answer, "location").to_owned();
    assert_eq!(
        registry
            .finish(&location, &unknown, b"unknown")
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn a_bad_digest_is_400() {
    let registry = TestRegistry::start().await;
    for bad in [
        "nonsense",
        "sha256:abc",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "",
    ] {
        assert_oci_error(
            mount(&registry, &format!("mount={bad}&from=demo/base")).await,
            400,
            "DIGEST_INVALID",
        )
        .await;
    }
}

#[tokio::test]
async fn a_token_for_the_target_only_cannot_read_another_repository_by_mounting() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob("demo/a", &bytes(1, 100)).await;
    let token = registry
        .token("ann", &["repository:demo/c:pull,push"])
        .await;
    for query in [format!("mount={blob}&from=demo/a"), format!("mount={blob}")] {
        let path = format!("/v2/demo/c/blobs/uploads/?{query}");
        let answer = registry
            .bearer(&token, Method::POST, &path)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 202, "{query}");
        let answer = registry
            .bearer(&token, Method::GET, &format!("/v2/demo/c/blobs/{blob}"))
            .send()
            .await
            .unwrap();
        assert_oci_error(answer, 404, "BLOB_UNKNOWN").await;
    }
}

#[tokio::test]
async fn a_token_for_both_repositories_or_the_whole_account_can_mount() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob("demo/a", &bytes(1, 100)).await;
    for (target, source, query) in [
        (
            "demo/b",
            "repository:demo/a:pull",
            format!("mount={blob}&from=demo/a"),
        ),
        ("demo/c", "repository:demo/a:pull", format!("mount={blob}")),
        (
            "demo/d",
            "repository:demo/*:pull",
            format!("mount={blob}&from=demo/a"),
        ),
        ("demo/e", "repository:demo/*:pull", format!("mount={blob}")),
    ] {
        let scope = format!("repository:{target}:pull,push");
        let token = registry.token("ann", &[&scope, source]).await;
        let path = format!("/v2/{target}/blobs/uploads/?{query}");
        let answer = registry
            .bearer(&token, Method::POST, &path)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{target} {source} {query}");
    }
}

#[tokio::test]
async fn a_token_that_may_push_to_the_source_but_not_pull_from_it_cannot_mount() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob("demo/a", &bytes(1, 100)).await;
    let token = registry
        .token(
            "ann",
            &[
                "repository:demo/a:push,delete",
                "repository:demo/c:pull,push",
            ],
        )
        .await;
    let path = format!("/v2/demo/c/blobs/uploads/?mount={blob}&from=demo/a");
    let answer = registry
        .bearer(&token, Method::POST, &path)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
}

#[tokio::test]
async fn a_user_whom_a_policy_lets_push_here_only_cannot_mount_from_elsewhere() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob("demo/a", &bytes(1, 100)).await;
    let policy = json!({ "match_repository": "c", "match_username": "static:nobody", "permissions": ["pull", "push"] });
    assert_eq!(
        registry
            .account("demo", json!({ "rbac_policies": [policy] }))
            .await
            .status(),
        200
    );
    for query in [format!("mount={blob}&from=demo/a"), format!("mount={blob}")] {
        let path = format!("/v2/demo/c/blobs/uploads/?{query}");
        let answer = registry
            .as_user("nobody", Method::POST, &path)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 202, "{query}");
    }
    assert_eq!(
        registry
            .head(&format!("/v2/demo/c/blobs/{blob}"))
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn content_never_crosses_from_one_account_to_another() {
    let registry = TestRegistry::start().await;
    assert_eq!(
        registry
            .account("second", json!({ "auth_tenant_id": "demo" }))
            .await
            .status(),
        201
    );
    let blob = registry.push_blob("second/a", &bytes(1, 100)).await;
    for query in [
        format!("mount={blob}&from=second/a"),
        format!("mount={blob}"),
    ] {
        assert_eq!(mount(&registry, &query).await.status(), 202, "{query}");
        assert_eq!(
            registry
                .head(&format!("/v2/{REPO}/blobs/{blob}"))
                .await
                .status(),
            404
        );
    }
}

#[tokio::test]
async fn the_challenge_asks_for_the_source_as_well_in_one_value() {
    let registry = TestRegistry::start().await;
    let blob = digest(b"x");
    for (query, scope) in [
        (
            format!("mount={blob}&from=demo/base"),
            "repository:demo/app:pull,push repository:demo/base:pull",
        ),
        (
            format!("mount={blob}"),
            "repository:demo/app:pull,push repository:demo/*:pull",
        ),
        (format!("digest={blob}"), "repository:demo/app:pull,push"),
    ] {
        let path = format!("/v2/{REPO}/blobs/uploads/?{query}");
        let answer = registry
            .anonymous(Method::POST, &path)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(
            answer.headers().get_all("www-authenticate").iter().count(),
            1
        );
        let challenge = header(&answer, "www-authenticate");
        assert!(
            challenge.ends_with(&format!(",scope=\"{scope}\"")),
            "{challenge}"
        );
    }
}

#[tokio::test]
async fn a_mount_needs_push_on_the_target() {
    let registry = TestRegistry::start().await;
    let blob = registry.push_blob("demo/base", &bytes(1, 100)).await;
    let path = format!("/v2/{REPO}/blobs/uploads/?mount={blob}&from=demo/base");
    let answer = registry
        .as_user("reader", Method::POST, &path)
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 403, "DENIED").await;
    assert_eq!(
        registry
            .head(&format!("/v2/{REPO}/blobs/{blob}"))
            .await
            .status(),
        404
    );
}
