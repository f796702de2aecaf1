//! Makes blobs of several chunks ones of a single chunk: such a blob can be fetched from the object store directly.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use storage_drivers::{ObjectKey, StorageError};
use tracing::{info, warn};

use super::{Registry, copy_stream::hashing};
use crate::{
    db::{
        accounts::account_find,
        blob_checks::{
            BlobTask, BlobWork, blob_claim, blob_due_since, blob_merge_later, blob_merged,
        },
        blobs::{Blob, Chunk},
        consistency::blob_chunks_of,
        loose_objects::LooseObject,
    },
    error::{Error, Result},
    model::account::Account,
    oci::Hasher,
};

/// How long a merge may take before another node begins it again, besides the time for its bytes.
const LEASE: Duration = Duration::from_secs(15 * 60);

/// The slowest that a merge is expected to be.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// When a merge that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// What became of a merge.
enum Merge {
    /// The blob has one chunk.
    Done,
    /// It has one already, or is larger than an object may be.
    Needless,
    /// It was changed meanwhile.
    Overtaken,
}

impl Registry {
    /// Since when a blob has been due, or when the first one will be.
    pub(super) async fn merge_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        self.db
            .read(|conn| blob_due_since(conn, BlobWork::Merge))
            .await
    }

    /// Merges the chunks of the blob that is due for longest; `false` if none is.
    pub(super) async fn chunks_merge(&self) -> Result<bool> {
        let now = self.clock.now();
        let lease =
            move |size_bytes: u64| now + LEASE + Duration::from_secs(size_bytes / BYTES_PER_SECOND);
        let claimed = self
            .db
            .write(move |conn| blob_claim(conn, BlobWork::Merge, now, lease))
            .await?;
        let Some(task) = claimed else {
            return Ok(false);
        };
        let merged = self.blob_merge(&task).await;
        let next_at = match &merged {
            Ok(Merge::Done) => return Ok(true),
            Ok(Merge::Needless) => None,
            Ok(Merge::Overtaken) | Err(_) => Some(self.after(RETRY_AFTER)),
        };
        let (account, digest) = (task.account.clone(), task.digest.clone());
        self.db
            .write(move |conn| blob_merge_later(conn, &task, next_at))
            .await?;
        if let Err(error) = merged {
            warn!(%account, %digest, "the chunks of a blob could not be merged");
            return Err(error);
        }
        Ok(true)
    }

    async fn blob_merge(&self, task: &BlobTask) -> Result<Merge> {
        let (name, id) = (task.account.clone(), task.id);
        let (account, chunks) = self
            .db
            .read(move |conn| Ok((account_find(conn, &name)?, blob_chunks_of(conn, id)?)))
            .await?;
        let Some(account) = account.filter(|account| !account.is_deleting) else {
            return Ok(Merge::Needless);
        };
        if chunks.len() < 2 || task.size_bytes > self.settings.chunk_bytes || task.was_broken {
            return Ok(Merge::Needless);
        }
        let object = LooseObject {
            key: ObjectKey::Chunk(self.ids.fresh()),
            storage: account.storage.clone(),
        };
        let written = self
            .merged_write(&account, (task, &chunks), object.clone())
            .await;
        if let Err(error) = written {
            self.objects_delete(&account, vec![object]).await;
            return Err(error);
        }
        let new = Chunk {
            object_id: object.key.id(),
            storage: object.storage.clone(),
            size_bytes: task.size_bytes,
        };
        let (now, merging) = (self.clock.now(), task.clone());
        let is_merged = self
            .db
            .write(move |conn| blob_merged(conn, &merging, (&chunks, &new), now))
            .await?;
        if !is_merged {
            self.objects_delete(&account, vec![object]).await;
            return Ok(Merge::Overtaken);
        }
        info!(account = %account.name, digest = %task.digest, "the chunks of a blob were merged");
        Ok(Merge::Done)
    }

    /// Writes the bytes of all chunks as one object, if they still have the blob's digest.
    async fn merged_write(
        &self,
        account: &Account,
        (task, chunks): (&BlobTask, &[Chunk]),
        object: LooseObject,
    ) -> Result<()> {
        let blob = Blob {
            id: task.id,
            account: account.clone(),
            size_bytes: task.size_bytes,
            is_broken: false,
            unused_until: None,
            chunks: chunks.to_vec(),
        };
        let body = self.blob_open(blob).await?;
        let hasher = Arc::new(Mutex::new(Hasher::new(task.digest.algorithm())));
        let body = hashing(body, Arc::clone(&hasher));
        let ids = vec![object.key.id()];
        let writing = self.object_write(account, &object, Some(task.size_bytes), body);
        match self.kept_fresh(ids, writing).await? {
            Err(error @ StorageError::Body(_)) => return Err(Error::unavailable(error)),
            written => written?,
        };
        let hasher = hasher.lock().unwrap_or_else(PoisonError::into_inner);
        if hasher.clone().finish() == task.digest {
            return Ok(());
        }
        Err(Error::internal("the chunks do not have the blob's digest"))
    }
}
