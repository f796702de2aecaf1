//! `?ns=`: which account stands for a registry that containerd mirrors.

use super::Registry;
use crate::{
    db::accounts::account_find_by_namespace, error::Result, model::account::canonical_namespace,
    oci::AccountName,
};

/// The longest namespace that is looked up.
const MAX_NAMESPACE_CHARS: usize = 255;

impl Registry {
    /// The account that serves the namespace. It is a key into a closed list and never an address.
    pub async fn namespace_account(&self, namespace: &str) -> Result<Option<AccountName>> {
        // PostgreSQL refuses NUL in a text.
        if namespace.len() > MAX_NAMESPACE_CHARS || namespace.contains('\0') {
            return Ok(None);
        }
        let namespace = canonical_namespace(namespace);
        self.db
            .read(move |conn| account_find_by_namespace(conn, &namespace))
            .await
    }
}
