//! Repositories, manifests and tags for those who manage them: lists with sizes and times, and deletion.
//!
//! Deletions of manifests and tags are those of `/v2/`, so the same rules hold. What a newcomer gets wrong: a
//! permission on some repositories of an account is none to see its list, as in the catalog; and a repository that
//! somebody may not see looks like one that does not exist.

use super::{
    Registry,
    access::{Delete, Demand, RepoAccess, RepoPermission},
    account_delete::{MANIFESTS_TOLD, still_has},
    caller::{Actor, Authority, Caller},
    legal_holds::held_content,
    tags::{Page, page_limit, page_marker},
};
use crate::{
    auth::{authorize::Asked, challenge::Challenge, driver::Identity},
    db::{
        audit::audit_append,
        blob_delete::{BlobDelete, blob_delete, blobs_remove},
        legal_holds::{hold_on_any, holds_forget, holds_of_repo},
        listings::{manifest_summaries, remaining_in_repo, repo_summaries, tag_summaries},
        quotas::quota_settle,
        repos::{Hold, repo_delete, repo_find, repo_hold, repo_lock, repo_mounts},
        trash::{Unneeded, trash_of_repo, trash_purge},
        uploads::{upload_end, upload_find, upload_ids},
    },
    error::{Code, Error, Result},
    model::{
        audit::AuditAction,
        listing::{ManifestSummary, PageOrder, RepoSummary, TagSummary},
        permission::Permission,
        quota::Amounts,
    },
    oci::{AccountName, FullRepoName, Reference},
};

/// How many manifests of the trash one transaction takes out of a repository that is being deleted.
const TRASH_PER_STEP: i64 = 200;

/// How many blobs one transaction takes out of a repository that is being deleted.
const BLOBS_PER_STEP: i64 = 200;

impl Registry {
    /// A page of an account's repositories by name, with those that hold no manifests.
    pub async fn repositories_list(
        &self,
        identity: &Identity,
        account: &AccountName,
        page: PageOrder,
    ) -> Result<Page<RepoSummary>> {
        self.account_access(identity, account, Permission::View)
            .await?;
        let ((rows, limit), after) = (page_limit(page.limit), page_marker(page.last));
        let account = account.clone();
        let repos = self
            .db
            .read(move |conn| repo_summaries(conn, &account, &after, rows))
            .await?;
        Ok(Page::cut(repos, limit))
    }

    /// A page of a repository's manifests by digest.
    pub async fn repository_manifests(
        &self,
        identity: &Identity,
        name: &FullRepoName,
        page: PageOrder,
    ) -> Result<Page<ManifestSummary>> {
        self.refuse_hidden(identity, name).await?;
        let ((rows, limit), after) = (page_limit(page.limit), page_marker(page.last));
        let name = name.clone();
        let (manifests, is_cut) = self
            .db
            .read(move |conn| {
                let repo = repo_find(conn, &name)?.ok_or_else(|| no_repository(&name))?;
                let (mut manifests, is_cut) = manifest_summaries(conn, repo.id, &after, rows)?;
                if repo.account.settings.gc_policies.is_empty() {
                    // What a run has found when there were policies means nothing any more.
                    for manifest in &mut manifests {
                        manifest.gc_status = None;
                    }
                }
                Ok((manifests, is_cut))
            })
            .await?;
        let mut page = Page::cut(manifests, limit);
        page.has_more |= is_cut;
        Ok(page)
    }

    /// A page of a repository's tags by name.
    pub async fn repository_tags(
        &self,
        identity: &Identity,
        name: &FullRepoName,
        page: PageOrder,
    ) -> Result<Page<TagSummary>> {
        self.refuse_hidden(identity, name).await?;
        let ((rows, limit), after) = (page_limit(page.limit), page_marker(page.last));
        let name = name.clone();
        let tags = self
            .db
            .read(move |conn| {
                let repo = repo_find(conn, &name)?.ok_or_else(|| no_repository(&name))?;
                tag_summaries(conn, repo.id, &after, rows)
            })
            .await?;
        Ok(Page::cut(tags, limit))
    }

    /// Deletes a manifest with its tags, or a tag alone.
    pub async fn repository_content_delete(
        &self,
        actor: &Actor,
        name: &FullRepoName,
        reference: &Reference,
    ) -> Result<()> {
        let access = self.repository_access::<Delete>(actor, name).await?;
        self.manifest_delete(&access, reference).await
    }

