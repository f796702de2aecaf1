//! GC policies are carried out.

use std::sync::Arc;

use chrono::TimeDelta;
use kontor::db::image_gc::gc_due_since;
use reqwest::Method;
use serde_json::{Value, json};
use storage_drivers::{Op, faulty::Gate};
use tokio::task::JoinHandle;

use super::{deletes, digest_of, sent};
use crate::support::{
    TestRegistry,
    image::{OCI_INDEX, OCI_MANIFEST, descriptor},
};

const REPO: &str = "demo/app";

async fn due_since(registry: &TestRegistry) -> Option<chrono::DateTime<chrono::Utc>> {
    let since = registry.registry.image_gc_due_since().await.unwrap();
    assert_eq!(since, registry.db.read(gc_due_since).await.unwrap());
    since
}

#[tokio::test]
async fn repositories_are_due_while_their_account_has_policies() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "v1", 1).await;
    assert_eq!(due_since(&registry).await, None);
    assert!(registry.registry.image_gc_claim().await.unwrap().is_none());

    registry
        .settings(json!({ "gc_policies": [deletes("dev")] }))
        .await;
    let start = registry.now();
    assert_eq!(due_since(&registry).await, Some(start));
    // One node has it for the time of the lease; if that node dies, another one gets it.
    assert!(registry.registry.image_gc_claim().await.unwrap().is_some());
    assert!(registry.registry.image_gc_claim().await.unwrap().is_none());
    registry.clock.advance(TimeDelta::minutes(15));
    let task = registry.registry.image_gc_claim().await.unwrap().unwrap();
    registry.registry.image_gc_run(task).await.unwrap();
    let interval = TimeDelta::from_std(registry.config.janitor.settings().gc_interval).unwrap();
    let next = due_since(&registry).await.unwrap() - registry.now();
    assert!(
        next >= interval * 9 / 10 && next <= interval * 11 / 10,
        "{next}"
    );

    // A new repository is looked at from the beginning.
    registry.clock.advance(TimeDelta::seconds(1));
    registry.push_image("demo/new", "v1", 1).await;
    assert_eq!(due_since(&registry).await, Some(registry.now()));
    // Other settings change nothing of that, other policies do.
    registry.gc().await;
    let next = due_since(&registry).await;
    let policies = json!([deletes("dev")]);
    registry
        .settings(json!({ "gc_policies": policies, "audit_pulls": true }))
        .await;
    assert_eq!(due_since(&registry).await, next);
    registry
        .settings(json!({ "gc_policies": [deletes("test")] }))
        .await;
    assert_eq!(due_since(&registry).await, Some(registry.now()));

    // A run whose policies change meanwhile does not put the new ones off.
    let task = registry.registry.image_gc_claim().await.unwrap().unwrap();
    registry
        .settings(json!({ "gc_policies": [deletes("other")] }))
        .await;
    registry.registry.image_gc_run(task).await.unwrap();
    assert_eq!(due_since(&registry).await, Some(registry.now()));
    registry.settings(json!({})).await;
    assert_eq!(due_since(&registry).await, None);
    // What was found when there were policies is not shown any more.
    let listed = registry.listed("app").await;
    assert_eq!(listed[0]["gc_status"], Value::Null);
}

#[tokio::test]
async fn images_go_when_a_policy_says_so_and_the_trail_says_why() {
    let registry = TestRegistry::start().await;
    let dev = registry.push_image(REPO, "dev", 1).await;
    let kept = registry.push_image(REPO, "v1", 10).await;
    let policies = json!([
        { "match_repository": ".*", "match_tag": "v.*", "action": "protect" },
        deletes("dev"),
    ]);
    registry.settings(json!({ "gc_policies": policies })).await;
    registry.gc().await;
    let recent = json!({ "rule": "protected_by_recent_upload" });
    assert_eq!(
        registry.gc_status("app", &digest_of(&dev)).await,
        Some(recent)
    );

    registry.clock.advance(TimeDelta::hours(2));
    let objects = registry.object_count("demo").await;
    registry.gc().await;
    assert_eq!(registry.gc_status("app", &digest_of(&dev)).await, None);
    let protected = json!({ "rule": "protected_by_policy", "number": 0, "policy": policies[0] });
    assert_eq!(
        registry.gc_status("app", &digest_of(&kept)).await,
        Some(protected)
    );
    let path = format!("/v2/{REPO}/manifests/dev");
    assert_eq!(sent(registry.admin(Method::GET, &path)).await.0, 404);
    assert_eq!(registry.object_count("demo").await, objects - 1);

    let keppel = "/keppel/v1/accounts/demo/repositories/app/_manifests";
    let (_, list) = sent(registry.admin(Method::GET, keppel)).await;
    let shown = &list["manifests"][0]["gc_status"];
    assert_eq!(*shown, json!({ "protected_by_policy": policies[0] }));

    registry.registry.audit_flush().await.unwrap();
    registry.registry.audit_seal().await.unwrap();
    let (_, trail) = sent(registry.admin(
        Method::GET,
        "/api/v1/audit?account=demo&action=manifest.delete",
    ))
    .await;
    let events = trail["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{trail}");
    let event = &events[0]["event"];
    assert_eq!(event["who"]["name"], "system:kontor");
    assert_eq!(event["target"]["digest"], json!(digest_of(&dev)));
    assert_eq!(event["target"]["tags"], json!(["dev"]));
    let reason = event["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("gc_policies[1]: {\"match_repository\":\".*\",\"match_tag\":\"dev\""),
        "{reason}"
    );
}

