//! Bringing deleted manifests back.
//!
//! A manifest comes back like a push: an object is written, and then one transaction takes it out of the trash. With it
//! come the children of an index, before it, and what went with it, after it; each in a transaction of its own, so what
//! breaks off can be called again. What a newcomer gets wrong: the bytes are on the books all the time, so restoring
//! needs no room for them, but manifests count again.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    Registry,
    access::{Push, RepoAccess},
    caller::Actor,
    manifest_rules::Tagging,
    push_manifest::OldTimes,
    repositories::no_repository,
};
use crate::{
    db::{
        Conn,
        repos::{Repo, repo_find},
        trash::{TrashEntry, trash_find, trash_of, trash_with},
    },
    error::{Code, Error, Result},
    model::audit::AuditAction,
    oci::{Digest, FullRepoName, Manifest, Tag},
};

/// How many manifests one call restores.
const MAX_RESTORED: usize = 1000;

/// How many manifests that indexes list are looked up for one restore at most.
const MAX_LOOKED_UP: usize = 20_000;

/// What is to come back.
#[derive(Debug, Clone)]
pub struct RestoreOrder {
    /// The manifest.
    pub digest: Digest,
    /// The tags that are to point at it; those that it had and that are free, if nothing is said.
    pub tags: Option<Vec<Tag>>,
}

/// A manifest that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The manifest.
    pub digest: Digest,
    /// The tags that point at it again.
    pub tags: Vec<Tag>,
}

/// A step of the search for what belongs together.
enum Step {
    /// Look at it.
    Enter(Digest),
    /// All that comes before it has been found.
    Leave(Digest),
}

fn too_many() -> Error {
    let message =
        format!("more than {MAX_RESTORED} manifests belong to it; restore some of its parts first");
    Error::with_message(Code::Conflict, message)
}

/// What is restored with a manifest, itself included, in the order in which it has to come back.
fn plan(conn: &mut Conn, repo_id: i64, root: &Digest) -> Result<Vec<Digest>> {
    let mut steps = vec![Step::Enter(root.clone())];
    let (mut seen, mut order, mut looked_up) = (BTreeSet::new(), Vec::new(), 0);
    while let Some(step) = steps.pop() {
        let digest = match step {
            Step::Leave(digest) => {
                order.push(digest);
                continue;
            }
            Step::Enter(digest) if !seen.insert(digest.clone()) => continue,
            Step::Enter(digest) => digest,
        };
        if seen.len() > MAX_RESTORED {
            return Err(too_many());
        }
        // A stack: what is pushed last is looked at first.
        let with = trash_with(conn, repo_id, &digest, MAX_RESTORED as i64 + 1)?;
        steps.extend(with.into_iter().map(Step::Enter));
        if let Some(entry) = trash_find(conn, repo_id, &digest)? {
            let children: Vec<Digest> = read(&entry)?
                .manifests
                .into_iter()
                .map(|child| child.digest)
                .filter(|child| !seen.contains(child))
                .collect();
            looked_up += children.len();
            if looked_up > MAX_LOOKED_UP {
                return Err(too_many());
            }
            steps.push(Step::Leave(digest));
            let in_trash = trash_of(conn, repo_id, &children)?;
            steps.extend(in_trash.into_iter().map(Step::Enter));
        }
    }
    Ok(order)
}

fn read(entry: &TrashEntry) -> Result<Manifest> {
    Manifest::parse(&entry.content, Some(&entry.media_type))
        .map_err(|error| Error::internal(format!("{} cannot be read: {error}", entry.digest)))
}

impl Registry {
    /// Restores a manifest, with the manifests that it lists and those that went with it. It can be called again if it
    /// breaks off.
    pub async fn trash_restore(
        &self,
        actor: &Actor,
        name: &FullRepoName,
        order: RestoreOrder,
    ) -> Result<Vec<Restored>> {
        let access = self.repository_access::<Push>(actor, name).await?;
        let (wanted, root) = (name.clone(), order.digest.clone());
        let (repo, digests) = self
            .db
            .read(move |conn| {
                let repo = repo_find(conn, &wanted)?.ok_or_else(|| no_repository(&wanted))?;
                repo.account.settings.refuse_in_maintenance()?;
                let digests = plan(conn, repo.id, &root)?;
                Ok((repo, digests))
            })
            .await?;
        if digests.is_empty() {
            let message = format!("{} is not in the trash of {name}", order.digest);
            return Err(Error::with_message(Code::NotFound, message));
        }
        let mut restored = Vec::with_capacity(digests.len());
        for digest in digests {
            let tags = order.tags.clone().filter(|_| digest == order.digest);
            restored.extend(
                self.manifest_restore(&access, &repo, (digest, tags))
                    .await?,
            );
        }
        Ok(restored)
    }

    /// Restores one manifest; `None` if somebody else took it out of the trash.
    async fn manifest_restore(
        &self,
        access: &RepoAccess<Push>,
        repo: &Repo,
        (digest, tags): (Digest, Option<Vec<Tag>>),
    ) -> Result<Option<Restored>> {
        let (repo_id, wanted) = (repo.id, digest.clone());
        let entry = self
            .db
            .read(move |conn| trash_find(conn, repo_id, &wanted))
            .await?;
        let Some(entry) = entry else {
            return Ok(None);
        };
        let manifest = read(&entry)?;
        let event = self.repo_event(access, AuditAction::ManifestRestore);
        let mut event = event.of(&digest).on(&repo.account);
        let only_free = tags.is_none();
        let tags = tags.unwrap_or(entry.tags);
        event.target.tags = tags.iter().map(ToString::to_string).collect();
        let tagging = Tagging {
            repo: repo.clone(),
            name: access.name().repo.clone(),
            digest: digest.clone(),
            tags,
            only_free,
            event,
        };
        let old = OldTimes {
            pushed_at: entry.pushed_at,
            last_pulled_at: entry.last_pulled_at,
        };
        let content = Bytes::from(entry.content);
        let tags = self
            .manifest_store(tagging, manifest, (content, Some(old)))
            .await?;
        Ok(Some(Restored { digest, tags }))
    }
}