    /// Deletes a repository that holds no manifests any more, with its blobs and uploads. It can be called again if it
    /// breaks off.
    pub async fn repository_delete(&self, actor: &Actor, name: &FullRepoName) -> Result<()> {
        let access = self.repository_access::<Delete>(actor, name).await?;
        let event = self.repo_event(&access, AuditAction::RepositoryDelete);
        while self.repository_empty(name).await? {}
        let (name, now) = (name.clone(), self.clock.now());
        let (account, objects) = self
            .db
            .write(move |conn| {
                let repo = repo_find(conn, &name)?.ok_or_else(|| no_repository(&name))?;
                let (mut objects, mut released) = (Vec::new(), 0);
                for id in upload_ids(conn, repo.id)? {
                    if let Some(upload) = upload_find(conn, &name, id)?
                        && let Some((loose, size_bytes)) = upload_end(conn, &upload, now)?
                    {
                        objects.extend(loose);
                        released += size_bytes;
                    }
                }
                // Nothing gets in from here on; a push that is in the way is a conflict.
                repo_lock(conn, repo.id)?;
                let remaining = remaining_in_repo(conn, repo.id, MANIFESTS_TOLD)?;
                if remaining.count > 0 {
                    return Err(still_has("repository", &remaining));
                }
                if let Some(hold) = holds_of_repo(conn, repo.id, now)?.first() {
                    return Err(held_content("repository", hold));
                }
                let has_trash = !trash_of_repo(conn, repo.id, 1)?.is_empty();
                if has_trash || !repo_mounts(conn, repo.id, 1)?.is_empty() {
                    let message = "somebody pushes to the repository; try again";
                    return Err(Error::with_message(Code::Conflict, message));
                }
                holds_forget(conn, repo.id)?;
                repo_delete(conn, repo.id)?;
                quota_settle(conn, &repo.account.name, &Amounts::reserved(-released))?;
                audit_append(conn, &event.on(&repo.account))?;
                Ok((repo.account, objects))
            })
            .await?;
        self.objects_delete(&account, objects).await;
        Ok(())
    }

    /// Takes some of the trash or some blobs out of a repository without manifests; `false` if there were none.
    async fn repository_empty(&self, name: &FullRepoName) -> Result<bool> {
        let (name, now) = (name.clone(), self.clock.now());
        let (account, count, objects) = self
            .db
            .write(move |conn| {
                let repo = repo_find(conn, &name)?.ok_or_else(|| no_repository(&name))?;
                let remaining = remaining_in_repo(conn, repo.id, MANIFESTS_TOLD)?;
                if remaining.count > 0 {
                    return Err(still_has("repository", &remaining));
                }
                repo_hold(conn, &repo, Hold::Alone)?;
                if let Some(hold) = hold_on_any(conn, repo.id, &[], now)? {
                    return Err(held_content("repository", &hold));
                }
                let trash = trash_of_repo(conn, repo.id, TRASH_PER_STEP)?;
                if !trash.is_empty() {
                    let purged = trash_purge(conn, &repo, &trash, (now, Unneeded::Stay(now)))?;
                    return Ok((repo.account, purged.entries.len(), purged.objects));
                }
                let digests = repo_mounts(conn, repo.id, BLOBS_PER_STEP)?;
                let mut unmounted = Vec::new();
                for digest in &digests {
                    match blob_delete(conn, &repo, digest, (now, now))?.0 {
                        BlobDelete::Unmounted(id) => unmounted.push(id),
                        BlobDelete::Gone | BlobDelete::Missing => {}
                        BlobDelete::InUse { by } => {
                            let message = format!("manifest {by} was pushed meanwhile");
                            return Err(Error::with_message(Code::Conflict, message));
                        }
                    }
                }
                let objects = blobs_remove(conn, &repo.account.name, &unmounted, now)?;
                Ok((repo.account, digests.len(), objects))
            })
            .await?;
        self.objects_delete(&account, objects).await;
        Ok(count > 0)
    }

    /// Proves that somebody who manages may do `P` in a repository.
    pub(super) async fn repository_access<P: RepoPermission>(
        &self,
        actor: &Actor,
        name: &FullRepoName,
    ) -> Result<RepoAccess<P>> {
        // Who has logged in is not challenged.
        let challenge = Challenge {
            realm: String::new(),
            service: String::new(),
        };
        let caller = Caller {
            authority: Authority::User(actor.identity.clone()),
            ..Caller::anonymous(challenge, None, actor.origin.clone())
        };
        let access = self
            .repo_access(caller, name.clone(), Demand::default())
            .await;
        match access {
            Err(error) if error.code() == Code::Denied => {
                self.refuse_hidden(actor, name).await?;
                Err(error)
            }
            other => other,
        }
    }

    /// Refuses a repository that the user may not see.
    pub(super) async fn refuse_hidden(
        &self,
        identity: &Identity,
        name: &FullRepoName,
    ) -> Result<()> {
        // No policy is about seeing a repository, so the address does not matter.
        let asked = Asked {
            permission: Permission::View,
            client: None,
        };
        if self.user_may(Some(identity), name, asked).await? {
            return Ok(());
        }
        Err(no_repository(name).as_denial())
    }
}

pub(super) fn no_repository(name: &FullRepoName) -> Error {
    Error::with_message(Code::NotFound, format!("there is no repository {name}"))
}
