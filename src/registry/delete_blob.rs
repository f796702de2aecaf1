//! Deleting a blob from a repository.

use std::sync::Arc;

use super::{
    Registry,
    access::{Delete, RepoAccess},
    legal_holds::refuse_held,
    trash::purge_events,
};
use crate::{
    db::{
        audit::{audit_append, audit_append_all},
        blob_delete::{BlobDelete, blob_delete, blobs_remove},
        repos::{Hold, repo_find, repo_hold},
    },
    error::{Code, Error, Result},
    model::audit::AuditAction,
    oci::Digest,
};

impl Registry {
    /// Takes a blob out of a repository, and the manifests of its trash that need it. One that a manifest of the
    /// repository needs is kept, and the client told which manifest that is.
    pub async fn blob_delete(&self, access: &RepoAccess<Delete>, digest: &Digest) -> Result<()> {
        let (name, digest, now) = (access.name().clone(), digest.clone(), self.clock.now());
        let keep_until = now + self.settings.janitor.grace;
        let event = self.repo_event(access, AuditAction::BlobDelete).of(&digest);
        let purge = self.repo_event(access, AuditAction::ManifestPurge);
        let ids = Arc::clone(&self.ids);
        let (repo, outcome, objects) = self
            .db
            .write(move |conn| {
                let repo = repo_find(conn, &name)?.ok_or_else(|| Error::new(Code::BlobUnknown))?;
                repo_hold(conn, &repo, Hold::Alone)?;
                refuse_held(conn, repo.id, &[], now)?;
                let (outcome, purged) = blob_delete(conn, &repo, &digest, (now, keep_until))?;
                let objects = match outcome {
                    BlobDelete::Unmounted(id) => {
                        blobs_remove(conn, &repo.account.name, &[id], now)?
                    }
                    _ => Vec::new(),
                };
                let reason = format!("its blob {digest} was deleted");
                let purge = purge.on(&repo.account);
                let purges = purge_events(&ids, (&purge, &reason), &purged.entries);
                audit_append_all(conn, &purges)?;
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
