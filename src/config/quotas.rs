//! `[quotas]`: what auth tenants may use that have no limits of their own, and whether metrics show it.

use serde::Deserialize;

use super::ConfigError;
use crate::model::quota::Limits;

/// How much auth tenants may use.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotasConfig {
    /// Bytes of an auth tenant without a limit of its own; without it there is none.
    pub default_bytes: Option<u64>,
    /// Manifests of such an auth tenant.
    pub default_manifests: Option<u64>,
    /// Repositories of such an auth tenant.
    pub default_repositories: Option<u64>,
    /// Whether `/metrics` shows what each account and auth tenant uses, with their names.
    pub metrics: bool,
}

impl QuotasConfig {
    /// The limits of auth tenants that have none of their own.
    pub fn defaults(&self) -> Limits {
        Limits {
            bytes: self.default_bytes,
            manifests: self.default_manifests,
            repositories: self.default_repositories,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let limits = [
            ("quotas.default_bytes", self.default_bytes),
            ("quotas.default_manifests", self.default_manifests),
            ("quotas.default_repositories", self.default_repositories),
        ];
        for (key, limit) in limits {
            if limit.is_some_and(|limit| i64::try_from(limit).is_err()) {
                return Err(ConfigError::invalid(key, "at most 9223372036854775807"));
            }
        }
        Ok(())
    }
}
