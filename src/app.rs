//! The only place where the parts are wired together.

mod audit_sinks;
mod auth_drivers;
mod node_loops;

use std::{
    collections::BTreeMap,
    fs, io,
    net::TcpListener,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use audit_sinks::audit_sinks;
use auth_drivers::AuthDrivers;
use node_loops::{flush_pulls, watch_revocations};
use storage_drivers::{Limits, ObservedDriver, OpenStackSession, StorageDriver, StorageError};
use tracing::warn;

use crate::{
    api::{self, Api, Drain, Hosts, ServeError, ServerOptions, TlsFiles},
    auth::{
        driver::AuthError, issued_secret::SecretHasher, key_file::KeyError,
        keystone::KeystoneError, login_limit::LoginLimit, oidc::ProviderError,
        signing_key::ensure_key_file, token::Tokens,
    },
    clock::{Clock, SystemClock},
    config::{Config, RateLimitBackend, RateLimitsConfig},
    db::{Db, DbConfig},
    error::Error,
    ids::Ids,
    janitor::Janitor,
    model::job::Job,
    registry::{
        Backend, Backends, Downloads, MoveSettings, Parts, RateLimitSettings, Registry, Settings,
        bootstrap::FirstStart,
    },
    telemetry::Metrics,
};

/// How long the jobs of a process that stops may take to end their tasks.
const JANITOR_PATIENCE: Duration = Duration::from_secs(5);

/// The registry cannot start, with the way out.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory cannot be made.
    #[error("cannot make the data directory {}: {source}; choose another with --data-dir", path.display())]
    DataDir {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A storage backend cannot be opened.
    #[error("storage backend {name}: {source}{}", cause(source))]
    Storage {
        /// Its name.
        name: String,
        /// Why.
        source: StorageError,
    },
    /// The `[openstack]` section cannot be used.
    #[error("openstack: {}{}", .0, cause(.0))]
    OpenStack(#[source] StorageError),
    /// The signing keys cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The driver `keystone` cannot be made.
    #[error(transparent)]
    Keystone(#[from] KeystoneError),
    /// An issuer's settings cannot be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// `auth.drivers` names one that does not exist.
    #[error(
        "auth.drivers names {0:?}, which is not configured; there are static, keystone and oidc"
    )]
    UnknownDriver(String),
    /// The users cannot be read.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The schema is older than this program.
    #[error(
        "the database lacks the migrations {0}; run `kontor migrate`, or set database.migrate_at_start"
    )]
    Unmigrated(String),
    /// A use case failed, mostly for the database.
    #[error("{}", .0.causes().unwrap_or_else(|| .0.to_string()))]
    Registry(#[from] Error),
    /// The metrics contradict one another.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The server cannot run.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// What a driver says about a parameter stands in the source of its error.
fn cause(error: &StorageError) -> String {
    std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"))
}

/// Parts that tests put in the place of the real ones.
#[derive(Debug, Default)]
pub struct Overrides {
    /// The time.
    pub clock: Option<Arc<dyn Clock>>,
    /// Storage backends by name, instead of the configured ones.
    pub backends: Option<BTreeMap<String, Arc<dyn StorageDriver>>>,
}

/// A registry that is ready to serve.
#[derive(Debug)]
pub struct App {
    config: Config,
    db: Db,
    registry: Arc<Registry>,
    metrics: Metrics,
    role: Role,
}

/// What a process does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// It answers requests and runs the jobs.
    #[default]
    All,
    /// It answers requests; others run the jobs.
    Api,
    /// It runs the jobs, and answers only how it is.
    Janitor,
}

impl App {
    /// Builds a registry from its configuration.
    pub fn build(config: Config) -> Result<Self, AppError> {
        Self::build_with(config, Overrides::default())
    }

