//! Walks an account's folders, one folder per hop: a listing holds the entries of one shard in memory, however
//! many objects the account has.
//!
//! Whatever vanishes between two steps was deleted meanwhile and is passed over.

use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use chrono::DateTime;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use crate::detached::joined;
use crate::{ObjectKey, StorageError, StorageResult, StoredObject};

/// A folder of objects of one kind.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    kind: &'static str,
}

/// The entries of a folder; none if it is missing.
fn entries(path: &Path) -> StorageResult<Vec<DirEntry>> {
    let read = || fs::read_dir(path)?.collect::<io::Result<Vec<_>>>();
    match read() {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|e| StorageError::from_io(e, path)),
    }
}

/// The folders below that of one kind.
pub(super) fn shard_folders(kind_folder: &Path) -> StorageResult<Vec<PathBuf>> {
    let folders = entries(kind_folder)?
        .into_iter()
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .map(|entry| entry.path());
    Ok(folders.collect())
}

/// All shards of an account.
pub(super) fn shards(account_folder: &Path) -> StorageResult<Vec<Shard>> {
    let mut shards = Vec::new();
    for kind in ObjectKey::FOLDERS {
        let folders = shard_folders(&account_folder.join(kind))?;
        shards.extend(folders.into_iter().map(|path| Shard { path, kind }));
    }
    Ok(shards)
}

fn objects(shard: &Shard) -> StorageResult<Vec<StoredObject>> {
    let mut found = Vec::new();
    for entry in entries(&shard.path)? {
        let name = entry.file_name();
        // Files of other names are not ours, such as those that NFS keeps for open files that were removed.
        let Some(key) = name
            .to_str()
            .and_then(|name| ObjectKey::from_parts(shard.kind, name))
        else {
            continue;
        };
        match entry.metadata() {
            Ok(meta) => found.push(StoredObject {
                key,
                size_bytes: meta.len(),
                modified_at: meta.modified().ok().map(DateTime::from),
            }),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(StorageError::from_io(e, &shard.path)),
        }
    }
    Ok(found)
}

/// The objects of all shards, each shard read when the stream comes to it.
pub(super) fn object_stream(shards: Vec<Shard>) -> BoxStream<'static, StorageResult<StoredObject>> {
    stream::iter(shards)
        .then(|shard| async move { joined(spawn_blocking(move || objects(&shard)).await) })
        .map_ok(|found| stream::iter(found.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

/// The size of all objects of an account.
pub(super) fn used_bytes(account_folder: &Path) -> StorageResult<u64> {
    let mut used_bytes = 0;
    for shard in shards(account_folder)? {
        used_bytes += objects(&shard)?.iter().map(|o| o.size_bytes).sum::<u64>();
    }
    Ok(used_bytes)
}
