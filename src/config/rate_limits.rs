//! `[rate_limits]`: how often somebody may pull and push. Everything is off unless it is set.

use serde::Deserialize;

use crate::model::rate_limit::Rate;

/// How often one identity, or one address without a login, may do something in one account.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitsConfig {
    /// Where the counters are.
    pub backend: RateLimitBackend,
    /// GET of a blob.
    pub blob_pulls: Option<Rate>,
    /// A blob that is sent or mounted.
    pub blob_pushes: Option<Rate>,
    /// GET of a manifest; HEAD is free.
    pub manifest_pulls: Option<Rate>,
    /// PUT of a manifest.
    pub manifest_pushes: Option<Rate>,
}

/// Where the counters are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitBackend {
    /// In the memory of each node: of `n` nodes each allows the whole rate.
    #[default]
    Process,
    /// In the database: one rate for all nodes, and a write for each request that is counted.
    Database,
}
