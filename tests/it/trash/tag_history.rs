//! What tags have pointed at.

use reqwest::Method;
use serde_json::{Value, json};

use super::{digest_of, start};
use crate::support::TestRegistry;

const TAG: &str = "demo/repositories/app/_tags/latest";

async fn history(registry: &TestRegistry) -> Vec<Value> {
    let path = format!("{TAG}/history");
    let (status, page) = registry.ask("reader", (Method::GET, &path), None).await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["next"], json!(null));
    page["history"].as_array().unwrap().clone()
}

async fn then(registry: &TestRegistry, at: chrono::DateTime<chrono::Utc>) -> (u16, Value) {
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let path = format!("{TAG}?at={at}");
    registry.ask("reader", (Method::GET, &path), None).await
}

#[tokio::test]
async fn each_change_is_known_with_who_made_it_and_when() {
    let registry = start().await;
    let began = registry.now();
    let first = registry.push_image("demo/app", "latest", 1).await;
    registry.days_pass(1);
    let second = registry.push_image("demo/app", "latest", 11).await;
    // The same again is no change.
    registry.push_manifest("demo/app", "latest", &second).await;
    registry.days_pass(1);
    let answer = registry
        .as_user("ann", Method::DELETE, "/v2/demo/app/manifests/latest")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    registry.days_pass(1);
    registry.push_manifest("demo/app", "latest", &first).await;
    registry.delete_manifest(&digest_of(&first)).await;

    let shown = history(&registry).await;
    let digests: Vec<&Value> = shown.iter().map(|change| &change["digest"]).collect();
    let (one, two) = (json!(digest_of(&first)), json!(digest_of(&second)));
    assert_eq!(digests, [&json!(null), &one, &json!(null), &two, &one]);
    assert_eq!(shown[2]["changed_by"], "static:ann");
    assert_eq!(shown[4]["changed_by"], "static:admin");
    assert_eq!(shown[4]["changed_at"], serde_json::to_value(began).unwrap());

    let (status, at_first) = then(&registry, began + chrono::TimeDelta::hours(1)).await;
    assert_eq!(status, 200);
    assert_eq!(at_first["digest"], one);
    assert_eq!(at_first["manifest"], "trash");
    let reference = format!("demo/app@{}", digest_of(&first));
    assert_eq!(at_first["reference"], reference);
    let (_, at_second) = then(&registry, began + chrono::TimeDelta::days(1)).await;
    assert_eq!(at_second["digest"], two);
    assert_eq!(at_second["manifest"], "present");
    for at in [
        began - chrono::TimeDelta::hours(1),
        began + chrono::TimeDelta::days(2),
    ] {
        assert_eq!(then(&registry, at).await.0, 404);
    }
    assert_eq!(
        registry.ask("reader", (Method::GET, TAG), None).await.0,
        404
    );
    registry.days_pass(7);
    registry.purge_and_sweep().await;
    let (_, at_first) = then(&registry, began).await;
    assert_eq!(at_first["manifest"], "gone");
    let path = format!("{TAG}?at=yesterday");
    assert_eq!(
        registry.ask("reader", (Method::GET, &path), None).await.0,
        422
    );
}

