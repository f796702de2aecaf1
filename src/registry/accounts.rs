//! Accounts: create, show, list, change, delete.

use storage_drivers::StorageError;

use super::{Registry, access::AccountAccess, robots::robots_forget};
use crate::{
    auth::driver::Identity,
    db::{
        Conn,
        accounts::{
            account_delete, account_find, account_insert, account_list, account_mark_deleting,
            account_update,
        },
        blobs::{blob_ids, blob_remove},
        containers::{container_list, container_note},
        loose_objects::loose_object_list,
        repos::{repo_count_with_manifests, repos_delete},
        storage_moves::move_forget,
        uploads::uploads_cancel_all,
    },
    error::{Code, Error, Result},
    model::{
        account::{Account, AccountSettings, canonical_namespace},
        permission::Permission,
        revocation::Revoked,
    },
    oci::AccountName,
};

/// How many blobs one transaction of a deletion takes.
const BLOBS_PER_STEP: i64 = 200;

/// What a client asks an account to be. What is missing stays as it is, or gets its default.
#[derive(Debug, Clone, Default)]
pub struct AccountOrder {
    /// Who owns it; needed to create it, and never changed.
    pub auth_tenant_id: Option<String>,
    /// The storage backend; never changed by this.
    pub storage: Option<String>,
    /// The settings, as a whole.
    pub settings: AccountSettings,
}

impl Registry {
    /// The accounts that the user may see.
    pub async fn accounts_list(&self, identity: &Identity) -> Result<Vec<Account>> {
        let mut visible = Vec::new();
        for account in self.db.read(account_list).await? {
            let tenant = &account.auth_tenant_id;
            if self
                .driver_permits(Some(identity), Permission::View, tenant)
                .await?
            {
                visible.push(account);
            }
        }
        Ok(visible)
    }

    /// One account.
    pub async fn account_get(&self, identity: &Identity, name: &AccountName) -> Result<Account> {
        Ok(self
            .account_access(identity, name, Permission::View)
            .await?
            .account)
    }

    /// Makes the account be as ordered; `true` if it was created.
    pub async fn account_put(
        &self,
        identity: &Identity,
        name: &AccountName,
        mut order: AccountOrder,
    ) -> Result<(Account, bool)> {
        let namespace = order.settings.serves_namespace.take();
        order.settings.serves_namespace = namespace.as_deref().map(canonical_namespace);
        // Patterns take a while to compile.
        let settings = order.settings.clone();
        let valid = tokio::task::spawn_blocking(move || settings.validate()).await;
        valid.map_err(Error::internal)??;
        self.refuse_unknown_issuers(&order.settings)?;
        let wanted = name.clone();
        let existing = self
            .db
            .read(move |conn| account_find(conn, &wanted))
            .await?;
        if existing.is_some() {
            let access = self
                .account_access(identity, name, Permission::Change)
                .await;
            return match access {
                Ok(access) => Ok((self.account_change(access, order).await?, false)),
                // Names are shared by all tenants, so that one is taken cannot be hidden here.
                Err(error) if error.code() == Code::NotFound => Err(name_taken(name)),
                Err(error) => Err(error),
            };
        }
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
        };
        self.backends
            .refuse_unless_allowed(&account.storage, &account)?;
        self.account_create(account.clone()).await?;
        Ok((account, true))
    }

    /// Prepares the storage and then stores the account: the other way round a crash would leave an
    /// account that nothing can be pushed to.
    pub(super) async fn account_create(&self, account: Account) -> Result<()> {
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

    async fn account_change(&self, access: AccountAccess, order: AccountOrder) -> Result<Account> {
        let mut account = access.account;
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
        if account.is_deleting {
            return Err(Error::with_message(
                Code::Conflict,
                "the account is being deleted",
            ));
        }
        let before = std::mem::replace(&mut account.settings, order.settings);
        let changed = account.clone();
        self.write_and_revoke(move |conn| {
            refuse_taken_namespace(conn, &changed.name, &changed.settings)?;
            if !account_update(conn, &changed.name, &changed.settings)? {
                return Err(Error::with_message(Code::NotFound, "the account is gone"));
            }
            // Tokens of service identities that are gone or others now hold the old rights.
            let now = &changed.settings.service_identities;
            let lost = before.service_identities.iter();
            let lost = lost.filter(|identity| !now.contains(identity));
            let revoked = lost
                .map(|identity| Revoked::Subject(identity.identity(&changed.name, "").to_string()));
            Ok(((), revoked.collect()))
        })
        .await?;
        Ok(account)
    }

    /// Deletes an account that holds no manifests any more, with its storage. It can be called again if
    /// it breaks off.
    pub async fn account_delete(&self, identity: &Identity, name: &AccountName) -> Result<()> {
        let account = self
            .account_access(identity, name, Permission::Change)
            .await?
            .account;
        let wanted = name.clone();
        self.db
            .write(move |conn| {
                let count = repo_count_with_manifests(conn, &wanted)?;
                if count > 0 {
                    let message = format!(
                        "the account still has {count} repositories with manifests; delete those first"
                    );
                    return Err(Error::with_message(Code::Conflict, message));
                }
                account_mark_deleting(conn, &wanted)
            })
            .await?;
        self.account_empty(&account).await?;
        let wanted = name.clone();
        let storages = self
            .db
            .read(move |conn| container_list(conn, &wanted))
            .await?;
        for storage in storages {
            self.container_release(&account, &storage).await?;
        }
        let wanted = name.clone();
        self.write_and_revoke(move |conn| {
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
        let name = account.name.clone();
        self.db
            .write(move |conn| {
                uploads_cancel_all(conn, &name, now)?;
                repos_delete(conn, &name)
            })
            .await?;
        loop {
            let name = account.name.clone();
            let removed = self
                .db
                .write(move |conn| {
                    let ids = blob_ids(conn, &name, BLOBS_PER_STEP)?;
                    for id in &ids {
                        blob_remove(conn, &name, *id, now)?;
                    }
                    Ok(ids.len())
                })
                .await?;
            if removed == 0 {
                break;
            }
        }
        let name = account.name.clone();
        let objects = self
            .db
            .read(move |conn| loose_object_list(conn, &name))
            .await?;
        self.objects_delete(account, objects).await;
        let name = account.name.clone();
        let left = self
            .db
            .read(move |conn| loose_object_list(conn, &name))
            .await?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::unavailable(
            "some objects could not be deleted; delete the account again",
        ))
    }
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
    match crate::db::accounts::account_find_by_namespace(conn, namespace)? {
        Some(other) if other != *name => Err(Error::with_message(
            Code::Conflict,
            format!("another account serves the namespace {namespace} already"),
        )),
        _ => Ok(()),
    }
}
