//! Legal holds: placing, listing and lifting them, and the refusals that they cause.
//!
//! A hold on a repository keeps its manifests, tags, blobs and trash; one on a tag keeps the tag and the manifest that it
//! points at. New content and new tags are fine. Refusals are decided in the transaction that deletes or moves, with the
//! repository held. What a newcomer gets wrong: who owns the account can make a hold longer but not shorter, or it would
//! bind nobody.

use chrono::{DateTime, SecondsFormat, SubsecRound as _, Utc};
use serde_json::json;

use super::{
    Registry,
    caller::Actor,
    janitor_times::NEVER,
    repositories::no_repository,
    tags::{Page, page_limit, page_marker},
};
use crate::{
    auth::driver::Identity,
    db::{
        Conn,
        audit::audit_append,
        legal_holds::{hold_delete, hold_find, hold_on_any, hold_page, hold_put, holds_of_repo},
        repos::{Hold, repo_find, repo_hold},
        tags::tag_digest,
        trash_list::trash_put_back,
    },
    error::{Code, Error, Result},
    model::{
        audit::{AuditAction, AuditEvent, AuditOutcome},
        listing::PageOrder,
        permission::Permission,
        trash::LegalHold,
        user::ANY_AUTH_TENANT,
    },
    oci::{AccountName, FullRepoName, Tag},
};

/// The longest reason, in characters.
const MAX_REASON_CHARS: usize = 1000;

/// How many holds one repository may have.
const MAX_HOLDS: usize = 1000;

