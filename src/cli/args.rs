//! Arguments that several commands share.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::config::Config;

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

/// How to reach the registry and as whom. There is no `Debug`: it holds a password.
#[derive(Clone, Args)]
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
    /// Your name: a user, or a robot as ACCOUNT+ROBOT.
    #[arg(long, global = true, env = "KONTOR_USER", default_value = "admin")]
    pub user: String,
    /// Your password or a personal token; better given in the environment.
    #[arg(
        long,
        global = true,
        env = "KONTOR_PASSWORD",
        hide_env_values = true,
        default_value = ""
    )]
    pub password: String,
}
