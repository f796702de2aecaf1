//! A bucket for each account, or one bucket with a folder for each, on any server that speaks S3.
//!
//! Objects are written, read and listed by OpenDAL; what it lacks are plain requests signed by reqsign, which OpenDAL
//! signs with too, and all of them go through one HTTP client (see `client`). It must not log addresses or
//! answers, since they can hold signatures, and must not take a bucket for its own because of its name.
//!
//! What a newcomer will get wrong: "S3" is a family of servers. What one refuses another ignores, such as the
//! condition on a write, and the same error has other codes. The live tests say what each of them really does.

mod bucket;
mod client;
mod credentials;
mod failure;
mod list;
mod names;
mod owner;
mod read;
mod server;
mod stream;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::Deserialize;
use url::Url;

use crate::detached::detached;
use crate::{
    ByteStream, ObjectKey, Secret, StorageDriver, StorageError, StorageResult, StoredObject, Tenant,
};
use failure::{At, Failure};
use owner::Owners;
use read::Source;
use server::Server;
use write::{Parts, Target};

/// The longest validity that S3 gives an address.
const MAX_VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);

/// The parameters of the `s3` driver. A key that it does not know is an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The server, such as `https://s3.example.org`; AWS's own of the region if it is not given.
    pub endpoint: Option<String>,
    /// Where clients reach the same server, for redirects.
    pub public_endpoint: Option<String>,
    /// The region that requests are signed for, and that buckets are made in.
    #[serde(default = "region_default")]
    pub region: String,
    /// The bucket. With `{account}` in it every account has one of its own; without, all share one and
    /// every account has a folder in it.
    #[serde(default = "bucket_default")]
    pub bucket: String,
    /// Before the folders of accounts in a shared bucket, such as `registry/`.
    #[serde(default)]
    pub prefix: String,
    /// Whether buckets are made and removed with their accounts; otherwise somebody else does. A shared bucket
    /// always has to be there.
    #[serde(default = "yes")]
    pub create_buckets: bool,
    /// `bucket.host` instead of `host/bucket`.
    #[serde(default)]
    pub virtual_host_style: bool,
    /// A fixed key. Without one, credentials come from the environment, a profile, web identity (STS) or the
    /// instance's metadata service.
    pub access_key_id: Option<Secret>,
    /// The secret of the fixed key.
    pub secret_access_key: Option<Secret>,
    /// The session token of a fixed temporary key.
    pub session_token: Option<Secret>,
    /// A role that is taken on with those credentials (STS).
    pub role_arn: Option<String>,
    /// The external id that the role asks for.
    pub external_id: Option<Secret>,
    /// `AES256` (SSE-S3) or `aws:kms` (SSE-KMS).
    pub server_side_encryption: Option<String>,
    /// The key of SSE-KMS; the account's default key if it is not given.
    pub kms_key_id: Option<String>,
    /// The storage class of new objects, such as `STANDARD_IA`.
    pub storage_class: Option<String>,
    /// `crc32c` adds checksums to what is sent; old servers know none.
    pub checksum_algorithm: Option<String>,
    /// Whether conditional writes (`If-None-Match: *`) are sent; some old servers refuse them.
    #[serde(default = "yes")]
    pub conditional_writes: bool,
    /// The size of a part in bytes, where a large object has to be sent in parts: its length is not known, or it needs
    /// checksums. Such a write needs memory for three of them.
    #[serde(default = "part_bytes_default")]
    pub part_bytes: usize,
    /// Whether clients may be redirected to presigned addresses.
    #[serde(default = "yes")]
    pub redirects: bool,
}

fn region_default() -> String {
    "us-east-1".to_owned()
}

fn bucket_default() -> String {
    "kontor-{account}".to_owned()
}

fn part_bytes_default() -> usize {
    5 << 20
}

fn yes() -> bool {
    true
}

/// A driver that keeps objects on an S3 server.
pub struct S3Driver {
    server: Arc<Server>,
    owners: Arc<Owners>,
}

