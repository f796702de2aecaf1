//! The account: a tenant's own part of the registry, with storage of its own.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use storage_drivers::Tenant;

use super::{
    invalid_field::InvalidField, rbac_policy::RbacPolicy, service_identity::ServiceIdentity,
};
use crate::oci::AccountName;

/// How many rules one account may have.
const MAX_RBAC_POLICIES: usize = 64;

/// How many service identities one account may have.
const MAX_SERVICE_IDENTITIES: usize = 64;

/// How many networks of clients that are not redirected one account may have.
const MAX_PROXY_NETWORKS: usize = 64;

/// An account as it is stored.
#[derive(Debug, Clone)]
pub struct Account {
    /// The name; the first part of every repository's name.
    pub name: AccountName,
    /// Who owns it: a Keystone project, or a name that the operator chose.
    pub auth_tenant_id: String,
    /// The storage backend of new objects.
    pub storage: String,
    /// What can be changed.
    pub settings: AccountSettings,
    /// Its deletion has begun: nothing can be read or written any more.
    pub is_deleting: bool,
}

/// The part of an account that its owner can change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountSettings {
    /// Who may use which repositories beyond the grants of the auth tenant.
    pub rbac_policies: Vec<RbacPolicy>,
    /// Whether a manifest may name layers or manifests that are not in the repository.
    pub allow_sparse_manifests: bool,
    /// Never redirect a blob download to the object store: clients of an isolated network cannot reach it.
    pub proxy_downloads: bool,
    /// Networks whose clients are not redirected either.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxy_networks: Vec<IpNet>,
    /// Machines that log in with tokens of issuers that the operator trusts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_identities: Vec<ServiceIdentity>,
    /// The registry that this account stands for when a client asks with `?ns=`, such as `docker.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serves_namespace: Option<String>,
}

impl AccountSettings {
    /// Says what is wrong with the settings, if anything is.
    pub fn validate(&self) -> Result<(), InvalidField> {
        at_most("rbac_policies", self.rbac_policies.len(), MAX_RBAC_POLICIES)?;
        for (number, policy) in self.rbac_policies.iter().enumerate() {
            policy
                .validate()
                .map_err(|invalid| invalid.below(format!("rbac_policies[{number}]")))?;
        }
        at_most(
            "proxy_networks",
            self.proxy_networks.len(),
            MAX_PROXY_NETWORKS,
        )?;
        at_most(
            "service_identities",
            self.service_identities.len(),
            MAX_SERVICE_IDENTITIES,
        )?;
        let mut names = BTreeSet::new();
        for (number, identity) in self.service_identities.iter().enumerate() {
            let path = format!("service_identities[{number}]");
            identity
                .validate()
                .map_err(|reason| InvalidField::new(path.clone(), reason))?;
            if !names.insert(&identity.name) {
                return Err(InvalidField::new("name", "another one is called so").below(path));
            }
        }
        match &self.serves_namespace {
            Some(namespace) if !is_host(namespace) => Err(InvalidField::new(
                "serves_namespace",
                "it must be a registry host such as docker.io",
            )),
            _ => Ok(()),
        }
    }
}

impl Account {
    /// The account as a storage driver sees it.
    pub fn tenant(&self) -> Tenant {
        Tenant {
            account: self.name.as_str().to_owned(),
            auth_tenant_id: self.auth_tenant_id.clone(),
        }
    }
}

/// The one name of a registry that goes by several: what containerd sends as `?ns=` for Docker Hub
/// depends on its configuration.
pub fn canonical_namespace(namespace: &str) -> String {
    match namespace.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

fn at_most(path: &str, count: usize, limit: usize) -> Result<(), InvalidField> {
    if count > limit {
        return Err(InvalidField::new(
            path,
            format!("an account can have at most {limit}"),
        ));
    }
    Ok(())
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_has_one_name() {
        assert_eq!(canonical_namespace("Index.Docker.io"), "docker.io");
        assert_eq!(canonical_namespace("ghcr.io"), "ghcr.io");
    }

    #[test]
    fn settings_name_the_bad_rule() {
        let settings: AccountSettings = serde_json::from_str(
            r#"{"rbac_policies":[{"match_repository":"(","permissions":["anonymous_pull"]}]}"#,
        )
        .unwrap();
        assert!(
            settings
                .validate()
                .unwrap_err()
                .path
                .starts_with("rbac_policies[0]")
        );
        let settings = AccountSettings {
            serves_namespace: Some("not a host".into()),
            ..Default::default()
        };
        assert!(settings.validate().is_err());
    }
}
