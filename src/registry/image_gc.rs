//! Carrying out the GC policies of accounts, a repository at a time.
//!
//! A run reads what the images of a repository are, plans (`model/gc_plan.rs`), stores what was decided with each image,
//! and deletes in the order of the plan, each image in a transaction of its own that looks whether what the decision rested
//! on still holds. What a newcomer gets wrong: a run may end anywhere. What was to go with something that is gone already
//! is known by its stored status, and goes with the next run.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tracing::{debug, info};

use super::{Registry, delete_manifest::ManifestDeletion};
use crate::{
    db::{
        Conn,
        accounts::account_find,
        image_gc::{
            HeldImage, gc_claim, gc_due_since, gc_has_new_referrer, gc_holds, gc_image_hold,
            gc_images, gc_put_off, gc_statuses_put,
        },
        loose_objects::LooseObject,
        manifest_delete::ManifestDelete,
        manifests::manifest_exists,
        repos::{Hold, Repo, repo_find, repo_hold},
    },
    error::{Code, Error, Result},
    model::{
        account::Account,
        audit::{AuditAction, AuditOutcome},
        gc_plan::{GcHold, GcImage, GcInput, GcPlan, tags_about},
        gc_status::GcStatus,
    },
    oci::{Digest, FullRepoName, RepoName},
};

/// How long a node that works on a repository may be silent before another one takes it.
pub const GC_LEASE: Duration = Duration::from_secs(15 * 60);

/// When a repository is due again whose run failed.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

/// When a repository is due again whose account has changed meanwhile.
const REPLAN_AFTER: Duration = Duration::from_secs(60);

/// How many statuses one transaction stores.
const STATUSES_AT_ONCE: usize = 500;

/// A repository that a node has taken on.
#[derive(Debug)]
pub struct GcTask {
    repo_id: i64,
    name: FullRepoName,
    /// What `next_gc_at` must still be, or the lease is lost.
    lease: DateTime<Utc>,
}

/// A repository as it was read, and the rules for it.
#[derive(Debug)]
pub(super) struct GcRepo {
    pub(super) repo: Repo,
    pub(super) name: RepoName,
    pub(super) images: Vec<GcImage>,
    pub(super) statuses: Vec<Option<String>>,
    pub(super) holds: Vec<GcHold>,
    pub(super) now: DateTime<Utc>,
}

impl GcRepo {
    /// Reads the repository.
    pub(super) fn read(
        conn: &mut Conn,
        repo: Repo,
        (name, now): (&RepoName, DateTime<Utc>),
    ) -> Result<Self> {
        let (images, statuses) = gc_images(conn, repo.id)?.into_iter().unzip();
        Ok(Self {
            holds: gc_holds(conn, repo.id, now)?,
            name: name.clone(),
            repo,
            images,
            statuses,
            now,
        })
    }

    /// What the account's policies mean for it.
    pub(super) fn plan(&self) -> GcPlan<'_> {
        let settings = &self.repo.account.settings;
        GcPlan::new(GcInput {
            owner: &self.repo.account.auth_tenant_id,
            repo: &self.name,
            images: &self.images,
            policies: &settings.gc_policies,
            tag_policies: &settings.tag_policies,
            holds: &self.holds,
            now: self.now,
        })
    }
}

/// What is to be done in a repository.
struct Planned {
    /// The version of the account that the plan rests on.
    version: i64,
    /// What has changed, by digest.
    statuses: Vec<(String, String)>,
    doomed: Vec<Doomed>,
}

/// An image that is to go, as the plan saw it.
#[derive(Debug)]
struct Doomed {
    digest: Digest,
    seen: HeldImage,
    /// What must be gone before it.
    goes_with: Option<Digest>,
    reason: String,
    planned_at: DateTime<Utc>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunEnd {
    /// All was looked at.
    Done,
    /// The account, or the lease, is another one now.
    Stale,
    /// There is nothing to do any more: the account has no policies, or the repository is gone.
    Over,
}

/// What became of an image that was to go.
enum Deletion {
    Deleted(Box<Account>, Vec<LooseObject>),
    /// It is not what the plan saw. The next run decides.
    Changed,
    /// The account is not what the plan saw.
    Stale,
}

impl Registry {
    /// Takes on the repository that is due for longest, if one is due.
    pub async fn image_gc_claim(&self) -> Result<Option<GcTask>> {
        let now = self.clock.now();
        let lease = now + GC_LEASE;
        let claimed = self
            .db
            .write(move |conn| gc_claim(conn, now, lease))
            .await?;
        Ok(claimed.map(|(repo_id, name)| GcTask {
            repo_id,
            name,
            lease,
        }))
    }

