//! What this registry is made of, as far as clients may know.

use super::Registry;
use crate::auth::driver::Identity;

/// Another registry that this one replicates with.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Peer {
    /// Where it is.
    pub hostname: String,
}

impl Registry {
    /// The sources of users, in the order in which they are asked.
    pub fn auth_driver_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for driver in &self.drivers {
            if !names.contains(&driver.name()) {
                names.push(driver.name());
            }
        }
        names
    }

    /// The configured peers, for everybody who has logged in. None can be configured, so there are none.
    pub fn peers_list(&self, _who: &Identity) -> Vec<Peer> {
        Vec::new()
    }

    /// The storage backends that are for every auth tenant; nobody is told of the others.
    pub fn open_backend_names(&self) -> Vec<&str> {
        self.backends.open_names().collect()
    }

    /// The storage backend of accounts that name none, if it is for every auth tenant.
    pub fn default_backend_name(&self) -> Option<&str> {
        let default = self.backends.default_name();
        self.backends.open_names().find(|name| *name == default)
    }
}
