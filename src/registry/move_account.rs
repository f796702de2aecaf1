//! Moving an account to another storage backend while it is in use.
//!
//! From the start new objects go to the new backend. Steps, taken under a lease that any node may hold, copy the old
//! ones (`move_copy.rs`), wait until those who still read the old places have ended, and remove what is left there.
//! A step that is cut off anywhere is taken again by somebody else.
//!
//! What a newcomer gets wrong: a client that was given an address, or a place, a moment ago still goes there; so
//! nothing old is removed before the grace time is over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use storage_drivers::StorageError;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Registry, caller::Actor};
use crate::{
    auth::driver::Identity,
    db::{
        Conn,
        accounts::account_find,
        audit::audit_append,
        containers::{container_claim, container_forget, container_list, container_note},
        loose_objects::{loose_object_counts, loose_objects_sweep},
        relocate::elsewhere,
        storage_moves::{
            move_advance, move_claim, move_due_since, move_find, move_renew, move_start,
        },
    },
    error::{Code, Error, Result},
    model::{
        account::Account,
        audit::AuditAction,
        permission::Permission,
        storage_move::{MoveProgress, MoveState, StorageMove},
    },
    oci::AccountName,
};

/// How long a node that takes a step may be silent before another one takes it.
pub const MOVE_LEASE: Duration = Duration::from_secs(30);

/// How many objects are taken for rubbish, and deleted, at a time.
const SWEPT_AT_ONCE: i64 = 200;

/// The bounds of a move, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct MoveSettings {
    /// How long what was copied stays in its old place.
    pub grace: Duration,
    /// How many bytes a second are copied at most; 0 means any number.
    pub bytes_per_second: u64,
}

/// A step that a node has taken on.
#[derive(Debug)]
pub struct MoveStep {
    pub(super) moving: StorageMove,
    /// What `next_step_at` must still be, or the lease is lost.
    pub(super) held: DateTime<Utc>,
    /// When the lease was last put off, by this process's own time.
    renewed_at: Instant,
    /// Somebody else has the lease: this step is over.
    pub(super) is_lost: bool,
}

impl Registry {
    /// Begins to move an account to the backend `to`; asking again for a move that goes on changes nothing.
    pub async fn account_move(
        &self,
        identity: &Actor,
        name: &AccountName,
        (to, keeps_old): (&str, bool),
    ) -> Result<MoveProgress> {
        let account = self
            .account_access(identity, name, Permission::Change)
            .await?
            .account;
        self.backends.refuse_unless_allowed(to, &account)?;
        if account.is_deleting {
            let message = "the account is being deleted";
            return Err(Error::with_message(Code::Conflict, message));
        }
        if let Some(progress) = self.move_progress(&account).await? {
            let moving = &progress.storage_move;
            let goes_on = moving.state != MoveState::Done;
            if goes_on && moving.target == to && moving.keeps_old == keeps_old {
                return Ok(progress);
            }
        }
        // First the note, so that no container is made that nobody knows, and none that is just being removed is
        // taken for ready.
        let (wanted, target) = (account.clone(), to.to_owned());
        self.db
            .write(move |conn| {
                refuse_changed(conn, &wanted)?;
                container_note(conn, &wanted.name, &target)
            })
            .await?;
        self.container_prepare(&account, to).await?;
        let (wanted, target, now) = (account.clone(), to.to_owned(), self.clock.now());
        let event = self.event(identity, AuditAction::AccountMove);
        let event = event.on(&account).named(to);
        self.db
            .write(move |conn| {
                refuse_changed(conn, &wanted)?;
                audit_append(conn, &event)?;
                move_start(conn, &wanted.name, (&target, keeps_old), now)
            })
            .await?;
        info!(account = %name, from = account.storage, to, "moving an account");
        let progress = self.move_progress(&account).await?;
        progress.ok_or_else(|| Error::with_message(Code::NotFound, "the account is gone"))
    }

    /// How far the last move of an account has come; `None` if it was never moved.
    pub async fn account_move_show(
        &self,
        identity: &Identity,
        name: &AccountName,
    ) -> Result<Option<MoveProgress>> {
        let account = self
            .account_access(identity, name, Permission::View)
            .await?
            .account;
        self.move_progress(&account).await
    }