    /// Since when the repository that is due for longest has been due.
    pub async fn image_gc_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        self.db.read(gc_due_since).await
    }

    /// Carries the policies out in a repository, and says when it is due again.
    pub async fn image_gc_run(&self, mut task: GcTask) -> Result<()> {
        let end = self.image_gc(&mut task).await;
        let next = match &end {
            Ok(RunEnd::Done) => Some(self.after(self.settings.janitor.gc_interval)),
            Ok(RunEnd::Stale) => Some(self.after(REPLAN_AFTER)),
            Ok(RunEnd::Over) => None,
            Err(_) => Some(self.after(RETRY_AFTER)),
        };
        let held = (task.repo_id, task.lease);
        let put_off = self
            .db
            .write(move |conn| gc_put_off(conn, held, next))
            .await;
        end.and(put_off).map(drop)
    }

    async fn image_gc(&self, task: &mut GcTask) -> Result<RunEnd> {
        let (name, repo_id, now) = (task.name.clone(), task.repo_id, self.clock.now());
        let read = self.db.read(move |conn| {
            let repo = repo_find(conn, &name)?.filter(|repo| repo.id == repo_id);
            let repo = repo.filter(|repo| !repo.account.settings.gc_policies.is_empty());
            repo.map(|repo| GcRepo::read(conn, repo, (&name.repo, now)))
                .transpose()
        });
        let Some(read) = read.await? else {
            return Ok(RunEnd::Over);
        };
        let planned = tokio::task::spawn_blocking(move || planned(&read));
        let planned = planned.await.map_err(Error::internal)??;
        for statuses in planned.statuses.chunks(STATUSES_AT_ONCE) {
            if !self.lease_keep(task).await? {
                return Ok(RunEnd::Stale);
            }
            let statuses: BTreeMap<String, String> = statuses.iter().cloned().collect();
            self.db
                .write(move |conn| gc_statuses_put(conn, repo_id, &statuses))
                .await?;
        }
        let (count, mut deleted) = (planned.doomed.len(), 0);
        for doomed in planned.doomed {
            if !self.lease_keep(task).await? {
                return Ok(RunEnd::Stale);
            }
            let (digest, begun) = (doomed.digest.clone(), Instant::now());
            match self.image_delete(task, doomed, planned.version).await? {
                Deletion::Deleted(account, objects) => {
                    self.objects_delete(&account, objects).await;
                    deleted += 1;
                }
                Deletion::Changed => {
                    debug!(repository = %task.name, %digest, "an image has changed since it was to be deleted");
                }
                Deletion::Stale => return Ok(RunEnd::Stale),
            }
            self.rest_after(begun).await;
        }
        if count > 0 {
            info!(repository = %task.name, deleted, left = count - deleted, "GC policies were carried out");
        }
        Ok(RunEnd::Done)
    }

    /// Puts the lease off when a third of it is over; `false` if it is lost.
    async fn lease_keep(&self, task: &mut GcTask) -> Result<bool> {
        let until = self.clock.now() + GC_LEASE;
        if task.lease + GC_LEASE / 3 > until {
            return Ok(true);
        }
        let held = (task.repo_id, task.lease);
        let is_ours = self
            .db
            .write(move |conn| gc_put_off(conn, held, Some(until)))
            .await?;
        // Only then: another node's lease may end at the same moment.
        if is_ours {
            task.lease = until;
        }
        Ok(is_ours)
    }

    /// Deletes an image if it, and what refers to it, is still what the plan saw.
    async fn image_delete(&self, task: &GcTask, doomed: Doomed, version: i64) -> Result<Deletion> {
        let mut event = self
            .own_event(AuditAction::ManifestDelete)
            .of(&doomed.digest);
        event.target.repository = Some(task.name.to_string());
        event.target.tags = doomed.seen.tags.iter().map(ToString::to_string).collect();
        let event = event.ended(AuditOutcome::Success, doomed.reason.clone());
        let (name, repo_id, now) = (task.name.clone(), task.repo_id, self.clock.now());
        let deletion = self.manifest_deletion(event);
        self.db
            .write(move |conn| {
                let repo = repo_find(conn, &name)?.filter(|repo| repo.id == repo_id);
                let Some(repo) = repo else {
                    return Ok(Deletion::Stale);
                };
                repo_hold(conn, &repo, Hold::Alone)?;
                let account = account_find(conn, &name.account)?;
                if account.is_none_or(|account| account.version != version) {
                    return Ok(Deletion::Stale);
                }
                if !is_as_seen(conn, repo_id, &doomed, now)? {
                    return Ok(Deletion::Changed);
                }
                image_remove(conn, (&repo, &name.repo), &doomed.digest, &deletion)
            })
            .await
    }
}

