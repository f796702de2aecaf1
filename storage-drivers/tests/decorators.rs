//! The decorators: what is retried, limited, counted and broken on purpose.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use storage_drivers::contract::Verdict;
use storage_drivers::faulty::{Fault, Faults, FaultyDriver};
use storage_drivers::{
    ByteStream, Limits, MemoryDriver, ObjectKey, ObservedDriver, Observer, Op, StorageDriver,
    StorageError, Tenant,
};
use uuid::Uuid;

#[derive(Default)]
struct Seen(Mutex<Vec<(&'static str, &'static str)>>);

impl Seen {
    fn take(&self) -> Vec<(&'static str, &'static str)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Seen {
    fn observe(&self, backend: &str, op: &'static str, outcome: &'static str, seconds: f64) {
        assert!(backend == "disk" && seconds >= 0.0);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((op, outcome));
    }
}

const KEY: ObjectKey = ObjectKey::Chunk(Uuid::from_u128(1));

fn tenant() -> Tenant {
    Tenant {
        account: "acme".to_owned(),
        auth_tenant_id: "t1".to_owned(),
    }
}

fn body() -> ByteStream {
    stream::iter([
        Ok(Bytes::from_static(b"hello ")),
        Ok(Bytes::from_static(b"world")),
    ])
    .boxed()
}

async fn observed(
    max_calls: usize,
) -> Result<(Arc<ObservedDriver>, Faults, Arc<Seen>), StorageError> {
    let (driver, faults) = FaultyDriver::wrap(Arc::new(MemoryDriver::default()));
    let seen = Arc::new(Seen::default());
    let limits = Limits {
        max_calls,
        max_wait: Duration::from_millis(50),
        max_time: Duration::from_millis(300),
    };
    let driver = ObservedDriver::new(driver, "disk", limits, seen.clone());
    driver.prepare_account(&tenant()).await?;
    seen.take();
    Ok((Arc::new(driver), faults, seen))
}

#[tokio::test]
async fn idempotent_calls_are_retried_and_counted_once() -> Verdict {
    let (driver, faults, seen) = observed(1).await?;
    driver.write(&tenant(), &KEY, None, body()).await?;
    faults.fail_next(Op::Read, 2, Fault::Temporary);
    drop(driver.read(&tenant(), &KEY, None).await?);
    assert_eq!(faults.calls(Op::Read), 3);
    faults.fail_next(Op::Delete, 3, Fault::Temporary);
    assert!(
        driver
            .delete(&tenant(), &KEY)
            .await
            .is_err_and(|e| e.is_temporary())
    );
    assert_eq!(faults.calls(Op::Delete), 3);
    assert_eq!(
        seen.take(),
        [("write", "ok"), ("read", "ok"), ("delete", "temporary")]
    );
    Ok(())
}

#[tokio::test]
async fn neither_writes_nor_full_disks_nor_permanent_errors_are_retried() -> Verdict {
    let (driver, faults, seen) = observed(1).await?;
    faults.fail_next(Op::Write, 1, Fault::Temporary);
    assert!(driver.write(&tenant(), &KEY, None, body()).await.is_err());
    faults.fail_next(Op::Delete, 1, Fault::Full);
    faults.fail_next(Op::Delete, 1, Fault::ReadOnly);
    faults.fail_next(Op::Delete, 1, Fault::Permanent);
    for _ in 0..3 {
        assert!(driver.delete(&tenant(), &KEY).await.is_err());
    }
    assert_eq!((faults.calls(Op::Write), faults.calls(Op::Delete)), (1, 3));
    let expected = [
        ("write", "temporary"),
        ("delete", "full"),
        ("delete", "read_only"),
        ("delete", "failed"),
    ];
    assert_eq!(seen.take(), expected);
    Ok(())
}

#[tokio::test]
async fn a_call_without_a_slot_fails_and_a_dropped_one_gives_its_slot_back() -> Verdict {
    let (driver, faults, seen) = observed(1).await?;
    let gate = faults.hold(Op::Write);
    let busy = tokio::spawn({
        let driver = Arc::clone(&driver);
        async move { driver.write(&tenant(), &KEY, None, body()).await }
    });
    faults.calls_reached(Op::Write, 1).await;
    assert!(
        driver
            .delete(&tenant(), &KEY)
            .await
            .is_err_and(|e| e.is_temporary())
    );
    driver.check().await?;
    busy.abort();
    assert!(busy.await.is_err());
    gate.open();
    driver.write(&tenant(), &KEY, None, body()).await?;
    assert_eq!(
        seen.take(),
        [
            ("delete", "temporary"),
            ("check", "ok"),
            ("write", "dropped"),
            ("write", "ok")
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_open_stream_holds_no_slot() -> Verdict {
    let (driver, _faults, _seen) = observed(1).await?;
    driver.write(&tenant(), &KEY, None, body()).await?;
    let slow = driver.read(&tenant(), &KEY, None).await?;
    drop(driver.read(&tenant(), &KEY, None).await?);
    assert_eq!(slow.try_collect::<Vec<_>>().await?.concat(), b"hello world");
    Ok(())
}

#[tokio::test]
async fn a_cut_read_gives_what_was_asked_for_and_then_an_error() -> Verdict {
    let (driver, faults, _seen) = observed(1).await?;
    driver.write(&tenant(), &KEY, None, body()).await?;
    for cut in [0, 4, 11, 99] {
        faults.cut_next_read(cut);
        let mut stream = driver.read(&tenant(), &KEY, None).await?;
        let mut seen_bytes = 0;
        let mut is_broken = false;
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => seen_bytes += piece.len() as u64,
                Err(_) => is_broken = true,
            }
        }
        assert!(is_broken);
        assert_eq!(seen_bytes, cut.min(11));
    }
    driver
        .read(&tenant(), &KEY, None)
        .await?
        .try_collect::<Vec<_>>()
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_call_that_does_not_end_is_ended() -> Verdict {
    let (driver, faults, seen) = observed(10).await?;
    driver.write(&tenant(), &KEY, None, body()).await?;
    seen.take();
    let _gate = faults.hold(Op::Read);
    let error = driver
        .read(&tenant(), &KEY, None)
        .await
        .err()
        .ok_or("it was read")?;
    assert!(error.is_temporary());
    assert_eq!(seen.take(), [("read", "temporary")]);
    // It has been tried again, since nobody can know.
    assert_eq!(faults.calls(Op::Read), 3);
    let _gate = faults.hold(Op::Delete);
    assert!(
        driver
            .delete(&tenant(), &KEY)
            .await
            .is_err_and(|e| e.is_temporary())
    );
    Ok(())
}