    async fn move_progress(&self, account: &Account) -> Result<Option<MoveProgress>> {
        let name = account.name.clone();
        self.db
            .read(move |conn| {
                let Some(storage_move) = move_find(conn, &name)? else {
                    return Ok(None);
                };
                let remaining = elsewhere(conn, &name, &storage_move.target)?;
                Ok(Some(MoveProgress {
                    storage_move,
                    remaining,
                }))
            })
            .await
    }

    /// Since when a step has been due, or when the first one will be.
    pub(super) async fn moves_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        self.db.read(move_due_since).await
    }

    /// Takes on the step that is due for longest, if there is one.
    pub async fn move_claim(&self) -> Result<Option<MoveStep>> {
        let now = self.clock.now();
        let lease_until = now + MOVE_LEASE;
        let claimed = self
            .db
            .write(move |conn| move_claim(conn, now, lease_until))
            .await?;
        Ok(claimed.map(|moving| MoveStep {
            moving,
            held: lease_until,
            renewed_at: Instant::now(),
            is_lost: false,
        }))
    }

    /// Takes a step to its end, and says when the next one is due.
    pub async fn move_step(&self, mut step: MoveStep) -> Result<()> {
        let name = step.moving.account.clone();
        let account = self.db.read(move |conn| account_find(conn, &name)).await?;
        let Some(account) = account.filter(|account| !account.is_deleting) else {
            return Ok(());
        };
        let outcome = match step.moving.state {
            MoveState::Copying => self.copying(&account, &mut step).await,
            MoveState::Waiting => self.waited(&step).await,
            MoveState::Removing => self.removing(&account, &mut step).await,
            MoveState::Done => return Ok(()),
        };
        let now = self.clock.now();
        let mut after = step.moving.clone();
        match outcome {
            Ok((state, next_step_at)) => {
                after.state = state;
                after.next_step_at = next_step_at;
                after.finished_at = (state == MoveState::Done).then_some(now);
                (after.failures, after.error) = (0, None);
            }
            Err(error) => {
                let reason = error.causes().unwrap_or_else(|| error.to_string());
                warn!(account = %account.name, to = after.target, reason, "a step of a move failed");
                after.next_step_at = Some(now + after.backoff());
                after.failures += 1;
                after.error = Some(error.to_string());
            }
        }
        if after.state == MoveState::Done {
            info!(account = %account.name, to = after.target, objects = after.moved_objects, "an account has moved");
        }
        let held = step.held;
        self.db
            .write(move |conn| move_advance(conn, held, &after))
            .await?;
        Ok(())
    }

    async fn copying(&self, account: &Account, step: &mut MoveStep) -> Result<NextStep> {
        self.copy_pass(account, step).await?;
        let now = self.clock.now();
        if self.is_all_there(&step.moving).await? {
            return Ok((MoveState::Waiting, Some(now + self.settings.moves.grace)));
        }
        // Pushes that began before the move have stored more meanwhile.
        Ok((MoveState::Copying, Some(now)))
    }

    async fn waited(&self, step: &MoveStep) -> Result<NextStep> {
        let state = if self.is_all_there(&step.moving).await? {
            MoveState::Removing
        } else {
            MoveState::Copying
        };
        Ok((state, Some(self.clock.now())))
    }

    async fn is_all_there(&self, moving: &StorageMove) -> Result<bool> {
        let (name, target) = (moving.account.clone(), moving.target.clone());
        let left = self
            .db
            .read(move |conn| elsewhere(conn, &name, &target))
            .await?;
        Ok(left.objects == 0)
    }

    /// Removes what is left on other backends, and the containers there.
    async fn removing(&self, account: &Account, step: &mut MoveStep) -> Result<NextStep> {
        let now = self.clock.now();
        if !self.is_all_there(&step.moving).await? {
            return Ok((MoveState::Copying, Some(now)));
        }
        let name = account.name.clone();
        let storages = self
            .db
            .read(move |conn| container_list(conn, &name))
            .await?;
        let mut is_over = true;
        for storage in storages {
            is_over &= self
                .held(step, self.container_clear(account, &storage, now))
                .await?;
        }
        if is_over {
            return Ok((MoveState::Done, None));
        }
        let pause = (self.settings.moves.grace / 4).max(Duration::from_secs(1));
        Ok((MoveState::Removing, Some(now + pause)))
    }

    /// Removes what an account has left on a backend, and the container if it does not live there; `false` if some
    /// of it is too young.
    async fn container_clear(
        &self,
        account: &Account,
        storage: &str,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let before = now - self.settings.moves.grace;
        loop {
            let (name, wanted) = (account.name.clone(), storage.to_owned());
            let swept = self
                .db
                .write(move |conn| {
                    loose_objects_sweep(conn, &name, (&wanted, before), SWEPT_AT_ONCE)
                })
                .await?;
            if swept.is_empty() {
                break;
            }
            let count = swept.len();
            let deleted = self.objects_delete(account, swept).await;
            if deleted < count {
                return Err(Error::with_message(
                    Code::Unavailable,
                    format!(
                        "{} objects could not be removed from {storage} yet",
                        count - deleted
                    ),
                ));
            }
        }
        let (name, wanted) = (account.name.clone(), storage.to_owned());
        let (young, kept) = self
            .db
            .read(move |conn| loose_object_counts(conn, &name, &wanted))
            .await?;
        let lives_there = storage == account.storage;
        if young == 0 && kept == 0 && !lives_there {
            self.container_release(account, storage).await?;
        }
        // Where the account lives there are always young ones: those of pushes that go on.
        Ok(young == 0 || lives_there)
    }

    /// Releases an account's container, if it has one there.
    pub(super) async fn container_release(&self, account: &Account, storage: &str) -> Result<()> {
        let (name, wanted) = (account.name.clone(), storage.to_owned());
        let is_claimed = self
            .db
            .write(move |conn| container_claim(conn, &name, &wanted))
            .await?;
        if !is_claimed {
            // It lives there again.
            return Ok(());
        }
        let driver = self.backends.get(storage)?;
        match driver.release_account(&account.tenant()).await {
            Ok(()) => {}
            Err(error @ StorageError::NotEmpty { .. }) => {
                let message = format!(
                    "the account's container on storage backend {storage} holds something that the registry does not know; remove it there"
                );
                return Err(Error::with_message(Code::Unavailable, message).caused_by(error));
            }
            // Somebody else's lies in its place, so ours is gone.
            Err(StorageError::NotOurs { .. } | StorageError::WrongTenant { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let (name, storage) = (account.name.clone(), storage.to_owned());
        self.db
            .write(move |conn| container_forget(conn, &name, &storage))
            .await
    }

    /// Runs a part of a step and keeps the lease meanwhile; an error if it is lost.
    pub(super) async fn held<T>(
        &self,
        step: &mut MoveStep,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let due = step.renewed_at + MOVE_LEASE / 4;
            tokio::select! {
                result = &mut work => return result,
                () = tokio::time::sleep_until(due) => {}
            }
            let until = self.clock.now() + MOVE_LEASE;
            let mut renewing = std::pin::pin!(self.lease_renew(step, until));
            // Both must go on, since they may wait for the same connection; and a renewal that has begun must be
            // waited for, or nobody knows whose the lease is.
            let (renewed, result) = tokio::select! {
                renewed = &mut renewing => (renewed, None),
                result = &mut work => (renewing.await, Some(result)),
            };
            step.is_lost = renewed.is_err();
            renewed?;
            (step.held, step.renewed_at) = (until, Instant::now());
            if let Some(result) = result {
                return result;
            }
        }
    }

    fn lease_renew(
        &self,
        step: &MoveStep,
        until: DateTime<Utc>,
    ) -> impl Future<Output = Result<()>> + use<> {
        let (db, name, held) = (self.db.clone(), step.moving.account.clone(), step.held);
        async move {
            let is_ours = db
                .write(move |conn| move_renew(conn, &name, held, until))
                .await?;
            is_ours.then_some(()).ok_or_else(|| {
                Error::unavailable(
                    "somebody else goes on with the move, or it was turned elsewhere",
                )
            })
        }
    }
}

/// An account that was deleted, or made again by somebody else, since it was read.
fn refuse_changed(conn: &mut Conn, account: &Account) -> Result<()> {
    let now = account_find(conn, &account.name)?;
    let is_same = |now: &Account| !now.is_deleting && now.auth_tenant_id == account.auth_tenant_id;
    now.as_ref()
        .is_some_and(is_same)
        .then_some(())
        .ok_or_else(|| Error::with_message(Code::NotFound, "the account is gone"))
}

/// The state after a step, and when the next one is due.
type NextStep = (MoveState, Option<DateTime<Utc>>);
