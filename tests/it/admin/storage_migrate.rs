//! `/api/v1/accounts/<account>/storage/migrate`: an account moves to another backend while it is used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use futures::TryStreamExt as _;
use kontor::{
    config::{BackendConfig, CommonConfig},
    oci::Digest,
};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use storage_drivers::{ObjectKey, Op, StorageConfig, faulty::Fault};

use crate::support::{
    Setup, TestRegistry,
    image::{bytes, digest},
    tenant,
};

const REPO: &str = "demo/app";
const MIGRATE: &str = "/api/v1/accounts/demo/storage/migrate";

async fn two_backends(grace_seconds: u64) -> TestRegistry {
    Setup::default()
        .second()
        .config(move |config| config.moves.grace_seconds = grace_seconds)
        .start()
        .await
}

async fn order(registry: &TestRegistry, document: Value) -> Response {
    let request = registry.admin(Method::POST, MIGRATE).json(&document);
    request.send().await.unwrap()
}

async fn shown(registry: &TestRegistry) -> Value {
    let answer = registry.get(MIGRATE).await;
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.unwrap()["migration"].clone()
}

/// Waits until the move is as it should be, and moves the clock meanwhile so that every wait ends.
async fn until(registry: &TestRegistry, what: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let moving = shown(registry).await;
        if what(&moving) {
            return moving;
        }
        registry.clock.advance(TimeDelta::seconds(5));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the move does not get there: {}", shown(registry).await);
}

async fn moved(registry: &TestRegistry, to: &str) -> Value {
    let answer = order(registry, json!({ "to": to })).await;
    assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
    let done = until(registry, |moving| moving["state"] == "done").await;
    assert_eq!((&done["to"], &done["progress"]), (&json!(to), &json!(1.0)));
    assert_eq!(
        (&done["remaining_objects"], &done["error"]),
        (&json!(0), &Value::Null)
    );
    done
}

async fn pull(registry: &TestRegistry, blob: &Digest) -> Vec<u8> {
    let answer = registry.get(&format!("/v2/{REPO}/blobs/{blob}")).await;
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap().to_vec()
}

async fn assert_sound(registry: &TestRegistry) {
    let report = registry.registry.check(true).await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

#[tokio::test]
async fn an_account_moves_with_all_it_has_and_leaves_nothing_behind() {
    let registry = two_backends(60).await;
    registry.push_image(REPO, "v1", 1).await;
    let content = bytes(7, 5000);
    let blob = registry
        .push_chunks(REPO, &[&content[..2000], &content[2000..]])
        .await;
    let location = registry.begin_upload(REPO).await;
    assert_eq!(registry.append(&location, b"half ").await.status(), 202);
    let objects = registry.object_count("demo").await;
    assert_eq!(objects, 6);

    let done = moved(&registry, "second").await;
    assert_eq!(done["moved_objects"], objects);
    assert_eq!(registry.object_count("demo").await, 0);
    assert_eq!(registry.second_count("demo").await, objects);
    // The container is gone as well: nothing can be written there.
    let body = futures::stream::empty();
    let old = &registry.storage;
    let key = ObjectKey::Chunk(uuid::Uuid::nil());
    let written = old.write(&tenant("demo"), &key, None, Box::pin(body)).await;
    assert_eq!(written.unwrap_err().label(), "not_prepared");

    assert_eq!(pull(&registry, &blob).await, content);
    let whole = b"half and half";
    let finished = registry
        .finish(&location, &digest(whole), b"and half")
        .await;
    assert_eq!(finished.status(), 201);
    assert_eq!(pull(&registry, &digest(whole)).await, whole);
    assert_eq!(
        registry
            .get(&format!("/v2/{REPO}/manifests/v1"))
            .await
            .status(),
        200
    );
    assert_sound(&registry).await;
    let account: Value = registry
        .get("/api/v1/accounts/demo")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(account["account"]["storage"], "second");

    moved(&registry, "default").await;
    assert_eq!(registry.second_count("demo").await, 0);
    assert_eq!(pull(&registry, &blob).await, content);
    assert_sound(&registry).await;
}

#[tokio::test]
async fn pulls_and_pushes_go_on_during_a_move() {
    let registry = Arc::new(two_backends(60).await);
    let mut blobs = Vec::new();
    for seed in 0..30 {
        blobs.push(registry.push_blob(REPO, &bytes(seed, 20_000)).await);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (registry, blobs, is_over) =
                (Arc::clone(&registry), blobs.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut pulls = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let blob = &blobs[(pulls * 7 + reader) % blobs.len()];
                    assert_eq!(digest(&pull(&registry, blob).await), *blob);
                    pulls += 1;
                }
                pulls
            })
        })
        .collect();
    let writer = {
        let (registry, is_over) = (Arc::clone(&registry), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut pushed = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let content = bytes(1000 + pushed.len() as u64, 3_000);
                pushed.push(registry.push_blob(REPO, &content).await);
            }
            pushed
        })
    };
    for to in ["second", "default"] {
        moved(&registry, to).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 10);
    }
    for blob in writer.await.unwrap() {
        assert_eq!(digest(&pull(&registry, &blob).await), blob);
    }
    assert_eq!(registry.second_count("demo").await, 0);
    assert_sound(&registry).await;
}

