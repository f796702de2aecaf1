//! The account: a tenant's own part of the registry, with storage of its own.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use storage_drivers::Tenant;

use super::{
    gc_policy::GcPolicy,
    invalid_field::InvalidField,
    precondition::{EntityTag, Tagged},
    rbac_policy::RbacPolicy,
    service_identity::ServiceIdentity,
    tag_policy::TagPolicy,
    validation_rule::ValidationRule,
};
use crate::{
    error::{Code, Error, Result as RegistryResult},
    oci::AccountName,
};

/// How many policies of one kind one account may have.
const MAX_POLICIES: usize = 64;

/// How many entries the metadata of one account may have.
const MAX_METADATA: usize = 64;

/// The longest name of an entry of the metadata, in bytes.
const MAX_METADATA_NAME_BYTES: usize = 256;

/// The longest value of an entry of the metadata, in bytes.
const MAX_METADATA_VALUE_BYTES: usize = 4096;

/// How many service identities one account may have.
const MAX_SERVICE_IDENTITIES: usize = 64;

/// How many networks of clients that are not redirected one account may have.
const MAX_PROXY_NETWORKS: usize = 64;

/// How many days deleted manifests stay restorable, unless the account says otherwise.
const DEFAULT_TRASH_DAYS: u16 = 7;

/// The longest time in the trash, in days.
const MAX_TRASH_DAYS: u16 = 365;

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
    /// Grows with every change.
    pub version: i64,
}

impl Tagged for Account {
    fn tag(&self) -> EntityTag {
        EntityTag::of_version(self.version)
    }
}

/// The part of an account that its owner can change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccountSettings {
    /// Who may use which repositories beyond the grants of the auth tenant.
    pub rbac_policies: Vec<RbacPolicy>,
    /// Which tags cannot be set, moved or deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_policies: Vec<TagPolicy>,
    /// Which images are to be deleted by themselves. The first that matches counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gc_policies: Vec<GcPolicy>,
    /// What manifests must be like to be pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationRule>,
    /// How many days deleted manifests can be restored, 365 at most; 0 deletes them for good at once.
    #[schema(maximum = 365, default = 7)]
    pub trash_days: u16,
    /// Nothing new can be pushed; pulls and deletions go on.
    pub in_maintenance: bool,
    /// What the owner notes; nothing here looks into it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Whether a manifest may name layers or manifests that are not in the repository.
    pub allow_sparse_manifests: bool,
    /// Never redirect a blob download to the object store: clients of an isolated network cannot reach it.
    pub proxy_downloads: bool,
    /// Whether pulls are in the audit trail.
    pub audit_pulls: bool,
    /// Networks whose clients are not redirected either.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub proxy_networks: Vec<IpNet>,
    /// Machines that log in with tokens of issuers that the operator trusts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_identities: Vec<ServiceIdentity>,
    /// The registry that this account stands for when a client asks with `?ns=`, such as `docker.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serves_namespace: Option<String>,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self {
            rbac_policies: Vec::new(),
            tag_policies: Vec::new(),
            gc_policies: Vec::new(),
            validation: None,
            trash_days: DEFAULT_TRASH_DAYS,
            in_maintenance: false,
            metadata: BTreeMap::new(),
            allow_sparse_manifests: false,
            proxy_downloads: false,
            audit_pulls: false,
            proxy_networks: Vec::new(),
            service_identities: Vec::new(),
            serves_namespace: None,
        }
    }
}

impl AccountSettings {
    /// Says what is wrong with the settings, if anything is.
    pub fn validate(&self) -> Result<(), InvalidField> {
        check_each("rbac_policies", &self.rbac_policies, RbacPolicy::validate)?;
        check_each("tag_policies", &self.tag_policies, TagPolicy::validate)?;
        check_each("gc_policies", &self.gc_policies, GcPolicy::validate)?;
        if let Some(rule) = &self.validation {
            rule.validate()
                .map_err(|invalid| invalid.below("validation"))?;
        }
        if self.trash_days > MAX_TRASH_DAYS {
            let reason = format!("at most {MAX_TRASH_DAYS} days");
            return Err(InvalidField::new("trash_days", reason));
        }
        self.check_metadata()?;
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
                .map_err(|invalid| invalid.below(&path))?;
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

    fn check_metadata(&self) -> Result<(), InvalidField> {
        at_most("metadata", self.metadata.len(), MAX_METADATA)?;
        for (name, value) in &self.metadata {
            let reason = if name.is_empty() || name.len() > MAX_METADATA_NAME_BYTES {
                format!("a name has 1 to {MAX_METADATA_NAME_BYTES} bytes")
            } else if value.len() > MAX_METADATA_VALUE_BYTES {
                format!("{name}: a value has at most {MAX_METADATA_VALUE_BYTES} bytes")
            } else {
                continue;
            };
            return Err(InvalidField::new("metadata", reason));
        }
        Ok(())
    }

    /// When what is deleted now goes for good; `None` if it goes at once.
    pub fn purge_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (self.trash_days > 0).then(|| now + TimeDelta::days(self.trash_days.into()))
    }

