//! The copying of an account's objects to another backend.
//!
//! Each object is copied under a fresh name, which is noted as loose before; then the copy is read back and its
//! digest compared; then one transaction puts it in the old one's place and notes that one as loose. A blob's chunks
//! change places together, since the digest is that of all of them.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use storage_drivers::ObjectKey;
use tracing::debug;
use uuid::Uuid;

use super::{
    Registry,
    chunk_write::chunk_object,
    copy_stream::{hashing, paced},
    move_account::MoveStep,
};
use crate::{
    db::{
        blobs::Chunk,
        consistency::blob_chunks_of,
        loose_objects::LooseObject,
        relocate::{
            Copied, ManifestObject, Owner, blobs_elsewhere, manifests_elsewhere, relocate,
            upload_chunks_elsewhere,
        },
    },
    error::{Code, Error, Result},
    model::account::Account,
    oci::{Algorithm, Digest, Hasher},
};

/// Rows that are read at a time.
const PAGE: i64 = 100;

/// Manifests are read with their contents, each up to some megabytes.
const MANIFEST_PAGE: i64 = 8;

/// After so many failures, one after the other, a pass is given up.
const FAILURES_IN_A_ROW: u64 = 10;

/// What could not be copied in a pass; the rest was.
#[derive(Debug, Default)]
struct Failures {
    count: u64,
    in_a_row: u64,
    first: Option<Error>,
}

impl Failures {
    /// Notes a failure; it is the end of the pass if the lease is lost or nothing works any more.
    fn note(&mut self, what: impl std::fmt::Display, error: Error, step: &MoveStep) -> Result<()> {
        if step.is_lost {
            return Err(error);
        }
        let reason = error.causes().unwrap_or_else(|| error.to_string());
        tracing::warn!(%what, reason, "could not be moved");
        self.count += 1;
        self.in_a_row += 1;
        self.first.get_or_insert(Error::unavailable(reason));
        if self.in_a_row < FAILURES_IN_A_ROW {
            return Ok(());
        }
        std::mem::take(self).into_result()
    }

    fn into_result(self) -> Result<()> {
        let Some(first) = self.first else {
            return Ok(());
        };
        let message = format!(
            "{} objects could not be moved yet; the log says why",
            self.count
        );
        Err(Error::with_message(first.code(), message).caused_by(first))
    }
}

impl Registry {
    /// Copies everything that is not on the new backend yet. What fails does not keep the rest from being copied.
    pub(super) async fn copy_pass(&self, account: &Account, step: &mut MoveStep) -> Result<()> {
        let mut failures = Failures::default();
        self.manifests_copy(account, step, &mut failures).await?;
        self.blobs_copy(account, step, &mut failures).await?;
        self.uploads_copy(account, step, &mut failures).await?;
        failures.into_result()
    }

    async fn manifests_copy(
        &self,
        account: &Account,
        step: &mut MoveStep,
        failures: &mut Failures,
    ) -> Result<()> {
        let mut after = Uuid::nil();
        loop {
            let (name, target) = (account.name.clone(), step.moving.target.clone());
            let page = self
                .db
                .read(move |conn| manifests_elsewhere(conn, &name, (&target, after), MANIFEST_PAGE))
                .await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.object_id;
            for manifest in page {
                let id = manifest.object_id;
                let target = step.moving.target.clone();
                let moved = self.manifest_copy(account, &target, manifest);
                match self.held(step, moved).await {
                    Ok(copied) => {
                        failures.in_a_row = 0;
                        self.put_in_place(account, step, Owner::Manifest, vec![copied])
                            .await?;
                    }
                    Err(error) => failures.note(id, error, step)?,
                }
            }
        }
    }

