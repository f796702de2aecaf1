//! S3 on SeaweedFS, with a bucket per account and with a shared one, and on Swift's `s3api`.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy takes for tests only where they carry the attribute"
)]

mod limits;
mod owners;
mod raw;

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use storage_drivers::contract::Verdict;
use storage_drivers::{
    ByteStream, ObjectKey, S3Config, S3Driver, Secret, StorageDriver, StorageError, StorageResult,
    Tenant,
};

use crate::live_contract_tests;
use crate::support::server;
use raw::Raw;

/// The smallest part that servers take.
const PART_BYTES: usize = 5 << 20;
/// Two whole parts and something.
const LARGE_BYTES: usize = (12 << 20) + 1;

fn config([endpoint, id, secret, region]: [String; 4]) -> S3Config {
    S3Config {
        endpoint: Some(endpoint),
        public_endpoint: None,
        region,
        bucket: "kontor-{account}".to_owned(),
        prefix: String::new(),
        create_buckets: true,
        virtual_host_style: false,
        access_key_id: Some(Secret::new(id)),
        secret_access_key: Some(Secret::new(secret)),
        session_token: None,
        role_arn: None,
        external_id: None,
        server_side_encryption: None,
        kms_key_id: None,
        storage_class: None,
        checksum_algorithm: None,
        conditional_writes: true,
        part_bytes: PART_BYTES,
        redirects: true,
    }
}

fn seaweed_config() -> Option<S3Config> {
    server([
        "KONTOR_TEST_S3_ENDPOINT",
        "KONTOR_TEST_S3_ACCESS_KEY_ID",
        "KONTOR_TEST_S3_SECRET_ACCESS_KEY",
        "KONTOR_TEST_S3_REGION",
    ])
    .map(config)
}

fn swift_config() -> Option<S3Config> {
    server([
        "KONTOR_TEST_SWIFT_S3_ENDPOINT",
        "KONTOR_TEST_SWIFT_S3_ACCESS_KEY_ID",
        "KONTOR_TEST_SWIFT_S3_SECRET_ACCESS_KEY",
        "KONTOR_TEST_SWIFT_S3_REGION",
    ])
    .map(config)
}

fn driver(config: &S3Config) -> Arc<dyn StorageDriver> {
    Arc::new(S3Driver::open(config).unwrap())
}

fn per_account() -> Option<Arc<dyn StorageDriver>> {
    seaweed_config().map(|config| driver(&config))
}

fn shared_config(config: S3Config) -> S3Config {
    S3Config {
        bucket: "kontor-shared".to_owned(),
        prefix: "registry/".to_owned(),
        ..config
    }
}

fn shared() -> Option<Arc<dyn StorageDriver>> {
    let config = shared_config(seaweed_config()?);
    Raw::new(&config).bucket_make_blocking("kontor-shared");
    Some(driver(&config))
}

/// As for a server that knows neither conditions nor presigned addresses, but checksums.
fn modest() -> Option<Arc<dyn StorageDriver>> {
    let config = seaweed_config()?;
    Some(driver(&S3Config {
        conditional_writes: false,
        checksum_algorithm: Some("crc32c".to_owned()),
        redirects: false,
        ..config
    }))
}

fn swift() -> Option<Arc<dyn StorageDriver>> {
    swift_config().map(|config| driver(&config))
}

live_contract_tests!(seaweed, per_account);
live_contract_tests!(seaweed_shared_bucket, shared);
live_contract_tests!(seaweed_without_conditions, modest);
live_contract_tests!(swift_s3api, swift);

