//! Lists what is in a container, a page at a time.

use std::time::SystemTime;

use chrono::DateTime;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use opendal::options::ListOptions;
use opendal::{Entry, Lister, Operator};

use super::failure::{At, Failure};
use crate::{ObjectKey, StorageResult, StoredObject};

/// The object that says whom a container belongs to.
pub(super) const MARKER: &str = ".kontor-account";
/// As many as S3 gives at most.
const PAGE: usize = 1000;

async fn lister(operator: &Operator, page: usize) -> opendal::Result<Lister> {
    let options = ListOptions {
        recursive: true,
        limit: Some(page),
        ..ListOptions::default()
    };
    operator.lister_options("", options).await
}

/// Whether there is nothing but a marker. A bucket that is missing is not empty but an error.
pub(super) async fn is_empty(operator: &Operator) -> Result<bool, Failure> {
    let mut entries = lister(operator, 2).await?;
    while let Some(entry) = entries.try_next().await? {
        // The folder itself, which some servers and people make an object of.
        if entry.path() != MARKER && !entry.path().is_empty() && entry.path() != "/" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn object(entry: &Entry) -> Option<StoredObject> {
    let (folder, name) = entry.path().split_once('/')?;
    let metadata = entry.metadata();
    let modified_at = metadata
        .last_modified()
        .map(|at| DateTime::from(SystemTime::from(at)));
    Some(StoredObject {
        key: ObjectKey::from_parts(folder, name)?,
        size_bytes: metadata.content_length(),
        modified_at,
    })
}

/// The objects of an account. A missing bucket has none.
pub(super) async fn objects(
    operator: Operator,
    bucket: String,
) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>> {
    let entries = lister(&operator, PAGE).await.at(&bucket)?;
    let entries = entries.map_err(Failure::from);
    let found = entries.filter_map(move |entry| {
        let found = match entry {
            Ok(entry) => object(&entry).map(Ok),
            Err(failure) if failure.is_missing() => None,
            Err(failure) => Some(Err(failure.at(&bucket))),
        };
        async move { found }
    });
    Ok(found.boxed())
}

/// The sum of the sizes.
pub(super) async fn used_bytes(
    objects: BoxStream<'static, StorageResult<StoredObject>>,
) -> StorageResult<u64> {
    objects
        .try_fold(0, |sum, object| async move { Ok(sum + object.size_bytes) })
        .await
}
