//! Who may log in, and how tokens are made.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use storage_drivers::Secret;

use super::ConfigError;
use crate::{
    auth::{keystone::KeystoneConfig, login_limit::LoginLimits, oidc::ProviderConfig},
    model::user::{Grant, PASSWORD_RULE, USER_NAME_RULE, is_password, is_user_name},
};

/// Who may log in, and how tokens are made.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The Ed25519 or P-256 key that signs tokens, PEM (PKCS #8). An Ed25519 key is made in the data directory
    /// when missing.
    pub signing_key_file: Option<PathBuf>,
    /// Keys that signed before; their tokens are still accepted.
    #[serde(deserialize_with = "super::load::one_or_many")]
    pub previous_key_files: Vec<PathBuf>,
    /// How long a token that can only pull is valid.
    pub pull_token_seconds: u64,
    /// How long a token that can push is valid.
    pub push_token_seconds: u64,
    /// How long a client may get new tokens without the password; 0 gives no refresh tokens.
    pub refresh_token_seconds: u64,
    /// The longest life of a personal access token.
    pub personal_token_seconds: u64,
    /// The key of the hashes of secrets, 64 hexadecimal digits. Made in the data directory when missing; all nodes
    /// need the same.
    pub secret_key_file: Option<PathBuf>,
    /// How many failed logins there may be.
    pub login_limits: LoginLimits,
    /// The password of `admin` on the first start; random and printed once when missing.
    pub initial_admin_password: Option<Secret>,
    /// The order in which drivers are asked, by name: `static`, `keystone`, `oidc`. Those that are not named
    /// come after, in this order.
    #[serde(deserialize_with = "super::load::one_or_many")]
    pub drivers: Vec<String>,
    /// Users of an OpenStack cloud; without it, there are none.
    pub keystone: Option<KeystoneConfig>,
    /// Issuers whose tokens are taken, by name.
    pub oidc: BTreeMap<String, ProviderConfig>,
    /// Users of the `static_users` driver, besides those in the database.
    pub static_users: StaticUsersConfig,
}

/// Users that stand in the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StaticUsersConfig {
    /// The users. One of these names hides a user of the same name in the database.
    pub users: Vec<StaticUser>,
}

/// One user of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticUser {
    /// The login name.
    pub name: String,
    /// An argon2id hash in PHC form; `kontor user hash-password` makes one.
    pub password_hash: Secret,
    /// What the user may do.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            signing_key_file: None,
            previous_key_files: Vec::new(),
            pull_token_seconds: 15 * 60,
            push_token_seconds: 60 * 60,
            refresh_token_seconds: 30 * 86_400,
            personal_token_seconds: 366 * 86_400,
            secret_key_file: None,
            login_limits: LoginLimits::default(),
            initial_admin_password: None,
            drivers: Vec::new(),
            keystone: None,
            oidc: BTreeMap::new(),
            static_users: StaticUsersConfig::default(),
        }
    }
}

impl AuthConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let fault = |key: &str, why: &str| Err(ConfigError::invalid(key, why));
        if self.pull_token_seconds < 60 || self.push_token_seconds < 60 {
            return fault(
                "auth.pull_token_seconds",
                "tokens must be valid for 60 seconds at least",
            );
        }
        if let Some(keystone) = &self.keystone {
            let checked = keystone.validate();
            checked.map_err(|(key, why)| ConfigError::invalid(key, why))?;
        }
        let chosen = self.initial_admin_password.as_ref();
        if chosen.is_some_and(|secret| !is_password(secret.expose())) {
            return fault("auth.initial_admin_password", PASSWORD_RULE);
        }
        let limits = &self.login_limits;
        if limits.per_user_and_address == 0 || limits.per_user == 0 || limits.per_address == 0 {
            return fault(
                "auth.login_limits",
                "a limit of 0 would let nobody in; choose a large number to have none",
            );
        }
        for user in &self.static_users.users {
            if !is_user_name(&user.name) {
                return fault("auth.static_users.users", USER_NAME_RULE);
            }
            if !user.password_hash.expose().starts_with("$argon2id$") {
                return fault(
                    "auth.static_users.users",
                    "password_hash must be an argon2id hash; `kontor user hash-password` makes one",
                );
            }
        }
        Ok(())
    }
}
