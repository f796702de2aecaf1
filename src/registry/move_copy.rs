//! The copying of an account's objects to another backend.
//!
//! Each object is copied under a fresh name, which is noted as loose before; then the copy is read back and its
//! digest compared; then one transaction puts it in the old one's place and notes that one as loose. A blob's chunks
//! change places together, since the digest is that of all of them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use storage_drivers::{ByteStream, ObjectKey};
use tokio::time::Instant;
use tracing::debug;
use uuid::Uuid;

use super::{Registry, chunk_write::chunk_object, move_account::MoveStep};
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
    error::{Error, Result},
    model::account::Account,
    oci::{Algorithm, Digest, Hasher},
};

/// Rows that are read at a time.
const PAGE: i64 = 100;

/// What could not be copied in a pass; the rest was.
#[derive(Debug, Default)]
struct Failures {
    count: u64,
    first: Option<Error>,
}

impl Failures {
    fn note(&mut self, what: impl std::fmt::Display, error: Error) {
        let reason = error.causes().unwrap_or_else(|| error.to_string());
        tracing::warn!(%what, reason, "could not be moved");
        self.count += 1;
        self.first.get_or_insert(Error::unavailable(reason));
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
                .read(move |conn| manifests_elsewhere(conn, &name, (&target, after), PAGE))
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
                        self.put_in_place(account, step, Owner::Manifest, vec![copied])
                            .await?
                    }
                    Err(error) => failures.note(id, error),
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
        let mut actual = Hasher::new(Algorithm::Sha256);
        self.read_back(account, &new, &mut [&mut actual]).await?;
        self.refuse_unlike(
            account,
            &[new.clone()],
            &expected.finish(),
            &actual.finish(),
        )
        .await?;
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
                        self.put_in_place(account, step, Owner::Blob(id), copied)
                            .await?
                    }
                    Err(error) => failures.note(digest, error),
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
        let mut hasher = Hasher::new(digest.algorithm());
        let (mut copied, mut copies) = (Vec::new(), Vec::new());
        for chunk in chunks {
            if chunk.storage == target {
                let here = chunk_object(&chunk);
                self.read_back(account, &here, &mut [&mut hasher]).await?;
                continue;
            }
            let result = self
                .chunk_copy(account, target, &chunk, Some(&mut hasher))
                .await;
            match result {
                Ok(new) => {
                    copied.push(Copied {
                        old: chunk_object(&chunk),
                        size_bytes: chunk.size_bytes,
                        new: new.key.id(),
                    });
                    copies.push(new);
                }
                Err(error) => {
                    self.objects_delete(account, copies).await;
                    return Err(error);
                }
            }
        }
        self.refuse_unlike(account, &copies, digest, &hasher.finish())
            .await?;
        Ok(copied)
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
                        let copied = Copied {
                            old: chunk_object(&chunk),
                            size_bytes: chunk.size_bytes,
                            new: new.key.id(),
                        };
                        self.put_in_place(account, step, Owner::Upload(upload), vec![copied])
                            .await?;
                    }
                    Err(error) => failures.note(chunk.object_id, error),
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
        let mut actual = Hasher::new(Algorithm::Sha256);
        let mut hashers = vec![&mut actual];
        hashers.extend(whole);
        self.read_back(account, &new, &mut hashers).await?;
        let expected = expected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.refuse_unlike(
            account,
            &[new.clone()],
            &expected.finish(),
            &actual.finish(),
        )
        .await?;
        Ok(new)
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

    async fn refuse_unlike(
        &self,
        account: &Account,
        copies: &[LooseObject],
        expected: &Digest,
        actual: &Digest,
    ) -> Result<()> {
        if expected == actual {
            return Ok(());
        }
        self.objects_delete(account, copies.to_vec()).await;
        Err(Error::unavailable(format!(
            "the copy of {expected} has the digest {actual}; the original may be damaged, `kontor check --digests` tells"
        )))
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
            .map(|copy| LooseObject {
                key: copy.old.key.with_id(copy.new),
                storage: step.moving.target.clone(),
            })
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
                    crate::error::Code::Conflict,
                    "it has changed meanwhile",
                ))
            })
            .await;
        match is_in_place {
            Ok(()) => Ok(()),
            Err(error) if error.code().status() < 500 => {
                debug!(?owner, "what was copied has changed or gone meanwhile");
                self.objects_delete(account, copies).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn hashing(body: ByteStream, hasher: Arc<Mutex<Hasher>>) -> ByteStream {
    body.inspect_ok(move |piece| {
        hasher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .update(piece);
    })
    .boxed()
}

/// Lets a body through at no more than so many bytes a second; 0 means as fast as it comes.
fn paced(body: ByteStream, bytes_per_second: u64) -> ByteStream {
    if bytes_per_second == 0 {
        return body;
    }
    let begun = Instant::now();
    let mut passed = 0_u64;
    body.and_then(move |piece| {
        passed += piece.len() as u64;
        let due = begun + Duration::from_secs_f64(passed as f64 / bytes_per_second as f64);
        async move {
            tokio::time::sleep_until(due).await;
            Ok(piece)
        }
    })
    .boxed()
}
