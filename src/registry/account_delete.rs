//! Deleting an account: first its owner deletes the manifests, then this takes the rest, a step at a time.
//!
//! It can break off anywhere and be called again: what was noted as loose is deleted by the next call, or by the janitor,
//! which goes on with what a client does not. What a newcomer
//! gets wrong: an account that is marked takes nothing new, but what was in it is there until its objects are gone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{Registry, caller::Actor, legal_holds::held_content, robots::robots_forget};
use crate::{
    db::{
        Conn,
        accounts::{
            account_delete, account_deletion_claim, account_deletion_due_since, account_find,
            account_lock, account_mark_deleting,
        },
        audit::audit_append,
        blob_delete::{blob_ids, blobs_remove},
        containers::container_list,
        legal_holds::{hold_in_account, holds_forget_all},
        listings::{blob_count, remaining_in_account},
        loose_objects::{LooseObject, loose_object_list},
        quotas::quota_settle,
        repos::repos_delete,
        storage_moves::move_forget,
        trash_list::trash_forget,
        uploads::uploads_cancel_all,
    },
    error::{Code, Error, Result},
    model::{
        account::Account,
        audit::{AuditAction, AuditEvent, AuditOutcome},
        listing::RemainingManifests,
        permission::Permission,
        precondition::{Precondition, Tagged as _},
        quota::Amounts,
        revocation::Revoked,
    },
    oci::AccountName,
};

/// How many blobs one transaction of a deletion takes.
const BLOBS_PER_STEP: i64 = 200;

/// How many manifests of the trash one transaction of a deletion takes.
const TRASH_PER_STEP: i64 = 1000;

/// How many steps one request takes: a client should not have to wait for minutes.
const STEPS_PER_REQUEST: usize = 10;

/// When the janitor goes on with a deletion whose client did not wait for its end.
const DELETION_PAUSE: Duration = Duration::from_secs(60);

/// How many of the manifests that are in the way a client is told.
pub(super) const MANIFESTS_TOLD: i64 = 10;

impl Registry {
    /// Deletes an account that holds no manifests any more, with its storage. It can be called again if
    /// it breaks off, and has to be while blobs remain.
    pub async fn account_delete(
        &self,
        who: &Actor,
        name: &AccountName,
        condition: Precondition,
    ) -> Result<()> {
        let account = self
            .account_access(who, name, Permission::Change)
            .await?
            .account;
        let (wanted, owner, at) = (name.clone(), account.clone(), self.clock.now());
        let next_at = at + DELETION_PAUSE;
        self.db
            .write(move |conn| {
                let now = account_lock(conn, &wanted)?;
                refuse_other(now.as_ref(), &owner)?;
                // Once it has begun, it can only be gone on with.
                if now.as_ref().is_none_or(|account| !account.is_deleting) {
                    condition.check(now.map(|account| account.tag()))?;
                }
                let remaining = remaining_in_account(conn, &wanted, MANIFESTS_TOLD)?;
                if remaining.count > 0 {
                    return Err(still_has("account", &remaining));
                }
                if let Some(hold) = hold_in_account(conn, &wanted, at)? {
                    return Err(held_content("account", &hold));
                }
                account_mark_deleting(conn, &wanted, next_at)
            })
            .await?;
        let event = self.event(who, AuditAction::AccountDelete).on(&account);
        self.account_delete_rest(&account, event).await
    }

