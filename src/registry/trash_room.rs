//! Makes room for a push: when the quota is short, the oldest trash goes first.
//!
//! Whoever takes bytes of the quota wraps the transaction into [`TrashRoom::taken`]. If that is refused for want of bytes,
//! entries of the trash are purged one by one, each in a transaction of its own, until there is enough, and the
//! transaction is tried again; that ends with the trash. What a newcomer gets wrong: bytes are freed only if nothing else
//! needs the blobs, so it may take several entries.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Backends, Registry, loose_objects::Remover, trash::purge_events};
use crate::{
    clock::Clock,
    db::{
        Db,
        audit::audit_append_all,
        blob_mounts::mounts_keep,
        legal_holds::hold_on_any,
        quotas::book_find,
        repos::{Hold, repo_find, repo_hold},
        trash::{Unneeded, trash_purge},
        trash_list::{TrashKey, TrashOf, trash_bytes, trash_oldest},
    },
    error::{Code, Error, Result},
    ids::Ids,
    model::{
        account::Account,
        audit::{AuditAction, AuditEvent},
        quota::{BookKind, Limits, Resource},
    },
    oci::{Digest, FullRepoName},
};

/// How many entries are looked up at a time.
const BATCH: i64 = 50;

/// Gives up what the trash holds, for pushes into an account.
#[derive(Debug, Clone)]
pub(super) struct TrashRoom {
    db: Db,
    backends: Arc<Backends>,
    clock: Arc<dyn Clock>,
    ids: Arc<Ids>,
    account: Account,
    event: AuditEvent,
    needs: Option<Needs>,
}

/// What a push needs of what the trash may hold alone.
#[derive(Debug, Clone)]
struct Needs {
    blobs: Vec<(FullRepoName, Digest)>,
    keep_until: DateTime<Utc>,
}

impl Registry {
    pub(super) fn trash_room(&self, account: &Account) -> TrashRoom {
        TrashRoom {
            db: self.db.clone(),
            backends: Arc::clone(&self.backends),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            account: account.clone(),
            event: self.own_event(AuditAction::ManifestPurge),
            needs: None,
        }
    }
}

impl TrashRoom {
    /// The same, for a manifest that needs these blobs of its repository.
    pub(super) fn needing(
        self,
        name: &FullRepoName,
        digests: impl Iterator<Item = Digest>,
        keep_until: DateTime<Utc>,
    ) -> Self {
        let blobs = digests.map(|digest| (name.clone(), digest)).collect();
        Self {
            needs: Some(Needs { blobs, keep_until }),
            ..self
        }
    }

    /// Takes bytes, and makes room for them as long as that is refused and there is trash.
    pub(super) async fn taken<T, F: Future<Output = Result<T>>>(
        &self,
        take: impl Fn() -> F,
    ) -> Result<T> {
        loop {
            match take().await {
                Err(error) if self.is_made(&error).await? => {}
                other => return other,
            }
        }
    }

    /// Whether the trash holds what was refused.
    pub(super) async fn is_enough(&self, refusal: &Error) -> Result<bool> {
        Ok(match Want::of(refusal) {
            Some(want) => self.shortage(&want).await?.is_some(),
            None => false,
        })
    }

    /// How many bytes are missing; `None` if purging cannot bring them.
    async fn shortage(&self, want: &Want) -> Result<Option<i128>> {
        let (trash, used) = self.amounts(want.of, self.owner(want)).await?;
        let short = used + i128::from(want.bytes) - i128::from(want.limit);
        Ok(Some(short).filter(|short| *short <= i128::from(trash)))
    }

    /// Whose limit is in the way.
    fn owner(&self, want: &Want) -> String {
        match want.of {
            BookKind::Account => self.account.name.to_string(),
            BookKind::AuthTenant => self.account.auth_tenant_id.clone(),
        }
    }

    /// Purges what is needed after a refusal; `false` if that cannot help.
    async fn is_made(&self, refusal: &Error) -> Result<bool> {
        let Some(want) = Want::of(refusal) else {
            return Ok(false);
        };
        // What does not fit even without any trash takes none. If others have made room, it is tried again.
        let short = match self.shortage(&want).await? {
            Some(short) if short > 0 => short,
            other => return Ok(other.is_some()),
        };
        let owner = self.owner(&want);
        if let Some(Needs { blobs, keep_until }) = self.needs.clone() {
            let keeping = self
                .db
                .write(move |conn| mounts_keep(conn, &blobs, keep_until));
            keeping.await?;
        }
        let (mut freed, mut was_there) = (0, false);
        while freed < short {
            let (kind, owner, now) = (want.of, owner.clone(), self.clock.now());
            let oldest = self
                .db
                .read(move |conn| trash_oldest(conn, (kind, &owner), now, BATCH))
                .await?;
            if oldest.is_empty() {
                break;
            }
            // What others have purged meanwhile, and what was held, is not found again.
            was_there = true;
            for key in oldest {
                freed += i128::from(self.purge(key).await?);
                if freed >= short {
                    break;
                }
            }
        }
        Ok(was_there)
    }

    /// How many bytes are trash that may go, and how many are used. In this order: what others purge in between is counted
    /// twice rather than not at all.
    async fn amounts(&self, kind: BookKind, owner: String) -> Result<(i64, i128)> {
        let now = self.clock.now();
        self.db
            .read(move |conn| {
                let trash = trash_bytes(conn, (kind, &owner), TrashOf::NotHeld(now))?;
                let book = book_find(conn, kind, &owner, &Limits::default())?;
                let used = book.map_or(0, |book| book.used.of(Resource::Bytes));
                Ok((trash, used))
            })
            .await
    }

    /// Purges one entry, if it is still there and not held; gives the bytes that were freed.
    async fn purge(&self, (name, digest): TrashKey) -> Result<i64> {
        let (now, ids) = (self.clock.now(), Arc::clone(&self.ids));
        let mut event = self.event.clone();
        event.at = now;
        event.target.repository = Some(name.to_string());
        let purged = self
            .db
            .write(move |conn| {
                let Some(repo) = repo_find(conn, &name)? else {
                    return Ok(None);
                };
                repo_hold(conn, &repo, Hold::Alone)?;
                if hold_on_any(conn, repo.id, &[], now)?.is_some() {
                    return Ok(None);
                }
                let purged = trash_purge(conn, &repo, &[digest], (now, Unneeded::Go))?;
                let event = event.on(&repo.account);
                let reason = "the quota was short, and it was the oldest in the trash";
                let events = purge_events(&ids, (&event, reason), &purged.entries);
                audit_append_all(conn, &events)?;
                Ok(Some((repo.account, purged)))
            })
            .await?;
        let Some((account, purged)) = purged else {
            return Ok(0);
        };
        if !purged.objects.is_empty() {
            let remover = Remover::new(&self.db, &self.backends, &account);
            remover.remove(purged.objects).await;
        }
        Ok(purged.freed_bytes)
    }
}

/// Bytes that a limit is in the way of.
struct Want {
    of: BookKind,
    bytes: u64,
    limit: u64,
}

impl Want {
    fn of(refusal: &Error) -> Option<Self> {
        let detail = refusal
            .detail()
            .filter(|_| refusal.code() == Code::Denied)?;
        if detail["resource"] != Resource::Bytes.as_str() {
            return None;
        }
        let kinds = [BookKind::Account, BookKind::AuthTenant];
        Some(Self {
            of: kinds
                .into_iter()
                .find(|kind| detail["of"] == kind.as_str())?,
            bytes: detail["wanted"].as_u64()?,
            limit: detail["limit"].as_u64()?,
        })
    }
}
