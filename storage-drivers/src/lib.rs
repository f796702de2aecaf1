//! Multi-tenant object storage: every account in a container of its own.
//!
//! A driver turns `(tenant, key)` into an object and knows nothing of repositories, HTTP or SQL.
//! What follows is the contract. The suite in `contract` (feature `testkit`) holds a rule for every
//! sentence, and a driver is finished when it passes. Two promises it cannot see, so look at them in review: what
//! outlives a power cut, and how much memory a call takes.
//!
//! **Names.** Names are random and never reused. An object is written once and never changed. A write to a
//! name that exists fails with [`StorageError::AlreadyExists`] and leaves the first content as it was. Of writers
//! that race for one name at least one succeeds, and the content is that of one which did, whole: an object store
//! without a lock cannot promise more, and random names never race. A bad account or tenant name fails with
//! [`StorageError::InvalidName`] before the backend is asked.
//!
//! **Accounts.** The account says where an object lies, so the same key in two accounts is two objects.
//! An account must be prepared before it is written to; a write to any other account fails with
//! [`StorageError::NotPrepared`], as does a write on behalf of another auth tenant with
//! [`StorageError::WrongTenant`]. Preparing and releasing are idempotent. Preparing an account that belongs to
//! another auth tenant is refused, and so is releasing it, unless a driver keeps each auth tenant in a place of its
//! own: then they never meet. A container that no registry made is refused with
//! [`StorageError::NotOurs`]. An account that still holds objects is not released.
//!
//! **Writes.** All or nothing: when the body breaks off, has another length than announced, or the future is
//! dropped because the client hung up, the object is gone again (at once after an error, soon after a drop).
//! A body that is too long is refused without reading on.
//! A driver needs memory for a bounded part of the body only (the memory driver aside).
//!
//! **Reads.** A stream yields exactly the bytes of the range or ends in an error, never in a short success.
//! Ranges are half open; one that reaches beyond the object or is reversed fails with
//! [`StorageError::InvalidRange`], and an empty one yields nothing. A missing object is
//! [`StorageError::NotFound`]. Deleting it is no error.
//!
//! **What a newcomer will get wrong.** `list` may show an object whose write is still under way, with whatever
//! size it has by then, and a crash may leave such an object behind: the database alone says what exists. So a
//! sweep must leave young objects alone, and nobody may read a key before its write has returned.

mod config;
#[cfg(feature = "testkit")]
pub mod contract;
mod detached;
mod error;
#[cfg(feature = "testkit")]
pub mod faulty;
mod filesystem;
mod memory;
mod names;
mod observed;
mod openstack;
mod s3;
mod secret;
mod swift;

use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use url::Url;
use uuid::Uuid;

pub use config::StorageConfig;
pub use error::{StorageError, StorageResult};
pub use filesystem::FilesystemDriver;
pub use memory::MemoryDriver;
pub use observed::{Limits, ObservedDriver, Observer};
pub use openstack::{OpenStackConfig, Session as OpenStackSession};
pub use s3::{S3Config, S3Driver};
pub use secret::Secret;
pub use swift::{ContainerProject, Interface, SwiftConfig, SwiftDriver, TempUrlDigest};

/// The bytes of an object or of a request body, in pieces. An error ends the stream.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Whose storage a call is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// The account, which has a container of its own: 1 to 63 of `a-z`, `0-9` and `-`, not beginning with `-`.
    pub account: String,
    /// The tenant of the authentication system that pays for the account: 1 to 64 of `A-Z`, `a-z`, `0-9`, `-`
    /// and `_`, beginning with a letter or digit.
    pub auth_tenant_id: String,
}

/// The name of an object within its account. Names are random and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKey {
    /// One piece of a blob.
    Chunk(Uuid),
    /// A manifest's contents.
    Manifest(Uuid),
    /// A report about an image, such as that of a vulnerability scanner.
    Report(Uuid),
}

impl ObjectKey {
    /// The folders of an account, one per kind of object.
    pub(crate) const FOLDERS: [&'static str; 3] = ["chunks", "manifests", "reports"];

    /// The index in `FOLDERS` and the random part.
    pub(crate) fn parts(self) -> (usize, Uuid) {
        match self {
            Self::Chunk(id) => (0, id),
            Self::Manifest(id) => (1, id),
            Self::Report(id) => (2, id),
        }
    }

    /// The folder the object lies in, such as `chunks`.
    pub fn folder(self) -> &'static str {
        Self::FOLDERS[self.parts().0]
    }

    /// The random part of the name.
    pub fn id(self) -> Uuid {
        self.parts().1
    }

