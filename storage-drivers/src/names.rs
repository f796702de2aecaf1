//! Which names may become part of a path or an address. Every driver asks here before it builds one, so that
//! no name can leave the account's container.

use crate::{StorageError, StorageResult, Tenant};

/// The longest account name in bytes: that of a DNS label and of an S3 bucket.
const MAX_ACCOUNT_BYTES: usize = 63;
/// The longest auth tenant id in bytes.
const MAX_AUTH_TENANT_BYTES: usize = 64;

/// Checks both names. Errors: `InvalidName`.
pub(crate) fn tenant_check(tenant: &Tenant) -> StorageResult<()> {
    if !is_account(&tenant.account) {
        return Err(StorageError::InvalidName {
            what: "account name: 1 to 63 of a-z, 0-9 and '-', not beginning with '-'",
            name: tenant.account.clone(),
        });
    }
    auth_tenant_check(&tenant.auth_tenant_id)
}

/// Checks the id of an auth tenant. Errors: `InvalidName`.
fn auth_tenant_check(id: &str) -> StorageResult<()> {
    // The id comes from another system, which may like capitals and underscores.
    let is_valid = is_name(id, MAX_AUTH_TENANT_BYTES, |b| {
        b.is_ascii_alphanumeric() || b == b'_'
    });
    if is_valid && id.as_bytes()[0] != b'_' {
        return Ok(());
    }
    Err(StorageError::InvalidName {
        what: "auth tenant id: 1 to 64 letters, digits, '-' and '_', beginning with a letter or digit",
        name: id.to_owned(),
    })
}

/// Whether `name` can be an account: `^[a-z0-9][a-z0-9-]{0,62}$`.
fn is_account(name: &str) -> bool {
    is_name(name, MAX_ACCOUNT_BYTES, |b| {
        b.is_ascii_lowercase() || b.is_ascii_digit()
    })
}

fn is_name(name: &str, max_bytes: usize, is_plain: impl Fn(u8) -> bool) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|b| is_plain(*b))
        && bytes.len() <= max_bytes
        && bytes.iter().all(|b| *b == b'-' || is_plain(*b))
}
