//! The books are what a count says, whatever happens.

use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::json;
use storage_drivers::{Op, faulty::Fault};

use super::{ACCOUNT, TENANT, start, unsized_body};
use crate::support::{
    TestRegistry,
    image::{OCI_MANIFEST, bytes, digest, manifest},
};

/// The step `n` of a walk through everything that a client can do, in one of two accounts; its answer does not matter.
async fn step(registry: &TestRegistry, n: u64) {
    let random = bytes(n * 31 + 7, 8);
    let account = ["demo", "demo2"][usize::from(random[0] % 2)];
    let repo = format!("{account}/r{}", random[1] % 3);
    let (config, layer) = (bytes(1, 100), bytes(u64::from(random[2] % 4) + 2, 700));
    match random[3] % 8 {
        0 => drop(registry.try_blob(&repo, &layer, n.is_multiple_of(2)).await),
        1 => {
            let location = registry.begin_upload(&repo).await;
            registry.append(&location, &layer[..300]).await;
            registry
                .finish(&location, &digest(&layer), &layer[300..])
                .await;
        }
        2 => {
            let location = registry.begin_upload(&repo).await;
            let body = unsized_body(&layer);
            let patch = registry.admin(Method::PATCH, &location).body(body);
            patch.send().await.unwrap();
            match random[4] % 3 {
                0 => drop(registry.delete(&location).await),
                // The wrong digest ends the upload.
                1 => drop(registry.finish(&location, &digest(b"other"), b"").await),
                _ => {}
            }
        }
        3 => {
            let from = format!("{account}/r{}", random[5] % 3);
            let query = format!("mount={}&from={from}", digest(&layer));
            let path = format!("/v2/{repo}/blobs/uploads/?{query}");
            registry.admin(Method::POST, &path).send().await.unwrap();
        }
        4 | 5 => {
            registry.try_blob(&repo, &config, true).await;
            registry.try_blob(&repo, &layer, true).await;
            let image = manifest(&config, &[&layer]).to_string();
            let path = format!("/v2/{repo}/manifests/t{}", random[6] % 3);
            registry
                .put_manifest(&path, Some(OCI_MANIFEST), image.as_bytes())
                .await;
        }
        6 => {
            let image = manifest(&config, &[&layer]).to_string();
            let path = format!("/v2/{repo}/manifests/{}", digest(image.as_bytes()));
            registry.delete(&path).await;
        }
        _ => {
            let path = format!("/v2/{repo}/blobs/{}", digest(&layer));
            registry.delete(&path).await;
        }
    }
}

#[tokio::test]
async fn a_count_equals_the_books_after_all_that_clients_do_side_by_side() {
    let registry = start().await;
    let order = json!({ "auth_tenant_id": "demo" });
    assert_eq!(registry.account("demo2", order).await.status(), 201);
    registry.limit(TENANT, "bytes", 6000).await;
    for round in 0..3_u64 {
        let steps = (0..120).map(|n| step(&registry, round * 120 + n));
        stream::iter(steps)
            .buffer_unordered(16)
            .collect::<Vec<_>>()
            .await;
        registry.assert_books().await;
        let quota = registry.quota(TENANT).await;
        let of = |member: &str| quota["bytes"][member].as_u64().unwrap();
        assert!(of("used") > 0, "something was stored: {quota}");
        assert!(of("used") + of("reserved") <= 6000, "{quota}");
    }
}

#[tokio::test]
async fn content_counts_once_in_an_account_however_often_it_is_mounted() {
    let registry = start().await;
    let layer = bytes(1, 1000);
    for repo in ["demo/a", "demo/b"] {
        registry.push_blob(repo, &layer).await;
    }
    let path = format!(
        "/v2/demo/c/blobs/uploads/?mount={}&from=demo/a",
        digest(&layer)
    );
    let answer = registry.admin(Method::POST, &path).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let quota = registry.quota(ACCOUNT).await;
    assert_eq!(quota["bytes"]["used"], 1000);
    assert_eq!(quota["bytes"]["reserved"], 0);
    registry.assert_books().await;
}

