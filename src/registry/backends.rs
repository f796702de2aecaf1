//! The configured storage backends by name.

use std::{collections::BTreeMap, sync::Arc};

use storage_drivers::StorageDriver;

use crate::error::{Error, Result};

/// The storage backends and which of them new accounts get.
#[derive(Debug)]
pub struct Backends {
    drivers: BTreeMap<String, Arc<dyn StorageDriver>>,
    default: String,
}

impl Backends {
    /// `default` must be one of the names.
    pub fn new(drivers: BTreeMap<String, Arc<dyn StorageDriver>>, default: String) -> Self {
        Self { drivers, default }
    }

    /// The backend of that name. Rows name only backends that were configured when they were written;
    /// one that is missing now is an operator's mistake, and passes when it is put back.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn StorageDriver>> {
        self.drivers.get(name).ok_or_else(|| {
            Error::unavailable(format!(
                "the storage backend {name:?} holds data but is not configured; put [storage.{name}] back"
            ))
        })
    }

    /// Whether there is a backend of that name.
    pub fn has(&self, name: &str) -> bool {
        self.drivers.contains_key(name)
    }

    /// The backend of accounts that name none.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// All backends.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn StorageDriver>)> {
        self.drivers
            .iter()
            .map(|(name, driver)| (name.as_str(), driver))
    }
}
