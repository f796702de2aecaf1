//! What tags have pointed at: showing it, restoring a deleted tag from it, and forgetting what is old.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Registry,
    access::Push,
    caller::Actor,
    janitor_times::NEVER,
    manifest_rules::Tagging,
    repositories::no_repository,
    tags::{Page, page_limit},
};
use crate::{
    auth::driver::Identity,
    db::{
        Conn,
        audit::audit_append,
        manifests::{manifest_exists, manifests_in_repo},
        repos::{Hold, repo_find, repo_hold},
        tag_history::{
            tag_change_at, tag_history_page, tag_history_prune, tag_history_replaced_first,
        },
        tags::tag_digest,
        trash::trash_has,
    },
    error::{Code, Error, Result},
    model::{
        audit::AuditAction,
        listing::PageOrder,
        trash::{TagChangeEntry, Whereabouts},
    },
    oci::{Digest, FullRepoName, Tag},
};

/// How many entries one transaction forgets.
const PRUNE_BATCH: i64 = 1000;

/// What a tag pointed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagThen {
    /// The manifest.
    pub digest: Digest,
    /// Whether it can still be had.
    pub whereabouts: Whereabouts,
    /// Since when the tag pointed at it.
    pub changed_at: DateTime<Utc>,
    /// Who made it do so.
    pub changed_by: String,
}

fn whereabouts(conn: &mut Conn, repo_id: i64, digest: &Digest) -> Result<Whereabouts> {
    Ok(if manifest_exists(conn, repo_id, digest)? {
        Whereabouts::Present
    } else if trash_has(conn, repo_id, digest)? {
        Whereabouts::Trash
    } else {
        Whereabouts::Gone
    })
}

impl Registry {
    /// A page of the changes of a tag, the newest first; `last` is the number of an entry.
    pub async fn tag_history(
        &self,
        identity: &Identity,
        (name, tag): (&FullRepoName, &Tag),
        page: PageOrder,
    ) -> Result<Page<TagChangeEntry>> {
        self.refuse_hidden(identity, name).await?;
        let before = page.last.map(|last| last.parse::<i64>()).transpose();
        let before = before.map_err(|_| {
            let message = "query parameter last: it must be the next of the page before";
            Error::with_message(Code::InvalidField, message)
        })?;
        let (rows, limit) = page_limit(page.limit);
        let (name, tag) = (name.clone(), tag.clone());
        let entries = self
            .db
            .read(move |conn| {
                let repo = repo_find(conn, &name)?.ok_or_else(|| no_repository(&name))?;
                tag_history_page(conn, (repo.id, &tag), before, rows)
            })
            .await?;
        Ok(Page::cut(entries, limit))
    }

    /// What a tag pointed at at a time; now if none is given.
    pub async fn tag_at(
        &self,
        identity: &Identity,
        (name, tag): (&FullRepoName, &Tag),
        at: Option<DateTime<Utc>>,
    ) -> Result<TagThen> {
        self.refuse_hidden(identity, name).await?;
        let (name, tag) = (name.clone(), tag.clone());
        let at = at.unwrap_or_else(|| self.clock.now());
        let at = at.clamp(DateTime::UNIX_EPOCH, NEVER);
        self.db
            .read(move |conn| {
                let repo = repo_find(conn, &name)?.ok_or_else(|| no_repository(&name))?;
                let entry = tag_change_at(conn, (repo.id, &tag), at, false)?;
                let found = entry.and_then(|entry| entry.digest.clone().map(|d| (entry, d)));
                let Some((entry, digest)) = found else {
                    let message = format!("nothing is known of a tag {tag} at that time");
                    return Err(Error::with_message(Code::NotFound, message));
                };
                Ok(TagThen {
                    whereabouts: whereabouts(conn, repo.id, &digest)?,
                    digest,
                    changed_at: entry.changed_at,
                    changed_by: entry.changed_by,
                })
            })
            .await
    }

    /// Makes a deleted tag point at what it pointed at last, which must be there.
    pub async fn tag_restore(
        &self,
        actor: &Actor,
        name: &FullRepoName,
        tag: &Tag,
    ) -> Result<Digest> {
        let access = self.repository_access::<Push>(actor, name).await?;
        let mut event = self.repo_event(&access, AuditAction::TagRestore);
        event.target.tags = vec![tag.to_string()];
        let (name, tag, now) = (name.clone(), tag.clone(), self.clock.now());
        self.db
            .write(move |conn| {
                let conflict = |message: String| Err(Error::with_message(Code::Conflict, message));
                let repo = repo_find(conn, &name)?.ok_or_else(|| no_repository(&name))?;
                repo_hold(conn, &repo, Hold::Alone)?;
                if let Some(digest) = tag_digest(conn, repo.id, &tag)? {
                    return conflict(format!("tag {tag} is there and points at {digest}"));
                }
                let last = tag_change_at(conn, (repo.id, &tag), now, true)?;
                let Some(digest) = last.and_then(|entry| entry.digest) else {
                    let message = format!("nothing is known of a tag {tag}");
                    return Err(Error::with_message(Code::NotFound, message));
                };
                match whereabouts(conn, repo.id, &digest)? {
                    Whereabouts::Present => {}
                    Whereabouts::Trash => {
                        return conflict(format!(
                            "tag {tag} pointed at {digest}, which is in the trash; restore that"
                        ));
                    }
                    Whereabouts::Gone => {
                        return conflict(format!(
                            "tag {tag} pointed at {digest}, which is gone for good"
                        ));
                    }
                }
                manifests_in_repo(conn, repo.id, std::slice::from_ref(&digest))?;
                let mut tagging = Tagging {
                    event: event.of(&digest).on(&repo.account),
                    repo,
                    name: name.repo.clone(),
                    digest: digest.clone(),
                    tags: vec![tag],
                    only_free: false,
                };
                tagging.begin(conn)?;
                tagging.put(conn, now)?;
                audit_append(conn, &tagging.event)?;
                Ok(digest)
            })
            .await
    }

    /// Forgets some of what tags pointed at before the time that is kept; `false` if there was nothing to forget. What a
    /// tag pointed at when that time begins is still known.
    pub async fn tag_history_prune(&self) -> Result<bool> {
        let keep = TimeDelta::from_std(self.settings.janitor.tag_history);
        let before = self.clock.now() - keep.map_err(Error::internal)?;
        let count = self
            .db
            .write(move |conn| tag_history_prune(conn, before, PRUNE_BATCH))
            .await?;
        Ok(count > 0)
    }

    /// Since when the entry that is due for longest could have been forgotten; it may lie in the future.
    pub async fn tag_history_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        let first = self.db.read(tag_history_replaced_first).await?;
        Ok(first.map(|at| at + self.settings.janitor.tag_history))
    }
}