    /// Builds a registry with some parts replaced.
    pub fn build_with(config: Config, overrides: Overrides) -> Result<Self, AppError> {
        make_data_dir(&config.data_dir)?;
        let clock = overrides.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let metrics = Metrics::new()?;
        let db = Db::new(&DbConfig {
            url: config.database_url().expose().to_owned(),
            max_connections: config.database.max_connections,
            wait_timeout: Duration::from_secs(config.database.wait_timeout_seconds),
        });
        let openstack = openstack_session(&config)?;
        let given = Given {
            drivers: overrides.backends,
            openstack: openstack.as_ref(),
        };
        let backends = backends(&config, given, &metrics)?;
        let key = config.signing_key_file();
        ensure_key_file(&key)?;
        let tokens = Tokens::open(&key, &config.auth.previous_key_files, Arc::clone(&clock))?;
        let AuthDrivers { drivers, oidc } =
            AuthDrivers::open(&config, &db, openstack.as_ref(), &clock)?;
        let registry = Registry::new(Parts {
            backends: Backends::new(backends, config.default_storage.clone()),
            drivers,
            oidc,
            db: db.clone(),
            tokens,
            audit_sinks: audit_sinks(&config.audit),
            secret_hasher: SecretHasher::open(&config.secret_key_file())?,
            login_limit: LoginLimit::new(config.auth.login_limits.clone()),
            clock,
            ids: Ids::Random,
            settings: Settings {
                audit_keep: config.audit.keep(),
                manifest_bytes: config.limits.manifest_bytes,
                blob_bytes: config.limits.blob_bytes,
                chunk_bytes: config.limits.chunk_bytes,
                pull_token: Duration::from_secs(config.auth.pull_token_seconds),
                push_token: Duration::from_secs(config.auth.push_token_seconds),
                refresh_token: Duration::from_secs(config.auth.refresh_token_seconds),
                personal_token: Duration::from_secs(config.auth.personal_token_seconds),
                moves: MoveSettings {
                    grace: Duration::from_secs(config.moves.grace_seconds),
                    bytes_per_second: config.moves.bytes_per_second,
                },
                quota_defaults: config.quotas.defaults(),
                downloads: Downloads {
                    proxy_all: !config.downloads.redirect,
                    proxy_networks: config.downloads.proxy_networks.clone(),
                },
                rate_limits: rate_limits(&config.rate_limits),
                janitor: config.janitor.settings(),
            },
        });
        Ok(Self {
            config,
            db,
            registry: Arc::new(registry),
            metrics,
            role: Role::default(),
        })
    }

    /// The same with a part of the work only.
    #[must_use]
    pub fn with_role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// The jobs that this process runs.
    fn jobs(&self) -> Vec<Job> {
        let runs = |job: &Job| match self.role {
            // What was collected here can only be written here.
            Role::Api => *job == Job::SealAudit,
            Role::All | Role::Janitor => self.config.janitor.runs(*job),
        };
        self.registry.jobs().into_iter().filter(runs).collect()
    }

    /// The use cases.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Brings the schema up to date, or says what is missing if the configuration forbids it; then makes
    /// the first user and account if there are none.
    pub async fn prepare(&self) -> Result<Option<FirstStart>, AppError> {
        if self.config.database.migrate_at_start {
            self.db.migrate().await?;
        } else {
            let pending = self.db.pending_migrations().await?;
            if !pending.is_empty() {
                return Err(AppError::Unmigrated(pending.join(", ")));
            }
        }
        // Before the first request: a node that was just started must not accept what was revoked.
        self.registry.revocations_refresh().await?;
        let chosen = self.config.auth.initial_admin_password.as_ref();
        Ok(self
            .registry
            .first_start(chosen.map(crate::config::Secret::expose))
            .await?)
    }

    /// Listens on the configured addresses.
    pub fn listen(&self) -> Result<Vec<TcpListener>, AppError> {
        let addresses = self.config.server.listen.iter();
        let listeners = addresses.map(|address| api::listen(*address, self.config.idle_timeout()));
        Ok(listeners.collect::<Result<_, _>>()?)
    }

