//! Where objects lie: the `[storage.<name>]` sections, redirects to them, and moves between them.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};
use storage_drivers::{Limits, StorageConfig};
use toml::{Table, Value};

use super::{ConfigError, load};

/// A storage backend.
#[derive(Debug, Clone)]
pub struct BackendConfig {
    /// The driver and its parameters.
    pub driver: StorageConfig,
    /// What holds for every backend.
    pub common: CommonConfig,
}

/// What holds for every backend, whatever its driver.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommonConfig {
    /// The auth tenants whose accounts may lie here; without it, all.
    #[serde(deserialize_with = "some_one_or_many")]
    pub auth_tenants: Option<Vec<String>>,
    /// How many calls may run at once. A backend that hangs takes no more than these.
    pub max_calls: usize,
}

/// The keys of [`CommonConfig`].
const COMMON_KEYS: [&str; 2] = ["auth_tenants", "max_calls"];

fn some_one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    load::one_or_many(deserializer).map(Some)
}

impl Default for CommonConfig {
    fn default() -> Self {
        Self {
            auth_tenants: None,
            max_calls: Limits::default().max_calls,
        }
    }
}

impl BackendConfig {
    /// A backend with nothing special.
    pub fn new(driver: StorageConfig) -> Self {
        Self {
            driver,
            common: CommonConfig::default(),
        }
    }

    pub(super) fn validate(&self, name: &str) -> Result<(), ConfigError> {
        let is_name = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        if !is_name {
            let reason = "the name of a backend has 1 to 63 of a-z, 0-9, '-' and '_'";
            return Err(ConfigError::invalid(&format!("storage.{name}"), reason));
        }
        if self.common.max_calls == 0 {
            let key = format!("storage.{name}.max_calls");
            return Err(ConfigError::invalid(&key, "at least one call is needed"));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for BackendConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut driver = Table::deserialize(deserializer)?;
        let common: Table = COMMON_KEYS
            .iter()
            .filter_map(|key| driver.remove_entry(*key))
            .collect();
        let reason = |error: toml::de::Error| D::Error::custom(error.message());
        Ok(Self {
            driver: StorageConfig::deserialize(Value::Table(driver)).map_err(reason)?,
            common: CommonConfig::deserialize(Value::Table(common)).map_err(reason)?,
        })
    }
}

/// Whether clients fetch blobs from the object store directly, where the storage backend can do that.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DownloadsConfig {
    /// Whether anybody is redirected. An account can say no for itself.
    pub redirect: bool,
    /// Networks whose clients are never redirected, since they cannot reach the object store.
    #[serde(deserialize_with = "load::one_or_many")]
    pub proxy_networks: Vec<IpNet>,
}

/// How accounts move between storage backends.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MovesConfig {
    /// How long what was copied stays in its old place. Clients may follow a redirect for twenty minutes.
    pub grace_seconds: u64,
    /// How many bytes a second a node copies at most; 0 means any number.
    pub bytes_per_second: u64,
}

impl Default for DownloadsConfig {
    fn default() -> Self {
        Self {
            redirect: true,
            proxy_networks: Vec::new(),
        }
    }
}

impl Default for MovesConfig {
    fn default() -> Self {
        Self {
            grace_seconds: 30 * 60,
            bytes_per_second: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<BackendConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn common_keys_stand_beside_those_of_the_driver() {
        let backend = parsed("kind = \"memory\"\nauth_tenants = [\"a\"]\nmax_calls = 7").unwrap();
        assert_eq!(backend.driver, StorageConfig::Memory {});
        assert_eq!(
            backend.common.auth_tenants.as_deref(),
            Some(&["a".to_owned()][..])
        );
        assert_eq!(backend.common.max_calls, 7);
        assert!(
            parsed("kind = \"memory\"")
                .unwrap()
                .common
                .auth_tenants
                .is_none()
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("kind = \"memory\"\nmax_cals = 7", "max_cals"),
            ("kind = \"memory\"\nmax_calls = \"many\"", "many"),
            ("kind = \"tape\"", "tape"),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let backend = BackendConfig::new(StorageConfig::Memory {});
        assert!(backend.validate("Fast").is_err());
        assert!(backend.validate("").is_err());
        assert!(backend.validate("fast_2").is_ok());
    }
}
