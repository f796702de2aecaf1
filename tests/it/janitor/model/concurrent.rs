//! The same at once: clients that share repositories and blobs, and a janitor whose clock jumps.
//!
//! Each client has manifests and tags of its own, so it knows what must be there of them at any moment. Blobs are
//! anybody's: they come and go under everybody's hands.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use chrono::TimeDelta;
use kontor::model::job::Job;
use proptest::{
    collection::vec,
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, TestRunner},
};
use tokio::runtime::Runtime;

use serde_json::json;

use super::{
    cases,
    client::{Client, run},
    made::blob_content,
    plan::{MANIFESTS, REPOS, Step, plans, steps},
    rng, seed,
};
use crate::{janitor::direct::Direct, support::image::digest};

const CLIENTS: usize = 3;
const STEPS: usize = 30;

/// Everybody at once, until the clients have done what they had to do.
fn at_once(runtime: &Runtime, clients: &mut [Client<'_>], todo: Vec<Vec<Step>>) {
    let (direct, is_over) = (clients[0].direct, AtomicBool::new(false));
    thread::scope(|scope| {
        let janitor = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                direct.node.wait(TimeDelta::minutes(7));
                for job in Job::ALL {
                    runtime.block_on(run(direct, *job));
                }
            }
        });
        let at_work: Vec<_> = clients
            .iter_mut()
            .zip(todo)
            .map(|(client, steps)| {
                scope.spawn(move || {
                    for step in steps {
                        runtime.block_on(client.step(step));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = at_work.into_iter().map(|client| client.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        for ended in ended.into_iter().chain([janitor.join()]) {
            if let Err(panicked) = ended {
                std::panic::resume_unwind(panicked);
            }
        }
    });
}

/// All that was acknowledged is there, and nothing else.
async fn compare(direct: &Direct, account: &str, clients: &[Client<'_>]) {
    let (mut needed, mut bytes, mut manifests) = (BTreeSet::new(), 0, 0);
    for client in clients {
        for (repo, manifest) in &client.stored {
            let (made, place) = (&client.manifests[*manifest], &client.repos[*repo]);
            let pulled = direct.pull_manifest(place, made.digest.as_str()).await;
            assert_eq!(pulled.as_ref(), Ok(&made.content));
            for blob in &made.needs.blobs {
                let content = blob_content(*blob);
                let pulled = direct.pull_blob(place, &digest(&content)).await;
                assert_eq!(pulled, Ok(content));
                needed.insert(*blob);
            }
            bytes += made.content.len();
            manifests += 1;
        }
        for (repo, tag) in client.tags.keys() {
            client.pull(*repo, *tag).await;
        }
    }
    let contents: Vec<Vec<u8>> = needed.into_iter().map(blob_content).collect();
    let objects = contents.iter().filter(|content| !content.is_empty());
    let stored = direct.node.object_count(account).await;
    assert_eq!(stored, objects.count() + manifests);
    bytes += contents.iter().map(Vec::len).sum::<usize>();
    let used = direct.used(account).await;
    assert_eq!((used.bytes, used.reserved_bytes), (bytes as i64, 0));
    assert_eq!(used.manifests, manifests as i64);
    let (_, trash) = direct.inventory(account, clients[0].repos).await;
    assert!(trash.is_empty());
    assert_eq!(direct.node.assert_sound().await, 0);
}

#[test]
fn clients_and_janitor_at_once_lose_nothing_and_leave_nothing() {
    let runtime = Runtime::new().unwrap();
    let direct = runtime.block_on(Direct::start());
    for round in 0..u64::from(cases().div_ceil(20)) {
        let seed = seed() + round;
        let mut runner = TestRunner::new_with_rng(Config::default(), rng(seed));
        let recipes = plans().new_tree(&mut runner).unwrap().current().recipes;
        let todo = vec(vec(steps(), STEPS), CLIENTS);
        let todo = todo.new_tree(&mut runner).unwrap().current();
        let account = format!("round{round}");
        let repos = runtime.block_on(async {
            // The trash is on in every other round.
            let settings = json!({ "trash_days": 2 * (round % 2) });
            assert_eq!(direct.account_make_with(&account, settings).await, Ok(()));
            let mut repos = Vec::new();
            for repo in 0..REPOS {
                repos.push(direct.repo(&format!("{account}/r{repo}")).await);
            }
            repos
        });
        let client = |number| Client::new(number, (&direct, &repos), &recipes);
        let mut clients: Vec<_> = (0..CLIENTS).map(client).collect();
        at_once(&runtime, &mut clients, todo);
        runtime.block_on(async {
            direct.settle().await;
            compare(&direct, &account, &clients).await;
            for client in &mut clients {
                client.lift_all().await;
                for manifest in (0..MANIFESTS).rev() {
                    for repo in 0..REPOS {
                        client.delete_manifest(repo, manifest).await;
                    }
                }
            }
            direct.settle().await;
            assert_eq!(direct.node.object_count(&account).await, 0);
            assert_eq!(direct.account_delete(&account).await, Ok(()));
        });
    }
}