#[tokio::test]
async fn an_account_that_goes_takes_all_that_it_used_with_it() {
    let registry = start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let location = registry.begin_upload("demo/app").await;
    registry.append(&location, b"more").await;
    let image = registry.get("/v2/demo/app/manifests/v1").await;
    let digest = image.headers()["docker-content-digest"].to_str().unwrap();
    let path = format!("/v2/demo/app/manifests/{digest}");
    assert_eq!(registry.delete(&path).await.status(), 202);
    registry.limit(ACCOUNT, "bytes", 5000).await;
    assert_eq!(registry.quota(TENANT).await["bytes"]["reserved"], 4);
    assert_eq!(registry.delete("/api/v1/accounts/demo").await.status(), 204);
    let quota = registry.quota(TENANT).await;
    assert_eq!(
        quota["bytes"],
        json!({ "limit": null, "used": 0, "reserved": 0, "trash": 0 })
    );
    // Another account of the name begins anew.
    let order = json!({ "auth_tenant_id": "demo" });
    assert_eq!(registry.account("demo", order).await.status(), 201);
    assert_eq!(registry.quota(ACCOUNT).await["bytes"]["limit"], json!(null));
    registry.assert_books().await;
}

#[tokio::test]
async fn a_failing_backend_keeps_no_quota() {
    let registry = start().await;
    registry.limit(ACCOUNT, "bytes", 1000).await;
    for has_length in [true, false] {
        let fault = Fault::Temporary;
        registry.faults.fail_next(Op::Write, 1, fault);
        let answer = registry
            .try_blob("demo/app", &bytes(1, 900), has_length)
            .await;
        assert_eq!(answer.status(), 503);
        registry.settled().await;
    }
    assert_eq!(
        registry
            .try_blob("demo/app", &bytes(1, 900), true)
            .await
            .status(),
        201
    );
    // A deletion that fails frees as well.
    registry.faults.fail_next(Op::Delete, 1, Fault::Temporary);
    let path = format!("/v2/demo/app/blobs/{}", digest(&bytes(1, 900)));
    assert_eq!(registry.delete(&path).await.status(), 202);
    assert_eq!(
        registry
            .try_blob("demo/app", &bytes(2, 900), true)
            .await
            .status(),
        201
    );
    registry.assert_books().await;
}

#[tokio::test]
async fn a_recount_finds_and_repairs_wrong_books_and_frees_what_died() {
    let registry = start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let before = registry.quota(TENANT).await;
    let break_books = "UPDATE quota_books SET bytes = bytes + 5, manifests = 0";
    registry
        .db
        .execute_for_tests(break_books.into())
        .await
        .unwrap();
    let problems = registry.registry.check(false).await.unwrap().problems;
    assert_eq!(problems.len(), 2, "account and auth tenant: {problems:?}");
    assert!(problems[0].contains("account demo"), "{problems:?}");
    // A note that a node left which died in the middle of a write, and what it had reserved.
    let note = "INSERT INTO loose_objects (object_id, kind, account_name, storage, noted_at, is_kept, is_swept, \
                reserved_bytes) VALUES ('6a51a3a6-58a5-4a5e-8f2e-0c1d3f0c7a11', 'chunks', 'demo', 'default', \
                '2020-01-01 00:00:00', FALSE, FALSE, 77)";
    registry.db.execute_for_tests(note.into()).await.unwrap();
    let path = "/api/v1/auth-tenants/demo/quota/recount";
    let recount = async |user: &str| {
        let request = registry.as_user(user, Method::POST, path);
        request.send().await.unwrap()
    };
    for (user, status) in [("owner", 403), ("ann", 404), ("other", 404)] {
        assert_eq!(recount(user).await.status(), status, "{user}");
    }
    let answer: serde_json::Value = recount("admin").await.json().await.unwrap();
    let repaired = answer["repaired"].as_array().unwrap();
    assert_eq!(repaired.len(), 2, "{answer}");
    assert_eq!(repaired[0]["book"], "account demo");
    assert_eq!(repaired[0]["is"]["reserved"], 0);
    assert_eq!(registry.quota(TENANT).await, before);
    registry.assert_books().await;
}