#[tokio::test]
async fn a_pull_that_began_before_the_move_ends_after_it() {
    let registry = two_backends(0).await;
    let content = bytes(1, 24 << 20);
    let parts: Vec<&[u8]> = content.chunks(12 << 20).collect();
    let blob = registry.push_chunks(REPO, &parts).await;
    let answer = registry.get(&format!("/v2/{REPO}/blobs/{blob}")).await;
    let mut body = answer.bytes_stream();
    let mut seen = body.try_next().await.unwrap().unwrap().to_vec();
    // The second chunk is opened when its turn comes, and has another place by then.
    moved(&registry, "second").await;
    assert_eq!(registry.object_count("demo").await, 0);
    while let Some(piece) = body.try_next().await.unwrap() {
        seen.extend(piece);
    }
    assert!(seen == content);
}

#[tokio::test]
async fn what_was_copied_stays_for_the_time_of_grace() {
    let registry = two_backends(600).await;
    registry.push_image(REPO, "v1", 1).await;
    assert_eq!(
        order(&registry, json!({ "to": "second" })).await.status(),
        202
    );
    let mut moving = Value::Null;
    // Without moving the clock.
    while moving["state"] != "waiting" {
        moving = shown(&registry).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        (
            registry.object_count("demo").await,
            registry.second_count("demo").await
        ),
        (3, 3)
    );
    assert_sound(&registry).await;
    until(&registry, |moving| moving["state"] == "done").await;
    assert_eq!(registry.object_count("demo").await, 0);
}

#[tokio::test]
async fn what_was_copied_can_be_kept() {
    let registry = two_backends(0).await;
    registry.push_image(REPO, "v1", 1).await;
    let answer = order(&registry, json!({ "to": "second", "keep_old": true })).await;
    assert_eq!(answer.status(), 202);
    until(&registry, |moving| moving["state"] == "done").await;
    assert_eq!(
        (
            registry.object_count("demo").await,
            registry.second_count("demo").await
        ),
        (3, 3)
    );
    assert_sound(&registry).await;
    // Asked for again without keeping, it goes.
    moved(&registry, "second").await;
    assert_eq!(
        (
            registry.object_count("demo").await,
            registry.second_count("demo").await
        ),
        (0, 3)
    );
    assert_sound(&registry).await;
}

#[tokio::test]
async fn a_damaged_object_is_named_and_keeps_nothing_else_from_moving() {
    let registry = two_backends(0).await;
    registry.push_image(REPO, "v1", 1).await;
    let damaged = registry.push_blob(REPO, b"precious").await;
    let objects: Vec<_> = registry
        .storage
        .list(&tenant("demo"))
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let object = objects
        .iter()
        .find(|object| object.size_bytes == 8)
        .unwrap();
    registry
        .storage
        .delete(&tenant("demo"), &object.key)
        .await
        .unwrap();
    let body = Box::pin(futures::stream::iter([Ok("previous".into())]));
    registry
        .storage
        .write(&tenant("demo"), &object.key, None, body)
        .await
        .unwrap();

    assert_eq!(
        order(&registry, json!({ "to": "second" })).await.status(),
        202
    );
    let moving = until(&registry, |moving| !moving["error"].is_null()).await;
    assert_eq!(
        (&moving["state"], &moving["remaining_objects"]),
        (&json!("copying"), &json!(1))
    );
    assert!(
        moving["error"]
            .as_str()
            .unwrap()
            .contains("1 objects could not be moved")
    );
    assert_eq!(
        registry.second_count("demo").await,
        3,
        "and no copy of the damaged one"
    );
    // Once it is whole again, the move goes on by itself.
    registry
        .storage
        .delete(&tenant("demo"), &object.key)
        .await
        .unwrap();
    let body = Box::pin(futures::stream::iter([Ok("precious".into())]));
    registry
        .storage
        .write(&tenant("demo"), &object.key, None, body)
        .await
        .unwrap();
    until(&registry, |moving| moving["state"] == "done").await;
    assert_eq!(pull(&registry, &damaged).await, b"precious");
    assert_sound(&registry).await;
}