    /// The content is in the database as well, where its digest was checked.
    async fn manifest_copy(
        &self,
        account: &Account,
        target: &str,
        manifest: ManifestObject,
    ) -> Result<Copied> {
        let content = bytes::Bytes::from(manifest.content);
        let size_bytes = content.len() as u64;
        let mut expected = Hasher::new(Algorithm::Sha256);
        expected.update(&content);
        let new = LooseObject {
            key: ObjectKey::Manifest(self.ids.fresh()),
            storage: target.to_owned(),
        };
        let body = stream::iter([Ok(content)]).boxed();
        self.object_write(account, &new, Some(size_bytes), body)
            .await??;
        let checked = self.compare(account, &new, &expected.finish(), None).await;
        self.or_remove(account, vec![new.clone()], checked).await?;
        Ok(Copied {
            old: LooseObject {
                key: ObjectKey::Manifest(manifest.object_id),
                storage: manifest.storage,
            },
            size_bytes,
            new: new.key.id(),
        })
    }

    async fn blobs_copy(
        &self,
        account: &Account,
        step: &mut MoveStep,
        failures: &mut Failures,
    ) -> Result<()> {
        let mut after = 0;
        loop {
            let (name, target) = (account.name.clone(), step.moving.target.clone());
            let page = self
                .db
                .read(move |conn| blobs_elsewhere(conn, &name, (&target, after), PAGE))
                .await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = *last;
            for (id, digest) in page {
                let target = step.moving.target.clone();
                let moved = self.blob_copy(account, &target, (id, &digest));
                match self.held(step, moved).await {
                    Ok(copied) => {
                        failures.in_a_row = 0;
                        self.put_in_place(account, step, Owner::Blob(id), copied)
                            .await?;
                    }
                    Err(error) => failures.note(digest, error, step)?,
                }
            }
        }
    }

    async fn blob_copy(
        &self,
        account: &Account,
        target: &str,
        (id, digest): (i64, &Digest),
    ) -> Result<Vec<Copied>> {
        let chunks = self.db.read(move |conn| blob_chunks_of(conn, id)).await?;
        let mut copied = Vec::new();
        let result = self
            .blob_chunks_copy(account, target, (&chunks, digest), &mut copied)
            .await;
        let copies = copied
            .iter()
            .map(|copy: &Copied| copy.object_on(target))
            .collect();
        self.or_remove(account, copies, result).await?;
        Ok(copied)
    }

    /// Copies those chunks that are elsewhere; what is copied stands in `copied`, also after a failure.
    async fn blob_chunks_copy(
        &self,
        account: &Account,
        target: &str,
        (chunks, digest): (&[Chunk], &Digest),
        copied: &mut Vec<Copied>,
    ) -> Result<()> {
        let mut whole = Hasher::new(digest.algorithm());
        for chunk in chunks {
            if chunk.storage == target {
                let here = chunk_object(chunk);
                self.read_back(account, &here, &mut [&mut whole]).await?;
                continue;
            }
            let new = self
                .chunk_copy(account, target, chunk, Some(&mut whole))
                .await?;
            copied.push(Copied {
                old: chunk_object(chunk),
                size_bytes: chunk.size_bytes,
                new: new.key.id(),
            });
        }
        refuse_unlike(digest, &whole.finish())
    }

    async fn uploads_copy(
        &self,
        account: &Account,
        step: &mut MoveStep,
        failures: &mut Failures,
    ) -> Result<()> {
        let mut after = Uuid::nil();
        loop {
            let (name, target) = (account.name.clone(), step.moving.target.clone());
            let page = self
                .db
                .read(move |conn| upload_chunks_elsewhere(conn, &name, (&target, after), PAGE))
                .await?;
            let Some((_, last)) = page.last() else {
                return Ok(());
            };
            after = last.object_id;
            for (upload, chunk) in page {
                let target = step.moving.target.clone();
                let moved = self.chunk_copy(account, &target, &chunk, None);
                match self.held(step, moved).await {
                    Ok(new) => {
                        failures.in_a_row = 0;
                        let copied = Copied {
                            old: chunk_object(&chunk),
                            size_bytes: chunk.size_bytes,
                            new: new.key.id(),
                        };
                        self.put_in_place(account, step, Owner::Upload(upload), vec![copied])
                            .await?;
                    }
                    Err(error) => failures.note(chunk.object_id, error, step)?,
                }
            }
        }
    }

