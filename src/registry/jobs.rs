//! What happens beside the requests: every job with its name, when it is due, and how one task of it is done.
//!
//! Any number of nodes run any job side by side. Whoever takes a task on changes the row that made it due, which is the
//! lease: a time that is put off, or the deletion itself. A node that dies loses the lease after a while, and what it had
//! done is either in the database or was noted before, so every task can be cut off anywhere and taken again. What a
//! newcomer gets wrong: a task is found by an index on its time, so a job that has nothing to do costs one look there.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Registry, caller::Actor};
use crate::{
    auth::driver::Identity,
    db::{
        Conn, blob_checks::blobs_validate_now, image_gc::gc_due_now,
        manifest_checks::manifests_validate_now, unknown_objects::containers_sweep_now,
    },
    error::{Code, Error, Result},
    model::{job::Job, permission::Permission, user::ANY_AUTH_TENANT},
};

/// How many things one transaction makes due.
const HASTENED_AT_ONCE: i64 = 5000;

/// A job, and since when it has had something to do.
#[derive(Debug, Clone, Copy)]
pub struct JobStatus {
    /// Which.
    pub job: Job,
    /// When its next task is or was due; `None` if there is none in sight.
    pub due_at: Option<DateTime<Utc>>,
    /// For how long a task has been due.
    pub overdue: Duration,
}

impl Registry {
    /// Every job of this registry.
    pub fn jobs(&self) -> Vec<Job> {
        let sinks = (0..self.sink_count()).map(Job::DeliverAudit);
        Job::ALL.iter().copied().chain(sinks).collect()
    }

    /// Does one task of a job, if one is due; `false` if none is.
    pub async fn job_run_one(&self, job: Job) -> Result<bool> {
        let due = self.job_due_at(job).await?;
        if due.is_none_or(|at| at > self.clock.now()) {
            return Ok(false);
        }
        match job {
            Job::MoveAccount => match self.move_claim().await? {
                Some(step) => self.move_step(step).await.map(|()| true),
                None => Ok(false),
            },
            Job::DeleteAccount => self.account_delete_go_on().await,
            Job::AbandonUploads => self.upload_abandon().await,
            Job::SweepBlobs => self.mounts_sweep().await,
            Job::SweepObjects => self.loose_objects_sweep().await,
            Job::SweepStorage => self.storage_sweep().await,
            Job::MergeChunks => self.chunks_merge().await,
            Job::ValidateBlobs => self.blob_validate().await,
            Job::ValidateManifests => self.manifest_validate().await,
            Job::ImageGc => match self.image_gc_claim().await? {
                Some(task) => self.image_gc_run(task).await.map(|()| true),
                None => Ok(false),
            },
            Job::PurgeTrash => self.trash_purge().await,
            Job::PruneTagHistory => self.tag_history_prune().await,
            Job::SealAudit => match self.audit_is_waiting().await? {
                true => self.audit_seal().await.map(|()| true),
                false => Ok(false),
            },
            Job::PruneAudit => self.audit_prune().await,
            Job::DeliverAudit(sink) => match self.sink_claim(sink).await? {
                Some(task) => self.sink_deliver(task).await.map(|()| true),
                None => Ok(false),
            },
        }
    }

    /// When a job's next task is or was due; `None` if there is none in sight.
    async fn job_due_at(&self, job: Job) -> Result<Option<DateTime<Utc>>> {
        match job {
            Job::DeleteAccount => self.deletions_due_since().await,
            Job::AbandonUploads => self.uploads_due_since().await,
            Job::SweepBlobs => self.mounts_due_since().await,
            Job::SweepObjects => self.loose_objects_due_since().await,
            Job::SweepStorage => self.storage_due_since().await,
            Job::MergeChunks => self.merge_due_since().await,
            Job::ValidateBlobs => self.blobs_due_since().await,
            Job::ValidateManifests => self.manifests_due_since().await,
            Job::ImageGc => self.image_gc_due_since().await,
            Job::PurgeTrash => self.trash_due_since().await,
            Job::PruneTagHistory => self.tag_history_due_since().await,
            Job::MoveAccount => self.moves_due_since().await,
            // They look for themselves, and have no time in the database.
            Job::SealAudit | Job::PruneAudit | Job::DeliverAudit(_) => Ok(Some(self.clock.now())),
        }
    }

    /// Every job with when it is due, for metrics.
    pub async fn jobs_status(&self) -> Result<Vec<JobStatus>> {
        let mut found = Vec::new();
        for job in self.jobs() {
            let (due_at, now) = (self.job_due_at(job).await?, self.clock.now());
            let overdue = due_at.and_then(|at| (now - at).to_std().ok());
            let overdue = overdue.unwrap_or_default();
            found.push(JobStatus {
                job,
                due_at,
                overdue,
            });
        }
        Ok(found)
    }

    /// Every job with when it is due. For operators.
    pub async fn jobs_show(&self, identity: &Identity) -> Result<Vec<JobStatus>> {
        self.refuse_unless_operator(identity).await?;
        self.jobs_status().await
    }

    /// Makes all that a job looks at now and then due now, and says how much that is; whichever node is free does it. For
    /// operators.
    pub async fn job_hasten(&self, who: &Actor, job: Job) -> Result<usize> {
        self.refuse_unless_operator(who).await?;
        let now = self.clock.now();
        match job {
            Job::ValidateBlobs => {
                let hasten = move |conn: &mut _| blobs_validate_now(conn, now, HASTENED_AT_ONCE);
                self.hasten_all(hasten).await
            }
            Job::ValidateManifests => {
                let hasten =
                    move |conn: &mut _| manifests_validate_now(conn, now, HASTENED_AT_ONCE);
                self.hasten_all(hasten).await
            }
            Job::SweepStorage => {
                let hasten = move |conn: &mut _| containers_sweep_now(conn, now);
                self.db.write(hasten).await
            }
            Job::ImageGc => self.db.write(move |conn| gc_due_now(conn, now)).await,
            // What they wait for is an age, or somebody's order.
            _ => Ok(0),
        }
    }

    /// Hastens in several transactions, so that none holds up the others for long. It ends with the first that finds less
    /// than its share: what other nodes do meanwhile is put off anew, and would be found for ever.
    async fn hasten_all(
        &self,
        hasten: impl Fn(&mut Conn) -> Result<usize> + Copy + Send + 'static,
    ) -> Result<usize> {
        let mut count = 0;
        loop {
            let more = self.db.write(hasten).await?;
            count += more;
            if more < HASTENED_AT_ONCE as usize {
                return Ok(count);
            }
        }
    }

    /// Refuses who may not change what belongs to everybody.
    async fn refuse_unless_operator(&self, identity: &Identity) -> Result<()> {
        let may = self
            .driver_permits(Some(identity), Permission::Change, ANY_AUTH_TENANT)
            .await?;
        if may {
            return Ok(());
        }
        Err(Error::with_message(
            Code::Denied,
            "only operators may see and run the registry's jobs",
        ))
    }
}
