//! The parameters of the `swift` driver, and which session at Keystone they mean.
//!
//! Nothing is asked of the cloud here.
//!
//! What a newcomer will get wrong: a login is either whole or absent. Half a one is refused, so that a misspelt key
//! does not silently mean the shared session.

use std::sync::Arc;

use osauth::InterfaceType;
use serde::Deserialize;
use url::Url;

use super::temp_url::TempUrlDigest;
use crate::openstack::{OpenStackConfig, Session, default_domain};
use crate::{Secret, StorageError, StorageResult};

/// In whose Keystone project the containers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerProject {
    /// In the service user's own.
    #[default]
    Service,
    /// In the project whose id is the account's auth tenant; the service user needs the role `ResellerAdmin`.
    Tenant,
}

/// An endpoint's kind in the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// For everybody.
    #[default]
    Public,
    /// For services of the cloud.
    Internal,
    /// For administration.
    Admin,
}

impl From<Interface> for InterfaceType {
    fn from(interface: Interface) -> Self {
        match interface {
            Interface::Public => Self::Public,
            Interface::Internal => Self::Internal,
            Interface::Admin => Self::Admin,
        }
    }
}

/// The parameters of the `swift` driver. A key that it does not know is an error. Without any of those of a login, the
/// driver takes the session that it is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwiftConfig {
    /// Keystone, such as `https://keystone.example.org/v3`.
    pub auth_url: Option<Url>,
    /// The service user's name.
    pub user: Option<String>,
    /// The domain of the service user.
    #[serde(default = "default_domain")]
    pub user_domain: String,
    /// The service user's password.
    pub password: Option<Secret>,
    /// The service user's project.
    pub project: Option<String>,
    /// The domain of that project.
    #[serde(default = "default_domain")]
    pub project_domain: String,
    /// An application credential instead of user, password and project.
    pub application_credential_id: Option<String>,
    /// Its secret.
    pub application_credential_secret: Option<Secret>,
    /// The type of the service in the catalogue.
    #[serde(default = "object_store")]
    pub service_type: String,
    /// The region; the first one in the catalogue if it is not given.
    pub region: Option<String>,
    /// The endpoint that the registry uses.
    #[serde(default)]
    pub interface: Interface,
    /// The endpoint that clients are redirected to.
    #[serde(default)]
    pub download_interface: Interface,
    /// In whose project the containers lie.
    #[serde(default)]
    pub container_project: ContainerProject,
    /// Before the account in a container's name; `keppel-` gives Keppel's names.
    #[serde(default = "container_prefix")]
    pub container_prefix: String,
    /// Before the project's id in an endpoint's path (Swift's `reseller_prefix`).
    #[serde(default = "reseller_prefix")]
    pub reseller_prefix: String,
    /// The storage policy of new containers; the cluster's default if it is not given.
    pub storage_policy: Option<String>,
    /// Whether clients may be redirected to signed addresses (TempURL).
    #[serde(default = "yes")]
    pub temp_urls: bool,
    /// The hash of those signatures.
    #[serde(default)]
    pub temp_url_digest: TempUrlDigest,
    /// After how many days the key that signs them is changed.
    #[serde(default = "thirty")]
    pub temp_url_key_days: u32,
    /// The server is Ceph RGW: no project in the endpoint's path is no error, and no addresses are signed, since its
    /// containers have no keys of their own.
    #[serde(default)]
    pub ceph_rgw: bool,
}

fn object_store() -> String {
    "object-store".to_owned()
}

fn container_prefix() -> String {
    "kontor-".to_owned()
}

fn reseller_prefix() -> String {
    "AUTH_".to_owned()
}

fn yes() -> bool {
    true
}

fn thirty() -> u32 {
    30
}

impl SwiftConfig {
    /// The login of this backend alone; `None` if nothing is said about one.
    fn login(&self) -> StorageResult<Option<OpenStackConfig>> {
        let says_nothing = self.user.is_none()
            && self.password.is_none()
            && self.project.is_none()
            && self.application_credential_id.is_none()
            && self.application_credential_secret.is_none();
        let Some(auth_url) = self.auth_url.clone() else {
            return match says_nothing {
                true => Ok(None),
                false => Err(StorageError::permanent(
                    "auth_url: a login of its own needs the address of Keystone",
                )),
            };
        };
        Ok(Some(OpenStackConfig {
            auth_url,
            user: self.user.clone(),
            user_domain: self.user_domain.clone(),
            password: self.password.clone(),
            project: self.project.clone(),
            project_domain: self.project_domain.clone(),
            application_credential_id: self.application_credential_id.clone(),
            application_credential_secret: self.application_credential_secret.clone(),
        }))
    }

    /// The backend's own session, or else the shared one.
    pub(super) fn session(&self, shared: Option<&Arc<Session>>) -> StorageResult<Arc<Session>> {
        match (self.login()?, shared) {
            (Some(login), _) => Ok(Arc::new(Session::new(&login)?)),
            (None, Some(shared)) => Ok(Arc::clone(shared)),
            (None, None) => Err(StorageError::permanent(
                "auth_url: give it and a login, or an [openstack] section",
            )),
        }
    }

    pub(super) fn validate(&self) -> StorageResult<()> {
        let is_plain = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !is_plain(&self.container_prefix) || self.container_prefix.len() > 190 {
            return Err(StorageError::permanent(
                "container_prefix: up to 190 letters, digits, '-', '_' and '.'",
            ));
        }
        if !is_plain(&self.reseller_prefix) {
            return Err(StorageError::permanent(
                "reseller_prefix: letters, digits, '-', '_' and '.'",
            ));
        }
        if self.temp_url_key_days == 0 {
            return Err(StorageError::permanent(
                "temp_url_key_days: at least 1, or set temp_urls = false",
            ));
        }
        Ok(())
    }
}
