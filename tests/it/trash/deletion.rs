//! `/api/v1/accounts/<account>/trash`, and what deletions put there.

use reqwest::Method;
use serde_json::{Value, json};
use storage_drivers::{Op, faulty::Fault};

use super::{ACCOUNT_QUOTA, digest_of, manifest_path, start};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_INDEX, OCI_MANIFEST, bytes, descriptor, digest, manifest},
};

#[tokio::test]
async fn a_deleted_image_comes_back_as_it_was() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.push_manifest("demo/app", "v2", &image).await;
    let before = registry.quota(ACCOUNT_QUOTA).await;
    assert_eq!(before["bytes"]["trash"], 0);
    let path = "/api/v1/accounts/demo/repositories/app/_manifests";
    let shown: Value = registry.get(path).await.json().await.unwrap();
    let pushed_at = shown["manifests"][0]["pushed_at"].clone();
    registry.days_pass(1);
    let digest = digest_of(&image);
    assert_eq!(registry.delete_manifest(&digest).await, 202);
    for reference in ["v1", "v2", &digest] {
        let answer = registry.get(&manifest_path("demo/app", reference)).await;
        assert_oci_error(answer, 404, "MANIFEST_UNKNOWN").await;
    }
    let entries = registry.trash().await;
    let now = serde_json::to_value(registry.now()).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["repository"], "app");
    assert_eq!(entries[0]["digest"], digest);
    assert_eq!(entries[0]["media_type"], OCI_MANIFEST);
    assert_eq!(entries[0]["tags"], json!(["v1", "v2"]));
    assert_eq!(entries[0]["deleted_at"], now);
    assert_eq!(entries[0]["deleted_by"], "static:admin");
    assert_eq!(entries[0]["size_bytes"], before["bytes"]["used"]);
    let week = registry.now() + chrono::TimeDelta::days(7);
    assert_eq!(entries[0]["purge_at"], serde_json::to_value(week).unwrap());
    let quota = registry.quota(ACCOUNT_QUOTA).await;
    assert_eq!(quota["bytes"]["used"], before["bytes"]["used"]);
    assert_eq!(quota["bytes"]["trash"], before["bytes"]["used"]);
    assert_eq!(quota["manifests"]["used"], 0);
    assert_eq!(quota["repositories"]["used"], 0);
    registry.assert_books().await;

    let (status, answer) = registry.restore(&digest).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["restored"],
        json!([{ "digest": digest, "tags": ["v1", "v2"] }])
    );
    let pulled = registry.get(&manifest_path("demo/app", "v2")).await;
    assert_eq!(pulled.json::<Value>().await.unwrap(), image);
    let shown: Value = registry.get(path).await.json().await.unwrap();
    assert_eq!(shown["manifests"][0]["pushed_at"], pushed_at);
    assert_eq!(registry.quota(ACCOUNT_QUOTA).await, before);
    assert_eq!(registry.trash().await, Vec::<Value>::new());
    registry.assert_books().await;
    let event = registry.audit_last("action=manifest.restore").await;
    assert_eq!(event["target"]["digest"], digest);
    assert_eq!(event["target"]["tags"], json!(["v1", "v2"]));
    // It is not there twice.
    assert_eq!(registry.restore(&digest).await.0, 404);
}

#[tokio::test]
async fn tags_that_are_taken_by_now_stay_where_they_are() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.push_manifest("demo/app", "v2", &image).await;
    let digest = digest_of(&image);
    registry.delete_manifest(&digest).await;
    let other = registry.push_image("demo/app", "v1", 5).await;
    let (_, answer) = registry.restore(&digest).await;
    assert_eq!(answer["restored"][0]["tags"], json!(["v2"]));
    let pulled = registry.get(&manifest_path("demo/app", "v1")).await;
    assert_eq!(pulled.json::<Value>().await.unwrap(), other);
    // Who names tags gets those and no others.
    registry.delete_manifest(&digest).await;
    let order = json!({ "repository": "app", "digest": digest, "tags": ["old"] });
    let path = (Method::POST, "demo/trash/restore");
    let (_, answer) = registry.ask("admin", path, Some(order)).await;
    assert_eq!(answer["restored"][0]["tags"], json!(["old"]));
    assert_eq!(registry.tag_status("v2").await, 404);
    assert_eq!(registry.tag_status("old").await, 200);
}

