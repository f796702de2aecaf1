//! The configuration: one typed TOML file, environment variables over it, checked once at start.
//!
//! Every key has a default, so that `kontor serve` runs with no file at all. An unknown key is an
//! error: a misspelt `trusted_proxies` must not silently trust nobody. Besides the flags of the command line no
//! other module reads the environment. How text becomes values is in `load.rs`.

mod audit;
mod auth;
mod janitor;
mod load;
mod quotas;
mod rate_limits;
mod storage;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::Deserialize;
use storage_drivers::{OpenStackConfig, StorageConfig};
use url::Url;

pub use audit::{AuditConfig, RabbitMqConfig};
pub use auth::{AuthConfig, StaticUser, StaticUsersConfig};
pub use janitor::JanitorConfig;
pub use load::ConfigError;
pub use quotas::QuotasConfig;
pub use rate_limits::{RateLimitBackend, RateLimitsConfig};
pub use storage::{BackendConfig, CommonConfig, DownloadsConfig, MovesConfig};
pub use storage_drivers::Secret;

/// The name of the storage backend that exists when none is configured.
pub const DEFAULT_STORAGE: &str = "default";

/// Everything that an operator can set.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the embedded database, the signing key and the default storage lie.
    pub data_dir: PathBuf,
    /// The HTTP server.
    pub server: ServerConfig,
    /// The database.
    pub database: DatabaseConfig,
    /// Storage backends by name. Without any, `default` is a folder in the data directory.
    pub storage: BTreeMap<String, BackendConfig>,
    /// The backend of accounts that name none.
    pub default_storage: String,
    /// Whether clients fetch blobs from the object store directly.
    pub downloads: DownloadsConfig,
    /// How accounts move between storage backends.
    pub moves: MovesConfig,
    /// The service user of an OpenStack cloud, for the drivers that need one.
    pub openstack: Option<OpenStackConfig>,
    /// Who may log in, and how tokens are made.
    pub auth: AuthConfig,
    /// The audit trail.
    pub audit: AuditConfig,
    /// Bounds on what a client may send.
    pub limits: LimitsConfig,
    /// How much auth tenants may use.
    pub quotas: QuotasConfig,
    /// How often somebody may pull and push.
    pub rate_limits: RateLimitsConfig,
    /// What the jobs do, and when.
    pub janitor: JanitorConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// The HTTP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Addresses to listen on, IPv4 or IPv6.
    #[serde(deserialize_with = "load::one_or_many")]
    pub listen: Vec<SocketAddr>,
    /// Where clients reach this registry; without it, what the request says.
    pub public_url: Option<Url>,
    /// `account.<base domain>` serves one account without its name in the path.
    #[serde(deserialize_with = "load::one_or_many")]
    pub base_domains: Vec<String>,
    /// Networks whose `X-Forwarded-*` headers are believed.
    #[serde(deserialize_with = "load::one_or_many")]
    pub trusted_proxies: Vec<IpNet>,
    /// HTTP worker threads; 0 means one for each core.
    pub workers: usize,
    /// How long the server goes on after SIGTERM and only says that it is about to stop, so that a proxy takes it out.
    pub drain_delay_seconds: u64,
    /// How long requests in flight may go on after that.
    pub drain_timeout_seconds: u64,
    /// How long a request head may take.
    pub head_timeout_seconds: u64,
    /// How long a client may send or take nothing in the middle of a body.
    pub idle_timeout_seconds: u64,
    /// TLS, from files.
    pub tls: Option<TlsConfig>,
}

/// TLS, from files that are read again when they change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// The private key, PEM.
    pub key_file: PathBuf,
}

/// The database.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:<path>` or `postgres://user:password@host/database`; without it, SQLite in the data directory.
    pub url: Option<Secret>,
    /// Connections of this process (PostgreSQL), or concurrent readers (SQLite).
    pub max_connections: u32,
    /// How long a request waits for a connection before it is told to come back.
    pub wait_timeout_seconds: u64,
    /// Whether `kontor serve` brings the schema up to date; otherwise `kontor migrate` does.
    pub migrate_at_start: bool,
}

/// Bounds on what a client may send.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// The largest manifest. The OCI specification asks for at least 4 MiB.
    pub manifest_bytes: usize,
    /// The largest blob.
    pub blob_bytes: u64,
    /// The largest object in storage: a longer body becomes several chunks of its blob.
    pub chunk_bytes: u64,
    /// How many connections each worker has at once; more wait to be accepted.
    pub connections_per_worker: usize,
}