/// Runs a test on both servers.
async fn on_both<F: Future<Output = Verdict>>(test: impl Fn(S3Config) -> F) -> Verdict {
    for config in [seaweed_config(), swift_config()].into_iter().flatten() {
        test(config).await?;
    }
    Ok(())
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

fn fresh_tenant() -> Tenant {
    Tenant {
        account: format!("live-{:016x}", random()),
        auth_tenant_id: format!("tenant-{:016x}", random()),
    }
}

fn fresh_chunk() -> ObjectKey {
    let number = (u128::from(random()) << 64) | u128::from(random());
    ObjectKey::Chunk(uuid::Builder::from_random_bytes(number.to_be_bytes()).into_uuid())
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn body_of(content: &Bytes) -> ByteStream {
    let mut rest = content.clone();
    let pieces = std::iter::from_fn(move || {
        let piece = rest.split_to(rest.len().min(70_000));
        (!piece.is_empty()).then_some(Ok(piece))
    });
    stream::iter(pieces).boxed()
}

async fn content_of(body: ByteStream) -> std::io::Result<Bytes> {
    let pieces: Vec<Bytes> = body.try_collect().await?;
    Ok(pieces.concat().into())
}

async fn objects(driver: &Arc<dyn StorageDriver>, tenant: &Tenant) -> StorageResult<usize> {
    let found: Vec<_> = driver.list(tenant).await?.try_collect().await?;
    Ok(found.len())
}

#[track_caller]
fn assert_fails<T>(result: StorageResult<T>, label: &str) -> StorageError {
    match result {
        Ok(_) => panic!("succeeded where {label} was expected"),
        Err(error) => {
            assert_eq!(error.label(), label, "{error:?}");
            error
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_parts_come_back() -> Verdict {
    on_both(|config| async move {
        let (driver, tenant) = (driver(&config), fresh_tenant());
        driver.prepare_account(&tenant).await?;
        let content = pattern(LARGE_BYTES);
        let part = PART_BYTES as u64;
        for len in [PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, LARGE_BYTES] {
            for size in [Some(len as u64), None] {
                let (key, content) = (fresh_chunk(), content.slice(..len));
                let written = driver.write(&tenant, &key, size, body_of(&content)).await?;
                assert_eq!(written, len as u64);
                assert!(content_of(driver.read(&tenant, &key, None).await?).await? == content);
                let body = driver.read(&tenant, &key, Some(part - 2..part)).await?;
                assert!(content_of(body).await? == content.slice(PART_BYTES - 2..PART_BYTES));
                // A second write of parts is refused like one of one part.
                let again = driver.write(&tenant, &key, size, body_of(&content)).await;
                assert_fails(again, "already_exists");
                assert_eq!(driver.used_bytes(&tenant).await?, len as u64);
                driver.delete(&tenant, &key).await?;
            }
        }
        driver.release_account(&tenant).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_uploads_leave_a_winner() -> Verdict {
    on_both(|config| async move {
        let (driver, tenant, key) = (driver(&config), fresh_tenant(), fresh_chunk());
        driver.prepare_account(&tenant).await?;
        let contents = [1, 2].map(|i| Bytes::from(vec![i; LARGE_BYTES]));
        let writes = contents
            .iter()
            .map(|content| driver.write(&tenant, &key, None, body_of(content)));
        let results = futures::future::join_all(writes).await;
        let content = content_of(driver.read(&tenant, &key, None).await?).await?;
        let is_winner =
            |(result, own): (&StorageResult<u64>, &Bytes)| result.is_ok() && *own == content;
        assert!(results.iter().zip(&contents).any(is_winner));
        driver.delete(&tenant, &key).await?;
        driver.release_account(&tenant).await?;
        Ok(())
    })
    .await
}

/// Waits until no uploads and no objects are left.
async fn empty_soon(
    driver: &Arc<dyn StorageDriver>,
    tenant: &Tenant,
    raw: &Raw,
    bucket: &str,
) -> Verdict {
    let mut empty_looks = 0;
    for _ in 0..200 {
        let is_empty = objects(driver, tenant).await? == 0 && raw.uploads(bucket).await == 0;
        empty_looks = if is_empty { empty_looks + 1 } else { 0 };
        if empty_looks == 8 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("something is left".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_uploads_leave_nothing() -> Verdict {
    on_both(|config| async move {
        let (driver, tenant, raw) = (driver(&config), fresh_tenant(), Raw::new(&config));
        let bucket = format!("kontor-{}", tenant.account);
        driver.prepare_account(&tenant).await?;
        let content = pattern(LARGE_BYTES);
        let error = || Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let cut = body_of(&content).chain(stream::once(async move { error() }));
        let written = driver
            .write(&tenant, &fresh_chunk(), None, cut.boxed())
            .await;
        assert_fails(written, "body");
        assert_eq!(objects(&driver, &tenant).await?, 0);
        assert_eq!(raw.uploads(&bucket).await, 0);
        let size = Some(LARGE_BYTES as u64 - 1);
        let written = driver
            .write(&tenant, &fresh_chunk(), size, body_of(&content))
            .await;
        assert_fails(written, "size_mismatch");
        assert_eq!(objects(&driver, &tenant).await?, 0);
        assert_eq!(raw.uploads(&bucket).await, 0);

        let (stalled, is_stalled) = tokio::sync::oneshot::channel();
        let stall = stream::once(async move {
            let _ = stalled.send(());
            std::future::pending().await
        });
        let body = body_of(&content).chain(stall).boxed();
        let key = fresh_chunk();
        tokio::select! {
            _ = driver.write(&tenant, &key, None, body) => panic!("it cannot end"),
            _ = is_stalled => {}
        }
        empty_soon(&driver, &tenant, &raw, &bucket).await?;
        // Dropped at any step, to the last one.
        for millis in (0..16).map(|i| i * i * 3) {
            let key = fresh_chunk();
            let write = driver.write(&tenant, &key, None, body_of(&content));
            if let Ok(written) = tokio::time::timeout(Duration::from_millis(millis), write).await {
                written?;
                driver.delete(&tenant, &key).await?;
            }
        }
        empty_soon(&driver, &tenant, &raw, &bucket).await?;
        driver.release_account(&tenant).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn release_aborts_forgotten_uploads() -> Verdict {
    on_both(|config| async move {
        let (driver, tenant, raw) = (driver(&config), fresh_tenant(), Raw::new(&config));
        let bucket = format!("kontor-{}", tenant.account);
        driver.prepare_account(&tenant).await?;
        let upload = format!("/{bucket}/{}?uploads=", fresh_chunk());
        assert_eq!(raw.request(Method::POST, &upload, "").await.0, 200);
        assert_eq!(raw.uploads(&bucket).await, 1);
        driver.release_account(&tenant).await?;
        assert_eq!(
            raw.request(Method::GET, &format!("/{bucket}"), "").await.0,
            404
        );
        Ok(())
    })
    .await
}