#[tokio::test]
async fn without_a_trash_all_goes_at_once() {
    let registry = start().await;
    registry.settings(json!({ "trash_days": 0 })).await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.delete_manifest(&digest_of(&image)).await;
    assert_eq!(registry.trash().await, Vec::<Value>::new());
    let quota = registry.quota(ACCOUNT_QUOTA).await;
    assert_eq!(quota["bytes"]["used"], 1100, "blobs stay for the grace");
    registry.purge_and_sweep().await;
    assert_eq!(registry.quota(ACCOUNT_QUOTA).await["bytes"]["used"], 0);
    let (status, problem) = registry
        .ask(
            "admin",
            (Method::PUT, "demo"),
            Some(json!({ "trash_days": 366 })),
        )
        .await;
    assert_eq!((status, &problem["path"]), (422, &json!("$.trash_days")));
    registry.assert_books().await;
}

#[tokio::test]
async fn a_push_takes_a_manifest_out_of_the_trash_and_a_second_deletion_counts_anew() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let before = registry.quota(ACCOUNT_QUOTA).await;
    let digest = digest_of(&image);
    for _ in 0..2 {
        registry.delete_manifest(&digest).await;
        assert_eq!(registry.trashed().await, std::slice::from_ref(&digest));
        registry.assert_books().await;
        registry.days_pass(3);
        registry.push_manifest("demo/app", "v3", &image).await;
        assert_eq!(registry.trash().await, Vec::<Value>::new());
        assert_eq!(registry.quota(ACCOUNT_QUOTA).await, before);
        registry.assert_books().await;
    }
    registry.delete_manifest(&digest).await;
    // The week begins with the last deletion.
    registry.days_pass(6);
    assert!(!registry.registry.trash_purge().await.unwrap());
    registry.days_pass(1);
    assert!(registry.registry.trash_purge().await.unwrap());
    assert_eq!(registry.trash().await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_is_due_goes_for_good_and_frees_its_bytes() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.push_image("demo/app", "keep", 5).await;
    let kept = registry.quota(ACCOUNT_QUOTA).await;
    let digest = digest_of(&image);
    registry.delete_manifest(&digest).await;
    registry.days_pass(7);
    let due = registry.registry.trash_due_since().await.unwrap();
    assert_eq!(due, Some(registry.now()));
    registry.purge_and_sweep().await;
    assert_eq!(registry.registry.trash_due_since().await.unwrap(), None);
    assert_eq!(registry.restore(&digest).await.0, 404);
    let quota = registry.quota(ACCOUNT_QUOTA).await;
    let half = kept["bytes"]["used"].as_i64().unwrap() / 2;
    assert_eq!(quota["bytes"]["used"], half);
    assert_eq!(quota["bytes"]["trash"], 0);
    assert_eq!(registry.tag_status("keep").await, 200);
    registry.assert_books().await;
    let event = registry.audit_last("action=manifest.purge").await;
    assert_eq!(event["who"]["name"], "system:kontor");
    assert_eq!(event["target"]["digest"], digest);
    assert_eq!(event["auth_tenant_id"], "demo");
    assert!(event["reason"].as_str().unwrap().contains("time"));
}

#[tokio::test]
async fn a_repository_that_cannot_be_purged_does_not_keep_the_others() {
    let registry = start().await;
    for repo in ["demo/bad", "demo/good"] {
        let image = registry.push_image(repo, "v1", 11).await;
        let path = format!("/v2/{repo}/manifests/{}", digest_of(&image));
        assert_eq!(registry.delete(&path).await.status(), 202);
    }
    let damaged = "UPDATE trash_manifests SET tags = 'x y' WHERE repo_id IN (SELECT id FROM repos WHERE name = 'bad')";
    let count = registry.db.execute_for_tests(damaged.to_owned()).await;
    assert_eq!(count.unwrap(), 1);
    registry.days_pass(8);
    assert!(registry.registry.trash_purge().await.is_err());
    let count = "DELETE FROM trash_manifests".to_owned();
    assert_eq!(registry.db.execute_for_tests(count).await.unwrap(), 1);
}