    /// Refuses what would bring something new while the account is in maintenance.
    pub fn refuse_in_maintenance(&self) -> RegistryResult<()> {
        if !self.in_maintenance {
            return Ok(());
        }
        let message =
            "the account is in maintenance: nothing can be pushed until its owner ends that";
        Err(Error::with_message(Code::Unsupported, message)
            .with_header("Allow", "GET, HEAD, DELETE"))
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

fn check_each<T>(
    list: &str,
    policies: &[T],
    validate: impl Fn(&T) -> Result<(), InvalidField>,
) -> Result<(), InvalidField> {
    at_most(list, policies.len(), MAX_POLICIES)?;
    for (number, policy) in policies.iter().enumerate() {
        validate(policy).map_err(|invalid| invalid.below(format!("{list}[{number}]")))?;
    }
    Ok(())
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
    use serde_json::json;

    use super::*;

    #[test]
    fn docker_hub_has_one_name() {
        assert_eq!(canonical_namespace("Index.Docker.io"), "docker.io");
        assert_eq!(canonical_namespace("ghcr.io"), "ghcr.io");
    }

    fn settings(document: serde_json::Value) -> AccountSettings {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn settings_name_the_bad_member() {
        let long = "x".repeat(MAX_METADATA_VALUE_BYTES + 1);
        let service = |permissions: &str, repository: &str| {
            json!({"name": "ci", "issuer": "i", "match_claims": {"sub": "a"}, "permissions": [permissions],
                "repositories": ["a", repository]})
        };
        for (document, path) in [
            (
                json!({"rbac_policies": [{"match_repository": "(", "permissions": ["anonymous_pull"]}]}),
                "rbac_policies[0].match_repository",
            ),
            (
                json!({"rbac_policies": [
                    {"match_repository": "a", "permissions": ["anonymous_pull"]},
                    {"match_cidr": "10.0.0.0/8", "permissions": ["pull", "delete"]},
                ]}),
                "rbac_policies[1].permissions[1]",
            ),
            (
                json!({"rbac_policies": [{"permissions": ["pull"]}]}),
                "rbac_policies[0]",
            ),
            (
                json!({"tag_policies": [{"match_repository": "a", "match_tag": "("}]}),
                "tag_policies[0].match_tag",
            ),
            (
                json!({"gc_policies": [{"match_repository": ".*", "action": "delete",
                    "time_constraint": {"on": "pushed_at", "oldest": 3}}]}),
                "gc_policies[0].time_constraint.oldest",
            ),
            (
                json!({"validation": {"rule_for_manifest": "1 +"}}),
                "validation.rule_for_manifest",
            ),
            (
                json!({"validation": {"required_labels": [""]}}),
                "validation.required_labels[0]",
            ),
            (json!({"trash_days": 366}), "trash_days"),
            (json!({"metadata": {"": "x"}}), "metadata"),
            (json!({"metadata": {"x": long}}), "metadata"),
            (
                json!({"service_identities": [service("change", "b")]}),
                "service_identities[0].permissions",
            ),
            (
                json!({"service_identities": [service("pull", "(")]}),
                "service_identities[0].repositories[1]",
            ),
            (
                json!({"service_identities": [service("pull", "a"), service("pull", "b")]}),
                "service_identities[1].name",
            ),
            (
                json!({"serves_namespace": "not a host"}),
                "serves_namespace",
            ),
        ] {
            let refused = settings(document.clone()).validate().unwrap_err();
            assert_eq!(refused.path, path, "{document}: {refused}");
        }
    }

    #[test]
    fn each_list_has_an_end() {
        let public = json!({"match_repository": "a", "permissions": ["anonymous_pull"]});
        let tag = json!({"match_repository": "a", "block_push": true});
        let gc = json!({"match_repository": "a", "action": "protect"});
        for (list, policy) in [
            ("rbac_policies", public),
            ("tag_policies", tag),
            ("gc_policies", gc),
        ] {
            let many = |count: usize| settings(json!({list: vec![policy.clone(); count]}));
            assert_eq!(many(MAX_POLICIES).validate(), Ok(()));
            assert_eq!(many(MAX_POLICIES + 1).validate().unwrap_err().path, list);
        }
        let names = (0..=MAX_METADATA).map(|number| (number.to_string(), json!("")));
        let metadata: serde_json::Map<_, _> = names.collect();
        assert_eq!(
            settings(json!({"metadata": metadata}))
                .validate()
                .unwrap_err()
                .path,
            "metadata"
        );
    }

    #[test]
    fn settings_that_were_stored_before_are_still_read() {
        let stored = r#"{"rbac_policies":[{"match_repository":"a","permissions":["anonymous_pull"]},
            {"match_repository":"a","match_username":"x","permissions":["pull","push"]}],
            "allow_sparse_manifests":false,"proxy_downloads":true}"#;
        let settings: AccountSettings = serde_json::from_str(stored).unwrap();
        assert_eq!(settings.validate(), Ok(()));
        let shown = serde_json::to_value(&settings).unwrap();
        assert_eq!(
            shown["rbac_policies"][1]["permissions"],
            json!(["pull", "push"])
        );
        assert_eq!(shown["in_maintenance"], json!(false));
        assert_eq!(shown["trash_days"], json!(7));
    }
}
