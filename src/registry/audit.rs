//! The audit trail: how use cases tell what was decided, and who may read it.
//!
//! An event of a change is written by `db/audit.rs audit_append` in the change's transaction. Logins, tokens, pulls and
//! refusals change nothing: they are collected here and written in one transaction about once a second. What a
//! newcomer gets wrong: an event must be complete before the transaction begins, so it is made outside of it and moved
//! into the closure.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

use super::{
    Registry,
    access::{RepoAccess, RepoPermission},
    audit_strangers::StrangerAct,
    caller::{Actor, Caller},
    login::LoggedIn,
};
use crate::{
    auth::{driver::AuthError, issued_secret, scope::Scope},
    db::audit::{audit_append_all, audit_find},
    error::{Code, Error, Result},
    model::{
        audit::{AuditAction, AuditEvent, AuditFilter, AuditOutcome, AuditWho, SealedEvent},
        permission::Permission,
        request_origin::RequestOrigin,
        robot::login_parts,
    },
    oci::{AccountName, Reference},
};

/// How many events wait in memory before a request has to write them itself.
const MAX_WAITING: usize = 10_000;

/// The longest name of a login that failed, and the longest path of a refused request.
const MAX_OFFERED_CHARS: usize = 512;

/// The largest page.
pub const MAX_PAGE: i64 = 1000;

/// Who does what the registry does by itself, and what is done on its machine.
const OURSELVES: &str = "system:kontor";

/// Events that are not written yet, and the right to write them: whoever comes second waits until the first is done.
#[derive(Debug, Default)]
pub(super) struct AuditBuffer(Mutex<Vec<AuditEvent>>, tokio::sync::Mutex<()>);

impl AuditBuffer {
    fn add(&self, event: AuditEvent) -> usize {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
        events.len()
    }

    fn len(&self) -> usize {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.len()
    }

    fn take(&self) -> Vec<AuditEvent> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, mut events: Vec<AuditEvent>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.append(&mut waiting);
        *waiting = events;
    }
}

/// Somebody who does something.
pub(super) trait Audited {
    /// Who, and where from.
    fn audited(&self) -> (Option<AuditWho>, &RequestOrigin);
}

impl Audited for Actor {
    fn audited(&self) -> (Option<AuditWho>, &RequestOrigin) {
        (self.audit_who(), self.origin())
    }
}

impl Audited for Caller {
    fn audited(&self) -> (Option<AuditWho>, &RequestOrigin) {
        (self.audit_who(), self.origin())
    }
}

/// The account of an event, if it can be the name of one.
fn account_of(text: &str) -> Option<String> {
    text.parse::<AccountName>()
        .ok()
        .map(|name| name.to_string())
}

/// The name that somebody offered at a login that failed. People paste secrets there.
fn offered_name(text: &str) -> String {
    let is_jwt = text.starts_with("ey") && text.matches('.').count() >= 2;
    if issued_secret::kind_of(text).is_some() || is_jwt {
        return "(a secret)".to_owned();
    }
    text.chars().take(MAX_OFFERED_CHARS).collect()
}

impl Registry {
    /// An event of somebody who asks.
    pub(super) fn event(&self, by: &impl Audited, action: AuditAction) -> AuditEvent {
        let (who, origin) = by.audited();
        AuditEvent::new(self.ids.fresh(), self.clock.now(), action).by(who, origin)
    }

    /// An event of the registry itself.
    pub(super) fn own_event(&self, action: AuditAction) -> AuditEvent {
        let mut event = AuditEvent::new(self.ids.fresh(), self.clock.now(), action);
        event.who = Some(AuditWho {
            name: OURSELVES.to_owned(),
            ..AuditWho::default()
        });
        event
    }

    /// An event in a repository. Whose account it is comes later, by [`AuditEvent::on`].
    pub(super) fn repo_event<P: RepoPermission>(
        &self,
        access: &RepoAccess<P>,
        action: AuditAction,
    ) -> AuditEvent {
        let mut event = self.event(access.caller(), action);
        event.account = Some(access.name().account.to_string());
        event.target.repository = Some(access.name().to_string());
        event
    }

