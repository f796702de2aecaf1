//! Deleting a manifest with its tags and what is about it, or a tag alone.

use std::{sync::Arc, time::Duration};

use super::{
    Registry,
    access::{Delete, RepoAccess},
    legal_holds::refuse_held,
    manifest_rules::{refuse_by_policy, refuse_tag_delete},
};
use crate::{
    db::{
        Conn,
        audit::audit_append,
        legal_holds::holds_of_repo,
        loose_objects::LooseObject,
        manifest_delete::{Deletion, ManifestDelete, manifest_delete},
        repos::{Hold, Repo, repo_find, repo_hold},
        tag_history::TagAuthor,
        tags::{tag_delete, tags_of},
    },
    error::{Code, Error, Result},
    ids::Ids,
    model::{
        audit::{AuditAction, AuditEvent, AuditOutcome},
        tag_policy::{TagChange, blocking_policy},
    },
    oci::{Digest, Reference, RepoName, Tag},
};

/// How manifests are deleted, whoever wants it: what is protected or held is refused, the rest goes to the trash.
#[derive(Debug, Clone)]
pub(super) struct ManifestDeletion {
    event: AuditEvent,
    ids: Arc<Ids>,
    grace: Duration,
}

impl ManifestDeletion {
    /// Deletes a manifest in a transaction, which it ends with audit events of it and of all that went with it. The
    /// objects are to be deleted after the commit.
    pub(super) fn run(
        &self,
        conn: &mut Conn,
        (repo, name): (&Repo, &RepoName),
        digest: &Digest,
    ) -> Result<ManifestDelete> {
        let (settings, now) = (repo_hold(conn, repo, Hold::Alone)?, self.event.at);
        let tags = tags_of(conn, repo.id, digest)?;
        refuse_held(conn, repo.id, &tags, now)?;
        let owner = repo.account.auth_tenant_id.as_str();
        let policies = (owner, settings.tag_policies.as_slice());
        for tag in &tags {
            refuse_by_policy(policies, TagChange::Delete, name, tag)?;
        }
        let holds = holds_of_repo(conn, repo.id, now)?;
        let is_protected = |tag: &Tag| {
            holds.iter().any(|hold| hold.tag.as_ref() == Some(tag))
                || blocking_policy(policies, TagChange::Delete, name, tag).is_some()
        };
        let by = self.event.who_name();
        let deletion = Deletion {
            author: TagAuthor { by, now },
            purge_at: settings.purge_at(now),
            keep_until: now + self.grace,
            is_protected: &is_protected,
        };
        let deleted = manifest_delete(conn, repo, digest, deletion)?;
        if let ManifestDelete::Gone(gone) = &deleted {
            for manifest in gone {
                let mut event = self.event.clone().of(&manifest.digest).on(&repo.account);
                event.target.tags = manifest.tags.iter().map(ToString::to_string).collect();
                if manifest.digest != *digest {
                    event.id = self.ids.fresh();
                    let mut reason = format!("it is about {digest}, which was deleted");
                    if let Some(why) = &self.event.reason {
                        reason = format!("{reason} by {why}");
                    }
                    event = event.ended(AuditOutcome::Success, reason);
                }
                audit_append(conn, &event)?;
            }
        }
        Ok(deleted)
    }
}

impl Registry {
    /// Prepares to delete manifests. `event` says who does it, and why; each manifest needs its own.
    pub(super) fn manifest_deletion(&self, event: AuditEvent) -> ManifestDeletion {
        ManifestDeletion {
            event,
            ids: Arc::clone(&self.ids),
            grace: self.settings.janitor.grace,
        }
    }

    /// Deletes what the reference names: by tag the tag only, by digest the manifest with its tags and with what is about
    /// it.
    pub async fn manifest_delete(
        &self,
        access: &RepoAccess<Delete>,
        reference: &Reference,
    ) -> Result<()> {
        let (name, reference) = (access.name().clone(), reference.clone());
        let event = self.reference_event(access, AuditAction::ManifestDelete, &reference);
        let deletion = self.manifest_deletion(event.clone());
        let deleted = self
            .db
            .write(move |conn| {
                let unknown = || Error::new(Code::ManifestUnknown);
                let repo = repo_find(conn, &name)?.ok_or_else(unknown)?;
                let digest = match &reference {
                    Reference::Tag(tag) => {
                        let now = event.at;
                        refuse_tag_delete(conn, &repo, (&name.repo, tag), now)?;
                        let by = event.who_name();
                        if !tag_delete(conn, (repo.id, tag), TagAuthor { by, now })? {
                            return Err(unknown());
                        }
                        audit_append(conn, &event.on(&repo.account))?;
                        return Ok(None);
                    }
                    Reference::Digest(digest) => digest,
                };
                match deletion.run(conn, (&repo, &name.repo), digest)? {
                    ManifestDelete::Missing => Err(unknown()),
                    ManifestDelete::InUse { by } => Err(Error::with_message(
                        Code::InUse,
                        format!("index {by} lists the manifest; delete that first"),
                    )),
                    ManifestDelete::Gone(gone) => Ok(Some((repo.account, gone))),
                }
            })
            .await?;
        if let Some((account, gone)) = deleted {
            let objects: Vec<LooseObject> =
                gone.into_iter().map(|manifest| manifest.object).collect();
            self.objects_delete(&account, objects).await;
        }
        Ok(())
    }
}
