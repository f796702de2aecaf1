//! Arguments that several commands share, and the environment variables of other programs.

use std::{convert::Infallible, ffi::OsString, path::PathBuf};

use clap::Args;
use tokio::sync::OnceCell;

use super::{CliError, credentials::Credential, output::Output};
use crate::config::{Config, Secret};

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file (TOML). Every key can also be set as KONTOR__SECTION__KEY.
    #[arg(long, env = "KONTOR_CONFIG")]
    config: Option<PathBuf>,
    /// Where the database, the keys and the default storage lie [default: ./kontor-data].
    #[arg(long)]
    data_dir: Option<String>,
}

impl ConfigArgs {
    /// The configuration that file, environment and arguments make together.
    pub fn load(&self) -> Result<Config, CliError> {
        let overrides: Vec<(&str, String)> = self
            .data_dir
            .iter()
            .map(|folder| ("data_dir", folder.clone()))
            .collect();
        Ok(Config::from_process(self.config.as_deref(), &overrides)?)
    }
}

/// How to reach the registry and as whom, and how to show what it says.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// The registry's address.
    #[arg(
        id = "server",
        long = "server",
        value_name = "SERVER",
        global = true,
        env = "KONTOR_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    pub url: String,
    /// Your name: a user, or a robot as ACCOUNT+ROBOT [default: admin, with a password].
    #[arg(long, global = true, env = "KONTOR_USER")]
    pub user: Option<String>,
    /// Your password or a personal token; better given in the environment. Without one: what `docker login` stored, or
    /// the OS_* variables of an OpenStack cloud.
    #[arg(long, global = true, env = "KONTOR_PASSWORD", hide_env_values = true, value_parser = secret)]
    pub password: Option<Secret>,
    /// Log in at Keystone with this cloud of clouds.yaml.
    #[arg(long, global = true)]
    pub os_cloud: Option<String>,
    /// A table for people, or JSON for programs.
    #[arg(
        long,
        short,
        global = true,
        env = "KONTOR_OUTPUT",
        value_enum,
        default_value_t
    )]
    pub output: Output,
    #[arg(skip)]
    pub(super) credential: OnceCell<Credential>,
}

fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

/// A variable of the environment that belongs to another program, such as docker or the OpenStack client.
#[expect(
    clippy::disallowed_methods,
    reason = "variables of other programs, which are no settings of kontor"
)]
pub(super) fn foreign_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
