//! What the commands do. The first words of the command line are in `main.rs`, the others beside what they do.
//!
//! `serve`, `migrate`, `check`, `config` and two of `user` work on the machine of the registry, with its
//! configuration; the others speak to a running registry over HTTP. This is the only module that prints.

#![expect(clippy::print_stdout, reason = "what a command prints is its result")]
#![expect(
    clippy::print_stderr,
    reason = "what explains a secret must not get into the file that takes it"
)]

pub mod account;
pub mod apply;
pub mod args;
pub mod audit;
mod audit_list;
pub mod client;
pub mod credentials;
mod docker_config;
mod document;
mod exit_code;
pub mod explain;
pub mod gc;
pub mod help_files;
pub mod hold;
pub mod jobs;
pub mod login;
mod openstack;
pub mod output;
pub mod policy;
mod progress;
pub mod quota;
pub mod repo;
pub mod robot;
mod serve;
pub mod tag;
pub mod token;
pub mod trash;
pub mod user;

use std::io::Read as _;

pub use serve::serve;

pub use crate::app::Role;

use crate::{
    app::{App, AppError},
    auth::password,
    config::{Config, ConfigError},
    model::permission::Permission,
    telemetry::{LogError, init_log},
};

/// A command failed, with the way out.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The registry cannot start.
    #[error(transparent)]
    App(#[from] AppError),
    /// Standard input, output or a signal cannot be used.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A password cannot be hashed.
    #[error(transparent)]
    Password(#[from] password::PasswordError),
    /// A check found something.
    #[error("{0} problems were found")]
    Problems(usize),
    /// Speaking to the registry failed.
    #[error(transparent)]
    Client(#[from] client::ClientError),
    /// Nobody knows as whom to speak to it.
    #[error(transparent)]
    Credential(#[from] credentials::CredentialError),
    /// A plan cannot be made or was not followed.
    #[error(transparent)]
    Apply(#[from] apply::ApplyError),
    /// What was given cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// Keystone knows the user's name, and this program does not.
    #[error("name the user: who logs in with a token of Keystone has no password here")]
    NoName,
    /// The data directory holds nothing.
    #[error("there is no registry in {}; name its folder with --data-dir", .0.display())]
    NoRegistry(std::path::PathBuf),
    /// A word is no permission.
    #[error("permissions: {0}")]
    Permission(String),
    /// A login at an identity provider failed.
    #[error(transparent)]
    Login(#[from] login::LoginError),
    /// The audit trail is not in order, or cannot be verified.
    #[error("audit trail: {0}")]
    Audit(String),
    /// No password was given.
    #[error("no password on standard input")]
    NoPassword,
}

impl From<crate::error::Error> for CliError {
    fn from(error: crate::error::Error) -> Self {
        Self::App(error.into())
    }
}

/// Commands on what is there must not make a registry of an empty folder that was named by mistake.
fn require_registry(config: &Config) -> Result<(), CliError> {
    if config.database.url.is_some() || config.data_dir.join("kontor.db").exists() {
        return Ok(());
    }
    Err(CliError::NoRegistry(config.data_dir.clone()))
}

/// `kontor migrate`: brings the database's schema up to date.
pub async fn migrate(config: Config) -> Result<(), CliError> {
    init_log(&config.log)?;
    let app = App::build(config)?;
    let run = app.db().migrate().await?;
    if run.is_empty() {
        println!("the database is up to date");
    }
    for version in run {
        println!("migration {version} was run");
    }
    Ok(())
}

/// `kontor check`: whether the database and the storage agree.
pub async fn check(config: Config, digests: bool) -> Result<(), CliError> {
    init_log(&config.log)?;
    require_registry(&config)?;
    let app = App::build(config)?;
    let report = app.registry().check(digests).await?;
    for problem in &report.problems {
        println!("{problem}");
    }
    println!(
        "{} objects, {} of cut-off writes, {} unknown; {} digests computed; {} problems",
        report.objects,
        report.loose_objects,
        report.unknown_objects,
        report.digests,
        report.problems.len()
    );
    match report.problems.len() {
        0 => Ok(()),
        count => Err(CliError::Problems(count)),
    }
}

/// `kontor config check`: that the configuration can be used; loading it has checked it already.
pub fn config_check(config: &Config) {
    println!("the configuration is valid");
    println!("  data directory: {}", config.data_dir.display());
    let addresses: Vec<String> = config
        .server
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    println!("  listening on: {}", addresses.join(", "));
    let url = config.database_url();
    let kind = url
        .expose()
        .split(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    println!("  database: {kind}");
    let backends: Vec<String> = config.backends().into_keys().collect();
    println!(
        "  storage backends: {} (default: {})",
        backends.join(", "),
        config.default_storage
    );
}

/// `kontor user hash-password`: an argon2id hash of the password on standard input.
pub fn hash_password() -> Result<(), CliError> {
    println!("{}", password::hash(&password_from_stdin()?)?);
    Ok(())
}

/// `kontor user set-password`: a new password, from standard input, for a user of the database.
pub async fn set_password(config: Config, user: &str) -> Result<(), CliError> {
    init_log(&config.log)?;
    require_registry(&config)?;
    let app = App::build(config)?;
    app.registry()
        .user_set_password(None, user, &password_from_stdin()?)
        .await?;
    println!("{user} has a new password");
    Ok(())
}

/// Permissions with commas between them.
fn permissions(list: &str) -> Result<Vec<Permission>, CliError> {
    list.split(',')
        .map(|word| word.trim().parse().map_err(CliError::Permission))
        .collect()
}

fn password_from_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(CliError::NoPassword);
    }
    Ok(password.to_owned())
}
