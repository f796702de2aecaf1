//! Rules on writes that must not succeed, or not twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
use tokio::sync::Notify;

use super::Verdict;
use super::support::{Fixture, assert_fails, body_broken, body_of, fresh_chunk, pattern};
use crate::StorageDriver;

const MIB: usize = 1024 * 1024;
/// More than any driver collects before it sends.
const LARGE: usize = 6 * MIB;

/// A body that is longer or shorter than announced is refused and leaves nothing.
pub async fn wrong_sizes_leave_nothing(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    for (announced, actual) in [
        (0, 1),
        (1, 0),
        (10, 9),
        (9, 10),
        (2 * MIB, 2 * MIB - 1),
        (2 * MIB, 2 * MIB + 1),
        (LARGE, LARGE - 1),
        (LARGE, LARGE + 1),
    ] {
        let key = fresh_chunk();
        let body = body_of(pattern(actual), 50_000);
        let result = fixture
            .driver
            .write(&fixture.tenant, &key, Some(announced as u64), body)
            .await;
        assert_fails(result, "size_mismatch");
        assert_fails(
            fixture.driver.read(&fixture.tenant, &key, None).await,
            "not_found",
        );
    }
    fixture.assert_is_empty().await?;
    fixture.finish().await
}

/// A body that goes beyond the announced size is not read on.
pub async fn endless_body_is_refused_early(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let body = stream::repeat_with(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from_static(&[7; 10_000]))
    });
    let result = fixture
        .driver
        .write(
            &fixture.tenant,
            &fresh_chunk(),
            Some(MIB as u64),
            body.boxed(),
        )
        .await;
    assert_fails(result, "size_mismatch");
    // 105 pieces make up a MiB; a driver may have a few more under way.
    assert!(asked.load(Ordering::Relaxed) < 200);
    fixture.assert_is_empty().await?;
    fixture.finish().await
}

/// A body that breaks off is reported as the client's fault and leaves nothing.
pub async fn cut_body_leaves_nothing(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    for len in [0, 1, 300_000, LARGE] {
        for size in [None, Some(4 * LARGE as u64)] {
            let body = body_broken(pattern(len));
            let result = fixture
                .driver
                .write(&fixture.tenant, &fresh_chunk(), size, body)
                .await;
            assert_fails(result, "body");
        }
    }
    fixture.assert_is_empty().await?;
    fixture.finish().await
}

/// A write that is dropped half-way leaves nothing, and its name can be used.
pub async fn dropped_write_leaves_nothing(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let sizes = [0, 1, 256 * 1024, 300_000, MIB, LARGE];
    let unknown = sizes.map(|len| (len, None));
    let announced = sizes.map(|len| (len, Some(2 * LARGE as u64)));
    for (len, size) in unknown.into_iter().chain(announced) {
        let key = fresh_chunk();
        let is_stalled = Arc::new(Notify::new());
        let notify = Arc::clone(&is_stalled);
        let stall = stream::once(async move {
            notify.notify_one();
            std::future::pending().await
        });
        let body = body_of(pattern(len), 30_000).chain(stall).boxed();
        let write = fixture.driver.write(&fixture.tenant, &key, size, body);
        tokio::select! {
            result = write => assert_fails(result, "a write that cannot end"),
            () = is_stalled.notified() => {}
        }
        fixture.empty_soon().await?;
        let body = body_of(pattern(3), 3);
        fixture
            .driver
            .write(&fixture.tenant, &key, Some(3), body)
            .await?;
        fixture.driver.delete(&fixture.tenant, &key).await?;
    }
    // Dropped at any of its steps, not only while it waits for the body.
    for micros in (0..20).map(|i| i * i * 20) {
        let key = fresh_chunk();
        let body = body_of(pattern(MIB), 64 * 1024);
        let write = fixture
            .driver
            .write(&fixture.tenant, &key, Some(MIB as u64), body);
        if let Ok(result) = tokio::time::timeout(Duration::from_micros(micros), write).await {
            result?;
            fixture.driver.delete(&fixture.tenant, &key).await?;
        }
    }
    fixture.empty_soon().await?;
    fixture.finish().await
}

/// A second write under a name is refused, and the first content stays.
pub async fn existing_object_is_never_overwritten(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let content = pattern(1_000);
    let key = fixture.put(&content).await?;
    for len in [0, 1_000, 2 * MIB, LARGE] {
        let body = body_of(Bytes::from(vec![9; len]), 10_000);
        let result = fixture
            .driver
            .write(&fixture.tenant, &key, Some(len as u64), body)
            .await;
        assert_fails(result, "already_exists");
    }
    assert!(fixture.get(&key).await? == content);
    assert_eq!(fixture.list().await?.len(), 1);
    fixture.finish().await
}

/// Of writers of one name at least one wins, and the content is that of a winner, whole.
pub async fn racing_writers_leave_a_winner(driver: Arc<dyn StorageDriver>) -> Verdict {
    race(driver).await.map(drop)
}

/// Of writers of one name exactly one wins. Not a rule of the contract: a driver may promise it.
pub async fn racing_writers_have_one_winner(driver: Arc<dyn StorageDriver>) -> Verdict {
    assert_eq!(race(driver).await?, 1);
    Ok(())
}

/// How many of eight writers won.
async fn race(
    driver: Arc<dyn StorageDriver>,
) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    let fixture = Fixture::new(driver).await?;
    let key = fresh_chunk();
    let writes = (0..8_u8).map(|i| {
        let body = body_of(Bytes::from(vec![i; 300_000]), 10_000);
        fixture
            .driver
            .write(&fixture.tenant, &key, Some(300_000), body)
    });
    let results = join_all(writes).await;
    let mut winners = Vec::new();
    for (i, result) in results.into_iter().enumerate() {
        match result {
            Ok(_) => winners.push(i as u8),
            lost => assert_fails(lost, "already_exists"),
        }
    }
    let content = fixture.get(&key).await?;
    assert!(
        winners
            .iter()
            .any(|winner| content == vec![*winner; 300_000])
    );
    assert_eq!(fixture.list().await?.len(), 1);
    fixture.finish().await?;
    Ok(winners.len())
}