#[tokio::test]
async fn an_entry_can_be_purged_now_and_frees_what_only_it_needs() {
    let registry = start().await;
    let (config, shared, own) = (bytes(1, 100), bytes(2, 1000), bytes(3, 2000));
    for content in [&config, &shared, &own] {
        registry.push_blob("demo/app", content).await;
    }
    let kept = manifest(&config, &[&shared]);
    registry.push_manifest("demo/app", "kept", &kept).await;
    let before = registry.quota(ACCOUNT_QUOTA).await;
    let image = manifest(&config, &[&shared, &own]);
    registry.push_manifest("demo/app", "v1", &image).await;
    registry.delete_manifest(&digest_of(&image)).await;
    let purge = |user: &'static str, repository: &'static str| {
        let order = json!({ "repository": repository, "digest": digest_of(&image) });
        let registry = &registry;
        async move {
            let path = (Method::POST, "demo/trash/purge");
            registry.ask(user, path, Some(order)).await.0
        }
    };
    assert_eq!(purge("reader", "app").await, 403);
    assert_eq!(purge("other", "app").await, 404);
    assert_eq!(purge("admin", "none").await, 404);
    assert_eq!(purge("ann", "app").await, 200);
    assert_eq!(purge("ann", "app").await, 404);
    let bytes = registry.quota(ACCOUNT_QUOTA).await["bytes"]["used"].clone();
    assert_eq!(
        bytes.as_i64().unwrap(),
        before["bytes"]["used"].as_i64().unwrap() - 2000
    );
    assert_eq!(registry.tag_status("kept").await, 200);
    registry.assert_books().await;
    let event = registry.audit_last("action=manifest.purge").await;
    assert_eq!(event["who"]["name"], "static:ann");
}

/// Something that is about a manifest.
fn about(subject: &Value, seed: u64) -> (Vec<u8>, Value) {
    let config = bytes(seed, 50);
    let mut referrer = manifest(&config, &[]);
    referrer["subject"] = descriptor(OCI_MANIFEST, &serde_json::to_vec(subject).unwrap());
    (config, referrer)
}

#[tokio::test]
async fn what_is_about_a_manifest_goes_and_comes_back_with_it() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let root = digest_of(&image);
    let mut push = Vec::new();
    let (config, signature) = about(&image, 11);
    push.push((config, digest_of(&signature), signature.clone()));
    // About the signature; about the image with a tag of its own; a list that tools without referrers keep.
    let (config, stamp) = about(&signature, 12);
    push.push((config, digest_of(&stamp), stamp.clone()));
    let (config, named) = about(&image, 13);
    push.push((config, "sbom".to_owned(), named.clone()));
    let (config, cosign) = about(&image, 14);
    let tag = root.replace(':', "-");
    push.push((config, format!("{tag}.sig"), cosign.clone()));
    for (config, reference, referrer) in &push {
        registry.push_blob("demo/app", config).await;
        registry
            .push_manifest("demo/app", reference, referrer)
            .await;
    }
    let entry = descriptor(OCI_MANIFEST, &serde_json::to_vec(&signature).unwrap());
    let list = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] });
    registry.push_manifest("demo/app", &tag, &list).await;
    let before = registry.quota(ACCOUNT_QUOTA).await;

    assert_eq!(registry.delete_manifest(&root).await, 202);
    let mut gone = [&image, &signature, &stamp, &cosign, &list].map(digest_of);
    gone.sort();
    assert_eq!(registry.trashed().await, gone);
    for entry in registry.trash().await {
        let is_root = entry["digest"] == root.as_str();
        let with = if is_root { json!(null) } else { json!(root) };
        assert_eq!(entry["deleted_with"], with, "{entry}");
    }
    assert_eq!(registry.tag_status("sbom").await, 200);
    let path = format!("/v2/demo/app/referrers/{root}");
    let referrers: Value = registry.get(&path).await.json().await.unwrap();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1);
    registry.assert_books().await;
    let events = registry.audit_events("action=manifest.delete").await;
    assert_eq!(events.len(), 5);
    for event in &events {
        let is_root = event["target"]["digest"] == root.as_str();
        let reason = event["reason"].as_str().unwrap_or_default();
        assert_eq!(reason.contains(&root), !is_root, "{event}");
    }

    let (status, answer) = registry.restore(&root).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["restored"][0]["digest"], root);
    assert_eq!(registry.trash().await, Vec::<Value>::new());
    assert_eq!(registry.quota(ACCOUNT_QUOTA).await, before);
    let referrers: Value = registry.get(&path).await.json().await.unwrap();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(registry.tag_status(&tag).await, 200);
    assert_eq!(registry.tag_status(&format!("{tag}.sig")).await, 200);
    registry.assert_books().await;
}