#[tokio::test]
async fn a_backend_that_fails_for_a_while_delays_a_move() {
    let registry = two_backends(0).await;
    registry.push_image(REPO, "v1", 1).await;
    let second = registry.second.as_ref().unwrap();
    second.faults.fail_next(Op::Write, 2, Fault::Temporary);
    second.faults.fail_next(Op::Read, 1, Fault::Permanent);
    registry.faults.fail_next(Op::Delete, 20, Fault::Permanent);
    moved(&registry, "second").await;
    assert_eq!(registry.object_count("demo").await, 0);
    // Copies that could not be read back are gone.
    assert_eq!(registry.second_count("demo").await, 3);
    assert_sound(&registry).await;
}

#[tokio::test]
async fn a_node_that_dies_in_the_middle_is_replaced() {
    let registry = two_backends(0).await;
    registry.push_image(REPO, "v1", 1).await;
    // The step is held at its first write; the node that takes it dies there.
    let gate = registry.second.as_ref().unwrap().faults.hold(Op::Write);
    assert_eq!(
        order(&registry, json!({ "to": "second" })).await.status(),
        202
    );
    let faults = registry.second.as_ref().unwrap().faults.clone();
    faults.calls_reached(Op::Write, 1).await;
    let heir = registry.second_node().await;
    drop(registry);
    heir.clock.advance(TimeDelta::minutes(5));
    let done = until(&heir, |moving| moving["state"] == "done").await;
    assert_eq!(done["moved_objects"], 3);
    gate.open();
    assert_sound(&heir).await;
}

#[tokio::test]
async fn an_account_can_be_deleted_while_it_moves() {
    let registry = two_backends(0).await;
    let blob = registry.push_blob(REPO, b"content").await;
    let gate = registry.second.as_ref().unwrap().faults.hold(Op::Write);
    assert_eq!(
        order(&registry, json!({ "to": "second" })).await.status(),
        202
    );
    registry
        .second
        .as_ref()
        .unwrap()
        .faults
        .calls_reached(Op::Write, 1)
        .await;
    // The copy is under way, so its container cannot go yet.
    let first = registry.delete("/api/v1/accounts/demo").await;
    assert_eq!(first.status(), 204);
    gate.open();
    assert_eq!(
        registry
            .get(&format!("/v2/{REPO}/blobs/{blob}"))
            .await
            .status(),
        404
    );
    assert_eq!(
        (
            registry.object_count("demo").await,
            registry.second_count("demo").await
        ),
        (0, 0)
    );
    assert_eq!(registry.get(MIGRATE).await.status(), 404);
}

#[tokio::test]
async fn only_those_may_move_an_account_who_manage_it() {
    let registry = two_backends(0).await;
    assert_eq!(
        registry.get(MIGRATE).await.status(),
        404,
        "it was never moved"
    );
    for (user, status) in [
        ("ann", 403),
        ("reader", 403),
        ("other", 404),
        ("nobody", 404),
    ] {
        let request = registry.as_user(user, Method::POST, MIGRATE);
        let answer = request
            .json(&json!({ "to": "second" }))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{user}");
    }
    let answer = registry
        .anonymous(Method::POST, MIGRATE)
        .json(&json!({ "to": "second" }));
    assert_eq!(answer.send().await.unwrap().status(), 401);
    for document in [
        json!({}),
        json!({ "to": 7 }),
        json!({ "to": "second", "form": "x" }),
    ] {
        assert_eq!(order(&registry, document).await.status(), 422);
    }
    assert_eq!(registry.second_count("demo").await, 0);
}

#[tokio::test]
async fn a_backend_is_for_those_auth_tenants_that_it_names() {
    let registry = Setup::default()
        .second()
        .config(|config| {
            let common = CommonConfig {
                auth_tenants: Some(vec!["other".to_owned()]),
                ..CommonConfig::default()
            };
            let driver = StorageConfig::Memory {};
            config
                .storage
                .insert("second".to_owned(), BackendConfig { driver, common });
        })
        .start()
        .await;
    let create = |name: &'static str, owner: &'static str, storage: &'static str| {
        registry.account(name, json!({ "auth_tenant_id": owner, "storage": storage }))
    };
    assert_eq!(create("theirs", "other", "second").await.status(), 201);
    let detail = async |answer: Response| {
        assert_eq!(answer.status(), 403);
        let problem: Value = answer.json().await.unwrap();
        problem["detail"].as_str().unwrap().to_owned()
    };
    let refused = detail(create("mine", "demo", "second").await).await;
    assert_eq!(
        refused,
        "there is no storage backend second for auth tenant demo; it may use: default"
    );
    // One that does not exist looks the same.
    let unknown = detail(create("mine", "demo", "third").await).await;
    assert_eq!(unknown.replace("third", "second"), refused);
    assert_eq!(
        detail(order(&registry, json!({ "to": "second" })).await).await,
        refused
    );
    assert_eq!(registry.get("/api/v1/accounts/mine").await.status(), 404);
    assert_eq!(registry.get(MIGRATE).await.status(), 404);
}

