//! Whatever clients do side by side with the trash: the books are exact, and no blob is lost that something needs.

use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::json;

use super::{ACCOUNT_QUOTA, start};
use crate::support::{
    TestRegistry,
    image::{OCI_MANIFEST, bytes, digest, manifest},
};

fn no_failure(status: u16) {
    assert!(status < 500, "{status}");
}

/// The step `n` of a walk through all that moves manifests in and out of the trash; its answer may be a refusal, and
/// never a failure: nobody waits for one another in a circle.
async fn step(registry: &TestRegistry, n: u64) {
    let random = bytes(n * 37 + 11, 8);
    let repo = format!("r{}", random[1] % 2);
    let config = bytes(1, 100);
    let layer = bytes(u64::from(random[2] % 4) + 2, 700);
    let mut image = manifest(&config, &[&layer]);
    let about = random[3].is_multiple_of(3);
    if about {
        let subject = manifest(&config, &[&layer]).to_string();
        image["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": digest(subject.as_bytes()), "size": subject.len() });
    }
    let image = image.to_string();
    let digest_of = digest(image.as_bytes());
    let order = json!({ "repository": repo, "digest": digest_of.as_str() });
    match random[4] % 8 {
        0..=2 => {
            let full = format!("demo/{repo}");
            no_failure(
                registry
                    .try_blob(&full, &config, true)
                    .await
                    .status()
                    .as_u16(),
            );
            let blob = registry.try_blob(&full, &layer, random[5].is_multiple_of(2));
            no_failure(blob.await.status().as_u16());
            let reference = if about {
                digest_of.to_string()
            } else {
                format!("t{}", random[5] % 2)
            };
            let path = format!("/v2/{full}/manifests/{reference}");
            let put = registry.put_manifest(&path, Some(OCI_MANIFEST), image.as_bytes());
            no_failure(put.await.status().as_u16());
        }
        3 | 4 => {
            let path = format!("/v2/demo/{repo}/manifests/{digest_of}");
            no_failure(registry.delete(&path).await.status().as_u16());
        }
        5 => {
            let path = (Method::POST, "demo/trash/restore");
            no_failure(registry.ask("admin", path, Some(order)).await.0);
        }
        6 => {
            let path = (Method::POST, "demo/trash/purge");
            no_failure(registry.ask("admin", path, Some(order)).await.0);
        }
        _ => {
            let path = format!("/v2/demo/{repo}/blobs/{}", digest(&layer));
            no_failure(registry.delete(&path).await.status().as_u16());
        }
    }
}

#[tokio::test]
async fn a_count_equals_the_books_and_every_blob_is_there() {
    let registry = start().await;
    registry.limit(ACCOUNT_QUOTA, "bytes", 4000).await;
    for round in 0..3_u64 {
        let steps = (0..150).map(|n| step(&registry, round * 150 + n));
        stream::iter(steps)
            .buffer_unordered(8)
            .collect::<Vec<_>>()
            .await;
        // What is due goes while nobody looks; half of it, for the rest was deleted later.
        registry.days_pass(4);
        registry.purge_and_sweep().await;
        let report = registry.registry.check(true).await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        let quota = registry.quota(ACCOUNT_QUOTA).await;
        let of = |member: &str| quota["bytes"][member].as_u64().unwrap();
        assert!(of("used") + of("reserved") <= 4000, "{quota}");
        assert!(of("trash") <= of("used"), "{quota}");
    }
    // With everything deleted and its time over, nothing is left.
    for repo in ["r0", "r1"] {
        loop {
            let path = format!("demo/repositories/{repo}/_manifests");
            let (_, page) = registry.ask("admin", (Method::GET, &path), None).await;
            let manifests = page["manifests"].as_array().cloned().unwrap_or_default();
            let Some(first) = manifests.first() else {
                break;
            };
            let path = format!(
                "/v2/demo/{repo}/manifests/{}",
                first["digest"].as_str().unwrap()
            );
            assert_eq!(registry.delete(&path).await.status(), 202);
        }
    }
    registry.days_pass(7);
    registry.purge_and_sweep().await;
    let quota = registry.quota(ACCOUNT_QUOTA).await;
    assert_eq!(quota["bytes"]["used"], 0, "{quota}");
    let report = registry.registry.check(true).await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.objects, 0);
}
