//! Quotas: show and set limits, count again, and warn who comes near.
//!
//! What is used is counted where it changes, see `db/quotas.rs`. The limits of an account are for those who may change
//! the account: they bound what its auth tenant's limits leave. The limits of an auth tenant are for those who have
//! `quota_change` there.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Registry,
    access::{Push, RepoAccess},
    caller::Actor,
};
use crate::{
    auth::driver::Identity,
    db::{
        accounts::account_lock,
        audit::audit_append,
        quota_recount::{BookError, auth_tenants, books_recount},
        quotas::{book_ensure, book_find, book_list, book_lock, books_of_account, limits_set},
    },
    error::{Code, Error, Result},
    model::{
        audit::{AuditAction, AuditEvent, AuditOutcome},
        permission::Permission,
        precondition::{ChangeTerms, Changed, Precondition, Tagged as _},
        quota::{Book, BookKind, Limits, Resource},
        user::ANY_AUTH_TENANT,
    },
    oci::AccountName,
};

/// How long the numbers for metrics are remembered.
const METRICS_AGE: TimeDelta = TimeDelta::seconds(10);

/// What is kept for an object whose note is older is of a write that died: a write that goes on renews its note.
const STALE_AFTER: TimeDelta = TimeDelta::hours(1);

/// The longest name of an auth tenant that has limits.
const MAX_TENANT_CHARS: usize = 255;

/// Every book with its owner.
pub type Books = Vec<(String, Book)>;

/// The numbers for metrics, and when they were read.
pub(super) type BooksRead = Option<(DateTime<Utc>, Books)>;

/// New limits; a resource that is missing keeps its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct LimitsOrder {
    /// Bytes.
    pub bytes: Option<Option<u64>>,
    /// Manifests.
    pub manifests: Option<Option<u64>>,
    /// Repositories that hold manifests.
    pub repositories: Option<Option<u64>>,
}

impl LimitsOrder {
    fn of(&self, resource: Resource) -> Option<Option<u64>> {
        match resource {
            Resource::Bytes => self.bytes,
            Resource::Manifests => self.manifests,
            Resource::Repositories => self.repositories,
        }
    }

    fn applied_to(&self, mut limits: Limits) -> Result<Limits> {
        for resource in Resource::ALL {
            let Some(limit) = self.of(resource) else {
                continue;
            };
            if limit.is_some_and(|limit| i64::try_from(limit).is_err()) {
                let path = format!("{resource}.limit");
                return Err(Error::field(&path, format!("at most {}", i64::MAX)));
            }
            limits = limits.with(resource, limit);
        }
        Ok(limits)
    }
}

impl Registry {
    /// What an account uses, and may use.
    pub async fn account_quota_get(&self, identity: &Identity, name: &AccountName) -> Result<Book> {
        self.account_access(identity, name, Permission::View)
            .await?;
        self.book_get(BookKind::Account, name.as_str()).await
    }

    /// Sets limits of an account, or says what that would change.
    pub async fn account_quota_put(
        &self,
        who: &Actor,
        name: &AccountName,
        order: LimitsOrder,
        terms: ChangeTerms,
    ) -> Result<Changed<Book>> {
        let access = self.account_access(who, name, Permission::Change).await?;
        let event = self.event(who, AuditAction::QuotaUpdate);
        let event = event.on(&access.account);
        self.limits_change((BookKind::Account, name.as_str()), order, terms, event)
            .await
    }

    /// What the accounts of an auth tenant use together, and may use.
    pub async fn tenant_quota_get(&self, identity: &Identity, tenant: &str) -> Result<Book> {
        self.tenant_access(identity, tenant, Permission::QuotaView)
            .await?;
        self.book_get(BookKind::AuthTenant, tenant).await
    }

