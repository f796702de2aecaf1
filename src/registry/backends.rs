//! The configured storage backends by name, and which auth tenants may use them.

use std::{collections::BTreeMap, sync::Arc};

use storage_drivers::StorageDriver;

use crate::{
    error::{Code, Error, Result},
    model::account::Account,
};

/// A storage backend.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Where the objects go.
    pub driver: Arc<dyn StorageDriver>,
    /// The auth tenants whose accounts may lie here; `None` means all.
    pub auth_tenants: Option<Vec<String>>,
}

impl Backend {
    /// A backend that everybody may use.
    pub fn open_to_all(driver: Arc<dyn StorageDriver>) -> Self {
        Self {
            driver,
            auth_tenants: None,
        }
    }

    fn allows(&self, auth_tenant_id: &str) -> bool {
        let Some(tenants) = &self.auth_tenants else {
            return true;
        };
        tenants.iter().any(|tenant| tenant == auth_tenant_id)
    }
}

/// The storage backends and which of them new accounts get.
#[derive(Debug)]
pub struct Backends {
    backends: BTreeMap<String, Backend>,
    default: String,
}

impl Backends {
    /// `default` must be one of the names.
    pub fn new(backends: BTreeMap<String, Backend>, default: String) -> Self {
        Self { backends, default }
    }

    /// The backend of that name. Rows name only backends that were configured when they were written;
    /// one that is missing now is an operator's mistake, and passes when it is put back.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn StorageDriver>> {
        let backend = self.backends.get(name).ok_or_else(|| {
            Error::unavailable(format!(
                "the storage backend {name:?} holds data but is not configured; put [storage.{name}] back"
            ))
        })?;
        Ok(&backend.driver)
    }

    /// Refuses a backend that does not exist or that the account's auth tenant may not use. The answer is the same,
    /// so that nobody learns of backends that are not for them.
    pub fn refuse_unless_allowed(&self, name: &str, account: &Account) -> Result<()> {
        let tenant = &account.auth_tenant_id;
        if self.backends.get(name).is_some_and(|b| b.allows(tenant)) {
            return Ok(());
        }
        let allowed: Vec<&str> = self
            .backends
            .iter()
            .filter(|(_, backend)| backend.allows(tenant))
            .map(|(name, _)| name.as_str())
            .collect();
        let message = format!(
            "there is no storage backend {name} for auth tenant {tenant}; it may use: {}",
            if allowed.is_empty() {
                "none".to_owned()
            } else {
                allowed.join(", ")
            }
        );
        Err(Error::with_message(Code::Denied, message))
    }

    /// The backend of accounts that name none.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// The backends that every auth tenant may use.
    pub fn open_names(&self) -> impl Iterator<Item = &str> {
        let open = |(_, backend): &(&String, &Backend)| backend.auth_tenants.is_none();
        self.backends
            .iter()
            .filter(open)
            .map(|(name, _)| name.as_str())
    }

    /// All backends.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn StorageDriver>)> {
        self.backends
            .iter()
            .map(|(name, backend)| (name.as_str(), &backend.driver))
    }
}
