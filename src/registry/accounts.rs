//! Accounts: create, show, list, change. `account_delete.rs` deletes them.
//!
//! An order says what an account shall be; a plan is the same after all checks, and a dry run ends there. What a
//! newcomer gets wrong: what a plan has seen may have changed when it is carried out, so the transaction looks again.

use storage_drivers::StorageError;

use super::{
    Registry,
    caller::Actor,
    tags::{Page, page_limit, page_marker},
};
use crate::{
    auth::driver::Identity,
    db::{
        Conn,
        accounts::{
            account_find, account_find_by_namespace, account_insert, account_lock, account_page,
            account_update, auth_tenant_list,
        },
        audit::audit_append,
        containers::container_note,
        image_gc::gc_schedule,
    },
    error::{Code, Error, Result},
    model::{
        account::{Account, AccountSettings, canonical_namespace},
        audit::{AuditAction, AuditEvent, AuditOutcome},
        difference::changed_members,
        invalid_field::InvalidField,
        listing::PageOrder,
        permission::Permission,
        precondition::{Precondition, Tagged as _, first_version},
        revocation::Revoked,
        warning::Warning,
    },
    oci::AccountName,
};

/// What a client asks an account to be. What is missing stays as it is, or gets its default.
#[derive(Debug, Clone, Default)]
pub struct AccountOrder {
    /// Who owns it; needed to create it, and never changed.
    pub auth_tenant_id: Option<String>,
    /// The storage backend; never changed by this.
    pub storage: Option<String>,
    /// The settings, as a whole.
    pub settings: AccountSettings,
    /// What must be true of what is there.
    pub condition: Precondition,
}

/// What an order would do, or has done.
#[derive(Debug, Clone)]
pub struct AccountPlan {
    /// The account as it was; `None` if it is new.
    pub before: Option<Account>,
    /// The account as it is then.
    pub after: Account,
    /// What was accepted but cannot be meant so.
    pub warnings: Vec<Warning>,
}

impl Registry {
    /// A page of the accounts that the user may see, by name. The driver is asked once for each auth tenant.
    pub async fn accounts_list(
        &self,
        identity: &Identity,
        page: PageOrder,
    ) -> Result<Page<Account>> {
        let mut visible = Vec::new();
        for tenant in self.db.read(auth_tenant_list).await? {
            if self
                .driver_permits(Some(identity), Permission::View, &tenant)
                .await?
            {
                visible.push(tenant);
            }
        }
        let ((rows, limit), after) = (page_limit(page.limit), page_marker(page.last));
        let accounts = self
            .db
            .read(move |conn| account_page(conn, &visible, &after, rows))
            .await?;
        Ok(Page::cut(accounts, limit))
    }

    /// One account.
    pub async fn account_get(&self, identity: &Identity, name: &AccountName) -> Result<Account> {
        Ok(self
            .account_access(identity, name, Permission::View)
            .await?
            .account)
    }