#[tokio::test]
async fn a_push_that_outlasts_a_move_is_refused_and_leaves_nothing() {
    let registry = Setup::default()
        .second()
        .config(|config| {
            config.moves.grace_seconds = 0;
            config.limits.chunk_bytes = 1000;
        })
        .start()
        .await;
    let content = bytes(1, 2500);
    let writes = registry.faults.calls(Op::Write);
    // The first chunk is written, the second is under way.
    let first = registry.faults.hold(Op::Write);
    let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", digest(&content));
    let push = registry.admin(Method::POST, &path).body(content.clone());
    let push = tokio::spawn(push.send());
    registry.faults.calls_reached(Op::Write, writes + 1).await;
    let second = registry.faults.hold(Op::Write);
    first.open();
    registry.faults.calls_reached(Op::Write, writes + 2).await;
    assert_eq!(registry.object_count("demo").await, 1);
    moved(&registry, "second").await;
    second.open();
    let answer = push.await.unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(registry.object_count("demo").await, 0);
    assert_sound(&registry).await;
    let blob = registry.push_blob(REPO, &content).await;
    assert_eq!(pull(&registry, &blob).await, content);
    assert_eq!(registry.second_count("demo").await, 3);
}

#[tokio::test]
async fn what_is_swept_is_not_adopted() {
    let registry = two_backends(0).await;
    let location = registry.begin_upload(REPO).await;
    let objects: Vec<_> = (0..3).map(|i| bytes(i, 50)).collect();
    for object in &objects {
        assert_eq!(registry.append(&location, object).await.status(), 202);
    }
    // As if the sweep of a move had just taken the last chunk of a push that goes on.
    registry
        .db
        .execute_for_tests("UPDATE loose_objects SET is_swept = NOT is_swept".to_owned())
        .await
        .unwrap();
    let gate = registry.faults.hold(Op::Write);
    let writes = registry.faults.calls(Op::Write);
    let whole = [objects.concat(), b"end".to_vec()].concat();
    let whole_digest = digest(&whole);
    let put = registry.finish(&location, &whole_digest, b"end");
    let sweep = async {
        registry.faults.calls_reached(Op::Write, writes + 1).await;
        let statement = "UPDATE loose_objects SET is_swept = NOT is_swept".to_owned();
        assert_eq!(registry.db.execute_for_tests(statement).await.unwrap(), 1);
        gate.open();
    };
    let (answer, ()) = tokio::join!(put, sweep);
    assert_eq!(answer.status(), 503);
    assert_eq!(
        registry.object_count("demo").await,
        3,
        "the last chunk is gone"
    );
    assert_sound(&registry).await;
    // The upload goes on where it was.
    assert_eq!(
        registry
            .finish(&location, &digest(&whole), b"end")
            .await
            .status(),
        201
    );
    assert_eq!(pull(&registry, &digest(&whole)).await, whole);
}

#[tokio::test]
async fn nothing_moves_to_where_it_is_just_being_removed() {
    let registry = two_backends(0).await;
    registry.push_image(REPO, "v1", 1).await;
    let gate = registry.faults.hold(Op::ReleaseAccount);
    assert_eq!(
        order(&registry, json!({ "to": "second" })).await.status(),
        202
    );
    let waits = registry.faults.calls_reached(Op::ReleaseAccount, 1);
    tokio::time::timeout(Duration::from_secs(30), waits)
        .await
        .unwrap();
    let refused = order(&registry, json!({ "to": "default" })).await;
    assert_eq!(refused.status(), 503);
    let problem: Value = refused.json().await.unwrap();
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("just being removed"),
        "{problem}"
    );
    gate.open();
    until(&registry, |moving| moving["state"] == "done").await;
    moved(&registry, "default").await;
    registry.push_blob(REPO, b"after all").await;
    assert_eq!(registry.second_count("demo").await, 0);
    assert_sound(&registry).await;
}

#[tokio::test]
async fn a_move_that_turns_back_leaves_no_second_copies() {
    let registry = two_backends(600).await;
    registry.push_image(REPO, "v1", 1).await;
    assert_eq!(
        order(&registry, json!({ "to": "second" })).await.status(),
        202
    );
    let mut moving = Value::Null;
    while moving["state"] != "waiting" {
        moving = shown(&registry).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(registry.object_count("demo").await, 3);
    moved(&registry, "default").await;
    assert_eq!(
        (
            registry.object_count("demo").await,
            registry.second_count("demo").await
        ),
        (3, 0)
    );
    assert_sound(&registry).await;
}