#[tokio::test]
async fn a_history_has_pages_and_strangers_see_none() {
    let registry = start().await;
    for seed in 0..5 {
        registry
            .push_image("demo/app", "latest", seed * 10 + 1)
            .await;
    }
    let all = history(&registry).await;
    let (mut found, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let path = format!("{TAG}/history?{query}");
        let (_, page) = registry.ask("reader", (Method::GET, &path), None).await;
        found.extend(page["history"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => query = format!("limit=2&last={next}"),
            None => break,
        }
    }
    assert_eq!(found, all);
    assert_eq!(found.len(), 5);
    for path in [TAG.to_owned(), format!("{TAG}/history")] {
        for user in ["other", "nobody"] {
            assert_eq!(registry.ask(user, (Method::GET, &path), None).await.0, 404);
        }
    }
    let path = format!("{TAG}/history?last=x");
    assert_eq!(
        registry.ask("reader", (Method::GET, &path), None).await.0,
        422
    );
}

#[tokio::test]
async fn a_deleted_tag_comes_back() {
    let registry = start().await;
    let image = registry.push_image("demo/app", "latest", 1).await;
    let digest = digest_of(&image);
    let path = format!("{TAG}/restore");
    let restore = |user| registry.ask(user, (Method::POST, path.as_str()), None);
    assert_eq!(restore("ann").await.0, 409, "it is there");
    registry.delete_manifest("latest").await;
    assert_eq!(restore("reader").await.0, 403);
    assert_eq!(restore("other").await.0, 404);
    let policy = json!({ "match_repository": ".*", "block_push": true });
    registry.settings(json!({ "tag_policies": [policy] })).await;
    assert_eq!(restore("ann").await.0, 403, "a policy blocks it");
    registry.settings(json!({})).await;
    let (status, answer) = restore("ann").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer, json!({ "name": "latest", "digest": digest }));
    assert_eq!(registry.tag_status("latest").await, 200);
    let event = registry.audit_last("action=tag.restore").await;
    assert_eq!(event["target"]["tags"], json!(["latest"]));
    assert_eq!(event["target"]["digest"], digest);
    // Not without its manifest.
    registry.delete_manifest(&digest).await;
    let (status, problem) = restore("ann").await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"].as_str().unwrap().contains("trash"),
        "{problem}"
    );
    registry.days_pass(7);
    registry.purge_and_sweep().await;
    let (status, problem) = restore("ann").await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"].as_str().unwrap().contains("gone"),
        "{problem}"
    );
    let path = "demo/repositories/app/_tags/never/restore";
    assert_eq!(registry.ask("ann", (Method::POST, path), None).await.0, 404);
}

#[tokio::test]
async fn of_a_tag_that_changes_all_the_time_the_latest_changes_are_kept() {
    let registry = start().await;
    let first = registry.push_image("demo/app", "latest", 1).await;
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 998)
        INSERT INTO tag_history (repo_id, tag, digest, changed_at, changed_by, replaced_at)
        SELECT h.repo_id, h.tag, h.digest, h.changed_at, 'many', h.changed_at FROM tag_history h CROSS JOIN n";
    let count = registry.db.execute_for_tests(many.to_owned()).await;
    assert_eq!(count.unwrap(), 998);
    let count = async || {
        let keep = "UPDATE tag_history SET tag = tag WHERE tag = 'latest'";
        let count = registry.db.execute_for_tests(keep.to_owned()).await;
        count.unwrap()
    };
    for (seed, expected) in [(11, 1000), (21, 1000), (31, 1000)] {
        registry.push_image("demo/app", "latest", seed).await;
        assert_eq!(count().await, expected);
    }
    let (_, at) = then(&registry, registry.now()).await;
    assert_ne!(at["digest"], json!(digest_of(&first)));
}

#[tokio::test]
async fn old_history_goes_and_what_counted_when_it_begins_stays() {
    let registry = start().await;
    let began = registry.now();
    let mut digests = Vec::new();
    for seed in 0..3 {
        let image = registry
            .push_image("demo/app", "latest", seed * 10 + 1)
            .await;
        digests.push(json!(digest_of(&image)));
        registry.days_pass(1);
    }
    let quiet = registry.push_image("demo/app", "quiet", 91).await;
    let keep = i64::try_from(registry.config.janitor.tag_history_days).unwrap();
    let keep = chrono::TimeDelta::days(keep);
    let since = registry
        .registry
        .tag_history_due_since()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(since, began + chrono::TimeDelta::days(1) + keep);
    assert!(!registry.registry.tag_history_prune().await.unwrap());
    // The time that is kept begins between the second and the third change.
    let now = began + chrono::TimeDelta::hours(36) + keep;
    registry.clock.advance(now - registry.now());
    assert!(registry.registry.tag_history_prune().await.unwrap());
    assert!(!registry.registry.tag_history_prune().await.unwrap());
    let left: Vec<Value> = history(&registry)
        .await
        .iter()
        .map(|c| c["digest"].clone())
        .collect();
    assert_eq!(left, [digests[2].clone(), digests[1].clone()]);
    let (_, at) = then(&registry, began + chrono::TimeDelta::hours(36)).await;
    assert_eq!(at["digest"], digests[1]);
    // However old: what a tag points at is known, and what was deleted long ago is forgotten.
    registry.delete_manifest("latest").await;
    registry.clock.advance(keep * 2);
    while registry.registry.tag_history_prune().await.unwrap() {}
    assert_eq!(history(&registry).await, Vec::<Value>::new());
    let path = "demo/repositories/app/_tags/quiet";
    let (_, answer) = registry.ask("reader", (Method::GET, path), None).await;
    assert_eq!(answer["digest"], digest_of(&quiet));
}