#[tokio::test]
async fn indexes_and_referrers_keep_and_take_what_belongs_to_them() {
    let registry = TestRegistry::start().await;
    let [old, old_child, old_attestation] = registry.push_index(REPO, "old", 100).await;
    let [new, new_child, new_attestation] = registry.push_index(REPO, "new", 200).await;
    let image = registry.push_image(REPO, "gone", 300).await;
    let signature = registry.push_referrer(REPO, &image, 400).await;
    let cosign = format!("{}.sig", digest_of(&image).replace(':', "-"));
    let cosign = digest_of(&registry.push_image(REPO, &cosign, 500).await);
    registry.wait_out_recent();
    let untagged = json!({ "match_repository": ".*", "only_untagged": true, "action": "delete" });
    // Children and referrers have no tags, and are not what this policy is about.
    registry
        .settings(json!({ "gc_policies": [untagged] }))
        .await;
    let count = registry.listed("app").await.len();
    registry.gc().await;
    assert_eq!(registry.listed("app").await.len(), count);
    let by_parent = json!({ "rule": "protected_by_parent", "parent": new });
    assert_eq!(
        registry.gc_status("app", &new_attestation).await,
        Some(by_parent.clone())
    );
    let by_subject = json!({ "rule": "protected_by_subject", "subject": digest_of(&image) });
    for digest in [&signature, &cosign] {
        assert_eq!(
            registry.gc_status("app", digest).await,
            Some(by_subject.clone())
        );
    }

    registry
        .settings(json!({ "gc_policies": [deletes("old|gone")] }))
        .await;
    registry.gc().await;
    for gone in [
        &old,
        &old_child,
        &old_attestation,
        &digest_of(&image),
        &signature,
        &cosign,
    ] {
        assert_eq!(registry.gc_status("app", gone).await, None);
    }
    assert_eq!(registry.gc_status("app", &new_child).await, Some(by_parent));
    assert_eq!(registry.listed("app").await.len(), 3);
    // Of what goes with others, too, the trail tells the policy.
    registry.registry.audit_flush().await.unwrap();
    registry.registry.audit_seal().await.unwrap();
    let path = "/api/v1/audit?account=demo&action=manifest.delete&user=system:kontor";
    let (_, trail) = sent(registry.admin(Method::GET, path)).await;
    let events = trail["events"].as_array().unwrap();
    assert_eq!(events.len(), count - 3);
    for event in events {
        let reason = event["event"]["reason"].as_str().unwrap();
        assert!(reason.contains("gc_policies[0]: {"), "{reason}");
    }
    assert!(
        registry
            .registry
            .check(true)
            .await
            .unwrap()
            .problems
            .is_empty()
    );
}

#[tokio::test]
async fn what_a_run_that_was_cut_off_left_behind_goes_with_the_next() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image(REPO, "gone", 1).await;
    let signature = registry.push_referrer(REPO, &image, 10).await;
    let [index, child, _] = registry.push_index(REPO, "old", 20).await;
    // What a run writes before it deletes the first of them, and then it ends.
    for (digest, status) in [
        (
            &signature,
            json!({ "rule": "delete_with", "subject": digest_of(&image) }),
        ),
        (
            &child,
            json!({ "rule": "delete_with_parent", "parent": index }),
        ),
    ] {
        let statement =
            format!("UPDATE manifests SET gc_status = '{status}' WHERE digest = '{digest}'");
        assert_eq!(registry.db.execute_for_tests(statement).await.unwrap(), 1);
    }
    for digest in [&digest_of(&image), &index] {
        let path = format!("/v2/{REPO}/manifests/{digest}");
        assert_eq!(sent(registry.admin(Method::DELETE, &path)).await.0, 202);
    }
    registry.wait_out_recent();
    registry
        .settings(json!({ "gc_policies": [deletes("nothing")] }))
        .await;
    registry.gc().await;
    assert_eq!(registry.gc_status("app", &signature).await, None);
    assert_eq!(registry.gc_status("app", &child).await, None);
    // The other child was not meant to go.
    assert_eq!(registry.listed("app").await.len(), 1);
}