/// The end of the transaction that deletes an image.
fn image_remove(
    conn: &mut Conn,
    (repo, name): (&Repo, &RepoName),
    digest: &Digest,
    deletion: &ManifestDeletion,
) -> Result<Deletion> {
    match deletion.run(conn, (repo, name), digest) {
        Ok(ManifestDelete::Missing | ManifestDelete::InUse { .. }) => Ok(Deletion::Changed),
        Ok(ManifestDelete::Gone(gone)) => {
            let objects = gone.into_iter().map(|manifest| manifest.object).collect();
            Ok(Deletion::Deleted(Box::new(repo.account.clone()), objects))
        }
        // A tag policy or a legal hold has come, and nothing was changed yet.
        Err(error) if error.code() == Code::Denied => Ok(Deletion::Changed),
        Err(error) => Err(error),
    }
}

/// Whether an image, which is held from here on, is what the plan saw, and nothing has come that keeps it.
fn is_as_seen(conn: &mut Conn, repo_id: i64, doomed: &Doomed, now: DateTime<Utc>) -> Result<bool> {
    if gc_image_hold(conn, repo_id, &doomed.digest)?.as_ref() != Some(&doomed.seen) {
        return Ok(false);
    }
    if let Some(other) = &doomed.goes_with
        && manifest_exists(conn, repo_id, other)?
    {
        return Ok(false);
    }
    let is_held = |hold: &GcHold| {
        hold.tag
            .as_ref()
            .is_none_or(|tag| doomed.seen.tags.contains(tag))
    };
    if gc_holds(conn, repo_id, now)?.iter().any(is_held) {
        return Ok(false);
    }
    let about = tags_about(&doomed.digest);
    let since = doomed.planned_at;
    Ok(!gc_has_new_referrer(
        conn,
        repo_id,
        (&doomed.digest, &about),
        since,
    )?)
}

/// Plans, and keeps of it what the rest of the run needs.
fn planned(read: &GcRepo) -> Result<Planned> {
    let plan = read.plan();
    let mut statuses = Vec::new();
    for (place, (image, stored)) in read.images.iter().zip(&read.statuses).enumerate() {
        let status = serde_json::to_string(&plan.status(place)).map_err(Error::internal)?;
        if stored.as_deref() != Some(&status) {
            statuses.push((image.digest.to_string(), status));
        }
    }
    let images = read.images.iter().enumerate();
    let places = images.map(|(place, image)| (image.digest.to_string(), place));
    let places: HashMap<String, usize> = places.collect();
    let doomed = plan.doomed().map(|place| {
        let image = &read.images[place];
        let (mut reason, goes_with) = reason(&plan.status(place))?;
        if goes_with.is_some()
            && let Some(policy) = policy_behind(&plan, &places, place)
        {
            reason = format!("{reason}, by {policy}");
        }
        Ok(Doomed {
            digest: image.digest.clone(),
            seen: HeldImage {
                pushed_at: image.pushed_at,
                last_pulled_at: image.last_pulled_at,
                tags: image.tags.clone(),
            },
            goes_with: goes_with.and_then(|digest| digest.parse().ok()),
            reason,
            planned_at: read.now,
        })
    });
    Ok(Planned {
        version: read.repo.account.version,
        doomed: doomed.collect::<Result<_>>()?,
        statuses,
    })
}

/// The policy by which an image goes that goes with others, if one of those is still there.
fn policy_behind(
    plan: &GcPlan<'_>,
    places: &HashMap<String, usize>,
    mut place: usize,
) -> Option<String> {
    // Each image goes with one that is gone before it, so this ends; the count is for rows that are wrong.
    for _ in 0..places.len() {
        let with = match plan.status(place) {
            GcStatus::DeleteWith { subject } => subject,
            GcStatus::DeleteWithParent { parent } => parent,
            status => return reason(&status).ok().map(|(reason, _)| reason),
        };
        place = *places.get(&with)?;
    }
    None
}

/// Why an image goes, for the audit trail, and what goes before it.
fn reason(status: &GcStatus) -> Result<(String, Option<String>)> {
    Ok(match status {
        GcStatus::Delete { number, policy } => {
            let policy = serde_json::to_string(policy).map_err(Error::internal)?;
            (format!("gc_policies[{number}]: {policy}"), None)
        }
        GcStatus::DeleteWith { subject } => (
            format!("it goes with its subject {subject}"),
            Some(subject.clone()),
        ),
        GcStatus::DeleteWithParent { parent } => (
            format!("it goes with the index {parent}"),
            Some(parent.clone()),
        ),
        _ => return Err(Error::internal("an image that stays was to be deleted")),
    })
}
