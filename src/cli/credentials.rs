//! As whom a command speaks to the registry. The first that is there counts:
//!
//! 1. `--password` or `KONTOR_PASSWORD`, with `--user` or `KONTOR_USER`;
//! 2. `--os-cloud`, a cloud of `clouds.yaml`;
//! 3. what `docker login` stored for the registry's host, if it is for `--user` or nobody was named;
//! 4. `OS_CLOUD` and the other `OS_*` variables of the OpenStack client.
//!
//! What a newcomer gets wrong: a password that was found for one host must never be sent to another, so the host is
//! taken from `--server` and compared as a whole.

use reqwest::Url;

use super::{
    args::{Server, foreign_variable},
    docker_config::{self, DockerConfigError},
    openstack::{self, OpenStackError},
};
use crate::config::Secret;

/// The user that the first start makes.
const FIRST_USER: &str = "admin";

/// What proves who somebody is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A name and a password, a personal token or a robot's secret.
    Basic {
        /// The name.
        user: String,
        /// What proves it.
        password: Secret,
    },
    /// A token of Keystone.
    Keystone(Secret),
}

/// Nobody knows as whom to speak.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is nothing.
    #[error(
        "you are not logged in at {0}: set KONTOR_USER and KONTOR_PASSWORD, or run `docker login {0}` or `kontor login`, or set the OS_* variables of your cloud"
    )]
    None(String),
    /// The address of the registry is not one.
    #[error("--server: {0} is not the address of a registry, such as https://registry.example.org")]
    Address(String),
    /// Docker's configuration cannot be used.
    #[error(transparent)]
    Docker(#[from] DockerConfigError),
    /// Keystone gave no token.
    #[error(transparent)]
    OpenStack(#[from] OpenStackError),
}

impl Server {
    /// As whom to speak; found once for each command.
    pub(super) async fn credential(&self) -> Result<&Credential, CredentialError> {
        self.credential.get_or_try_init(|| self.find()).await
    }

    async fn find(&self) -> Result<Credential, CredentialError> {
        let host = host(&self.url)?;
        if let Some(password) = self.password.as_ref().filter(|p| !p.expose().is_empty()) {
            return Ok(Credential::Basic {
                user: self.user.clone().unwrap_or_else(|| FIRST_USER.to_owned()),
                password: password.clone(),
            });
        }
        if let Some(cloud) = &self.os_cloud {
            let login = openstack::from_clouds(cloud)?;
            return Ok(Credential::Keystone(login.token().await?));
        }
        if let Ok(path) = docker_config::default_path()
            && let Some((user, password)) = docker_config::find(&path, &host)?
            && self.user.as_ref().is_none_or(|wanted| *wanted == user)
        {
            return Ok(Credential::Basic { user, password });
        }
        let variable = |name: &str| foreign_variable(name)?.into_string().ok();
        if let Some(login) = openstack::from_variables(variable)? {
            return Ok(Credential::Keystone(login.token().await?));
        }
        Err(CredentialError::None(host))
    }

    /// The name that a command speaks under, if it is known here.
    pub(super) async fn own_name(&self) -> Result<Option<String>, CredentialError> {
        match self.credential().await? {
            Credential::Basic { user, .. } => Ok(Some(user.clone())),
            Credential::Keystone(_) => Ok(None),
        }
    }
}

/// The registry's name for docker: `host` or `host:port`.
fn host(server: &str) -> Result<String, CredentialError> {
    let wrong = || CredentialError::Address(server.to_owned());
    let url: Url = server.parse().map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong());
    }
    let host = url.host_str().ok_or_else(wrong)?;
    Ok(url
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_that_of_docker() {
        for (server, expected) in [
            ("https://registry.example.org", "registry.example.org"),
            ("https://registry.example.org/", "registry.example.org"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            // The host is what comes after the @.
            ("https://registry.example.org@evil.test", "evil.test"),
        ] {
            assert_eq!(host(server).unwrap(), expected);
        }
        for wrong in ["registry.example.org", "ftp://a", "", "localhost:8080"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