/// A hold that somebody asks for.
#[derive(Debug, Clone)]
pub struct HoldOrder {
    /// Until when.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// What is held: a repository, or one of its tags.
#[derive(Debug, Clone)]
pub struct HoldTarget {
    /// The repository.
    pub name: FullRepoName,
    /// The tag.
    pub tag: Option<Tag>,
}

fn day(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn told(hold: &LegalHold) -> (String, serde_json::Value) {
    let what = match &hold.tag {
        Some(tag) => format!("tag {tag} of repository {}", hold.repository),
        None => format!("repository {}", hold.repository),
    };
    let until = day(hold.until);
    let message = format!(
        "{what} is under a legal hold until {until}: {}",
        hold.reason
    );
    let detail = json!({ "hold": {
        "repository": hold.repository, "tag": hold.tag.as_ref().map(Tag::as_str), "until": until, "reason": hold.reason,
    } });
    (message, detail)
}

/// Refuses to delete or move what a hold on the repository or on one of the tags keeps. The repository is held.
pub(super) fn refuse_held(
    conn: &mut Conn,
    repo_id: i64,
    tags: &[Tag],
    now: DateTime<Utc>,
) -> Result<()> {
    let Some(hold) = hold_on_any(conn, repo_id, tags, now)? else {
        return Ok(());
    };
    let (message, detail) = told(&hold);
    Err(Error::with_message(Code::Denied, message).with_detail(detail))
}

/// The refusal to delete a whole account or repository, `what`, in which something is held.
pub(super) fn held_content(what: &str, hold: &LegalHold) -> Error {
    let (message, detail) = told(hold);
    let message = format!("the {what} cannot be deleted: {message}");
    Error::with_message(Code::Conflict, message).with_detail(detail)
}

impl HoldOrder {
    fn check(&self, now: DateTime<Utc>) -> Result<()> {
        if self.until <= now {
            return Err(Error::field("until", "it must lie in the future"));
        }
        if self.until > NEVER {
            return Err(Error::field("until", "it must lie before the year 10000"));
        }
        let chars = self.reason.chars().count();
        if self.reason.trim().is_empty() || chars > MAX_REASON_CHARS {
            let reason = format!("it must have 1 to {MAX_REASON_CHARS} characters");
            return Err(Error::field("reason", reason));
        }
        Ok(())
    }
}

impl Registry {
    /// A page of the holds of an account that are in force, by repository and tag; `last` is `<repository>:<tag>`.
    pub async fn holds_list(
        &self,
        identity: &Identity,
        account: &AccountName,
        page: PageOrder,
    ) -> Result<Page<LegalHold>> {
        self.account_access(identity, account, Permission::View)
            .await?;
        let ((rows, limit), last) = (page_limit(page.limit), page_marker(page.last));
        let (account, now) = (account.clone(), self.clock.now());
        let holds = self
            .db
            .read(move |conn| {
                let after = last.split_once(':').unwrap_or((&last, ""));
                hold_page(conn, &account, after, now, rows)
            })
            .await?;
        Ok(Page::cut(holds, limit))
    }

    /// Places a hold or makes it longer. To make it shorter, somebody must be allowed to change all accounts.
    pub async fn hold_place(
        &self,
        who: &Actor,
        target: HoldTarget,
        order: HoldOrder,
    ) -> Result<LegalHold> {
        self.account_access(who, &target.name.account, Permission::Change)
            .await?;
        let now = self.clock.now();
        order.check(now)?;
        let may_shorten = self.may_shorten(who).await?;
        let event = self.hold_event(who, AuditAction::HoldPlace, &target);
        let hold = LegalHold {
            repository: target.name.repo.to_string(),
            tag: target.tag.clone(),
            // The databases keep no more.
            until: order.until.trunc_subsecs(6),
            reason: order.reason,
            placed_by: event.who_name().to_owned(),
            placed_at: now,
        };
        self.db
            .write(move |conn| {
                let unknown = || no_repository(&target.name);
                let repo = repo_find(conn, &target.name)?.ok_or_else(unknown)?;
                repo_hold(conn, &repo, Hold::Alone)?;
                let key = (repo.id, target.tag.as_ref());
                let before = hold_find(conn, key, now)?;
                match &before {
                    Some(before) if before.until > hold.until && !may_shorten => {
                        return Err(only_operators("made shorter"));
                    }
                    // What the hold has put off waits for its new end.
                    Some(before) if hold.tag.is_none() => {
                        trash_put_back(conn, repo.id, (before.until, hold.until))?;
                    }
                    Some(_) => {}
                    None => refuse_new(conn, repo.id, &target, now)?,
                }
                hold_put(conn, repo.id, &hold)?;
                let reason = format!("until {}: {}", day(hold.until), hold.reason);
                let event = event.on(&repo.account);
                audit_append(conn, &event.ended(AuditOutcome::Success, reason))?;
                Ok(hold)
            })
            .await
    }

    /// Lifts a hold before its time. For those who may change all accounts.
    pub async fn hold_lift(&self, who: &Actor, target: HoldTarget) -> Result<()> {
        self.account_access(who, &target.name.account, Permission::Change)
            .await?;
        if !self.may_shorten(who).await? {
            return Err(only_operators("lifted"));
        }
        let event = self.hold_event(who, AuditAction::HoldLift, &target);
        let now = self.clock.now();
        self.db
            .write(move |conn| {
                let unknown = || no_repository(&target.name);
                let repo = repo_find(conn, &target.name)?.ok_or_else(unknown)?;
                repo_hold(conn, &repo, Hold::Alone)?;
                let key = (repo.id, target.tag.as_ref());
                let Some(hold) = hold_find(conn, key, now)? else {
                    let message = "there is no legal hold";
                    return Err(Error::with_message(Code::NotFound, message));
                };
                hold_delete(conn, repo.id, target.tag.as_ref())?;
                if hold.tag.is_none() {
                    trash_put_back(conn, repo.id, (hold.until, now))?;
                }
                let reason = format!("it was until {}: {}", day(hold.until), hold.reason);
                let event = event.on(&repo.account);
                audit_append(conn, &event.ended(AuditOutcome::Success, reason))
            })
            .await
    }

    async fn may_shorten(&self, who: &Actor) -> Result<bool> {
        let change = Permission::Change;
        self.driver_permits(Some(who.identity()), change, ANY_AUTH_TENANT)
            .await
    }

    fn hold_event(&self, who: &Actor, action: AuditAction, target: &HoldTarget) -> AuditEvent {
        let mut event = self.event(who, action);
        event.target.repository = Some(target.name.to_string());
        event.target.tags = target.tag.iter().map(ToString::to_string).collect();
        event
    }
}

/// Refuses a hold on a tag that is not there, and one too many.
fn refuse_new(
    conn: &mut Conn,
    repo_id: i64,
    target: &HoldTarget,
    now: DateTime<Utc>,
) -> Result<()> {
    if let Some(tag) = &target.tag
        && tag_digest(conn, repo_id, tag)?.is_none()
    {
        let message = format!("there is no tag {tag} in repository {}", target.name);
        return Err(Error::with_message(Code::NotFound, message));
    }
    if holds_of_repo(conn, repo_id, now)?.len() >= MAX_HOLDS {
        let message =
            format!("a repository can have {MAX_HOLDS} holds; hold the repository as a whole");
        return Err(Error::with_message(Code::Conflict, message));
    }
    Ok(())
}

fn only_operators(what: &str) -> Error {
    let message = format!("a legal hold can be {what} only by who may change all accounts");
    Error::with_message(Code::Denied, message)
}
