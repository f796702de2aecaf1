//! What is refused, and what is not.

use futures::{StreamExt as _, stream};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use storage_drivers::Op;

use super::{ACCOUNT, TENANT, start, start_with, unsized_body};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_MANIFEST, bytes, digest, manifest},
};

#[tokio::test]
async fn five_hundred_uploads_at_once_never_pass_the_limit() {
    const SIZE: usize = 1000;
    let registry = start().await;
    let order = json!({ "auth_tenant_id": "demo" });
    assert_eq!(registry.account("demo2", order).await.status(), 201);
    registry.limit(TENANT, "bytes", 100_500).await;
    registry
        .limit("/api/v1/accounts/demo2/quota", "bytes", 30_999)
        .await;
    let uploads = (0..500_u64).map(|n| {
        let registry = &registry;
        async move {
            let account = ["demo", "demo2"][usize::from(n.is_multiple_of(2))];
            let content = bytes(n + 1, SIZE);
            // Some announce their length, some do not.
            let answer = registry
                .try_blob(&format!("{account}/app"), &content, !n.is_multiple_of(3))
                .await;
            (account, answer.status().as_u16())
        }
    });
    let answers: Vec<(&str, u16)> = stream::iter(uploads).buffer_unordered(500).collect().await;
    let count = |account: &str, status: u16| {
        answers
            .iter()
            .filter(|answer| **answer == (account, status))
            .count()
    };
    assert!(
        answers
            .iter()
            .all(|(_, status)| [201, 403].contains(status)),
        "{answers:?}"
    );
    let (first, second) = (count("demo", 201), count("demo2", 201));
    assert_eq!(first + second, 100, "as many as fit, and not one more");
    assert!(second <= 30);
    let quota = registry.quota(TENANT).await;
    assert_eq!(
        quota["bytes"],
        json!({ "limit": 100_500, "used": 100_000, "reserved": 0, "trash": 0 })
    );
    let quota = registry.quota(ACCOUNT).await;
    assert_eq!(quota["bytes"]["used"], json!(first * SIZE));
    registry.assert_books().await;
}

#[tokio::test]
async fn a_refusal_says_what_is_used_allowed_and_wanted() {
    let registry = start().await;
    registry.push_blob("demo/app", &bytes(1, 600)).await;
    registry.limit(ACCOUNT, "bytes", 1000).await;
    let answer = registry.try_blob("demo/app", &bytes(2, 401), true).await;
    let body = assert_oci_error(answer, 403, "DENIED").await;
    let detail = json!({
        "resource": "bytes", "used": 600, "limit": 1000, "wanted": 401, "of": "account",
    });
    assert_eq!(body["errors"][0]["detail"], detail);
    let answer = registry.try_blob("demo/app", &bytes(2, 400), true).await;
    assert_eq!(answer.status(), 201);
    registry.limit(ACCOUNT, "bytes", None).await;
    registry.limit(TENANT, "bytes", 1000).await;
    let answer = registry.try_blob("demo/app", &bytes(3, 1), true).await;
    let body = assert_oci_error(answer, 403, "DENIED").await;
    assert_eq!(body["errors"][0]["detail"]["of"], "auth_tenant");
    registry.assert_books().await;
}

#[tokio::test]
async fn a_body_without_a_length_is_broken_off_at_the_limit() {
    let registry = start().await;
    registry.limit(ACCOUNT, "bytes", 3 << 20).await;
    // It would go on for ever.
    let piece = || (Ok::<_, std::io::Error>(vec![7_u8; 64 << 10]), ());
    let endless = stream::unfold((), move |()| async move { Some(piece()) });
    let location = registry.begin_upload("demo/app").await;
    let sent = registry
        .admin(Method::PATCH, &location)
        .body(Body::wrap_stream(endless))
        .send()
        .await;
    // The client may be cut off before it reads the answer.
    if let Ok(answer) = sent {
        assert_oci_error(answer, 403, "DENIED").await;
    }
    registry.settled().await;
    assert_eq!(registry.object_count("demo").await, 0);
    let content = bytes(1, 3 << 20);
    let answer = registry
        .admin(Method::PATCH, &location)
        .body(unsized_body(&content))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202, "all of the quota can be had");
    let quota = registry.quota(ACCOUNT).await;
    assert_eq!(
        quota["bytes"],
        json!({ "limit": 3 << 20, "used": 0, "reserved": 3 << 20, "trash": 0 })
    );
    let answer = registry.append(&location, b"x").await;
    assert_oci_error(answer, 403, "DENIED").await;
    let answer = registry.finish(&location, &digest(&content), b"").await;
    assert_eq!(answer.status(), 201);
    let quota = registry.quota(ACCOUNT).await;
    assert_eq!(
        quota["bytes"],
        json!({ "limit": 3 << 20, "used": 3 << 20, "reserved": 0, "trash": 0 })
    );
    registry.assert_books().await;
}

