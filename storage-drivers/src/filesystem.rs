//! Objects as files, every account in a folder of its own: `<root>/<account>/chunks/<2 hex>/<uuid>`.
//!
//! It speaks to the file system directly, in blocking hops off the runtime's threads. It must not make a path
//! from a name that `names` has not checked, and must not overwrite or rename an object.
//!
//! What a newcomer will get wrong: a file that was fsynced is still lost in a power cut if the folder that
//! names it was not, and so up to the root; and a blocking hop runs to its end even when the future that waits
//! for it is dropped, so what a hop has made must be owned by a value that cleans up (see `write`).

mod layout;
mod list;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::task::spawn_blocking;
use url::Url;

use crate::detached::joined;
use crate::names::tenant_check;
use crate::{
    ByteStream, ObjectKey, StorageDriver, StorageError, StorageResult, StoredObject, Tenant,
};
use layout::Layout;

/// A driver that keeps every object in a file.
#[derive(Debug)]
pub struct FilesystemDriver {
    layout: Arc<Layout>,
}

impl FilesystemDriver {
    /// Makes the folder `root` if it is missing, for the server's user only. With `fsync`, a write returns when
    /// the object outlives a power cut; without, when the kernel has it. Blocks on file system calls.
    ///
    /// Errors: those of making the folder.
    pub fn open(root: &Path, fsync: bool) -> StorageResult<Self> {
        let layout = Layout::open(root, fsync)?;
        Ok(Self {
            layout: Arc::new(layout),
        })
    }

    /// Runs `work` where blocking is allowed.
    async fn hop<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> StorageResult<T> + Send + 'static,
    ) -> StorageResult<T> {
        let layout = Arc::clone(&self.layout);
        joined(spawn_blocking(move || work(&layout)).await)
    }
}

/// A file that is removed when this is dropped.
#[derive(Debug)]
struct Unlink(Option<PathBuf>);

impl Unlink {
    /// Leaves the file alone.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Unlink {
    fn drop(&mut self) {
        let Some(path) = self.0.take() else { return };
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), error = %e, "could not remove an unfinished file; the sweep will");
            }
            _ => {}
        }
    }
}

fn probe(layout: &Layout) -> StorageResult<()> {
    const CONTENT: &[u8] = b"kontor readiness probe";
    let path = layout.probe_path();
    let run = || {
        let mut file = layout::file_options()
            .read(true)
            .create_new(true)
            .open(&path)?;
        let _remove = Unlink(Some(path.clone()));
        file.write_all(CONTENT)?;
        if layout.fsync {
            file.sync_all()?;
        }
        file.rewind()?;
        let mut seen = Vec::with_capacity(CONTENT.len());
        file.read_to_end(&mut seen)?;
        if seen != CONTENT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what was read is not what was written",
            ));
        }
        fs::remove_file(&path)
    };
    run().map_err(|e| StorageError::from_io(e, &layout.root))
}

#[async_trait]
impl StorageDriver for FilesystemDriver {
    async fn write(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        size: Option<u64>,
        body: ByteStream,
    ) -> StorageResult<u64> {
        tenant_check(tenant)?;
        let target = write::Target {
            layout: Arc::clone(&self.layout),
            tenant: tenant.clone(),
            key: *key,
        };
        write::object_write(target, write::Batches::new(size, body)).await
    }

    async fn read(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> StorageResult<ByteStream> {
        tenant_check(tenant)?;
        let (path, key) = (self.layout.object_path(&tenant.account, *key), *key);
        let (first, rest) = self
            .hop(move |_| read::object_open(&path, key, range))
            .await?;
        Ok(read::object_stream(first, rest))
    }

    async fn delete(&self, tenant: &Tenant, key: &ObjectKey) -> StorageResult<()> {
        tenant_check(tenant)?;
        let path = self.layout.object_path(&tenant.account, *key);
        self.hop(move |layout| match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(StorageError::from_io(e, &path)),
            // Whoever deletes forgets the name next: the object must not come back in a power cut.
            Ok(()) => match path.parent() {
                Some(folder) => layout
                    .dir_sync(folder)
                    .map_err(|e| StorageError::from_io(e, folder)),
                None => Ok(()),
            },
        })
        .await
    }

    async fn list(
        &self,
        tenant: &Tenant,
    ) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>> {
        tenant_check(tenant)?;
        let folder = self.layout.account_path(&tenant.account);
        let shards = self.hop(move |_| list::shards(&folder)).await?;
        Ok(list::object_stream(shards))
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
        let folder = self.layout.account_path(&tenant.account);
        self.hop(move |_| list::used_bytes(&folder)).await
    }

    async fn prepare_account(&self, tenant: &Tenant) -> StorageResult<()> {
        tenant_check(tenant)?;
        let tenant = tenant.clone();
        self.hop(move |layout| layout.account_prepare(&tenant))
            .await
    }

    async fn release_account(&self, tenant: &Tenant) -> StorageResult<()> {
        tenant_check(tenant)?;
        let tenant = tenant.clone();
        self.hop(move |layout| layout.account_release(&tenant))
            .await
    }

    async fn check(&self) -> StorageResult<()> {
        self.hop(probe).await
    }
}
