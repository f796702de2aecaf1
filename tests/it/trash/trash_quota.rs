//! When the quota is short, the oldest trash goes first.

use std::io::{Read as _, Write as _};

use reqwest::Method;
use serde_json::{Value, json};
use storage_drivers::Op;

use super::{ACCOUNT_QUOTA, TENANT_QUOTA, digest_of, start};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_MANIFEST, bytes, digest, manifest},
};

/// Pushes images of about 1,400 bytes and deletes them, a day after the other; gives their digests.
async fn fill(registry: &TestRegistry, repo: &str, seeds: &[u64]) -> Vec<String> {
    let mut digests = Vec::new();
    for seed in seeds {
        let image = registry.push_image(repo, "v1", *seed).await;
        let path = format!("/v2/{repo}/manifests/{}", digest_of(&image));
        assert_eq!(registry.delete(&path).await.status(), 202);
        digests.push(digest_of(&image));
        registry.days_pass(1);
    }
    digests
}

async fn used(registry: &TestRegistry) -> u64 {
    let quota = registry.quota(ACCOUNT_QUOTA).await;
    quota["bytes"]["used"].as_u64().unwrap()
}

#[tokio::test]
async fn a_push_takes_the_oldest_trash_and_no_more_than_it_needs() {
    for has_length in [true, false] {
        let registry = start().await;
        let digests = fill(&registry, "demo/app", &[11, 21, 31]).await;
        registry
            .limit(ACCOUNT_QUOTA, "bytes", used(&registry).await)
            .await;
        // What would not fit in any case takes nothing with it.
        let answer = registry.try_blob("demo/app", &bytes(1, 9000), true).await;
        assert_eq!(answer.status(), 403);
        assert_eq!(registry.trashed().await.len(), 3);
        let answer = registry
            .try_blob("demo/app", &bytes(1, 2000), has_length)
            .await;
        assert_eq!(answer.status(), 201);
        let left = registry.trashed().await;
        assert_eq!(left, [&*digests[2]], "two had to go");
        let events = registry.audit_events("action=manifest.purge").await;
        let mut purged: Vec<&str> = events
            .iter()
            .map(|event| event["target"]["digest"].as_str().unwrap())
            .collect();
        purged.sort_unstable();
        let mut oldest = [&*digests[0], &*digests[1]];
        oldest.sort_unstable();
        assert_eq!(purged, oldest);
        for event in &events {
            assert_eq!(event["who"]["name"], "system:kontor");
            assert!(event["reason"].as_str().unwrap().contains("quota"));
        }
        registry.assert_books().await;
        let report = registry.registry.check(true).await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(registry.restore(&digests[2]).await.0, 200);
    }
}

#[tokio::test]
async fn what_is_announced_and_not_sent_takes_no_trash() {
    let registry = start().await;
    fill(&registry, "demo/app", &[11, 21, 31]).await;
    registry
        .limit(ACCOUNT_QUOTA, "bytes", used(&registry).await)
        .await;
    let token = registry
        .token("admin", &["repository:demo/app:pull,push"])
        .await;
    let content = bytes(1, 3000);
    let mut connection = std::net::TcpStream::connect(registry.address).unwrap();
    let head = format!(
        "POST /v2/demo/app/blobs/uploads/?digest={} HTTP/1.1\r\nHost: {}\r\n\
         Authorization: Bearer {token}\r\nContent-Length: 3000\r\nConnection: close\r\n\r\n",
        digest(&content),
        registry.address
    );
    let writes = registry.faults.calls(Op::Write);
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&content[..10]).unwrap();
    registry.faults.calls_reached(Op::Write, writes + 1).await;
    assert_eq!(
        registry.trashed().await.len(),
        2,
        "one has room for what is here"
    );
    connection.write_all(&content[10..]).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        text
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(
        registry.trashed().await.len(),
        1,
        "two have room for the whole"
    );
    registry.assert_books().await;
}