    /// An event about what a tag or digest names; about a tag alone it is another one.
    pub(super) fn reference_event<P: RepoPermission>(
        &self,
        access: &RepoAccess<P>,
        action: AuditAction,
        reference: &Reference,
    ) -> AuditEvent {
        let is_deletion = action == AuditAction::ManifestDelete;
        match reference {
            Reference::Digest(digest) => self.repo_event(access, action).of(digest),
            Reference::Tag(tag) => {
                let action = if is_deletion {
                    AuditAction::TagDelete
                } else {
                    action
                };
                let mut event = self.repo_event(access, action);
                event.target.tags = vec![tag.to_string()];
                event
            }
        }
    }

    /// Tells an event that no change belongs to. It is in memory until it is written; if too many wait, this one
    /// waits for them to be written, and fails if they cannot be.
    pub(super) async fn audit_note(&self, event: AuditEvent) -> Result<()> {
        if self.audit_buffer.add(event) < MAX_WAITING {
            return Ok(());
        }
        self.audit_flush().await
    }

    /// Writes the events that were collected, and how many of strangers were left out.
    pub async fn audit_flush(&self) -> Result<()> {
        self.audit_flush_with(false).await
    }

    /// Writes all that is known, before the process ends.
    pub async fn audit_close(&self) -> Result<()> {
        self.audit_flush_with(true).await
    }

