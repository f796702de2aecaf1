//! The use cases: one file each, all `impl super::Registry`.
//!
//! A use case takes a value that proves the permission (`access.rs` makes them), talks to the database
//! in short transactions and to storage between them, and returns what the API renders. It knows
//! nothing of HTTP. What a newcomer gets wrong: a handler may be dropped at any `await` because its
//! client went away, so between noting an object as loose and making it belong there must be no step
//! whose loss would matter.

pub mod access;
mod account_delete;
pub mod accounts;
pub mod audit;
pub mod audit_delivery;
pub mod audit_seal;
mod audit_strangers;
mod backends;
mod blob_explain;
pub mod bootstrap;
pub mod caller;
mod catalog;
pub mod check;
pub mod chunk_write;
mod copy_stream;
mod delete_blob;
mod delete_manifest;
pub mod explain;
pub mod gc_preview;
mod health;
mod heartbeat;
pub mod image_gc;
pub mod info;
mod janitor_times;
pub mod jobs;
pub mod legal_holds;
mod login;
mod loose_objects;
mod manifest_rules;
mod merge_chunks;
mod mount_blob;
pub mod move_account;
mod move_copy;
mod namespaces;
mod patient_read;
mod permits;
pub mod personal_tokens;
pub mod pull_blob;
pub mod pull_log;
mod pull_manifest;
pub mod push_blob;
pub mod push_manifest;
pub mod quotas;
pub mod rate_limits;
pub mod referrers;
mod repositories;
mod reservation;
pub mod restore;
pub mod revoke;
pub mod robots;
mod service_login;
mod sweep_mounts;
mod sweep_objects;
mod sweep_storage;
mod sweep_uploads;
mod tag_history;
mod tags;
pub mod tokens;
mod trash;
mod trash_room;
pub mod users;
mod validate_blobs;
mod validate_manifests;

use std::{
    sync::{Arc, RwLock, atomic::AtomicU64},
    time::Duration,
};

use ipnet::IpNet;

use audit::AuditBuffer;
use audit_strangers::Strangers;
pub use backends::{Backend, Backends};
pub use move_account::MoveSettings;
use pull_log::{PullLog, WantedBlobs};
pub use rate_limits::RateLimitSettings;
use rate_limits::RateLimits;
pub use users::DbUsers;

use crate::{
    audit::AuditSink,
    auth::{
        driver::AuthDriver, issued_secret::SecretHasher, login_limit::LoginLimit, oidc::OidcDriver,
        token::Tokens,
    },
    clock::Clock,
    db::Db,
    ids::Ids,
    model::{janitor_settings::JanitorSettings, quota::Limits, revocation::Revocations},
};

/// Bounds and times that the configuration sets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The largest manifest, in bytes.
    pub manifest_bytes: usize,
    /// The largest blob, in bytes.
    pub blob_bytes: u64,
    /// The largest object, in bytes: a longer body becomes several chunks.
    pub chunk_bytes: u64,
    /// How long a token that can only pull is valid.
    pub pull_token: Duration,
    /// How long a token that can push is valid.
    pub push_token: Duration,
    /// How long a refresh token is valid; zero gives none.
    pub refresh_token: Duration,
    /// The longest life of a personal access token.
    pub personal_token: Duration,
    /// How accounts move between storage backends.
    pub moves: MoveSettings,
    /// The limits of auth tenants that have none of their own.
    pub quota_defaults: Limits,
    /// Whether blobs are fetched from the object store directly.
    pub downloads: Downloads,
    /// How long audit events are kept; `None` is for ever.
    pub audit_keep: Option<Duration>,
    /// How often somebody may pull and push.
    pub rate_limits: RateLimitSettings,
    /// How long what nobody needs stays, and how often what is there is looked at.
    pub janitor: JanitorSettings,
}

/// Which clients fetch blobs from the object store directly, where it can be done.
#[derive(Debug, Clone, Default)]
pub struct Downloads {
    /// Nobody does.
    pub proxy_all: bool,
    /// Clients of these networks do not: they cannot reach the object store.
    pub proxy_networks: Vec<IpNet>,
}

/// The parts that a registry is made of.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The storage backends.
    pub backends: Backends,
    /// The sources of users, in the order in which they are asked.
    pub drivers: Vec<Arc<dyn AuthDriver>>,
    /// Tokens of issuers that the operator trusts.
    pub oidc: Option<Arc<OidcDriver>>,
    /// Our own tokens.
    pub tokens: Tokens,
    /// The hashes of secrets of our making.
    pub secret_hasher: SecretHasher,
    /// Slows down those who guess.
    pub login_limit: LoginLimit,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh identifiers.
    pub ids: Ids,
    /// Where audit events go besides the database.
    pub audit_sinks: Vec<Arc<dyn AuditSink>>,
    /// Bounds and times.
    pub settings: Settings,
}

/// The registry without its HTTP.
#[derive(Debug)]
pub struct Registry {
    db: Db,
    backends: Arc<Backends>,
    drivers: Vec<Arc<dyn AuthDriver>>,
    oidc: Option<Arc<OidcDriver>>,
    tokens: Arc<Tokens>,
    secret_hasher: SecretHasher,
    login_limit: LoginLimit,
    revocations: RwLock<Revocations>,
    clock: Arc<dyn Clock>,
    ids: Arc<Ids>,
    settings: Settings,
    pulls: PullLog,
    wanted: WantedBlobs,
    /// What metrics show, so that a scrape costs nothing.
    books: tokio::sync::Mutex<quotas::BooksRead>,
    audit_sinks: Vec<Arc<dyn AuditSink>>,
    audit_buffer: AuditBuffer,
    strangers: Strangers,
    rate_limits: RateLimits,
    /// Requests since the janitor last looked.
    requests: AtomicU64,
}

impl Registry {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            db,
            backends,
            drivers,
            oidc,
            tokens,
            secret_hasher,
            login_limit,
            clock,
            ids,
            audit_sinks,
            settings,
        } = parts;
        Self {
            db,
            backends: Arc::new(backends),
            drivers,
            oidc,
            tokens: Arc::new(tokens),
            secret_hasher,
            login_limit,
            revocations: RwLock::default(),
            clock,
            ids: Arc::new(ids),
            rate_limits: RateLimits::new(settings.rate_limits),
            settings,
            pulls: PullLog::default(),
            wanted: WantedBlobs::default(),
            books: tokio::sync::Mutex::default(),
            audit_sinks,
            audit_buffer: AuditBuffer::default(),
            strangers: Strangers::default(),
            requests: AtomicU64::new(0),
        }
    }

    /// The largest manifest, in bytes.
    pub fn manifest_bytes(&self) -> usize {
        self.settings.manifest_bytes
    }

    /// A fresh name for a request, for logs.
    pub fn request_id(&self) -> String {
        self.ids.fresh().simple().to_string()
    }
}