    /// Sets limits of an auth tenant, or says what that would change.
    pub async fn tenant_quota_put(
        &self,
        who: &Actor,
        tenant: &str,
        order: LimitsOrder,
        terms: ChangeTerms,
    ) -> Result<Changed<Book>> {
        self.tenant_access(who, tenant, Permission::QuotaChange)
            .await?;
        let event = self.tenant_event(who, AuditAction::QuotaUpdate, tenant);
        self.limits_change((BookKind::AuthTenant, tenant), order, terms, event)
            .await
    }

    /// Takes the limits of an auth tenant away: those of the configuration count again.
    pub async fn tenant_quota_reset(&self, who: &Actor, tenant: &str) -> Result<()> {
        self.tenant_access(who, tenant, Permission::QuotaChange)
            .await?;
        let owner = tenant.to_owned();
        let event = self.tenant_event(who, AuditAction::QuotaUpdate, tenant);
        let event = event.ended(AuditOutcome::Success, "the limits of the configuration");
        self.db
            .write(move |conn| {
                limits_set(conn, (BookKind::AuthTenant, &owner), None)?;
                audit_append(conn, &event)
            })
            .await
    }

    /// Counts again what the accounts of an auth tenant hold, puts its books right, and says what was wrong. For
    /// operators.
    pub async fn quota_recount(&self, who: &Actor, tenant: &str) -> Result<Vec<BookError>> {
        self.tenant_access(who, tenant, Permission::QuotaView)
            .await?;
        if !self
            .driver_permits(
                Some(who.identity()),
                Permission::QuotaChange,
                ANY_AUTH_TENANT,
            )
            .await?
        {
            let message = "only operators may have quotas counted again";
            return Err(Error::with_message(Code::Denied, message));
        }
        let event = self.tenant_event(who, AuditAction::QuotaRecount, tenant);
        let (tenant, stale_before) = (tenant.to_owned(), self.clock.now() - STALE_AFTER);
        self.db
            .write(move |conn| {
                let wrong = books_recount(conn, &tenant, Some(stale_before))?;
                let what: Vec<String> = wrong.iter().map(sentence).collect();
                let event = event.ended(AuditOutcome::Success, what.join("; "));
                audit_append(conn, &event)?;
                Ok(wrong)
            })
            .await
    }

