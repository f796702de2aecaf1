//! Where events go besides the database.

use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use kontor::db::audit::{
    SinkClaim, SinkState, audit_backlog, audit_sink_advance, audit_sink_claim,
};
use serde_json::Value;

use crate::support::{Setup, TestRegistry};

async fn deliver(registry: &TestRegistry) {
    registry.audit_settle().await;
    for _ in 0..100 {
        if let Some(task) = registry.registry.sink_claim(0).await.unwrap() {
            let _ = registry.registry.sink_deliver(task).await;
        }
        let backlogs = registry.registry.sink_backlogs().await.unwrap();
        if backlogs[0].undelivered == 0 {
            return;
        }
        // The registry's own job may be at it.
        registry.clock.advance(TimeDelta::seconds(31));
        tokio::task::yield_now().await;
    }
    panic!("the sink stays behind");
}

fn file(registry: &TestRegistry) -> std::path::PathBuf {
    registry.config.audit.file.clone().unwrap()
}

async fn with_file() -> TestRegistry {
    let folder = tempfile::tempdir().unwrap().keep();
    let change = move |config: &mut kontor::config::Config| {
        config.audit.file = Some(folder.join("audit.jsonl"));
    };
    Setup::default().config(change).start().await
}

async fn metric(registry: &TestRegistry, name: &str) -> i64 {
    let metrics = registry.anonymous(reqwest::Method::GET, "/metrics");
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let name = format!("{name}{{sink=\"file\"}} ");
    let found = metrics.lines().find_map(|line| line.strip_prefix(&name));
    found.unwrap().parse().unwrap()
}

fn seqs(text: &str) -> Vec<i64> {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter_map(|line: Value| line["seq"].as_i64())
        .collect()
}

#[tokio::test]
async fn a_file_gets_every_event_in_order() {
    let registry = with_file().await;
    registry.push_image("demo/app", "v1", 1).await;
    deliver(&registry).await;
    registry.push_image("demo/app", "v2", 2).await;
    deliver(&registry).await;
    let text = fs::read_to_string(file(&registry)).unwrap();
    let mut seqs = seqs(&text);
    seqs.dedup();
    seqs.sort_unstable();
    seqs.dedup();
    let last = *seqs.last().unwrap();
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>());
    assert!(text.contains("manifest.push") && text.contains("\"head\""));
    fs::remove_dir_all(file(&registry).parent().unwrap()).unwrap();
}

#[tokio::test]
async fn an_outage_of_a_sink_loses_nothing_and_keeps_the_events_from_being_pruned() {
    let registry = with_file().await;
    let folder = file(&registry).parent().unwrap().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    registry.push_image("demo/app", "v1", 1).await;
    registry.audit_settle().await;
    let task = registry.registry.sink_claim(0).await.unwrap();
    if let Some(task) = task {
        assert!(registry.registry.sink_deliver(task).await.is_err());
        assert!(
            registry.registry.sink_claim(0).await.unwrap().is_none(),
            "after a failure it waits"
        );
    }
    let backlogs = registry.registry.sink_backlogs().await.unwrap();
    assert!(backlogs[0].undelivered > 0);
    let mut tries = 0..1000;
    // The registry's own job may be at it.
    while metric(&registry, "kontor_audit_failures").await == 0 {
        assert!(tries.next().is_some());
    }
    assert!(metric(&registry, "kontor_audit_undelivered").await > 0);
    fs::create_dir(&folder).unwrap();
    registry.clock.advance(TimeDelta::seconds(31));
    deliver(&registry).await;
    let seqs = seqs(&fs::read_to_string(file(&registry)).unwrap());
    assert_eq!(seqs.first(), Some(&1));
    fs::remove_dir_all(folder).unwrap();
}

/// A sink that no job knows.
const SLOW: &str = "slow";

async fn claim(registry: &TestRegistry, now: DateTime<Utc>) -> Option<SinkClaim> {
    let lease = (now, now + TimeDelta::seconds(30));
    let claim = registry
        .db
        .write(move |conn| audit_sink_claim(conn, SLOW, lease));
    claim.await.unwrap()
}

async fn advance(registry: &TestRegistry, claim: &SinkClaim, seq: i64, at: DateTime<Utc>) -> bool {
    let claim = claim.clone();
    let state = SinkState {
        delivered_seq: seq,
        failures: 0,
    };
    let advance = registry
        .db
        .write(move |conn| audit_sink_advance(conn, SLOW, (&claim, &state), at));
    advance.await.unwrap()
}

async fn delivered(registry: &TestRegistry) -> i64 {
    let backlog = registry.db.read(|conn| audit_backlog(conn, SLOW)).await;
    backlog.unwrap().1.delivered_seq
}

#[tokio::test]
async fn who_has_lost_the_lease_does_not_move_the_sink() {
    let registry = TestRegistry::start().await;
    let now = registry.now();
    let after = |seconds| now + TimeDelta::seconds(seconds);
    let late = claim(&registry, now).await.unwrap();
    assert_eq!(claim(&registry, after(29)).await, None);
    let taken = claim(&registry, after(30)).await.unwrap();
    // Neither a success nor a failure of the first counts, nor does it end the lease of the second.
    assert!(!advance(&registry, &late, 500, after(31)).await);
    assert!(!advance(&registry, &late, 0, after(31)).await);
    assert_eq!(delivered(&registry).await, 0);
    assert_eq!(claim(&registry, after(32)).await, None);
    assert!(advance(&registry, &taken, 700, after(33)).await);
    assert!(!advance(&registry, &taken, 900, after(33)).await, "once");
    assert!(!advance(&registry, &late, 500, after(34)).await);
    assert_eq!(delivered(&registry).await, 700);
    let next = claim(&registry, after(35)).await.unwrap();
    assert!(!advance(&registry, &next, 600, after(36)).await, "back");
    // Late, but nobody else began.
    assert!(advance(&registry, &next, 800, after(99)).await);
    assert_eq!(delivered(&registry).await, 800);
}