#[tokio::test]
async fn holds_and_tag_policies_stop_a_deletion() {
    let registry = TestRegistry::start().await;
    let held = digest_of(&registry.push_image(REPO, "held", 1).await);
    let blocked = digest_of(&registry.push_image(REPO, "blocked", 10).await);
    let until = registry.now() + TimeDelta::days(1);
    let statement = format!(
        "INSERT INTO legal_holds (repo_id, tag, hold_until, reason, placed_by, placed_at)
         SELECT id, 'held', '{until}', '', '', '{now}' FROM repos",
        until = until.format("%Y-%m-%d %H:%M:%S"),
        now = registry.now().format("%Y-%m-%d %H:%M:%S"),
    );
    assert_eq!(registry.db.execute_for_tests(statement).await.unwrap(), 1);
    let policies = json!([deletes(".*")]);
    let tag_policy =
        json!({ "match_repository": ".*", "match_tag": "blocked", "block_delete": true });
    registry
        .settings(json!({ "gc_policies": policies, "tag_policies": [tag_policy] }))
        .await;
    registry.wait_out_recent();
    registry.gc().await;
    let status = registry.gc_status("app", &held).await.unwrap();
    assert_eq!(status["rule"], "protected_by_hold", "{status}");
    let status = registry.gc_status("app", &blocked).await;
    assert_eq!(
        status,
        Some(json!({ "rule": "protected_by_tag_policy", "number": 0 }))
    );

    registry.clock.advance(TimeDelta::days(1));
    registry.settings(json!({ "gc_policies": policies })).await;
    registry.gc().await;
    assert!(registry.listed("app").await.is_empty());
}

#[tokio::test]
async fn repositories_of_any_size_are_read_in_pages() {
    // More rows than one query reads, of tags, images and children alike.
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "v1", 1).await;
    let copies = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5200)";
    let digest = "'sha256:' || lower(substr('000000000000000000000000000000000000000000000000000000000000' || i, -64))";
    let digest = match registry.config.database.url {
        None => digest.replace(
            "000000000000000000000000000000000000000000000000000000000000",
            &"0".repeat(64),
        ),
        Some(_) => "'sha256:' || lpad(i::text, 64, '0')".to_owned(),
    };
    for statement in [
        format!(
            "INSERT INTO manifests (repo_id, digest, media_type, content, object_id, storage, pushed_at)
             {copies} SELECT repo_id, {digest}, media_type, content,
             '00000000-0000-4000-8000-' || substr('sha256:' || {digest}, 67, 12), storage, pushed_at FROM manifests, n"
        ),
        format!(
            "INSERT INTO tags (repo_id, name, digest, pushed_at)
             {copies} SELECT repo_id, 'dev-' || i, {digest}, pushed_at FROM tags, n"
        ),
        format!(
            "INSERT INTO manifest_manifest_refs (repo_id, parent_digest, child_digest)
             {copies} SELECT repo_id, digest, {digest} FROM tags, n WHERE name = 'v1'"
        ),
    ] {
        registry.db.execute_for_tests(statement).await.unwrap();
    }
    registry
        .settings(json!({ "gc_policies": [deletes("dev-.*")] }))
        .await;
    registry.wait_out_recent();
    let order = json!({ "repository": "app" });
    let request = registry
        .admin(Method::POST, "/api/v1/accounts/demo/gc/preview")
        .json(&order);
    let (status, answer) = sent(request).await;
    assert_eq!(status, 200, "{answer}");
    // Each has its tag, and an index that stays.
    let summary = &answer["summary"];
    assert_eq!(
        (&summary["images"], &summary["deleted_images"]),
        (&json!(5201), &json!(0))
    );
    registry
        .db
        .execute_for_tests("DELETE FROM manifest_manifest_refs".to_owned())
        .await
        .unwrap();
    let request = registry
        .admin(Method::POST, "/api/v1/accounts/demo/gc/preview")
        .json(&order);
    let (_, answer) = sent(request).await;
    assert_eq!(answer["summary"]["deleted_images"], 5200);
}

