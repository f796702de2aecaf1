//! Deleting a manifest with its tags, or a tag alone.

use super::{
    Registry,
    access::{Delete, RepoAccess},
    manifest_rules::{refuse_manifest_delete, refuse_tag_delete},
};
use crate::{
    db::{
        audit::audit_append,
        manifests::{ManifestDelete, manifest_delete},
        repos::repo_find,
        tags::tag_delete,
    },
    error::{Code, Error, Result},
    model::audit::AuditAction,
    oci::Reference,
};

impl Registry {
    /// Deletes what the reference names: by tag the tag only, by digest the manifest and its tags.
    pub async fn manifest_delete(
        &self,
        access: &RepoAccess<Delete>,
        reference: &Reference,
    ) -> Result<()> {
        let (name, reference, now) = (access.name().clone(), reference.clone(), self.clock.now());
        let keep_until = now + self.settings.janitor.grace;
        let event = self.reference_event(access, AuditAction::ManifestDelete, &reference);
        let deleted = self
            .db
            .write(move |conn| {
                let unknown = || Error::new(Code::ManifestUnknown);
                let repo = repo_find(conn, &name)?.ok_or_else(unknown)?;
                let event = event.on(&repo.account);
                let digest = match &reference {
                    Reference::Tag(tag) => {
                        refuse_tag_delete(conn, &repo, &name.repo, tag)?;
                        audit_append(conn, &event)?;
                        return tag_delete(conn, repo.id, tag)?
                            .then_some(None)
                            .ok_or_else(unknown);
                    }
                    Reference::Digest(digest) => digest,
                };
                refuse_manifest_delete(conn, &repo, &name.repo, digest)?;
                match manifest_delete(conn, &repo, digest, (now, keep_until))? {
                    ManifestDelete::Missing => Err(unknown()),
                    ManifestDelete::InUse { by } => Err(Error::with_message(
                        Code::InUse,
                        format!("index {by} lists the manifest; delete that first"),
                    )),
                    ManifestDelete::Gone(object) => {
                        audit_append(conn, &event)?;
                        Ok(Some((repo.account, object)))
                    }
                }
            })
            .await?;
        if let Some((account, object)) = deleted {
            self.objects_delete(&account, vec![object]).await;
        }
        Ok(())
    }
}
