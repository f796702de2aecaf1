//! Reads the content of blobs again and compares it with their digests.
//!
//! What is wrong is shown on the blob, and cleared when the content is whole again. A broken blob is not served to those
//! who push, so that the next push of its digest brings the content anew (`db/blobs.rs blob_put`).

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use storage_drivers::{ObjectKey, StorageError};
use tracing::{error, info};

use super::{Registry, copy_stream::paced};
use crate::{
    db::{
        accounts::account_find,
        blob_checks::{
            BlobTask, BlobWork, blob_claim, blob_due_since, blob_validate_later, blob_validated,
        },
        blobs::Chunk,
        consistency::blob_chunks_of,
    },
    error::{Error, Result},
    model::account::Account,
    oci::Hasher,
};

/// How long a validation may take before another node begins it again, besides the time for its bytes.
const LEASE: Duration = Duration::from_secs(15 * 60);

/// The slowest that content is expected to be read.
const SLOWEST_BYTES_PER_SECOND: u64 = 1 << 20;

/// When content that could not be looked at is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

/// What was found.
enum Found {
    /// The content is what it should be.
    Whole,
    /// It is not; a sentence says how.
    Broken(String),
    /// The blob was changed while it was read.
    Changed,
}

impl Registry {
    /// Since when a blob has been due, or when the first one will be.
    pub(super) async fn blobs_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        if self.settings.janitor.blob_validation.is_none() {
            return Ok(None);
        }
        self.db
            .read(|conn| blob_due_since(conn, BlobWork::Validate))
            .await
    }

    /// Validates the blob that is due for longest; `false` if none is.
    pub(super) async fn blob_validate(&self) -> Result<bool> {
        let Some(every) = self.settings.janitor.blob_validation else {
            return Ok(false);
        };
        let now = self.clock.now();
        let pace = self.settings.janitor.validation_bytes_per_second;
        let pace = if pace == 0 { u64::MAX } else { pace };
        let slowest = pace.min(SLOWEST_BYTES_PER_SECOND) / 2 + 1;
        let lease = move |size_bytes: u64| now + LEASE + Duration::from_secs(size_bytes / slowest);
        let claimed = self
            .db
            .write(move |conn| blob_claim(conn, BlobWork::Validate, now, lease))
            .await?;
        let Some(task) = claimed else {
            return Ok(false);
        };
        let problem = match self.blob_look(&task).await {
            Ok(Found::Whole) => None,
            Ok(Found::Broken(problem)) => Some(problem),
            later => {
                let at = self.after(RETRY_AFTER);
                self.db
                    .write(move |conn| blob_validate_later(conn, &task, at))
                    .await?;
                return later.map(|_| true);
            }
        };
        let (account, digest) = (task.account.clone(), task.digest.clone());
        match &problem {
            Some(problem) => error!(%account, %digest, problem, "a blob is broken"),
            None if task.was_broken => info!(%account, %digest, "a blob is whole again"),
            None => {}
        }
        let next_at = self.after(every);
        self.db
            .write(move |conn| blob_validated(conn, &task, problem.as_deref(), next_at))
            .await?;
        Ok(true)
    }

    async fn blob_look(&self, task: &BlobTask) -> Result<Found> {
        let (name, id) = (task.account.clone(), task.id);
        let (account, chunks) = self
            .db
            .read(move |conn| Ok((account_find(conn, &name)?, blob_chunks_of(conn, id)?)))
            .await?;
        let Some(account) = account else {
            return Ok(Found::Changed);
        };
        let problem = match self.content_digest(&account, task, &chunks).await {
            Ok(actual) if actual == task.digest.as_str() => return Ok(Found::Whole),
            Ok(actual) => format!("the content has the digest {actual}"),
            Err(Unreadable::Missing(key)) => format!("object {key} is missing"),
            Err(Unreadable::Failed(error)) => return Err(error),
        };
        // It may have been moved, merged or deleted while it was read.
        let now = self.db.read(move |conn| blob_chunks_of(conn, id)).await?;
        Ok(if now == chunks {
            Found::Broken(problem)
        } else {
            Found::Changed
        })
    }

    async fn content_digest(
        &self,
        account: &Account,
        task: &BlobTask,
        chunks: &[Chunk],
    ) -> Result<String, Unreadable> {
        let mut hasher = Hasher::new(task.digest.algorithm());
        for chunk in chunks {
            let driver = self.backends.get(&chunk.storage)?;
            let key = ObjectKey::Chunk(chunk.object_id);
            let content = match driver.read(&account.tenant(), &key, None).await {
                Err(StorageError::NotFound(_)) => return Err(Unreadable::Missing(key)),
                opened => opened.map_err(Error::from)?,
            };
            let pace = self.settings.janitor.validation_bytes_per_second;
            let mut content = paced(content, pace);
            while let Some(piece) = content.try_next().await.map_err(Error::unavailable)? {
                hasher.update(&piece);
            }
        }
        Ok(hasher.finish().to_string())
    }
}

/// Why content could not be read to its end.
enum Unreadable {
    Missing(ObjectKey),
    Failed(Error),
}

impl From<Error> for Unreadable {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