    /// Makes the account be as ordered.
    pub async fn account_put(
        &self,
        identity: &Actor,
        name: &AccountName,
        order: AccountOrder,
    ) -> Result<AccountPlan> {
        let condition = order.condition.clone();
        let plan = self.account_plan(identity, name, order).await?;
        if plan.before.is_some() {
            let after = self.account_change(identity, plan.after, condition).await?;
            return Ok(AccountPlan { after, ..plan });
        }
        let event = self.event(identity, AuditAction::AccountCreate);
        let created = self.account_create(plan.after.clone(), event).await;
        match created {
            Ok(()) => Ok(plan),
            // Somebody else was faster.
            Err(error) if error.code() == Code::Conflict && condition.must_be_new => {
                self.refuse_existing(name).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// What [`Registry::account_put`] would do, after all of its checks.
    pub async fn account_plan(
        &self,
        identity: &Identity,
        name: &AccountName,
        mut order: AccountOrder,
    ) -> Result<AccountPlan> {
        let namespace = order.settings.serves_namespace.take();
        order.settings.serves_namespace = namespace.as_deref().map(canonical_namespace);
        let (wanted, settings) = (name.clone(), order.settings.clone());
        let (existing, is_namespace_free) = self
            .db
            .read(move |conn| {
                let existing = account_find(conn, &wanted)?;
                let refused = refuse_taken_namespace(conn, &wanted, &settings);
                match refused {
                    Err(error) if error.code() != Code::Conflict => Err(error),
                    other => Ok((existing, other)),
                }
            })
            .await?;
        let condition = order.condition.clone();
        let before = match existing {
            None => None,
            Some(_) => self.account_to_change(identity, name).await?,
        };
        let is_hidden = existing.is_some() && before.is_none();
        let after = match &before {
            Some(account) => changed(account, order)?,
            None => self.account_to_create(identity, name, order).await?,
        };
        // Names are shared by all tenants, so that one is taken cannot be hidden from who may create accounts.
        if is_hidden {
            return Err(name_taken(name));
        }
        // After the permission: it takes a while.
        let settings = after.settings.clone();
        let valid = tokio::task::spawn_blocking(move || {
            settings.validate()?;
            Ok::<_, InvalidField>(settings.warnings())
        });
        let warnings = valid.await.map_err(Error::internal)??;
        self.refuse_unknown_issuers(&after.settings)?;
        condition.check(before.as_ref().map(|account| account.tag()))?;
        is_namespace_free?;
        Ok(AccountPlan {
            before,
            after,
            warnings,
        })
    }

    /// The account as it is; `None` if the caller must not see it.
    async fn account_to_change(
        &self,
        identity: &Identity,
        name: &AccountName,
    ) -> Result<Option<Account>> {
        let access = self
            .account_access(identity, name, Permission::Change)
            .await;
        match access {
            Ok(access) => Ok(Some(access.account)),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn account_to_create(
        &self,
        identity: &Identity,
        name: &AccountName,
        order: AccountOrder,
    ) -> Result<Account> {
        let auth_tenant_id = order.auth_tenant_id.ok_or_else(|| {
            let message = "it is needed to create an account: who owns it";
            Error::field("auth_tenant_id", message)
        })?;
        if !self
            .driver_permits(Some(identity), Permission::Change, &auth_tenant_id)
            .await?
        {
            let message = format!(
                "{} is not allowed to create accounts for auth tenant {auth_tenant_id}",
                identity.user
            );
            return Err(Error::with_message(Code::Denied, message));
        }
        let storage = order
            .storage
            .unwrap_or_else(|| self.backends.default_name().to_owned());
        let account = Account {
            name: name.clone(),
            auth_tenant_id,
            storage,
            settings: order.settings,
            is_deleting: false,
            version: first_version(self.clock.now()),
        };
        self.backends
            .refuse_unless_allowed(&account.storage, &account)?;
        Ok(account)
    }

    /// Says so if an account that was not to be there is there.
    async fn refuse_existing(&self, name: &AccountName) -> Result<()> {
        let wanted = name.clone();
        let found = self
            .db
            .read(move |conn| account_find(conn, &wanted))
            .await?;
        let condition = Precondition {
            must_be_new: true,
            ..Precondition::default()
        };
        condition.check(found.as_ref().map(|account| account.tag()))
    }

    /// Prepares the storage and then stores the account: the other way round a crash would leave an
    /// account that nothing can be pushed to.
    pub(super) async fn account_create(&self, account: Account, event: AuditEvent) -> Result<()> {
        let name = account.name.clone();
        self.container_prepare(&account, &account.storage).await?;
        let now = self.clock.now();
        let created = self
            .db
            .write(move |conn| {
                refuse_taken_namespace(conn, &account.name, &account.settings)?;
                if !account_insert(conn, &account, now)? {
                    return Ok(false);
                }
                container_note(conn, &account.name, &account.storage)?;
                audit_append(conn, &event.on(&account))?;
                Ok(true)
            })
            .await?;
        created.then_some(()).ok_or_else(|| name_taken(&name))
    }

    /// Makes the account's container on a backend. What lies in its place already is refused.
    pub(super) async fn container_prepare(&self, account: &Account, storage: &str) -> Result<()> {
        let driver = self.backends.get(storage)?;
        let prepared = driver.prepare_account(&account.tenant()).await;
        prepared.map_err(|error| match error {
            StorageError::WrongTenant { .. } | StorageError::NotOurs { .. } => {
                let message = format!(
                    "the name {} is taken on storage backend {storage}; choose another name or backend, or ask the operator",
                    account.name
                );
                Error::with_message(Code::Conflict, message).caused_by(error)
            }
            StorageError::InvalidName { .. } => {
                Error::field("", error)
            }
            other => other.into(),
        })
    }

    /// Stores changed settings, if the account still meets the condition.
    async fn account_change(
        &self,
        who: &Actor,
        wanted: Account,
        condition: Precondition,
    ) -> Result<Account> {
        let (event, at) = (
            self.event(who, AuditAction::AccountUpdate),
            self.clock.now(),
        );
        self.write_and_revoke(move |conn| {
            let gone = || Error::with_message(Code::NotFound, "the account is gone");
            let account = account_lock(conn, &wanted.name)?;
            // Another tenant may have made an account of this name meanwhile.
            let account = account.filter(|now| now.auth_tenant_id == wanted.auth_tenant_id);
            let mut account = account.ok_or_else(gone)?;
            condition.check(Some(account.tag()))?;
            refuse_deleting(&account)?;
            refuse_taken_namespace(conn, &wanted.name, &wanted.settings)?;
            let before = std::mem::replace(&mut account.settings, wanted.settings);
            if account.settings == before {
                return Ok((account, Vec::new()));
            }
            account.version = account_update(conn, &account)?;
            if account.settings.gc_policies != before.gc_policies {
                let has_policies = !account.settings.gc_policies.is_empty();
                gc_schedule(conn, &account.name, has_policies.then_some(at))?;
            }
            let what = changed_members(&before, &account.settings);
            let event = event.on(&account).ended(AuditOutcome::Success, what);
            audit_append(conn, &event)?;
            // Tokens of service identities that are gone or others now hold the old rights.
            let now = &account.settings.service_identities;
            let lost = before.service_identities.iter();
            let lost = lost.filter(|identity| !now.contains(identity));
            let revoked = lost
                .map(|identity| Revoked::Subject(identity.identity(&account.name, "").to_string()))
                .collect();
            Ok((account, revoked))
        })
        .await
    }
}

/// The account as it would be with the ordered settings.
fn changed(account: &Account, order: AccountOrder) -> Result<Account> {
    let fixed = |what: &str, now: &str| {
        let message = format!("it cannot be changed; it is {now:?}");
        Err(Error::field(what, message))
    };
    match (&order.auth_tenant_id, &order.storage) {
        (Some(tenant), _) if *tenant != account.auth_tenant_id => {
            return fixed("auth_tenant_id", &account.auth_tenant_id);
        }
        (_, Some(storage)) if *storage != account.storage => {
            let message = format!(
                "it cannot be changed here; it is {:?}. `kontor account migrate` moves an account, or POST to its storage/migrate",
                account.storage
            );
            return Err(Error::field("storage", message));
        }
        _ => {}
    }
    refuse_deleting(account)?;
    Ok(Account {
        settings: order.settings,
        ..account.clone()
    })
}

fn refuse_deleting(account: &Account) -> Result<()> {
    if account.is_deleting {
        let message = "the account is being deleted";
        return Err(Error::with_message(Code::Conflict, message));
    }
    Ok(())
}

fn name_taken(name: &AccountName) -> Error {
    Error::with_message(Code::Conflict, format!("the account name {name} is taken"))
}

/// The column is unique, but its violation would be an internal error.
fn refuse_taken_namespace(
    conn: &mut Conn,
    name: &AccountName,
    settings: &AccountSettings,
) -> Result<()> {
    let Some(namespace) = &settings.serves_namespace else {
        return Ok(());
    };
    match account_find_by_namespace(conn, namespace)? {
        Some(other) if other != *name => Err(Error::with_message(
            Code::Conflict,
            format!("another account serves the namespace {namespace} already"),
        )),
        _ => Ok(()),
    }
}