    /// Serves until `stop` is ready, then drains.
    pub async fn serve(
        self,
        listeners: Vec<TcpListener>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), AppError> {
        let server = &self.config.server;
        let api = Api {
            registry: Arc::clone(&self.registry),
            hosts: Hosts {
                public_url: server.public_url.clone(),
                base_domains: server.base_domains.clone(),
                trusted_proxies: server.trusted_proxies.clone(),
            },
            idle_timeout: self.config.idle_timeout(),
            metrics: self.metrics.clone(),
            shows_quotas: self.config.quotas.metrics,
            is_janitor_only: self.role == Role::Janitor,
            drain: Drain::default(),
        };
        let options = ServerOptions {
            workers: server.workers,
            head_timeout: Duration::from_secs(server.head_timeout_seconds),
            drain_delay: Duration::from_secs(server.drain_delay_seconds),
            drain_timeout: Duration::from_secs(server.drain_timeout_seconds),
            connections_per_worker: self.config.limits.connections_per_worker,
            tls: server.tls.as_ref().map(|tls| TlsFiles {
                certificate: tls.certificate_file.clone(),
                key: tls.key_file.clone(),
            }),
        };
        let flusher = tokio::spawn(flush_pulls(Arc::clone(&self.registry)));
        let revoker = tokio::spawn(watch_revocations(Arc::clone(&self.registry)));
        let janitor = Janitor::start(&self.registry, &self.metrics, self.jobs());
        let served = api::serve(api, options, listeners, stop).await;
        flusher.abort();
        revoker.abort();
        janitor.stop(JANITOR_PATIENCE).await;
        if let Err(error) = self.registry.pulls_flush().await {
            warn!(error = ?error, "the last pulls were not noted");
        }
        if let Err(error) = self.registry.audit_close().await {
            warn!(error = ?error, "the last audit events were not written");
        }
        Ok(served?)
    }
}

fn rate_limits(config: &RateLimitsConfig) -> RateLimitSettings {
    RateLimitSettings {
        in_database: config.backend == RateLimitBackend::Database,
        blob_pulls: config.blob_pulls,
        blob_pushes: config.blob_pushes,
        manifest_pulls: config.manifest_pulls,
        manifest_pushes: config.manifest_pushes,
    }
}

fn make_data_dir(path: &Path) -> Result<(), AppError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| AppError::DataDir {
        path: path.to_owned(),
        source,
    })
}

/// The one session of the service user, which the drivers share.
fn openstack_session(config: &Config) -> Result<Option<Arc<OpenStackSession>>, AppError> {
    let session = config.openstack.as_ref().map(OpenStackSession::new);
    let session = session.transpose().map_err(AppError::OpenStack)?;
    Ok(session.map(Arc::new))
}

/// What the backends do not make themselves.
struct Given<'a> {
    /// The backends of a test.
    drivers: Option<BTreeMap<String, Arc<dyn StorageDriver>>>,
    openstack: Option<&'a Arc<OpenStackSession>>,
}

/// The configured backends, or those of a test. Each has a limit of its own, so that a slow one does not slow the
/// others.
fn backends(
    config: &Config,
    given: Given<'_>,
    metrics: &Metrics,
) -> Result<BTreeMap<String, Backend>, AppError> {
    let mut opened = Vec::new();
    match given.drivers {
        Some(drivers) => opened.extend(drivers.into_iter().map(|(name, driver)| {
            let common = config.storage.get(&name).map(|backend| &backend.common);
            (name, driver, common.cloned().unwrap_or_default())
        })),
        None => {
            for (name, backend) in config.backends() {
                let built = backend.driver.build(given.openstack);
                let driver = built.map_err(|source| AppError::Storage {
                    name: name.clone(),
                    source,
                })?;
                opened.push((name, driver, backend.common));
            }
        }
    }
    let observed = opened.into_iter().map(|(name, driver, common)| {
        let limits = Limits {
            max_calls: common.max_calls,
            ..Limits::default()
        };
        let observer = Arc::new(metrics.clone());
        let driver = ObservedDriver::new(driver, name.clone(), limits, observer);
        let backend = Backend {
            driver: Arc::new(driver),
            auth_tenants: common.auth_tenants,
        };
        (name, backend)
    });
    Ok(observed.collect())
}