impl TestRegistry {
    /// Waits until nothing is reserved any more: what a client that hung up had is given back behind its back.
    pub(super) async fn settled(&self) {
        for _ in 0..500 {
            if self.quota(ACCOUNT).await["bytes"]["reserved"] == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("something stays reserved: {}", self.quota(ACCOUNT).await);
    }
}

#[tokio::test]
async fn deletes_go_on_over_the_quota_and_free_at_once() {
    let registry = start().await;
    registry.settings(json!({ "trash_days": 0 })).await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let image = serde_json::to_vec(&image).unwrap();
    registry.push_blob("demo/app", &bytes(9, 500)).await;
    for resource in ["bytes", "manifests", "repositories"] {
        registry.limit(ACCOUNT, resource, 0).await;
    }
    let refused = registry.try_blob("demo/app", &bytes(10, 1), false).await;
    assert_oci_error(refused, 403, "DENIED").await;
    // What is there can be tagged, mounted and pulled.
    let path = "/v2/demo/app/manifests/v2";
    let tagged = registry
        .put_manifest(path, Some(OCI_MANIFEST), &image)
        .await;
    assert_eq!(tagged.status(), 201);
    let mount = format!(
        "/v2/demo/b/blobs/uploads/?mount={}&from=demo/app",
        digest(&bytes(9, 500))
    );
    let mounted = registry.admin(Method::POST, &mount).send().await.unwrap();
    assert_eq!(mounted.status(), 201);
    let path = format!("/v2/demo/app/manifests/{}", digest(&image));
    assert_eq!(registry.delete(&path).await.status(), 202);
    let quota = registry.quota(ACCOUNT).await;
    assert_eq!(quota["manifests"]["used"], 0);
    assert_eq!(quota["repositories"]["used"], 0);
    assert_eq!(quota["bytes"]["used"], 1600);
    for repo in ["app", "b"] {
        let path = format!("/v2/demo/{repo}/blobs/{}", digest(&bytes(9, 500)));
        assert_eq!(registry.delete(&path).await.status(), 202);
    }
    let quota = registry.quota(ACCOUNT).await;
    assert_eq!(quota["bytes"]["used"], 1100);
    registry.assert_books().await;
}

#[tokio::test]
async fn manifests_and_repositories_have_limits() {
    let registry = start().await;
    registry.limit(TENANT, "manifests", 3).await;
    registry.limit(ACCOUNT, "repositories", 2).await;
    registry.push_image("demo/a", "v1", 1).await;
    registry.push_image("demo/b", "v1", 1).await;
    let (config, layer) = (bytes(1, 100), bytes(2, 1000));
    registry.push_blob("demo/c", &config).await;
    registry.push_blob("demo/c", &layer).await;
    let image = manifest(&config, &[&layer]).to_string();
    let put = async |path: &str, image: String| {
        let path = format!("/v2/{path}");
        registry
            .put_manifest(&path, Some(OCI_MANIFEST), image.as_bytes())
            .await
    };
    let body = assert_oci_error(put("demo/c/manifests/v1", image).await, 403, "DENIED").await;
    assert_eq!(body["errors"][0]["detail"]["resource"], "repositories");
    let other = |n: u32| {
        let mut other: Value = manifest(&config, &[&layer]);
        other["annotations"] = json!({ "n": n.to_string() });
        other.to_string()
    };
    assert_eq!(put("demo/a/manifests/v2", other(1)).await.status(), 201);
    let body = assert_oci_error(put("demo/a/manifests/v3", other(2)).await, 403, "DENIED").await;
    let detail = json!({
        "resource": "manifests", "used": 3, "limit": 3, "wanted": 1, "of": "auth_tenant",
    });
    assert_eq!(body["errors"][0]["detail"], detail);
    // What was refused left nothing: neither tag nor object.
    assert_eq!(registry.get("/v2/demo/a/manifests/v3").await.status(), 404);
    registry.assert_books().await;
}

#[tokio::test]
async fn a_warning_comes_from_nine_tenths_on() {
    let registry = start().await;
    registry.limit(ACCOUNT, "bytes", 1000).await;
    let answer = registry.try_blob("demo/app", &bytes(1, 899), true).await;
    assert_eq!(answer.status(), 201);
    assert!(!answer.headers().contains_key("warning"));
    let answer = registry.try_blob("demo/app", &bytes(2, 1), true).await;
    let warning = "299 - \"quota: 900 of 1000 bytes of the account are used\"";
    assert_eq!(answer.headers()["warning"], warning);
    registry.limit(TENANT, "manifests", 1).await;
    registry.limit(ACCOUNT, "bytes", 10_000).await;
    registry.push_blob("demo/app", b"{}").await;
    let image = manifest(b"{}", &[]).to_string();
    let path = "/v2/demo/app/manifests/v1";
    let answer = registry
        .put_manifest(path, Some(OCI_MANIFEST), image.as_bytes())
        .await;
    let warning = "299 - \"quota: 1 of 1 manifests of the auth tenant are used\"";
    assert_eq!(answer.headers()["warning"], warning);
}

#[tokio::test]
async fn auth_tenants_without_limits_have_those_of_the_configuration() {
    let registry = start_with(|config| config.quotas.default_bytes = Some(10)).await;
    let refused = registry.try_blob("demo/app", &bytes(1, 11), true).await;
    assert_oci_error(refused, 403, "DENIED").await;
    assert_eq!(registry.quota(TENANT).await["bytes"]["limit"], 10);
    // Its own limits count instead, also that there is none; and can be taken away.
    registry.limit(TENANT, "bytes", None).await;
    assert_eq!(
        registry
            .try_blob("demo/app", &bytes(1, 11), true)
            .await
            .status(),
        201
    );
    assert_eq!(registry.delete(TENANT).await.status(), 204);
    let refused = registry.try_blob("demo/app", &bytes(2, 1), true).await;
    assert_oci_error(refused, 403, "DENIED").await;
    // One that has no account yet.
    let path = "/api/v1/auth-tenants/unheard-of/quota";
    assert_eq!(
        registry.quota(path).await["bytes"],
        json!({ "limit": 10, "used": 0, "reserved": 0, "trash": 0 })
    );
}

#[tokio::test]
async fn the_largest_numbers_are_refused_and_do_not_wrap() {
    let registry = start_with(|config| config.limits.blob_bytes = u64::MAX).await;
    registry.limit(ACCOUNT, "bytes", i64::MAX as u64).await;
    let order = json!({ "bytes": { "limit": i64::MAX as u64 + 1 } });
    let answer = registry
        .admin(Method::PUT, ACCOUNT)
        .json(&order)
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 422);
    // The books as full as they can be.
    let full = "UPDATE quota_books SET bytes = 9223372036854775000";
    registry.db.execute_for_tests(full.into()).await.unwrap();
    registry.limit(ACCOUNT, "bytes", None).await;
    let answer = registry.try_blob("demo/app", &bytes(1, 900), true).await;
    assert_oci_error(answer, 403, "DENIED").await;
    let answer = registry.try_blob("demo/app", &bytes(2, 800), true).await;
    assert_eq!(answer.status(), 201);
    let path = "/api/v1/auth-tenants/demo/quota/recount";
    let repaired = registry.admin(Method::POST, path).send().await.unwrap();
    assert_eq!(repaired.status(), 200);
    assert_eq!(registry.quota(ACCOUNT).await["bytes"]["used"], 800);
    registry.assert_books().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_gets_back_what_was_reserved() {
    use std::io::Write as _;
    let registry = start().await;
    registry.limit(ACCOUNT, "bytes", 1000).await;
    let location = registry.begin_upload("demo/app").await;
    let token = registry
        .token("admin", &["repository:demo/app:pull,push"])
        .await;
    let mut stream = std::net::TcpStream::connect(registry.address).unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 900\r\n\r\n",
        registry.address
    );
    let writes = registry.faults.calls(Op::Write);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"some of it").unwrap();
    registry.faults.calls_reached(Op::Write, writes + 1).await;
    let quota = registry.quota(ACCOUNT).await;
    assert_eq!(quota["bytes"]["reserved"], 900, "before it has come");
    let refused = registry.try_blob("demo/app", &bytes(1, 101), true).await;
    assert_oci_error(refused, 403, "DENIED").await;
    drop(stream);
    registry.settled().await;
    let answer = registry.try_blob("demo/app", &bytes(1, 1000), true).await;
    assert_eq!(answer.status(), 201);
    registry.assert_books().await;
}