#[tokio::test]
async fn a_referrer_that_an_index_lists_or_a_policy_protects_stays() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let (config, signature) = about(&image, 11);
    registry.push_blob("demo/app", &config).await;
    let signed = digest_of(&signature);
    registry
        .push_manifest("demo/app", &signed, &signature)
        .await;
    let entry = descriptor(OCI_MANIFEST, &serde_json::to_vec(&signature).unwrap());
    let list = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] });
    registry.push_manifest("demo/app", "bundle", &list).await;
    let (config, cosign) = about(&image, 14);
    registry.push_blob("demo/app", &config).await;
    let tag = format!("{}.att", digest_of(&image).replace(':', "-"));
    registry.push_manifest("demo/app", &tag, &cosign).await;
    let policy = json!({ "match_repository": ".*", "match_tag": ".*att", "block_delete": true });
    registry.settings(json!({ "tag_policies": [policy] })).await;
    assert_eq!(registry.delete_manifest(&digest_of(&image)).await, 202);
    assert_eq!(registry.trashed().await, [digest_of(&image)]);
    assert_eq!(registry.tag_status(&signed).await, 200);
    assert_eq!(registry.tag_status(&tag).await, 200);
}

#[tokio::test]
async fn an_index_comes_back_with_its_manifests() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "child", 1).await;
    let child = digest_of(&image);
    let entry = descriptor(OCI_MANIFEST, &serde_json::to_vec(&image).unwrap());
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] });
    let root = registry.push_manifest("demo/app", "multi", &index).await;
    let before = registry.quota(ACCOUNT_QUOTA).await;
    registry.delete_manifest(root.as_str()).await;
    assert_eq!(registry.delete_manifest(&child).await, 202);
    let (status, answer) = registry.restore(root.as_str()).await;
    assert_eq!(status, 200, "{answer}");
    let restored = json!([
        { "digest": child, "tags": ["child"] },
        { "digest": root.as_str(), "tags": ["multi"] },
    ]);
    assert_eq!(answer["restored"], restored);
    assert_eq!(registry.quota(ACCOUNT_QUOTA).await, before);
    // Without its manifest it cannot come back.
    registry.delete_manifest(root.as_str()).await;
    registry.delete_manifest(&child).await;
    let order = json!({ "repository": "app", "digest": child });
    let path = (Method::POST, "demo/trash/purge");
    registry.ask("admin", path, Some(order)).await;
    let (status, problem) = registry.restore(root.as_str()).await;
    assert_eq!(
        (status, &problem["code"]),
        (400, &json!("MANIFEST_BLOB_UNKNOWN"))
    );
    assert_eq!(registry.trashed().await, [root.as_str()]);
    registry.assert_books().await;
}

#[tokio::test]
async fn a_blob_that_only_the_trash_needs_can_be_deleted() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let layer = image["layers"][0]["digest"].as_str().unwrap();
    let path = format!("/v2/demo/app/blobs/{layer}");
    assert_eq!(registry.delete(&path).await.status(), 409);
    registry.delete_manifest(&digest_of(&image)).await;
    assert_eq!(registry.delete(&path).await.status(), 202);
    assert_eq!(registry.trash().await, Vec::<Value>::new());
    assert_eq!(registry.get(&path).await.status(), 404);
    let event = registry.audit_last("action=manifest.purge").await;
    assert_eq!(event["who"]["name"], "static:admin");
    assert!(event["reason"].as_str().unwrap().contains(layer));
    registry.assert_books().await;
}

#[tokio::test]
async fn repositories_and_accounts_take_their_trash_with_them() {
    let registry = start().await;
    for repo in ["demo/app", "demo/other"] {
        let image = registry.push_image(repo, "v1", 1).await;
        let path = manifest_path(repo, digest_of(&image));
        assert_eq!(registry.delete(&path).await.status(), 202);
    }
    let (status, _) = registry
        .ask("admin", (Method::DELETE, "demo/repositories/app"), None)
        .await;
    assert_eq!(status, 204);
    assert_eq!(registry.trash().await.len(), 1);
    registry.assert_books().await;
    assert_eq!(registry.object_count("demo").await, 2);
    let (status, problem) = registry.ask("admin", (Method::DELETE, "demo"), None).await;
    assert_eq!(status, 204, "{problem}");
    let quota = registry.quota("/api/v1/auth-tenants/demo/quota").await;
    assert_eq!(quota["bytes"]["used"], 0);
    registry.assert_books().await;
}

