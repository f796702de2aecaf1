//! `<account>.<base domain>`: an account under a name of its own, for clients that take a host only.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::helpers::{claims, header, next_page};
use crate::support::{
    Setup, TestRegistry, assert_oci_error,
    image::{OCI_CONFIG, OCI_MANIFEST, bytes, descriptor, digest},
};

const HOST: &str = "demo.registry.test";

async fn registry() -> TestRegistry {
    let domains = |config: &mut kontor::config::Config| {
        config.server.base_domains = vec!["registry.test".into()]
    };
    Setup::default().config(domains).start().await
}

async fn send(request: RequestBuilder) -> Response {
    request.header("Host", HOST).send().await.unwrap()
}

async fn get(registry: &TestRegistry, path: &str) -> Response {
    send(registry.admin(Method::GET, path)).await
}

async fn token(registry: &TestRegistry, user: &str, scope: &str) -> String {
    let path = format!("/token?service={HOST}&scope={scope}");
    let answer = send(registry.as_user(user, Method::GET, &path)).await;
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.unwrap()["token"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn an_image_is_pulled_by_its_short_name() {
    let registry = registry().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let answer = get(&registry, "/v2/app/manifests/v1").await;
    assert_eq!(answer.json::<Value>().await.unwrap(), image);
    let layer = digest(&bytes(2, 1000));
    assert_eq!(
        get(&registry, &format!("/v2/app/blobs/{layer}"))
            .await
            .bytes()
            .await
            .unwrap(),
        bytes(2, 1000)
    );
    // The host names the account, so nothing else can be reached, not even by the full name.
    assert_eq!(
        get(&registry, "/v2/demo/app/manifests/v1").await.status(),
        404
    );
    for host in ["demo.registry.test:443", "DEMO.Registry.Test"] {
        let request = registry
            .admin(Method::GET, "/v2/app/manifests/v1")
            .header("Host", host);
        assert_eq!(request.send().await.unwrap().status(), 200, "{host}");
    }
    for host in [
        "registry.test",
        "x.demo.registry.test",
        "demoregistry.test",
        "other.registry.test",
    ] {
        let request = registry
            .admin(Method::GET, "/v2/app/manifests/v1")
            .header("Host", host);
        assert_ne!(request.send().await.unwrap().status(), 200, "{host}");
    }
}

#[tokio::test]
async fn everything_in_a_push_goes_by_the_short_name() {
    let registry = registry().await;
    let content = bytes(1, 100);
    let blob = digest(&content);
    let answer = send(registry.admin(Method::POST, "/v2/app/blobs/uploads/")).await;
    let location = header(&answer, "location").to_owned();
    assert!(location.starts_with("/v2/app/blobs/uploads/"), "{location}");
    let answer = send(
        registry
            .admin(Method::PATCH, &location)
            .body(content.clone()),
    )
    .await;
    assert_eq!(header(&answer, "location"), location);
    assert_eq!(
        header(&get(&registry, &location).await, "location"),
        location
    );
    let answer = send(registry.admin(Method::PUT, &format!("{location}?digest={blob}"))).await;
    assert_eq!(header(&answer, "location"), format!("/v2/app/blobs/{blob}"));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, &content), "layers": [],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let request = registry.admin(Method::PUT, "/v2/app/manifests/v1");
    let answer = send(
        request
            .header("Content-Type", OCI_MANIFEST)
            .body(manifest.clone()),
    )
    .await;
    assert_eq!(
        header(&answer, "location"),
        format!("/v2/app/manifests/{}", digest(&manifest))
    );
    let answer = registry.get("/v2/demo/app/manifests/v1").await;
    assert_eq!(answer.bytes().await.unwrap(), manifest);
}

#[tokio::test]
async fn the_challenge_names_the_host_and_the_short_name_and_a_token_for_it_works() {
    let registry = registry().await;
    registry.push_image("demo/app", "v1", 1).await;
    let answer = send(registry.anonymous(Method::GET, "/v2/app/manifests/v1")).await;
    let expected = format!(
        "Bearer realm=\"http://{HOST}/token\",service=\"{HOST}\",scope=\"repository:app:pull\""
    );
    assert_eq!(header(&answer, "www-authenticate"), expected);
    let token = token(&registry, "ann", "repository:app:pull").await;
    assert_eq!(claims(&token)["aud"], HOST);
    assert_eq!(claims(&token)["access"][0]["name"], "app");
    let answer = send(registry.bearer(&token, Method::GET, "/v2/app/manifests/v1")).await;
    assert_eq!(answer.status(), 200);
    // It is not good under another host, where `app` means something else.
    let answer = registry
        .bearer(&token, Method::GET, "/v2/demo/app/manifests/v1")
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    let request = registry.bearer(&token, Method::GET, "/v2/app/manifests/v1");
    let answer = request
        .header("Host", "second.registry.test")
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn a_token_for_the_full_name_grants_nothing_there() {
    let registry = registry().await;
    let token = token(&registry, "ann", "repository:demo/app:pull").await;
    let answer = send(registry.bearer(&token, Method::GET, "/v2/app/tags/list")).await;
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn the_next_page_of_tags_is_reached_with_the_same_token() {
    let registry = registry().await;
    for tag in ["v1", "v2", "v3"] {
        registry.push_image("demo/app", tag, 1).await;
    }
    let token = token(&registry, "ann", "repository:app:pull").await;
    let (mut found, mut page) = (Vec::new(), Some("/v2/app/tags/list?n=1".to_owned()));
    while let Some(address) = page {
        assert!(address.starts_with("/v2/app/tags/list?"), "{address}");
        let answer = send(registry.bearer(&token, Method::GET, &address)).await;
        page = next_page(&answer);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["name"], "app");
        found.extend(body["tags"].as_array().unwrap().clone());
    }
    assert_eq!(found, ["v1", "v2", "v3"]);
}

#[tokio::test]
async fn the_next_page_of_referrers_goes_by_the_short_name() {
    let registry = registry().await;
    let subject = digest(b"subject");
    let mut manifest = registry.push_image("demo/app", "v1", 1).await;
    manifest["subject"] = json!({ "digest": subject, "size": 7 });
    for number in 0..101 {
        manifest["annotations"] = json!({ "number": number.to_string() });
        registry
            .push_manifest("demo/app", &format!("t{number}"), &manifest)
            .await;
    }
    let answer = get(&registry, &format!("/v2/app/referrers/{subject}")).await;
    let next = next_page(&answer).unwrap();
    assert!(
        next.starts_with(&format!("/v2/app/referrers/{subject}?last=")),
        "{next}"
    );
    let index: Value = get(&registry, &next).await.json().await.unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_mount_names_its_source_by_the_short_name() {
    let registry = registry().await;
    let blob = registry.push_blob("demo/base", &bytes(1, 100)).await;
    for (target, query, scope) in [
        (
            "a",
            format!("mount={blob}&from=base"),
            "repository:base:pull",
        ),
        ("b", format!("mount={blob}"), "repository:*:pull"),
    ] {
        let path = format!("/v2/{target}/blobs/uploads/?{query}");
        let answer = send(registry.anonymous(Method::POST, &path)).await;
        let challenge = header(&answer, "www-authenticate").to_owned();
        let scopes = format!("repository:{target}:pull,push {scope}");
        assert!(
            challenge.ends_with(&format!(",scope=\"{scopes}\"")),
            "{challenge}"
        );
        let token = token(&registry, "ann", &scopes).await;
        let answer = send(registry.bearer(&token, Method::POST, &path)).await;
        assert_eq!(answer.status(), 201, "{query}");
        assert_eq!(
            header(&answer, "location"),
            format!("/v2/{target}/blobs/{blob}")
        );
    }
    let path = format!("/v2/c/blobs/uploads/?mount={blob}&from=demo/base");
    assert_eq!(
        send(registry.admin(Method::POST, &path)).await.status(),
        202
    );
}

#[tokio::test]
async fn the_catalog_shows_this_account_by_the_names_that_work_here() {
    let registry = registry().await;
    assert_eq!(
        registry
            .account("abc", json!({ "auth_tenant_id": "demo" }))
            .await
            .status(),
        201
    );
    for repo in ["demo/a", "demo/b", "demo/c", "abc/elsewhere"] {
        registry.push_image(repo, "v1", 1).await;
    }
    let (mut found, mut page) = (Vec::new(), Some("/v2/_catalog?n=2".to_owned()));
    while let Some(address) = page {
        let answer = get(&registry, &address).await;
        page = next_page(&answer);
        let body: Value = answer.json().await.unwrap();
        found.extend(body["repositories"].as_array().unwrap().clone());
    }
    assert_eq!(found, ["a", "b", "c"]);
}

#[tokio::test]
async fn ns_is_ignored_there() {
    let registry = registry().await;
    assert_eq!(
        registry
            .account(
                "hub",
                json!({ "auth_tenant_id": "demo", "serves_namespace": "docker.io" })
            )
            .await
            .status(),
        201
    );
    registry.push_image("demo/app", "v1", 1).await;
    registry.push_image("hub/app", "hub", 5).await;
    let body: Value = get(&registry, "/v2/app/tags/list?ns=docker.io")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(body, json!({ "name": "app", "tags": ["v1"] }));
}
