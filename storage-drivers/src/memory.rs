//! Objects in the memory of the process: for tests, and for servers whose contents may vanish with them.
//!
//! It must obey every rule of the contract, or tests that run on it prove nothing. A newcomer will be tempted
//! to hold the lock across an await: a slow body would then stop everybody.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use url::Url;

use crate::names::tenant_check;
use crate::{
    ByteStream, ObjectKey, StorageDriver, StorageError, StorageResult, StoredObject, Tenant,
};

/// Pieces of a read are at most this long, so that callers meet several pieces in tests as well.
const PIECE_BYTES: usize = 512 * 1024;

/// A driver that keeps everything in memory. Clones nothing: share it behind an `Arc`.
#[derive(Debug, Default)]
pub struct MemoryDriver {
    accounts: Mutex<HashMap<String, Account>>,
}

#[derive(Debug)]
struct Account {
    auth_tenant_id: String,
    objects: HashMap<ObjectKey, (Bytes, DateTime<Utc>)>,
}

impl MemoryDriver {
    fn accounts(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        // No code panics between two changes that belong together, so a poisoned map is a whole one.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` on the account that a write is meant for, unless the write must be refused.
    fn with_writable<T>(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        f: impl FnOnce(&mut Account) -> T,
    ) -> StorageResult<T> {
        let mut accounts = self.accounts();
        let account =
            accounts
                .get_mut(&tenant.account)
                .ok_or_else(|| StorageError::NotPrepared {
                    account: tenant.account.clone(),
                })?;
        owner_check(account, tenant)?;
        if account.objects.contains_key(key) {
            return Err(StorageError::AlreadyExists(*key));
        }
        Ok(f(account))
    }
}

fn owner_check(account: &Account, tenant: &Tenant) -> StorageResult<()> {
    if account.auth_tenant_id == tenant.auth_tenant_id {
        return Ok(());
    }
    Err(StorageError::WrongTenant {
        account: tenant.account.clone(),
    })
}

async fn body_collect(size: Option<u64>, mut body: ByteStream) -> StorageResult<Bytes> {
    let mut content = BytesMut::new();
    while let Some(piece) = body.next().await {
        content.extend_from_slice(&piece.map_err(StorageError::Body)?);
        let actual = content.len() as u64;
        if let Some(expected) = size.filter(|expected| actual > *expected) {
            return Err(StorageError::SizeMismatch { expected, actual });
        }
    }
    let actual = content.len() as u64;
    match size {
        Some(expected) if expected != actual => {
            Err(StorageError::SizeMismatch { expected, actual })
        }
        _ => Ok(content.freeze()),
    }
}

fn content_slice(content: &Bytes, range: Option<Range<u64>>) -> StorageResult<Bytes> {
    let size_bytes = content.len() as u64;
    let Range { start, end } = range.unwrap_or(0..size_bytes);
    if start > end || end > size_bytes {
        return Err(StorageError::InvalidRange {
            start,
            end,
            size_bytes,
        });
    }
    // Both fit, being no larger than a length.
    Ok(content.slice(start as usize..end as usize))
}

#[async_trait]
impl StorageDriver for MemoryDriver {
    async fn write(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        size: Option<u64>,
        body: ByteStream,
    ) -> StorageResult<u64> {
        tenant_check(tenant)?;
        // Refuse before reading the body, and again after it, since another write may have been faster.
        self.with_writable(tenant, key, |_| ())?;
        let content = body_collect(size, body).await?;
        let size_bytes = content.len() as u64;
        self.with_writable(tenant, key, |account| {
            account
                .objects
                .insert(*key, (content, DateTime::from(SystemTime::now())))
        })?;
        Ok(size_bytes)
    }

    async fn read(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> StorageResult<ByteStream> {
        tenant_check(tenant)?;
        let content = self
            .accounts()
            .get(&tenant.account)
            .and_then(|account| account.objects.get(key))
            .map(|(content, _)| content.clone())
            .ok_or(StorageError::NotFound(*key))?;
        let mut rest = content_slice(&content, range)?;
        let pieces = std::iter::from_fn(move || {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            (!piece.is_empty()).then_some(Ok(piece))
        });
        Ok(stream::iter(pieces).boxed())
    }

    async fn delete(&self, tenant: &Tenant, key: &ObjectKey) -> StorageResult<()> {
        tenant_check(tenant)?;
        if let Some(account) = self.accounts().get_mut(&tenant.account) {
            account.objects.remove(key);
        }
        Ok(())
    }

    async fn list(
        &self,
        tenant: &Tenant,
    ) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>> {
        tenant_check(tenant)?;
        let objects: Vec<_> = self
            .accounts()
            .get(&tenant.account)
            .into_iter()
            .flat_map(|account| &account.objects)
            .map(|(key, (content, modified_at))| {
                Ok(StoredObject {
                    key: *key,
                    size_bytes: content.len() as u64,
                    modified_at: Some(*modified_at),
                })
            })
            .collect();
        Ok(stream::iter(objects).boxed())
    }

    async fn download_url(
        &self,
        tenant: &Tenant,
        _key: &ObjectKey,
        _valid_for: Duration,
    ) -> StorageResult<Option<Url>> {
        tenant_check(tenant)?;
        Ok(None)
    }

    async fn used_bytes(&self, tenant: &Tenant) -> StorageResult<u64> {
        tenant_check(tenant)?;
        let accounts = self.accounts();
        let objects = accounts
            .get(&tenant.account)
            .map(|account| &account.objects);
        Ok(objects
            .into_iter()
            .flat_map(HashMap::values)
            .map(|(content, _)| content.len() as u64)
            .sum())
    }

    async fn prepare_account(&self, tenant: &Tenant) -> StorageResult<()> {
        tenant_check(tenant)?;
        let mut accounts = self.accounts();
        let account = accounts
            .entry(tenant.account.clone())
            .or_insert_with(|| Account {
                auth_tenant_id: tenant.auth_tenant_id.clone(),
                objects: HashMap::new(),
            });
        owner_check(account, tenant)
    }

    async fn release_account(&self, tenant: &Tenant) -> StorageResult<()> {
        tenant_check(tenant)?;
        let mut accounts = self.accounts();
        let Some(account) = accounts.get(&tenant.account) else {
            return Ok(());
        };
        owner_check(account, tenant)?;
        if !account.objects.is_empty() {
            return Err(StorageError::NotEmpty {
                account: tenant.account.clone(),
            });
        }
        accounts.remove(&tenant.account);
        Ok(())
    }

    async fn check(&self) -> StorageResult<()> {
        Ok(())
    }
}
