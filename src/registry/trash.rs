//! The trash of an account: showing it, purging an entry, and purging what is due.
//!
//! What comes back is in `restore.rs`; what goes for want of quota, in `trash_room.rs`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tracing::warn;

use super::{
    Registry,
    access::Delete,
    caller::Actor,
    legal_holds::refuse_held,
    repositories::no_repository,
    tags::{Page, page_limit, page_marker},
};
use crate::{
    auth::driver::Identity,
    db::{
        audit::audit_append_all,
        legal_holds::hold_on_any,
        repos::{Hold, repo_find, repo_hold},
        trash::{Unneeded, trash_purge, trash_with},
        trash_list::{TrashOf, trash_bytes, trash_due, trash_due_since, trash_page, trash_put_off},
    },
    error::{Code, Error, Result},
    ids::Ids,
    model::{
        audit::{AuditAction, AuditEvent, AuditOutcome},
        listing::PageOrder,
        permission::Permission,
        quota::BookKind,
        trash::TrashSummary,
    },
    oci::{AccountName, Digest, FullRepoName, Tag},
};

/// How many entries one round of the job purges.
const PURGE_BATCH: i64 = 200;

/// When the trash of a repository that could not be purged is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

/// How many manifests that went with another one are purged with it in one call.
const MAX_COMPANIONS: i64 = 1000;

/// An event for each manifest that was purged, after the model of one.
pub(super) fn purge_events(
    ids: &Ids,
    (model, reason): (&AuditEvent, &str),
    entries: &[(Digest, Vec<Tag>)],
) -> Vec<AuditEvent> {
    let event = |(digest, tags): &(Digest, Vec<Tag>)| {
        let mut event = model.clone().of(digest);
        event.id = ids.fresh();
        event.target.tags = tags.iter().map(ToString::to_string).collect();
        event.ended(AuditOutcome::Success, reason)
    };
    entries.iter().map(event).collect()
}

impl Registry {
    /// A page of an account's trash by repository and digest; `last` is `<repository>@<digest>`.
    pub async fn trash_list(
        &self,
        identity: &Identity,
        account: &AccountName,
        page: PageOrder,
    ) -> Result<Page<TrashSummary>> {
        self.account_access(identity, account, Permission::View)
            .await?;
        let ((rows, limit), last) = (page_limit(page.limit), page_marker(page.last));
        let account = account.clone();
        let entries = self
            .db
            .read(move |conn| {
                let after = last.split_once('@').unwrap_or((&last, ""));
                trash_page(conn, &account, after, rows)
            })
            .await?;
        Ok(Page::cut(entries, limit))
    }

    /// Takes a manifest out of the trash for good, with what went with it; says how many manifests that were.
    pub async fn trash_entry_purge(
        &self,
        actor: &Actor,
        name: &FullRepoName,
        digest: &Digest,
    ) -> Result<usize> {
        let access = self.repository_access::<Delete>(actor, name).await?;
        let event = self.repo_event(&access, AuditAction::ManifestPurge);
        let (name, digest, now) = (name.clone(), digest.clone(), self.clock.now());
        let ids = Arc::clone(&self.ids);
        let (account, purged) = self
            .db
            .write(move |conn| {
                let repo = repo_find(conn, &name)?.ok_or_else(|| no_repository(&name))?;
                repo_hold(conn, &repo, Hold::Alone)?;
                refuse_held(conn, repo.id, &[], now)?;
                let mut digests = trash_with(conn, repo.id, &digest, MAX_COMPANIONS)?;
                digests.push(digest.clone());
                let purged = trash_purge(conn, &repo, &digests, (now, Unneeded::Go))?;
                if purged.entries.is_empty() {
                    let message = format!("{digest} is not in the trash of {name}");
                    return Err(Error::with_message(Code::NotFound, message));
                }
                let event = event.on(&repo.account);
                let events = purge_events(&ids, (&event, "it was asked for"), &purged.entries);
                audit_append_all(conn, &events)?;
                Ok((repo.account, purged))
            })
            .await?;
        self.objects_delete(&account, purged.objects).await;
        Ok(purged.entries.len())
    }

    /// Purges some of the manifests whose time in the trash is over; `false` if there are none. What is held is put off
    /// until the hold ends.
    pub async fn trash_purge(&self) -> Result<bool> {
        let now = self.clock.now();
        let due = self
            .db
            .read(move |conn| trash_due(conn, now, PURGE_BATCH))
            .await?;
        let is_due = !due.is_empty();
        let mut by_repo: BTreeMap<FullRepoName, Vec<Digest>> = BTreeMap::new();
        for (name, digest) in due {
            by_repo.entry(name).or_default().push(digest);
        }
        let mut failure = None;
        for (name, digests) in by_repo {
            let Err(error) = self.trash_repo_purge(name.clone(), digests).await else {
                continue;
            };
            // It must not keep the others in the trash.
            warn!(repository = %name, error = ?error, "what lies in the trash stays there for now");
            let until = self.after(RETRY_AFTER);
            let put_off = self.db.write(move |conn| {
                let repo = repo_find(conn, &name)?;
                repo.map_or(Ok(()), |repo| trash_put_off(conn, repo.id, (now, until)))
            });
            put_off.await?;
            failure = Some(error);
        }
        failure.map_or(Ok(is_due), Err)
    }

    async fn trash_repo_purge(&self, name: FullRepoName, digests: Vec<Digest>) -> Result<()> {
        let now = self.clock.now();
        let keep_until = now + self.settings.janitor.grace;
        let mut event = self.own_event(AuditAction::ManifestPurge);
        event.target.repository = Some(name.to_string());
        let ids = Arc::clone(&self.ids);
        self.db
            .write(move |conn| {
                let Some(repo) = repo_find(conn, &name)? else {
                    return Ok(());
                };
                repo_hold(conn, &repo, Hold::Alone)?;
                if let Some(hold) = hold_on_any(conn, repo.id, &[], now)? {
                    return trash_put_off(conn, repo.id, (now, hold.until));
                }
                let stay = Unneeded::Stay(keep_until);
                let purged = trash_purge(conn, &repo, &digests, (now, stay))?;
                let event = event.on(&repo.account);
                let reason = "its time in the trash was over";
                let events = purge_events(&ids, (&event, reason), &purged.entries);
                audit_append_all(conn, &events)
            })
            .await
    }

    /// When the time of the entry is over that goes first; it may lie in the future.
    pub async fn trash_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        self.db.read(trash_due_since).await
    }

    /// How many bytes of an account, or of all accounts of an auth tenant, are trash. Who may know is checked before.
    pub async fn trash_bytes(&self, kind: BookKind, owner: &str) -> Result<i64> {
        let owner = owner.to_owned();
        self.db
            .read(move |conn| trash_bytes(conn, (kind, &owner), TrashOf::All))
            .await
    }
}