impl fmt::Debug for S3Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Driver")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl S3Driver {
    /// Sets the driver up; the server is not asked yet.
    ///
    /// Errors: a parameter that cannot be, with what to write instead.
    pub fn open(config: &S3Config) -> StorageResult<Self> {
        let server = Arc::new(Server::new(config)?);
        let owners = Arc::new(Owners::new(Arc::clone(&server)));
        Ok(Self { server, owners })
    }
}

#[async_trait]
impl StorageDriver for S3Driver {
    async fn write(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        size: Option<u64>,
        body: ByteStream,
    ) -> StorageResult<u64> {
        let container = self.server.layout.container(tenant)?;
        self.owners.check(tenant).await?;
        let target = Target::new(&self.server, container, *key)?;
        let parts = Parts::new(size, self.server.config.part_bytes, body);
        let written = write::object_write(target, parts).await;
        if matches!(written, Err(StorageError::Backend { .. })) {
            // Perhaps the account was released meanwhile, and its bucket is gone.
            self.owners.forget(tenant);
            if let Err(gone @ StorageError::NotPrepared { .. }) = self.owners.check(tenant).await {
                return Err(gone);
            }
        }
        written
    }

    async fn read(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> StorageResult<ByteStream> {
        let container = self.server.layout.container(tenant)?;
        let source = Source {
            operator: self.server.operator(&container)?,
            bucket: container.bucket,
            key: *key,
        };
        source.open(range).await
    }

    async fn delete(&self, tenant: &Tenant, key: &ObjectKey) -> StorageResult<()> {
        let container = self.server.layout.container(tenant)?;
        let operator = self.server.operator(&container)?;
        match operator
            .delete(&key.to_string())
            .await
            .map_err(Failure::from)
        {
            Err(failure) if !failure.is_missing() => Err(failure.at(&container.bucket)),
            _ => Ok(()),
        }
    }

    async fn list(
        &self,
        tenant: &Tenant,
    ) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>> {
        let container = self.server.layout.container(tenant)?;
        let operator = self.server.operator(&container)?;
        list::objects(operator, container.bucket).await
    }

    async fn download_url(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        valid_for: Duration,
    ) -> StorageResult<Option<Url>> {
        let container = self.server.layout.container(tenant)?;
        if !self.server.config.redirects {
            return Ok(None);
        }
        let operator = self.server.operator_for_clients(&container)?;
        let valid_for = valid_for.clamp(Duration::from_secs(1), MAX_VALIDITY);
        let uri = match operator.presign_read(&key.to_string(), valid_for).await {
            Ok(signed) => signed.uri().to_string(),
            Err(e) => {
                // A temporary key may end before the address would. Then there is none, as without redirects.
                let error = Failure::from(e);
                tracing::debug!(bucket = container.bucket, %error, "no address could be signed");
                return Ok(None);
            }
        };
        // Not the parser's error, which might repeat it.
        Ok(Url::parse(&uri).ok())
    }

    async fn used_bytes(&self, tenant: &Tenant) -> StorageResult<u64> {
        list::used_bytes(self.list(tenant).await?).await
    }

    async fn prepare_account(&self, tenant: &Tenant) -> StorageResult<()> {
        let (owners, tenant) = (Arc::clone(&self.owners), tenant.clone());
        detached(|_| async move { owners.prepare(&tenant).await }).await
    }

    async fn release_account(&self, tenant: &Tenant) -> StorageResult<()> {
        let (owners, tenant) = (Arc::clone(&self.owners), tenant.clone());
        detached(|_| async move { owners.release(&tenant).await }).await
    }

    async fn check(&self) -> StorageResult<()> {
        let layout = &self.server.layout;
        if layout.is_shared() {
            self.server
                .bucket_probe(layout.bucket())
                .await
                .at(layout.bucket())
        } else {
            self.server.key_probe().await.at(layout.bucket())
        }
    }
}