#[tokio::test]
async fn pages_and_strangers() {
    let registry = start().await;
    for seed in 0..5 {
        let image = registry.push_image("demo/app", "v1", seed * 10 + 1).await;
        registry.delete_manifest(&digest_of(&image)).await;
    }
    let (mut found, mut last) = (Vec::new(), String::new());
    loop {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("limit", "2")
            .append_pair("last", &last)
            .finish();
        let path = format!("demo/trash?{query}");
        let (_, page) = registry.ask("reader", (Method::GET, &path), None).await;
        let entries = page["trash"].as_array().unwrap();
        assert!(entries.len() <= 2);
        found.extend(
            entries
                .iter()
                .map(|e| e["digest"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut last),
            None => break,
        }
    }
    assert_eq!(found, registry.trashed().await);
    assert_eq!(found.len(), 5);
    let order = |digest: &str| Some(json!({ "repository": "app", "digest": digest }));
    for user in ["other", "nobody"] {
        let asked = registry.ask(user, (Method::GET, "demo/trash"), None).await;
        let none = registry.ask(user, (Method::GET, "none/trash"), None).await;
        assert_eq!((asked.0, none.0), (404, 404));
        let restore = (Method::POST, "demo/trash/restore");
        assert_eq!(registry.ask(user, restore, order(&found[0])).await.0, 404);
    }
    let restore = || (Method::POST, "demo/trash/restore");
    assert_eq!(
        registry.ask("reader", restore(), order(&found[0])).await.0,
        403
    );
    assert_eq!(
        registry.ask("ann", restore(), order(&found[0])).await.0,
        200
    );
    let (status, problem) = registry.ask("ann", restore(), order("sha256:x")).await;
    assert_eq!((status, &problem["path"]), (422, &json!("$.digest")));
    registry
        .settings(json!({ "in_maintenance": true, "trash_days": 7 }))
        .await;
    assert_eq!(registry.restore(&found[1]).await.0, 405);
}

#[tokio::test]
async fn a_restore_that_breaks_off_loses_nothing_and_can_be_repeated() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.delete_manifest(&digest_of(&image)).await;
    registry.faults.fail_next(Op::Write, 1, Fault::Temporary);
    assert_eq!(registry.restore(&digest_of(&image)).await.0, 503);
    assert_eq!(registry.trashed().await, [digest_of(&image)]);
    registry.assert_books().await;
    registry.limit(ACCOUNT_QUOTA, "manifests", 0).await;
    assert_eq!(registry.restore(&digest_of(&image)).await.0, 403);
    registry.assert_books().await;
    registry.limit(ACCOUNT_QUOTA, "manifests", None).await;
    assert_eq!(registry.restore(&digest_of(&image)).await.0, 200);
    assert_eq!(registry.tag_status("v1").await, 200);
    let report = registry.registry.check(true).await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

#[tokio::test]
async fn what_the_trash_needs_is_not_swept() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    registry.delete_manifest(&digest_of(&image)).await;
    registry.purge_and_sweep().await;
    assert_eq!(registry.restore(&digest_of(&image)).await.0, 200);
    let layer = image["layers"][0]["digest"].as_str().unwrap();
    let pulled = registry.get(&format!("/v2/demo/app/blobs/{layer}")).await;
    assert_eq!(digest(&pulled.bytes().await.unwrap()).as_str(), layer);
}

#[tokio::test]
async fn another_account_has_a_trash_of_its_own() {
    let registry: TestRegistry = start().await;
    let order = json!({ "auth_tenant_id": "demo", "trash_days": 1 });
    assert_eq!(registry.account("second", order).await.status(), 201);
    let image = registry.push_image("second/app", "v1", 1).await;
    let path = manifest_path("second/app", digest_of(&image));
    registry.delete(&path).await;
    assert_eq!(registry.trash().await, Vec::<Value>::new());
    assert_eq!(registry.restore(&digest_of(&image)).await.0, 404);
    registry.days_pass(1);
    assert!(registry.registry.trash_purge().await.unwrap());
    registry.assert_books().await;
}