    async fn audit_flush_with(&self, with_all: bool) -> Result<()> {
        let _writing = self.audit_buffer.1.lock().await;
        let mut events = self.audit_buffer.take();
        // While nothing can be written it is only counted on.
        if events.len() < MAX_WAITING {
            events.extend(self.strangers_told(with_all));
        }
        if events.is_empty() {
            return Ok(());
        }
        let written = events.clone();
        let written = self
            .db
            .write(move |conn| audit_append_all(conn, &written))
            .await;
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.code() == Code::Internal => self.audit_flush_each(events).await,
            Err(error) => {
                self.audit_buffer.put_back(events);
                Err(error)
            }
        }
    }

    /// Writes events one by one. One that the database does not take must not keep the others back: it goes to the log.
    async fn audit_flush_each(&self, events: Vec<AuditEvent>) -> Result<()> {
        let mut left = events.into_iter();
        while let Some(event) = left.next() {
            let written = vec![event.clone()];
            let written = self.db.write(move |conn| audit_append_all(conn, &written));
            match written.await {
                Ok(()) => {}
                Err(error) if error.code() == Code::Internal => {
                    tracing::error!(error = ?error, event = ?event, "an audit event cannot be stored");
                }
                Err(error) => {
                    self.audit_buffer
                        .put_back([vec![event], left.collect()].concat());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Tells how a login ended, and passes it on. `offered` is the name, if there was one.
    pub(super) async fn login_noted(
        &self,
        offered: Option<&str>,
        origin: &RequestOrigin,
        outcome: Result<LoggedIn, AuthError>,
    ) -> Result<LoggedIn, AuthError> {
        if matches!(outcome, Err(AuthError::Limited { .. }))
            && !self.stranger_admit(StrangerAct::LimitedLogin, origin)
        {
            return outcome;
        }
        let now = self.clock.now();
        let event = AuditEvent::new(self.ids.fresh(), now, AuditAction::Login);
        let mut event = match &outcome {
            Ok(login) => event.by(Some((&login.identity).into()), origin),
            // Nobody could tell: nothing was decided.
            Err(AuthError::Unavailable(_)) => return outcome,
            Err(error) => {
                let who = offered.map(|name| AuditWho {
                    name: offered_name(name),
                    ..AuditWho::default()
                });
                let outcome = match error {
                    AuthError::Limited { .. } => AuditOutcome::Denied,
                    _ => AuditOutcome::Failure,
                };
                event.by(who, origin).ended(outcome, error.to_string())
            }
        };
        // Machines are their account's.
        let machine = offered.and_then(login_parts);
        event.account = machine.map(|(account, _)| account.to_string());
        let noted = self.audit_note(event).await;
        noted.map_err(AuthError::unavailable)?;
        outcome
    }

    /// Tells that a token was issued, and how much of what was asked for it does not allow.
    pub(super) async fn token_noted(
        &self,
        (who, origin): (Option<AuditWho>, &RequestOrigin),
        jti: String,
        (asked, granted): (&[Scope], &[Scope]),
    ) -> Result<()> {
        let words = |scopes: &[Scope]| {
            let words: Vec<String> = scopes.iter().map(Scope::to_string).collect();
            words.join(" ")
        };
        if who.is_none() && !self.stranger_admit(StrangerAct::AnonymousToken, origin) {
            return Ok(());
        }
        let who = who.unwrap_or_else(|| AuditWho {
            name: "anonymous".to_owned(),
            ..AuditWho::default()
        });
        let who = AuditWho {
            token_id: Some(jti),
            ..who
        };
        let now = self.clock.now();
        let event = AuditEvent::new(self.ids.fresh(), now, AuditAction::TokenIssue);
        let mut event = event.by(Some(who), origin).named(words(granted));
        if let [scope] = asked
            && let Some((account, _)) = scope.name.split_once('/')
        {
            event.account = account_of(account);
        }
        if asked != granted {
            let outcome = if granted.is_empty() {
                AuditOutcome::Denied
            } else {
                AuditOutcome::Success
            };
            event = event.ended(outcome, format!("asked for {}", words(asked)));
        }
        self.audit_note(event).await
    }

    /// Tells that a request was refused. `path` is without its query, which may hold secrets.
    pub async fn audit_denial(
        &self,
        (who, origin): (Option<AuditWho>, &RequestOrigin),
        (account, path): (Option<String>, &str),
        reason: &str,
    ) {
        if who.is_none() && !self.stranger_admit(StrangerAct::Refusal, origin) {
            return;
        }
        let now = self.clock.now();
        let event = AuditEvent::new(self.ids.fresh(), now, AuditAction::Access);
        let path: String = path.chars().take(MAX_OFFERED_CHARS).collect();
        let event = event.by(who, origin).named(path);
        let mut event = event.ended(AuditOutcome::Denied, reason);
        event.account = account.as_deref().and_then(account_of);
        // Refusals need no database; while there is none they must not fill the memory.
        if self.audit_buffer.len() >= MAX_WAITING && self.audit_flush().await.is_err() {
            tracing::warn!(event = ?event, "a refusal is told to the log only: audit events cannot be written");
            return;
        }
        if let Err(error) = self.audit_note(event).await {
            // It waits in memory all the same, and the request is refused anyway.
            tracing::warn!(error = ?error, "audit events cannot be written");
        }
    }

    /// The sealed events that match, the newest first. Operators see all; who may change an account sees those of the
    /// account; who may change all accounts of an auth tenant, those of the auth tenant.
    pub async fn audit_list(
        &self,
        who: &Actor,
        mut filter: AuditFilter,
    ) -> Result<Vec<SealedEvent>> {
        filter.limit = filter.limit.clamp(1, MAX_PAGE);
        if !self.is_operator(who).await? {
            self.audit_narrow(who, &mut filter).await?;
        }
        self.db.read(move |conn| audit_find(conn, &filter)).await
    }

    /// Leaves of what is asked for what the caller may see.
    async fn audit_narrow(&self, who: &Actor, filter: &mut AuditFilter) -> Result<()> {
        if let Some(account) = &filter.account {
            let unknown =
                || Error::with_message(Code::NotFound, format!("there is no account {account}"));
            let name = account.parse().map_err(|_| unknown())?;
            let access = self.account_access(who, &name, Permission::Change);
            let owner = access.await?.account.auth_tenant_id;
            // An account of that name may have been somebody else's before.
            if filter.auth_tenant_id.get_or_insert_with(|| owner.clone()) != &owner {
                let message = format!("account {name} belongs to another auth tenant");
                return Err(Error::with_message(Code::Denied, message));
            }
            return Ok(());
        }
        let Some(tenant) = &filter.auth_tenant_id else {
            let message =
                "only who may do everything sees all events; ask with auth_tenant or account";
            return Err(Error::with_message(Code::Denied, message));
        };
        if self
            .driver_permits(Some(who), Permission::Change, tenant)
            .await?
        {
            return Ok(());
        }
        let message = format!(
            "{} may not see the audit trail of auth tenant {tenant}",
            who.user
        );
        Err(Error::with_message(Code::Denied, message))
    }

    async fn is_operator(&self, who: &Actor) -> Result<bool> {
        match self.require_operator(who, "see all events").await {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Code::Denied => Ok(false),
            Err(error) => Err(error),
        }
    }
}
