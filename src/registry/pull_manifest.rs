//! Pulling a manifest: one query, and a note in memory.

use super::{
    Registry,
    access::{Pull, RepoAccess},
};
use crate::{
    db::manifests::{Pull as PullNote, StoredManifest, manifest_find},
    error::{Code, Error, Result},
    model::audit::AuditAction,
    oci::Reference,
};

impl Registry {
    /// The manifest that a tag or digest leads to, without counting as a pull (HEAD).
    pub async fn manifest_get(
        &self,
        access: &RepoAccess<Pull>,
        reference: &Reference,
    ) -> Result<StoredManifest> {
        let (name, wanted) = (access.name().clone(), reference.clone());
        let manifest = self
            .db
            .read(move |conn| manifest_find(conn, &name, &wanted))
            .await?;
        manifest.ok_or_else(|| Error::new(Code::ManifestUnknown))
    }

    /// The manifest that a tag or digest leads to.
    pub async fn manifest_pull(
        &self,
        access: &RepoAccess<Pull>,
        reference: &Reference,
    ) -> Result<StoredManifest> {
        let manifest = self.manifest_get(access, reference).await?;
        self.pulls.note(PullNote {
            repo_id: manifest.repo_id,
            digest: manifest.digest.clone(),
            tag: match reference {
                Reference::Tag(tag) => Some(tag.to_string()),
                Reference::Digest(_) => None,
            },
            at: self.clock.now(),
        });
        if manifest.audited_for.is_some() {
            let mut event = self.reference_event(access, AuditAction::ManifestPull, reference);
            event.auth_tenant_id = manifest.audited_for.clone();
            self.audit_note(event.of(&manifest.digest)).await?;
        }
        Ok(manifest)
    }
}
