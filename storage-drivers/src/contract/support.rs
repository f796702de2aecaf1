//! What the rules share: fresh names, bodies, and the clean-up after a rule.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::Verdict;
use crate::{
    ByteStream, ObjectKey, StorageDriver, StorageError, StorageResult, StoredObject, Tenant,
};

/// A random number. Rules may run on a live backend that remembers earlier runs.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

pub(super) fn fresh_id() -> Uuid {
    let number = (u128::from(random()) << 64) | u128::from(random());
    uuid::Builder::from_random_bytes(number.to_be_bytes()).into_uuid()
}

pub(super) fn fresh_chunk() -> ObjectKey {
    ObjectKey::Chunk(fresh_id())
}

pub(super) fn fresh_tenant() -> Tenant {
    Tenant {
        account: format!("account-{:016x}", random()),
        auth_tenant_id: format!("tenant-{:016x}", random()),
    }
}

/// Bytes that differ from place to place, so that a piece in the wrong place is noticed.
pub(super) fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// A body that comes in pieces of the given length.
pub(super) fn body_of(content: Bytes, piece_bytes: usize) -> ByteStream {
    let mut rest = content;
    let pieces = std::iter::from_fn(move || {
        let piece = rest.split_to(rest.len().min(piece_bytes));
        (!piece.is_empty()).then_some(Ok(piece))
    });
    stream::iter(pieces).boxed()
}

/// A body that ends in an error.
pub(super) fn body_broken(content: Bytes) -> ByteStream {
    let error = io::Error::new(io::ErrorKind::ConnectionReset, "the client hung up");
    body_of(content, 10_000)
        .chain(stream::iter([Err(error)]))
        .boxed()
}

/// A driver with one account prepared.
pub(super) struct Fixture {
    pub(super) driver: Arc<dyn StorageDriver>,
    pub(super) tenant: Tenant,
}

impl Fixture {
    pub(super) async fn new(driver: Arc<dyn StorageDriver>) -> StorageResult<Self> {
        let tenant = fresh_tenant();
        driver.prepare_account(&tenant).await?;
        Ok(Self { driver, tenant })
    }

    /// Writes a new chunk whose size is announced.
    pub(super) async fn put(&self, content: &Bytes) -> StorageResult<ObjectKey> {
        let key = fresh_chunk();
        let size = content.len() as u64;
        let body = body_of(content.clone(), 64 * 1024);
        let written = self
            .driver
            .write(&self.tenant, &key, Some(size), body)
            .await?;
        assert_eq!(written, size, "write must return the length of the body");
        Ok(key)
    }

    pub(super) async fn get(
        &self,
        key: &ObjectKey,
    ) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        content_of(self.driver.read(&self.tenant, key, None).await?).await
    }

    pub(super) async fn list(&self) -> StorageResult<Vec<StoredObject>> {
        objects_of(&self.driver, &self.tenant).await
    }

    pub(super) async fn assert_is_empty(&self) -> Verdict {
        assert_eq!(self.list().await?, [], "nothing may be left behind");
        assert_eq!(self.driver.used_bytes(&self.tenant).await?, 0);
        Ok(())
    }

    /// Waits until the account is empty and stays so, where the contract says only that it is soon. A step that
    /// was under way when its write was dropped may still make an object before it is removed, so that one look
    /// proves nothing.
    pub(super) async fn empty_soon(&self) -> Verdict {
        let mut empty_looks = 0;
        for _ in 0..400 {
            empty_looks = if self.list().await?.is_empty() {
                empty_looks + 1
            } else {
                0
            };
            if empty_looks == 8 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        self.assert_is_empty().await
    }

    /// Removes all objects and the account.
    pub(super) async fn finish(self) -> Verdict {
        account_remove(&self.driver, &self.tenant).await
    }
}

/// What anyone gets from an address, without credentials: the status and the body.
pub(super) async fn fetch(
    url: &url::Url,
    range: Option<&str>,
) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let mut request = reqwest::Client::new().get(url.clone());
    if let Some(range) = range {
        request = request.header("Range", range);
    }
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.bytes().await?))
}

pub(super) async fn content_of(
    body: ByteStream,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let pieces: Vec<Bytes> = body.try_collect().await?;
    Ok(pieces.concat().into())
}

pub(super) async fn objects_of(
    driver: &Arc<dyn StorageDriver>,
    tenant: &Tenant,
) -> StorageResult<Vec<StoredObject>> {
    driver.list(tenant).await?.try_collect().await
}

pub(super) async fn account_remove(driver: &Arc<dyn StorageDriver>, tenant: &Tenant) -> Verdict {
    for object in objects_of(driver, tenant).await? {
        driver.delete(tenant, &object.key).await?;
    }
    driver.release_account(tenant).await?;
    Ok(())
}

/// Asserts which kind of error a call ended with.
#[track_caller]
pub(super) fn assert_fails<T>(result: Result<T, StorageError>, label: &str) {
    let outcome = result.as_ref().map_or_else(StorageError::label, |_| "ok");
    assert_eq!(outcome, label, "{:?}", result.err());
}
