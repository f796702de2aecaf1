//! The chain: what somebody who can write to the database does to it is found.

use std::sync::Arc;

use kontor::{auth::token::Tokens, clock::SystemClock, model::audit_chain::AuditHead};

use crate::support::{Setup, TestRegistry};

/// A registry with a few sealed events, in several batches.
async fn sealed() -> TestRegistry {
    let registry = TestRegistry::start().await;
    for tag in ["v1", "v2", "v3"] {
        registry.push_image("demo/app", tag, 1).await;
        registry.audit_settle().await;
    }
    assert!(verdict(&registry).await.is_ok());
    registry
}

async fn verdict(registry: &TestRegistry) -> Result<i64, String> {
    let verdict = registry.registry.audit_verify(&[]).await.unwrap();
    verdict.map(|report| report.last)
}

async fn sql(registry: &TestRegistry, statement: &str) -> usize {
    let done = registry.db.execute_for_tests(statement.to_owned());
    done.await.unwrap()
}

#[tokio::test]
async fn what_was_altered_is_found_and_named() {
    for (statement, named) in [
        (
            "UPDATE audit_events SET event = REPLACE(event, 'static:admin', 'static:other') WHERE seq = 5",
            "event 5",
        ),
        ("DELETE FROM audit_events WHERE seq = 4", "event 4"),
        (
            "UPDATE audit_events SET outcome = 'denied' WHERE seq = 6",
            "event 6",
        ),
        (
            "UPDATE audit_events SET auth_tenant_id = 'other' WHERE seq = 6",
            "event 6",
        ),
        (
            "UPDATE audit_events SET seq = 1000 WHERE seq = 3",
            "event 3",
        ),
        (
            "UPDATE audit_events SET event = (SELECT e.event FROM audit_events e WHERE e.seq = 7) WHERE seq = 6",
            "event 6",
        ),
        ("DELETE FROM audit_heads", "no signed head"),
    ] {
        let registry = sealed().await;
        assert!(sql(&registry, statement).await > 0);
        let found = verdict(&registry).await.unwrap_err();
        assert!(found.contains(named), "{statement}: {found}");
    }
}

#[tokio::test]
async fn a_chain_that_was_cut_off_is_found_while_its_heads_are_there_or_one_was_kept() {
    let registry = sealed().await;
    let heads = registry.registry.audit_heads().await.unwrap();
    let kept = registry.registry.audit_keys().verify(heads.last().unwrap());
    let kept = kept.unwrap();
    let half = kept.seq / 2;
    sql(
        &registry,
        &format!("DELETE FROM audit_events WHERE seq > {half}"),
    )
    .await;
    let found = verdict(&registry).await.unwrap_err();
    assert!(found.contains("the end is missing"), "{found}");
    // Who removes the heads as well, up to one that fits, is found by who has kept a head.
    let registry = sealed().await;
    let heads = registry.registry.audit_heads().await.unwrap();
    let keys = registry.registry.audit_keys();
    let (first, kept) = (&heads[0], heads.last().unwrap());
    let (first, kept) = (keys.verify(first).unwrap(), keys.verify(kept).unwrap());
    for table in ["audit_events", "audit_heads"] {
        sql(
            &registry,
            &format!("DELETE FROM {table} WHERE seq > {}", first.seq),
        )
        .await;
    }
    assert_eq!(verdict(&registry).await, Ok(first.seq));
    let found = registry.registry.audit_verify(&[kept]).await.unwrap();
    assert!(found.unwrap_err().contains("the end is missing"));
}

#[tokio::test]
async fn a_chain_that_was_computed_anew_needs_our_key() {
    let registry = sealed().await;
    let heads = registry.registry.audit_heads().await.unwrap();
    let head = registry.registry.audit_keys().verify(heads.last().unwrap());
    let head = head.unwrap();
    let key = registry.folder.path().join("forged.pem");
    kontor::auth::signing_key::ensure_key_file(&key).unwrap();
    let forger = Tokens::open(&key, &[], Arc::new(SystemClock)).unwrap();
    let forged = forger.head_sign(&AuditHead { iat: 1, ..head }).unwrap();
    sql(
        &registry,
        &format!(
            "UPDATE audit_heads SET statement = '{forged}' WHERE seq = {}",
            registry
                .registry
                .audit_keys()
                .verify(heads.last().unwrap())
                .unwrap()
                .seq
        ),
    )
    .await;
    let found = verdict(&registry).await.unwrap_err();
    assert!(found.contains("unknown key"), "{found}");
}

#[tokio::test]
async fn nodes_that_seal_at_once_make_one_chain() {
    let registry = TestRegistry::start().await;
    let second = registry.second_node().await;
    for number in 0..10_u64 {
        let tag = format!("v{number}");
        let node = if number % 2 == 0 { &registry } else { &second };
        node.push_image("demo/app", &tag, number).await;
        let (a, b) = (&registry.registry, &second.registry);
        let (a, b) = tokio::join!(a.audit_seal(), b.audit_seal());
        a.unwrap();
        b.unwrap();
    }
    registry.audit_settle().await;
    second.audit_settle().await;
    assert!(verdict(&registry).await.unwrap() > 30);
    assert_eq!(
        registry.audit_events("action=manifest.push").await.len(),
        10
    );
}

#[tokio::test]
async fn what_need_not_be_kept_goes_and_the_rest_can_still_be_verified() {
    let keep = |config: &mut kontor::config::Config| config.audit.keep_days = 1;
    let registry = Setup::default().config(keep).start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry.audit_settle().await;
    let old = verdict(&registry).await.unwrap();
    assert!(!registry.registry.audit_prune().await.unwrap());
    registry.clock.advance(chrono::TimeDelta::hours(25));
    registry.push_image("demo/app", "v2", 1).await;
    registry.audit_settle().await;
    while registry.registry.audit_prune().await.unwrap() {}
    let report = registry.registry.audit_verify(&[]).await.unwrap().unwrap();
    assert_eq!(report.first, old + 1);
    assert!(report.last > old);
    // Who removes more than was pruned is found.
    let next = report.first;
    sql(
        &registry,
        &format!("DELETE FROM audit_events WHERE seq = {next}"),
    )
    .await;
    let found = verdict(&registry).await.unwrap_err();
    assert!(
        found.contains(&format!("event {next} is missing")),
        "{found}"
    );
}

#[tokio::test]
async fn two_nodes_may_prune_at_once() {
    let keep = |config: &mut kontor::config::Config| {
        config.audit.keep_days = 1;
        config.janitor.disabled_jobs.push("prune_audit".to_owned());
    };
    let registry = Setup::default().config(keep).start().await;
    let second = registry.second_node().await;
    for turn in 0..10 {
        registry.push_image("demo/app", "v1", turn).await;
        registry.audit_settle().await;
        registry.clock.advance(chrono::TimeDelta::hours(25));
        second.clock.advance(registry.now() - second.now());
        let (here, there) = tokio::join!(
            registry.registry.audit_prune(),
            second.registry.audit_prune()
        );
        // The other finds nothing left, or what was sealed since.
        assert!(here.unwrap() || there.unwrap());
        assert!(verdict(&registry).await.is_ok());
    }
}