/// What is logged.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`; or a filter such as `info,kontor::db=debug`.
    pub level: String,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "./kontor-data".into(),
            server: ServerConfig::default(),
            database: DatabaseConfig::default(),
            storage: BTreeMap::new(),
            default_storage: DEFAULT_STORAGE.into(),
            downloads: DownloadsConfig::default(),
            moves: MovesConfig::default(),
            openstack: None,
            auth: AuthConfig::default(),
            audit: AuditConfig::default(),
            limits: LimitsConfig::default(),
            quotas: QuotasConfig::default(),
            janitor: JanitorConfig::default(),
            rate_limits: RateLimitsConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![(Ipv4Addr::LOCALHOST, 8080).into()],
            public_url: None,
            base_domains: Vec::new(),
            trusted_proxies: Vec::new(),
            workers: 0,
            drain_delay_seconds: 0,
            drain_timeout_seconds: 30,
            head_timeout_seconds: 10,
            idle_timeout_seconds: 60,
            tls: None,
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: None,
            max_connections: 8,
            wait_timeout_seconds: 10,
            migrate_at_start: true,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            blob_bytes: 1 << 40,
            chunk_bytes: 4 << 30,
            connections_per_worker: 25_000,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

impl Config {
    /// The database's address, with the default filled in.
    pub fn database_url(&self) -> Secret {
        self.database.url.clone().unwrap_or_else(|| {
            Secret::new(format!(
                "sqlite:{}",
                self.data_dir.join("kontor.db").display()
            ))
        })
    }

    /// Where the signing key lies.
    pub fn signing_key_file(&self) -> PathBuf {
        self.auth
            .signing_key_file
            .clone()
            .unwrap_or_else(|| self.data_dir.join("signing-key.pem"))
    }

    /// Where the key lies under which secrets are hashed.
    pub fn secret_key_file(&self) -> PathBuf {
        self.auth
            .secret_key_file
            .clone()
            .unwrap_or_else(|| self.data_dir.join("secret-key"))
    }

    /// The storage backends by name, with the default filled in.
    pub fn backends(&self) -> BTreeMap<String, BackendConfig> {
        if !self.storage.is_empty() {
            return self.storage.clone();
        }
        let folder = StorageConfig::Filesystem {
            path: self.data_dir.join("storage"),
            fsync: true,
        };
        BTreeMap::from([(DEFAULT_STORAGE.to_owned(), BackendConfig::new(folder))])
    }

    /// How long a client may send or take nothing in the middle of a body.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.server.idle_timeout_seconds)
    }

    /// What a type cannot say about the values.
    fn validate(self) -> Result<Self, ConfigError> {
        let fault = |key: &str, why: &str| Err(ConfigError::invalid(key, why));
        if self.server.listen.is_empty() {
            return fault(
                "server.listen",
                "at least one address is needed, such as \"127.0.0.1:8080\"",
            );
        }
        if let Some(url) = &self.server.public_url {
            let is_plain = matches!(url.scheme(), "http" | "https") && url.path() == "/";
            if !is_plain || url.query().is_some() || !url.username().is_empty() {
                return fault(
                    "server.public_url",
                    "it must be http(s)://host[:port] without a path",
                );
            }
        }
        let url = self.database_url();
        if !["sqlite:", "postgres://", "postgresql://"]
            .iter()
            .any(|s| url.expose().starts_with(s))
        {
            return fault("database.url", "it must begin with sqlite: or postgres://");
        }
        if self.database.max_connections == 0 {
            return fault(
                "database.max_connections",
                "at least one connection is needed",
            );
        }
        if !self.storage.is_empty() && !self.storage.contains_key(&self.default_storage) {
            return fault("default_storage", "it names no [storage.<name>] section");
        }
        for (name, backend) in &self.storage {
            backend.validate(name)?;
        }
        if self.moves.grace_seconds > 30 * 86_400 {
            return fault("moves.grace_seconds", "at most 30 days: 2592000");
        }
        if self.limits.manifest_bytes < 4 << 20 {
            return fault(
                "limits.manifest_bytes",
                "the OCI specification asks for at least 4194304",
            );
        }
        if !(1..=4 << 30).contains(&self.limits.chunk_bytes) {
            return fault(
                "limits.chunk_bytes",
                "it must lie between 1 and 4294967296: Swift takes no objects over 5 GiB",
            );
        }
        self.quotas.validate()?;
        self.janitor.validate()?;
        self.auth.validate()?;
        self.audit.validate()?;
        if self.auth.keystone.is_some() && self.openstack.is_none() {
            return fault("auth.keystone", "it needs an [openstack] section");
        }
        Ok(self)
    }
}
