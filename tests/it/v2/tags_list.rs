//! `GET /v2/<name>/tags/list`

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::helpers::{REPO, header, next_page};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_MANIFEST, bytes, digest},
};

async fn list(registry: &TestRegistry, query: &str) -> Response {
    registry.get(&format!("/v2/{REPO}/tags/list{query}")).await
}

async fn tags(answer: Response) -> Vec<String> {
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["name"], REPO);
    serde_json::from_value(body["tags"].clone()).unwrap()
}

/// Pushes one image with all these tags.
async fn tag(registry: &TestRegistry, tags: &[impl AsRef<str>]) {
    let content =
        serde_json::to_vec(&registry.push_image(REPO, tags[0].as_ref(), 1).await).unwrap();
    // Not more at once: the HTTP client of the tests reads at most 100 headers, and each tag is one.
    for tags in tags.chunks(50) {
        let query: Vec<String> = tags
            .iter()
            .map(|tag| format!("tag={}", tag.as_ref()))
            .collect();
        let path = format!(
            "/v2/{REPO}/manifests/{}?{}",
            digest(&content),
            query.join("&")
        );
        assert_eq!(
            registry
                .put_manifest(&path, Some(OCI_MANIFEST), &content)
                .await
                .status(),
            201
        );
    }
}

#[tokio::test]
async fn tags_come_in_ascii_order() {
    let registry = TestRegistry::start().await;
    tag(
        &registry,
        &[
            "b", "a", "B", "A", "_", "1", "10", "2", "v1.0", "v1-0", "v1_0", "v10",
        ],
    )
    .await;
    let expected = [
        "1", "10", "2", "A", "B", "_", "a", "b", "v1-0", "v1.0", "v10", "v1_0",
    ];
    let answer = list(&registry, "").await;
    assert_eq!(next_page(&answer), None);
    assert_eq!(tags(answer).await, expected);
}

#[tokio::test]
async fn pages_begin_after_last_and_have_n_tags() {
    let registry = TestRegistry::start().await;
    tag(&registry, &["A", "B", "a", "b", "c"]).await;
    let link = |n: u32, last: &str| Some(format!("/v2/{REPO}/tags/list?n={n}&last={last}"));
    for (query, expected, next) in [
        ("?n=2", &["A", "B"][..], link(2, "B")),
        ("?n=2&last=B", &["a", "b"], link(2, "b")),
        ("?n=2&last=b", &["c"], None),
        ("?n=5", &["A", "B", "a", "b", "c"], None),
        ("?n=4", &["A", "B", "a", "b"], link(4, "b")),
        ("?last=B", &["a", "b", "c"], None),
        ("?last=", &["A", "B", "a", "b", "c"], None),
        // `last` need not be a tag, nor be able to be one.
        ("?last=Z", &["a", "b", "c"], None),
        ("?last=~%20%22", &[], None),
        ("?last=B%00zzz", &["a", "b", "c"], None),
        ("?last=%00", &["A", "B", "a", "b", "c"], None),
        ("?last=%ff", &[], None),
        ("?n=1&last=zzz", &[], None),
        ("?n=0", &[], None),
        ("?n=0&last=A", &[], None),
        ("?n=1001", &["A", "B", "a", "b", "c"], None),
        (
            "?n=99999999999999999999999999",
            &["A", "B", "a", "b", "c"],
            None,
        ),
    ] {
        let answer = list(&registry, query).await;
        assert_eq!(next_page(&answer), next, "{query}");
        assert_eq!(tags(answer).await, expected, "{query}");
    }
}

#[tokio::test]
async fn an_n_that_is_no_number_is_400() {
    let registry = TestRegistry::start().await;
    tag(&registry, &["a"]).await;
    for query in ["?n=abc", "?n=", "?n=-1", "?n=1.5", "?n=0x10", "?n=1%20"] {
        assert_oci_error(list(&registry, query).await, 400, "BAD_REQUEST").await;
    }
}

#[tokio::test]
async fn following_the_links_gives_every_tag_once() {
    let registry = TestRegistry::start().await;
    let expected: Vec<String> = (0..23).map(|number| format!("t{number:02}")).collect();
    tag(&registry, &expected).await;
    let (mut found, mut page) = (Vec::new(), Some(format!("/v2/{REPO}/tags/list?n=5")));
    while let Some(address) = page {
        let answer = registry.get(&address).await;
        page = next_page(&answer);
        found.extend(tags(answer).await);
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn more_tags_than_a_page_can_have_are_linked_whatever_n_says() {
    let registry = TestRegistry::start().await;
    let all: Vec<String> = (0..1001).map(|number| format!("t{number:04}")).collect();
    tag(&registry, &all).await;
    for query in ["", "?n=1000", "?n=5000", "?n=99999999999999999999999999"] {
        let answer = list(&registry, query).await;
        let next = next_page(&answer).unwrap();
        assert_eq!(tags(answer).await, all[..1000], "{query}");
        let answer = registry.get(&next).await;
        assert_eq!(next_page(&answer), None);
        assert_eq!(tags(answer).await, all[1000..]);
    }
}

#[tokio::test]
async fn a_repository_without_tags_has_an_empty_list() {
    let registry = TestRegistry::start().await;
    registry.push_blob(REPO, &bytes(1, 10)).await;
    let answer = list(&registry, "").await;
    assert_eq!(header(&answer, "content-type"), "application/json");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({ "name": REPO, "tags": [] }));
}

#[tokio::test]
async fn a_repository_that_does_not_exist_is_404() {
    let registry = TestRegistry::start().await;
    for repo in ["demo/unknown", "unknown/app"] {
        for query in ["", "?n=0", "?n=5&last=x"] {
            let answer = registry.get(&format!("/v2/{repo}/tags/list{query}")).await;
            assert_oci_error(answer, 404, "NAME_UNKNOWN").await;
        }
    }
}

#[tokio::test]
async fn tags_of_other_repositories_are_not_listed() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/other", "theirs", 1).await;
    registry.push_image("demo/app/below", "theirs", 1).await;
    registry.push_image(REPO, "ours", 1).await;
    assert_eq!(tags(list(&registry, "").await).await, ["ours"]);
}

#[tokio::test]
async fn listing_needs_pull() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "v1", 1).await;
    let path = format!("/v2/{REPO}/tags/list");
    let answer = registry.anonymous(Method::GET, &path).send().await.unwrap();
    assert!(header(&answer, "www-authenticate").ends_with("scope=\"repository:demo/app:pull\""));
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    let answer = registry
        .as_user("other", Method::GET, &path)
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 403, "DENIED").await;
    registry.allow_anonymous_pull("app").await;
    let answer = registry.anonymous(Method::GET, &path).send().await.unwrap();
    assert_eq!(tags(answer).await, ["v1"]);
}