    /// Since when the deletion of an account has been due to go on, or when the first one will be.
    pub(super) async fn deletions_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        self.db.read(account_deletion_due_since).await
    }

    /// Goes on with the deletion that is due for longest; `false` if none is. One that fails, or needs more steps, is due
    /// again after a while.
    pub(super) async fn account_delete_go_on(&self) -> Result<bool> {
        let now = self.clock.now();
        let claimed = self
            .db
            .write(move |conn| account_deletion_claim(conn, now, now + DELETION_PAUSE))
            .await?;
        let Some(account) = claimed else {
            return Ok(false);
        };
        let event = self.own_event(AuditAction::AccountDelete).on(&account);
        let event = event.ended(
            AuditOutcome::Success,
            "the rest of a deletion that was asked for before",
        );
        match self.account_delete_rest(&account, event).await {
            // There is more of it.
            Err(error) if error.code() == Code::Conflict => Ok(true),
            deleted => deleted.map(|()| true),
        }
    }

    /// Takes what is left in an account that is marked, and then the account.
    async fn account_delete_rest(&self, account: &Account, event: AuditEvent) -> Result<()> {
        self.account_empty(account).await?;
        let wanted = account.name.clone();
        let storages = self
            .db
            .read(move |conn| container_list(conn, &wanted))
            .await?;
        for storage in storages {
            self.container_release(account, &storage).await?;
        }
        let (wanted, account) = (account.name.clone(), account.clone());
        self.write_and_revoke(move |conn| {
            deleting_lock(conn, &account)?;
            audit_append(conn, &event)?;
            move_forget(conn, &wanted)?;
            robots_forget(conn, &wanted)?;
            account_delete(conn, &wanted)?;
            // Another tenant may make an account of this name.
            let revoked = Revoked::Account(wanted.as_str().to_owned());
            Ok(((), vec![revoked]))
        })
        .await
    }

    /// Removes everything that lies in an account, a step at a time.
    async fn account_empty(&self, account: &Account) -> Result<()> {
        let now = self.clock.now();
        while self.account_trash_forget(account).await? {}
        let (name, owner) = (account.name.clone(), account.clone());
        self.db
            .write(move |conn| {
                deleting_lock(conn, &owner)?;
                // None of them is in force: the account was marked.
                holds_forget_all(conn, &name)?;
                let released = uploads_cancel_all(conn, &name, now)?;
                repos_delete(conn, &name)?;
                quota_settle(conn, &name, &Amounts::reserved(-released))
            })
            .await?;
        for _ in 0..STEPS_PER_REQUEST {
            let (name, owner) = (account.name.clone(), account.clone());
            let removed = self
                .db
                .write(move |conn| {
                    deleting_lock(conn, &owner)?;
                    let ids = blob_ids(conn, &name, BLOBS_PER_STEP)?;
                    blobs_remove(conn, &name, &ids, now)?;
                    Ok(ids.len())
                })
                .await?;
            if removed == 0 {
                break;
            }
        }
        let (objects, _) = self.account_rest(account).await?;
        self.objects_delete(account, objects).await;
        let (left, blobs) = self.account_rest(account).await?;
        if !left.is_empty() {
            let message = "some objects could not be deleted; delete the account again";
            return Err(Error::unavailable(message));
        }
        if blobs > 0 {
            let message = format!(
                "the account is being deleted and still has {blobs} blobs; delete the account again"
            );
            let detail = json!({ "remaining_blobs": { "count": blobs } });
            return Err(Error::with_message(Code::Conflict, message).with_detail(detail));
        }
        Ok(())
    }

    /// The objects and the number of blobs that an account that is being deleted still has.
    async fn account_rest(&self, account: &Account) -> Result<(Vec<LooseObject>, u64)> {
        let owner = account.clone();
        self.db
            .read(move |conn| {
                let objects = loose_object_list(conn, &owner.name)?;
                let blobs = blob_count(conn, &owner.name)?;
                // Last: what was read before was this account's if it is still there.
                refuse_unless_deleting(account_find(conn, &owner.name)?, &owner)?;
                Ok((objects, blobs))
            })
            .await
    }

    /// Takes some of the trash off the books of an account that is being deleted; `false` if there was none.
    async fn account_trash_forget(&self, account: &Account) -> Result<bool> {
        let (name, owner) = (account.name.clone(), account.clone());
        self.db
            .write(move |conn| {
                deleting_lock(conn, &owner)?;
                let (count, bytes) = trash_forget(conn, &name, TRASH_PER_STEP)?;
                let change = Amounts {
                    bytes: -bytes,
                    ..Amounts::default()
                };
                quota_settle(conn, &name, &change)?;
                Ok(count > 0)
            })
            .await
    }
}

/// Others may have made an account of this name meanwhile.
fn refuse_other(now: Option<&Account>, owner: &Account) -> Result<()> {
    match now {
        Some(now) if now.auth_tenant_id == owner.auth_tenant_id => Ok(()),
        _ => {
            let message = format!("the account {} is gone", owner.name);
            Err(Error::with_message(Code::NotFound, message))
        }
    }
}

/// The account that is being deleted, which nobody else can change until the transaction ends.
fn deleting_lock(conn: &mut Conn, account: &Account) -> Result<()> {
    refuse_unless_deleting(account_lock(conn, &account.name)?, account)
}

fn refuse_unless_deleting(now: Option<Account>, owner: &Account) -> Result<()> {
    refuse_other(now.filter(|now| now.is_deleting).as_ref(), owner)
}

/// The refusal to delete what has manifests; `what` is it?
pub(super) fn still_has(what: &str, remaining: &RemainingManifests) -> Error {
    let count = remaining.count;
    let next: Vec<_> = remaining
        .next
        .iter()
        .map(|(repository, digest)| json!({ "repository": repository, "digest": digest }))
        .collect();
    let detail = json!({ "remaining_manifests": { "count": count, "next": next } });
    let message = format!("the {what} still has {count} manifests; delete those first");
    Error::with_message(Code::Conflict, message).with_detail(detail)
}