    /// Every book that says something else than a count, a sentence each.
    pub(super) async fn quota_check(&self) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for tenant in self.db.read(auth_tenants).await? {
            // A transaction that writes: it holds the books, so that none changes between reading and counting.
            let wrong = self
                .db
                .write(move |conn| books_recount(conn, &tenant, None))
                .await?;
            problems.extend(wrong.iter().map(sentence));
        }
        Ok(problems)
    }

    /// What a push into the repository should say about quotas that are nearly used up.
    pub async fn quota_warning(&self, access: &RepoAccess<Push>) -> Result<Option<String>> {
        let (account, defaults) = (access.name().account.clone(), self.settings.quota_defaults);
        let books = self
            .db
            .read(move |conn| books_of_account(conn, &account, &defaults))
            .await?;
        let full = books.iter().flat_map(|book| {
            let whose = book.kind.as_str().replace('_', " ");
            book.nearly_full().map(move |(resource, used, limit)| {
                format!("{used} of {limit} {resource} of the {whose} are used")
            })
        });
        let full: Vec<String> = full.collect();
        Ok((!full.is_empty()).then(|| format!("quota: {}", full.join("; "))))
    }

    /// Every book, as it was some seconds ago at most.
    pub async fn quota_metrics(&self) -> Result<Books> {
        let mut read = self.books.lock().await;
        let now = self.clock.now();
        if let Some((at, books)) = read.as_ref()
            && now - *at < METRICS_AGE
        {
            return Ok(books.clone());
        }
        let defaults = self.settings.quota_defaults;
        let books = self.db.read(move |conn| book_list(conn, &defaults)).await?;
        *read = Some((now, books.clone()));
        Ok(books)
    }

    fn tenant_event(&self, who: &Actor, action: AuditAction, tenant: &str) -> AuditEvent {
        let mut event = self.event(who, action).named(tenant);
        event.auth_tenant_id = Some(tenant.to_owned());
        event
    }

    /// An auth tenant that somebody may not see looks like one that does not exist.
    async fn tenant_access(
        &self,
        identity: &Identity,
        tenant: &str,
        permission: Permission,
    ) -> Result<()> {
        if tenant.is_empty() || tenant.chars().count() > MAX_TENANT_CHARS || tenant.contains('\0') {
            let message = "an auth tenant has 1 to 255 characters";
            return Err(Error::with_message(Code::BadRequest, message));
        }
        if self
            .driver_permits(Some(identity), permission, tenant)
            .await?
        {
            return Ok(());
        }
        if permission != Permission::QuotaView
            && self
                .driver_permits(Some(identity), Permission::QuotaView, tenant)
                .await?
        {
            let message = format!(
                "{} is not allowed to {permission} in auth tenant {tenant}",
                identity.user
            );
            return Err(Error::with_message(Code::Denied, message));
        }
        let message = format!("there is no auth tenant {tenant}");
        Err(Error::with_message(Code::NotFound, message).as_denial())
    }

    async fn book_get(&self, kind: BookKind, owner: &str) -> Result<Book> {
        let (owner, defaults) = (owner.to_owned(), self.settings.quota_defaults);
        let book = self
            .db
            .read(move |conn| book_find(conn, kind, &owner, &defaults))
            .await?;
        // An auth tenant may have no account yet.
        Ok(book.unwrap_or_else(|| Book::empty(kind, &defaults)))
    }

    async fn limits_change(
        &self,
        (kind, owner): (BookKind, &str),
        order: LimitsOrder,
        terms: ChangeTerms,
        event: AuditEvent,
    ) -> Result<Changed<Book>> {
        let (key, condition) = (owner.to_owned(), terms.condition);
        if terms.is_dry_run {
            let before = self.book_get(kind, owner).await?;
            return limits_changed(before, &order, &condition, false);
        }
        let defaults = self.settings.quota_defaults;
        self.db
            .write(move |conn| {
                if let Some(owner) = &event.account {
                    // Whoever makes an account of this name next must not inherit its limits.
                    let now = account_lock(conn, &owner.parse().map_err(Error::internal)?)?;
                    let tenant = now.map(|account| account.auth_tenant_id);
                    if tenant != event.auth_tenant_id {
                        let message = format!("the account {owner} is gone");
                        return Err(Error::with_message(Code::NotFound, message));
                    }
                }
                // Held from before it is read: what is left out stays as somebody else has just set it.
                book_ensure(conn, kind, &key)?;
                book_lock(conn, kind, &key)?;
                let before = book_find(conn, kind, &key, &defaults)?;
                let before = before.unwrap_or_else(|| Book::empty(kind, &defaults));
                let changed = limits_changed(before, &order, &condition, true)?;
                let limits = &changed.after.limits;
                limits_set(conn, (kind, &key), Some(limits))?;
                audit_append(conn, &event.ended(AuditOutcome::Success, in_words(limits)))?;
                Ok(changed)
            })
            .await
    }
}

/// A book before an order and after it, if it meets the condition.
fn limits_changed(
    before: Book,
    order: &LimitsOrder,
    condition: &Precondition,
    is_made: bool,
) -> Result<Changed<Book>> {
    let limits = order.applied_to(before.limits)?;
    condition.check(Some(before.tag()))?;
    let after = Book { limits, ..before };
    Ok(Changed {
        before,
        after,
        is_made,
    })
}

fn in_words(limits: &Limits) -> String {
    let words = Resource::ALL.map(|resource| match limits.of(resource) {
        Some(limit) => format!("{resource}: {limit}"),
        None => format!("{resource}: no limit"),
    });
    words.join(", ")
}

fn sentence(wrong: &BookError) -> String {
    let BookError {
        owner,
        book,
        counted,
    } = wrong;
    format!("the quota book of {owner} says {book:?}, but there are {counted:?}")
}