/// Begins to carry out policies that delete all images `dev-...` and holds the run when the first of them is gone. Gives
/// the run, what holds it, and the others in the order in which they are to go.
async fn held_run(
    registry: &TestRegistry,
    count: u64,
) -> (JoinHandle<()>, Gate, Vec<(String, Value)>) {
    let mut images = Vec::new();
    for number in 0..count {
        let manifest = registry
            .push_image(REPO, &format!("dev-{number}"), 10 * number)
            .await;
        images.push((digest_of(&manifest), manifest));
    }
    images.sort_by(|(a, _), (b, _)| a.cmp(b));
    registry.wait_out_recent();
    registry
        .settings(json!({ "gc_policies": [deletes("dev-.*")] }))
        .await;
    let task = registry.registry.image_gc_claim().await.unwrap().unwrap();
    let deletions = registry.faults.calls(Op::Delete);
    let gate = registry.faults.hold(Op::Delete);
    let node = Arc::clone(&registry.registry);
    let run = tokio::spawn(async move { node.image_gc_run(task).await.unwrap() });
    registry
        .faults
        .calls_reached(Op::Delete, deletions + 1)
        .await;
    (run, gate, images.split_off(1))
}

#[tokio::test]
async fn what_has_changed_since_the_plan_stays() {
    let registry = TestRegistry::start().await;
    let (run, gate, images) = held_run(&registry, 8).await;
    let digest = |place: usize| images[place].0.clone();
    let now = registry.now().format("%Y-%m-%d %H:%M:%S").to_string();
    let pulled = format!(
        "UPDATE manifests SET last_pulled_at = '{now}' WHERE digest = '{}'",
        digest(0)
    );
    registry.db.execute_for_tests(pulled).await.unwrap();
    registry.push_manifest(REPO, "mine", &images[1].1).await;
    let content = serde_json::to_vec(&images[2].1).unwrap();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, &content)] });
    registry.push_manifest(REPO, "index", &index).await;
    let mut referrer = images[4].1.clone();
    referrer["subject"] = descriptor(OCI_MANIFEST, &serde_json::to_vec(&images[3].1).unwrap());
    registry
        .push_manifest(REPO, &digest_of(&referrer), &referrer)
        .await;
    let signature = format!("{}.sig", digest(4).replace(':', "-"));
    let mut signed = referrer.clone();
    signed.as_object_mut().unwrap().remove("subject");
    signed["annotations"] = json!({ "a": "signature" });
    registry.push_manifest(REPO, &signature, &signed).await;
    let hold = format!(
        "INSERT INTO legal_holds (repo_id, tag, hold_until, reason, placed_by, placed_at)
         SELECT repo_id, name, '2999-01-01 00:00:00', '', '', '{now}' FROM tags WHERE digest = '{}'",
        digest(5)
    );
    assert_eq!(registry.db.execute_for_tests(hold).await.unwrap(), 1);
    gate.open();
    run.await.unwrap();
    for place in 0..6 {
        let status = registry.gc_status("app", &digest(place)).await;
        assert_eq!(
            status.map(|mut status| status["rule"].take()),
            Some(json!("delete")),
            "{place}"
        );
    }
    assert_eq!(registry.gc_status("app", &digest(6)).await, None);
    // The next run sees it all.
    registry.clock.advance(TimeDelta::hours(2));
    registry.gc().await;
    let rule = |place: usize| {
        let (registry, digest) = (&registry, digest(place));
        async move {
            registry
                .gc_status("app", &digest)
                .await
                .map(|mut status| status["rule"].take())
        }
    };
    assert_eq!(rule(2).await, Some(json!("protected_by_parent")));
    assert_eq!(rule(5).await, Some(json!("protected_by_hold")));
    for place in [0, 1, 3, 4] {
        assert_eq!(rule(place).await, None, "{place}");
    }
}

#[tokio::test]
async fn a_run_ends_when_the_account_changes() {
    let registry = TestRegistry::start().await;
    let (run, gate, images) = held_run(&registry, 3).await;
    let policies = json!({ "gc_policies": [deletes("dev-.*")], "audit_pulls": true });
    registry.settings(policies).await;
    gate.open();
    run.await.unwrap();
    assert_eq!(registry.listed("app").await.len(), images.len());
    // It is planned anew soon.
    let due = due_since(&registry).await.unwrap() - registry.now();
    assert!(due <= TimeDelta::seconds(66), "{due}");
    registry.clock.advance(due);
    registry.gc().await;
    assert!(registry.listed("app").await.is_empty());
}

#[tokio::test]
async fn a_run_ends_when_its_lease_is_lost() {
    let registry = TestRegistry::start().await;
    let (run, gate, images) = held_run(&registry, 3).await;
    // So slow that another node has taken the repository.
    registry.clock.advance(TimeDelta::minutes(15));
    let other = registry.registry.image_gc_claim().await.unwrap().unwrap();
    gate.open();
    run.await.unwrap();
    assert_eq!(registry.listed("app").await.len(), images.len());
    assert_eq!(
        due_since(&registry).await,
        Some(registry.now() + TimeDelta::minutes(15))
    );
    registry.registry.image_gc_run(other).await.unwrap();
    assert!(registry.listed("app").await.is_empty());
}