#[tokio::test]
async fn a_manifest_takes_its_bytes_from_the_trash_as_well() {
    let registry = start().await;
    let (config, layer) = (bytes(1, 100), bytes(2, 1000));
    registry.push_blob("demo/app", &config).await;
    registry.push_blob("demo/app", &layer).await;
    fill(&registry, "demo/app", &[11]).await;
    registry
        .limit(ACCOUNT_QUOTA, "bytes", used(&registry).await)
        .await;
    let image = manifest(&config, &[&layer]);
    registry.push_manifest("demo/app", "v2", &image).await;
    assert_eq!(registry.trash().await, Vec::<Value>::new());
    registry.assert_books().await;
    // With no trash left, the limit counts.
    let image = manifest(&config, &[]).to_string();
    registry
        .limit(ACCOUNT_QUOTA, "bytes", used(&registry).await)
        .await;
    let path = "/v2/demo/app/manifests/v3";
    let answer = registry
        .put_manifest(path, Some(OCI_MANIFEST), image.as_bytes())
        .await;
    let body = assert_oci_error(answer, 403, "DENIED").await;
    assert_eq!(body["errors"][0]["detail"]["resource"], "bytes");
    registry.assert_books().await;
}

#[tokio::test]
async fn the_limit_of_an_auth_tenant_takes_the_trash_of_all_its_accounts() {
    let registry = start().await;
    let order = json!({ "auth_tenant_id": "demo" });
    assert_eq!(registry.account("second", order).await.status(), 201);
    let order = json!({ "auth_tenant_id": "other" });
    assert_eq!(registry.account("foreign", order).await.status(), 201);
    fill(&registry, "second/app", &[11]).await;
    fill(&registry, "foreign/app", &[11]).await;
    let quota = registry.quota(TENANT_QUOTA).await;
    assert_eq!(quota["bytes"]["trash"], quota["bytes"]["used"]);
    let limit = quota["bytes"]["used"].as_u64().unwrap();
    registry.limit(TENANT_QUOTA, "bytes", limit).await;
    let answer = registry.try_blob("demo/app", &bytes(1, 1000), true).await;
    assert_eq!(answer.status(), 201);
    let trash = async |account: &str| {
        let path = format!("{account}/trash");
        let (_, page) = registry.ask("admin", (Method::GET, &path), None).await;
        page["trash"].as_array().unwrap().len()
    };
    assert_eq!(trash("second").await, 0);
    assert_eq!(trash("foreign").await, 1, "another tenant's trash stays");
    registry.assert_books().await;
}

#[tokio::test]
async fn blobs_that_others_need_stay_and_more_trash_goes_instead() {
    let registry = start().await;
    // The oldest shares its blobs with an image that stays, so only its own bytes come free.
    let image = registry.push_image("demo/app", "v1", 11).await;
    let mut twin = image.clone();
    twin["annotations"] = json!({ "twin": "yes" });
    registry.push_manifest("demo/app", "twin", &twin).await;
    registry.delete_manifest(&digest_of(&image)).await;
    registry.days_pass(1);
    fill(&registry, "demo/app", &[21]).await;
    registry
        .limit(ACCOUNT_QUOTA, "bytes", used(&registry).await)
        .await;
    let answer = registry.try_blob("demo/app", &bytes(1, 1000), true).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(registry.trash().await, Vec::<Value>::new());
    let pulled = image["layers"][0]["digest"].as_str().unwrap();
    let path = format!("/v2/demo/app/blobs/{pulled}");
    assert_eq!(registry.get(&path).await.status(), 200);
    registry.assert_books().await;
}

#[tokio::test]
async fn what_is_held_does_not_go_for_a_push() {
    let registry = start().await;
    let digests = fill(&registry, "demo/app", &[11]).await;
    let until = registry.now() + chrono::TimeDelta::days(30);
    let order = json!({ "until": until, "reason": "case 7" });
    let path = (Method::POST, "demo/repositories/app/_hold");
    assert_eq!(registry.ask("admin", path, Some(order)).await.0, 200);
    registry
        .limit(ACCOUNT_QUOTA, "bytes", used(&registry).await)
        .await;
    let answer = registry.try_blob("demo/new", &bytes(1, 10), true).await;
    assert_oci_error(answer, 403, "DENIED").await;
    assert_eq!(registry.trashed().await, digests);
    // Nor does other trash go for what it cannot make room for alone.
    registry.limit(ACCOUNT_QUOTA, "bytes", None).await;
    fill(&registry, "demo/other", &[21]).await;
    registry
        .limit(ACCOUNT_QUOTA, "bytes", used(&registry).await)
        .await;
    for has_length in [true, false] {
        let answer = registry
            .try_blob("demo/new", &bytes(1, 2000), has_length)
            .await;
        assert_oci_error(answer, 403, "DENIED").await;
        assert_eq!(registry.trashed().await.len(), 2);
    }
    // What has other limits than bytes is not helped by the trash.
    registry.limit(ACCOUNT_QUOTA, "bytes", None).await;
    registry.assert_books().await;
}
