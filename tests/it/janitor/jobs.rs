//! `/api/v1/jobs`, and what happens when a node dies or two do the same.

use std::time::Duration;

use chrono::TimeDelta;
use kontor::model::job::Job;
use reqwest::Method;
use serde_json::Value;
use storage_drivers::Op;

use crate::{
    support::{TestRegistry, image::bytes},
    v2::helpers::REPO,
};

async fn jobs(registry: &TestRegistry, user: &str) -> (u16, Value) {
    let request = registry.as_user(user, Method::GET, "/api/v1/jobs");
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn operators_see_what_is_due() {
    let registry = TestRegistry::start().await;
    registry.push_blob(REPO, &bytes(1, 100)).await;
    registry.wait(TimeDelta::days(1) + TimeDelta::minutes(3));
    let (status, answer) = jobs(&registry, "admin").await;
    assert_eq!(status, 200);
    let listed = answer["jobs"].as_array().unwrap();
    assert_eq!(listed.len(), Job::ALL.len());
    let sweep = listed
        .iter()
        .find(|job| job["name"] == "sweep_blobs")
        .unwrap();
    assert_eq!(sweep["overdue_seconds"], 180, "{sweep}");
    let merge = listed
        .iter()
        .find(|job| job["name"] == "merge_chunks")
        .unwrap();
    assert!(merge.get("due_at").is_none(), "{merge}");
    for user in ["ann", "other", "nobody"] {
        assert_eq!(jobs(&registry, user).await.0, 403);
    }
}

#[tokio::test]
async fn operators_can_have_everything_looked_at_now() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "latest", 1).await;
    let run = async |user: &str, job: &str| {
        let path = format!("/api/v1/jobs/{job}/run");
        let answer = registry
            .as_user(user, Method::POST, &path)
            .send()
            .await
            .unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(run("ann", "validate_blobs").await.0, 403);
    assert_eq!(run("admin", "make_coffee").await.0, 404);
    assert_eq!(registry.run_job(Job::ValidateBlobs).await, 0);
    let (status, answer) = run("admin", "validate_blobs").await;
    assert_eq!((status, &answer["hastened"]), (202, &Value::from(2)));
    assert_eq!(registry.run_job(Job::ValidateBlobs).await, 2);
    assert_eq!(run("admin", "validate_manifests").await.1["hastened"], 1);
    assert_eq!(registry.run_job(Job::ValidateManifests).await, 1);
}

#[tokio::test]
async fn what_others_put_off_meanwhile_is_not_hastened_for_ever() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "latest", 1).await;
    // Another node that validates whatever is due, at once.
    let validator: &[&str] = if registry.is_on_postgres() {
        &[
            "CREATE FUNCTION put_off() RETURNS trigger AS $$ BEGIN
               NEW.next_validation_at := NEW.next_validation_at + INTERVAL '7 days'; RETURN NEW;
             END $$ LANGUAGE plpgsql",
            "CREATE TRIGGER validator BEFORE UPDATE ON blobs FOR EACH ROW EXECUTE FUNCTION put_off()",
        ]
    } else {
        &["CREATE TRIGGER validator AFTER UPDATE OF next_validation_at ON blobs BEGIN
             UPDATE blobs SET next_validation_at = datetime(NEW.next_validation_at, '+7 days') WHERE id = NEW.id;
           END"]
    };
    for statement in validator {
        let done = registry.db.execute_for_tests((*statement).to_owned()).await;
        done.unwrap();
    }
    let run = registry.admin(Method::POST, "/api/v1/jobs/validate_blobs/run");
    let answer = run.timeout(Duration::from_secs(20)).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.json::<Value>().await.unwrap()["hastened"], 2);
}

/// A node works until it stands at a call of its storage; meanwhile the other one does all that it can. How many tasks
/// each has done.
async fn both_work(
    (held, free): (&TestRegistry, &TestRegistry),
    (job, op): (Job, Op),
) -> (usize, usize) {
    let gate = held.faults.hold(op);
    let calls = held.faults.calls(op);
    let meanwhile = async {
        held.faults.calls_reached(op, calls + 1).await;
        let tasks = free.run_job(job).await;
        gate.open();
        tasks
    };
    tokio::join!(held.run_job(job), meanwhile)
}

#[tokio::test]
async fn two_nodes_share_the_work() {
    // More than one task of a sweep takes.
    const BLOBS: u64 = 30;
    let registry = TestRegistry::start().await;
    let second = registry.second_node().await;
    for seed in 0..BLOBS {
        registry.push_blob(REPO, &bytes(seed, 100)).await;
    }
    registry.wait(TimeDelta::days(8));
    second.wait(registry.now() - second.now());
    let validation = (Job::ValidateBlobs, Op::Read);
    let tasks = both_work((&registry, &second), validation).await;
    assert_eq!(tasks, (1, BLOBS as usize - 1), "each blob once");

    let deletions = (
        registry.faults.calls(Op::Delete),
        second.faults.calls(Op::Delete),
    );
    let sweep = (Job::SweepBlobs, Op::Delete);
    let tasks = both_work((&second, &registry), sweep).await;
    assert_eq!(tasks, (1, 1));
    let here = registry.faults.calls(Op::Delete) - deletions.0;
    let there = second.faults.calls(Op::Delete) - deletions.1;
    assert!(here > 0 && there > 0);
    assert_eq!(here + there, BLOBS, "each object once");
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(registry.used_bytes("demo").await, 0);
    assert_eq!(registry.assert_sound().await, 0);
}