    /// The key of the same kind with another random part.
    #[must_use]
    pub fn with_id(self, id: Uuid) -> Self {
        match self {
            Self::Chunk(_) => Self::Chunk(id),
            Self::Manifest(_) => Self::Manifest(id),
            Self::Report(_) => Self::Report(id),
        }
    }

    /// The inverse of [`ObjectKey::folder`]: the key called `name` in `folder`. `None` if a driver would never
    /// choose that name, so that foreign files are not taken for objects.
    pub fn from_parts(folder: &str, name: &str) -> Option<Self> {
        // The parser takes several spellings of one id. Only ours may count, or `list` would name a key that
        // `delete` then looks for elsewhere.
        let id = Uuid::try_parse(name)
            .ok()
            .filter(|id| id.to_string() == name)?;
        match folder {
            "chunks" => Some(Self::Chunk(id)),
            "manifests" => Some(Self::Manifest(id)),
            "reports" => Some(Self::Report(id)),
            _ => None,
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.folder(), self.parts().1)
    }
}

/// An object as `list` saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its name.
    pub key: ObjectKey,
    /// Its size; less than the final size while its write is under way.
    pub size_bytes: u64,
    /// When it was last written to, by the backend's clock. `None` if the backend does not say.
    pub modified_at: Option<DateTime<Utc>>,
}

/// A place that holds objects, apart for each account. The crate's documentation is the contract.
///
/// Every method can fail with [`StorageError::Backend`], and those that name a tenant with
/// [`StorageError::InvalidName`]; the rest is noted at each.
#[async_trait]
pub trait StorageDriver: fmt::Debug + Send + Sync + 'static {
    /// Stores `body` and returns its length in bytes. When it returns, the object outlives a crash, so far as
    /// the driver promises that.
    ///
    /// `size` is the announced length in bytes, if it is known. Errors: `AlreadyExists`, `NotPrepared`,
    /// `WrongTenant`, `SizeMismatch`, `Body`, `Full`, `Quota`, `ReadOnly`.
    async fn write(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        size: Option<u64>,
        body: ByteStream,
    ) -> StorageResult<u64>;

    /// Opens an object. `range` is in bytes and half open; `None` means all of it. Errors: `NotFound`,
    /// `InvalidRange`; what goes wrong later ends the stream with an error.
    async fn read(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> StorageResult<ByteStream>;

    /// Removes an object. A missing object is no error.
    async fn delete(&self, tenant: &Tenant, key: &ObjectKey) -> StorageResult<()>;

    /// All objects of the account, each once, in no particular order. An account that was never prepared has
    /// none. Objects that are written or deleted meanwhile may or may not be among them.
    async fn list(
        &self,
        tenant: &Tenant,
    ) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>>;

    /// An address from which anyone may fetch the object without credentials until `valid_for` has passed.
    /// `None` if the backend has no such thing. Whether the object exists is not checked.
    async fn download_url(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        valid_for: Duration,
    ) -> StorageResult<Option<Url>>;

    /// The bytes that the account's objects take up. Zero for an account that was never prepared.
    async fn used_bytes(&self, tenant: &Tenant) -> StorageResult<u64>;

    /// Makes the account's container. Idempotent. Errors: `WrongTenant` if the account belongs to another auth
    /// tenant, `NotOurs` if something that no registry made lies in its place: it is never adopted silently.
    async fn prepare_account(&self, tenant: &Tenant) -> StorageResult<()>;

    /// Removes the account's container. Idempotent. Errors: `NotEmpty` if it still holds objects, `WrongTenant`.
    async fn release_account(&self, tenant: &Tenant) -> StorageResult<()>;

    /// Really tries the backend, cheaply enough to be asked every few seconds.
    async fn check(&self) -> StorageResult<()>;
}

/// The operations of a [`StorageDriver`], for labels and for the driver that injects faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// [`StorageDriver::write`]
    Write,
    /// [`StorageDriver::read`]
    Read,
    /// [`StorageDriver::delete`]
    Delete,
    /// [`StorageDriver::list`]
    List,
    /// [`StorageDriver::download_url`]
    DownloadUrl,
    /// [`StorageDriver::used_bytes`]
    UsedBytes,
    /// [`StorageDriver::prepare_account`]
    PrepareAccount,
    /// [`StorageDriver::release_account`]
    ReleaseAccount,
    /// [`StorageDriver::check`]
    Check,
}

impl Op {
    /// The name of the method, as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Delete => "delete",
            Self::List => "list",
            Self::DownloadUrl => "download_url",
            Self::UsedBytes => "used_bytes",
            Self::PrepareAccount => "prepare_account",
            Self::ReleaseAccount => "release_account",
            Self::Check => "check",
        }
    }
}
