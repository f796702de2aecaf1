//! Deleting a blob from a repository.

use super::{
    Registry,
    access::{Delete, RepoAccess},
};
use crate::{
    db::{
        audit::audit_append,
        blobs::{BlobDelete, blob_delete, blobs_remove},
        repos::repo_find,
    },
    error::{Code, Error, Result},
    model::audit::AuditAction,
    oci::Digest,
};

impl Registry {
    /// Takes a blob out of a repository. One that a manifest of the repository needs is kept, and the
    /// client told which manifest that is.
    pub async fn blob_delete(&self, access: &RepoAccess<Delete>, digest: &Digest) -> Result<()> {
        let (name, digest, now) = (access.name().clone(), digest.clone(), self.clock.now());
        let event = self.repo_event(access, AuditAction::BlobDelete).of(&digest);
        let (repo, outcome, objects) = self
            .db
            .write(move |conn| {
                let repo = repo_find(conn, &name)?.ok_or_else(|| Error::new(Code::BlobUnknown))?;
                let outcome = blob_delete(conn, &repo, &digest)?;
                let objects = match outcome {
                    BlobDelete::Unmounted(id) => {
                        blobs_remove(conn, &repo.account.name, &[id], now)?
                    }
                    _ => Vec::new(),
                };
                if matches!(outcome, BlobDelete::Gone | BlobDelete::Unmounted(_)) {
                    audit_append(conn, &event.on(&repo.account))?;
                }
                Ok((repo, outcome, objects))
            })
            .await?;
        match outcome {
            BlobDelete::Missing => Err(Error::new(Code::BlobUnknown)),
            BlobDelete::InUse { by } => Err(Error::with_message(
                Code::InUse,
                format!("manifest {by} needs the blob; delete that first"),
            )),
            BlobDelete::Gone | BlobDelete::Unmounted(_) => {
                if !objects.is_empty() {
                    self.objects_delete(&repo.account, objects).await;
                }
                Ok(())
            }
        }
    }
}