    /// Copies one chunk and compares the copy with what was read; the copy is loose. `whole` goes on over it.
    async fn chunk_copy(
        &self,
        account: &Account,
        target: &str,
        chunk: &Chunk,
        whole: Option<&mut Hasher>,
    ) -> Result<LooseObject> {
        let new = LooseObject {
            key: ObjectKey::Chunk(self.ids.fresh()),
            storage: target.to_owned(),
        };
        let source = self.backends.get(&chunk.storage)?;
        let key = ObjectKey::Chunk(chunk.object_id);
        let content = source.read(&account.tenant(), &key, None).await?;
        let expected = Arc::new(Mutex::new(Hasher::new(Algorithm::Sha256)));
        let content = hashing(content, Arc::clone(&expected));
        let content = paced(content, self.settings.moves.bytes_per_second);
        self.object_write(account, &new, Some(chunk.size_bytes), content)
            .await??;
        let expected = expected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let checked = self.compare(account, &new, &expected.finish(), whole).await;
        self.or_remove(account, vec![new.clone()], checked).await?;
        Ok(new)
    }

    /// Reads a copy and compares its digest; `whole` goes on over it.
    async fn compare(
        &self,
        account: &Account,
        copy: &LooseObject,
        expected: &Digest,
        whole: Option<&mut Hasher>,
    ) -> Result<()> {
        let mut actual = Hasher::new(Algorithm::Sha256);
        let mut hashers = vec![&mut actual];
        hashers.extend(whole);
        self.read_back(account, copy, &mut hashers).await?;
        refuse_unlike(expected, &actual.finish())
    }

    /// Removes copies that are of no use.
    async fn or_remove<T>(
        &self,
        account: &Account,
        copies: Vec<LooseObject>,
        result: Result<T>,
    ) -> Result<T> {
        if result.is_err() && !copies.is_empty() {
            self.objects_delete(account, copies).await;
        }
        result
    }

    async fn read_back(
        &self,
        account: &Account,
        object: &LooseObject,
        hashers: &mut [&mut Hasher],
    ) -> Result<()> {
        let driver = self.backends.get(&object.storage)?;
        let mut content = driver.read(&account.tenant(), &object.key, None).await?;
        while let Some(piece) = content.try_next().await.map_err(Error::unavailable)? {
            for hasher in &mut *hashers {
                hasher.update(&piece);
            }
        }
        Ok(())
    }

    /// Puts copies in the place of what they are copies of, or deletes them if that has changed meanwhile.
    async fn put_in_place(
        &self,
        account: &Account,
        step: &MoveStep,
        owner: Owner,
        copied: Vec<Copied>,
    ) -> Result<()> {
        let copies: Vec<LooseObject> = copied
            .iter()
            .map(|copy| copy.object_on(&step.moving.target))
            .collect();
        let (moving, now) = (step.moving.clone(), self.clock.now());
        let is_in_place = self
            .db
            .write(move |conn| {
                if relocate(conn, &moving, (owner, &copied), now)? {
                    return Ok(());
                }
                // Undoes what was changed so far.
                Err(Error::with_message(
                    Code::Conflict,
                    "it has changed meanwhile",
                ))
            })
            .await;
        match is_in_place {
            Ok(()) => Ok(()),
            Err(error) if error.code().status() < 500 || error.code() == Code::Swept => {
                debug!(?owner, "what was copied has changed or gone meanwhile");
                self.objects_delete(account, copies).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn refuse_unlike(expected: &Digest, actual: &Digest) -> Result<()> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::unavailable(format!(
        "the copy of {expected} has the digest {actual}; the original may be damaged, `kontor check --digests` tells"
    )))
}
