//! RBAC policies: what an account gives and forbids to users, or everybody, in some of its repositories.
//!
//! A policy knows whom it meets and what it says then; who wins is decided in `auth/authorize.rs`. What a newcomer
//! gets wrong: an address that is not known lies in no network for what is given, and in every network for what is
//! forbidden.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    invalid_field::InvalidField,
    pattern::{Pattern, check_field},
    permission::Permission,
};
use crate::oci::RepoName;

/// What a policy may give or forbid.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PolicyPermission {
    /// Pull without logging in.
    AnonymousPull,
    /// Fetch what is not there yet from the registry that the account replicates, without logging in. It has no
    /// effect in an account that replicates none.
    AnonymousFirstPull,
    /// Pull by the users that match.
    Pull,
    /// Push by the users that match.
    Push,
    /// Delete by the users that match.
    Delete,
}

impl PolicyPermission {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::AnonymousPull,
        Self::AnonymousFirstPull,
        Self::Pull,
        Self::Push,
        Self::Delete,
    ];

    /// The name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnonymousPull => "anonymous_pull",
            Self::AnonymousFirstPull => "anonymous_first_pull",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }

    /// What a policy must name to give or forbid a permission to users.
    pub fn for_users(permission: Permission) -> Option<Self> {
        match permission {
            Permission::Pull => Some(Self::Pull),
            Permission::Push => Some(Self::Push),
            Permission::Delete => Some(Self::Delete),
            Permission::View
            | Permission::Change
            | Permission::QuotaView
            | Permission::QuotaChange => None,
        }
    }

    fn is_for_everybody(self) -> bool {
        matches!(self, Self::AnonymousPull | Self::AnonymousFirstPull)
    }
}

/// One rule of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RbacPolicy {
    /// The network that the request must come from.
    #[serde(deserialize_with = "network", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub match_cidr: Option<IpNet>,
    /// A regular expression over the repository's name inside the account; it must match the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_repository: Option<String>,
    /// A regular expression over the user's name, such as `static:ann` or, from Keystone,
    /// `user@domain/project@domain`; it must match the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_username: Option<String>,
    /// What is given.
    pub permissions: Vec<PolicyPermission>,
    /// What is taken away, whoever gives it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbidden_permissions: Vec<PolicyPermission>,
}

/// Who asks for what, as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct Visitor<'a> {
    /// The auth tenant whose policies are asked.
    pub owner: &'a str,
    /// The repository; `None` asks whether the policy meets the visitor in any.
    pub repo: Option<&'a RepoName>,
    /// The user's name; `None` for the anonymous.
    pub user: Option<&'a str>,
    /// The address.
    pub client: Option<IpAddr>,
}

impl RbacPolicy {
    /// Says what is wrong with the rule, if anything is.
    pub fn validate(&self) -> Result<(), InvalidField> {
        if self.permissions.is_empty() && self.forbidden_permissions.is_empty() {
            let reason = "a policy must give or forbid at least one permission";
            return Err(InvalidField::new("permissions", reason));
        }
        if self.match_cidr.is_none()
            && self.match_repository.is_none()
            && self.match_username.is_none()
        {
            let reason =
                "a policy needs one of match_cidr, match_repository and match_username at least";
            return Err(InvalidField::new("", reason));
        }
        self.match_cidr.map_or(Ok(()), check_network)?;
        for (name, pattern) in [
            ("match_repository", &self.match_repository),
            ("match_username", &self.match_username),
        ] {
            pattern
                .as_deref()
                .map_or(Ok(()), |p| check_field(name, p))?;
        }
        refuse_repeated("permissions", &self.permissions)?;
        refuse_repeated("forbidden_permissions", &self.forbidden_permissions)?;
        self.check_permissions()
    }

    fn check_permissions(&self) -> Result<(), InvalidField> {
        for (number, permission) in self.forbidden_permissions.iter().enumerate() {
            if self.permissions.contains(permission) {
                let reason = format!("{} is given by the same policy", permission.as_str());
                let path = format!("forbidden_permissions[{number}]");
                return Err(InvalidField::new(path, reason));
            }
        }
        let all = || self.permissions.iter().chain(&self.forbidden_permissions);
        if self.match_username.is_some()
            && let Some(public) = all().find(|permission| permission.is_for_everybody())
        {
            let reason = format!(
                "{} is about those who have no name: leave match_username out",
                public.as_str()
            );
            return Err(InvalidField::new("match_username", reason));
        }
        for (number, permission) in self.permissions.iter().enumerate() {
            let reason = match permission {
                PolicyPermission::Pull | PolicyPermission::Push
                    if self.match_username.is_none() && self.match_cidr.is_none() =>
                {
                    "needs match_username or match_cidr; \".*\" is every user"
                }
                PolicyPermission::Delete if self.match_username.is_none() => {
                    "needs match_username; \".*\" is every user"
                }
                PolicyPermission::AnonymousFirstPull
                    if !self.permissions.contains(&PolicyPermission::AnonymousPull)
                        && !self.permissions.contains(&PolicyPermission::Pull) =>
                {
                    "needs anonymous_pull or pull beside it"
                }
                _ => continue,
            };
            let path = format!("permissions[{number}]");
            let reason = format!("{} {reason}", permission.as_str());
            return Err(InvalidField::new(path, reason));
        }
        Ok(())
    }

    /// Whether this rule gives the permission to the visitor.
    pub fn gives(&self, permission: PolicyPermission, visitor: Visitor<'_>) -> bool {
        self.permissions.contains(&permission) && self.meets(visitor, false)
    }

    /// Whether this rule takes the permission away from the visitor.
    pub fn forbids(&self, permission: PolicyPermission, visitor: Visitor<'_>) -> bool {
        self.forbidden_permissions.contains(&permission) && self.meets(visitor, true)
    }

    fn meets(&self, visitor: Visitor<'_>, unknown_address: bool) -> bool {
        let is_there = match (self.match_cidr, visitor.client) {
            (None, _) => true,
            (Some(_), None) => unknown_address,
            (Some(network), Some(address)) => network.contains(&address.to_canonical()),
        };
        is_there
            && match (&self.match_repository, visitor.repo) {
                (None, _) | (Some(_), None) => true,
                (Some(pattern), Some(repo)) => {
                    Pattern::of(visitor.owner, pattern).matches(repo.as_str())
                }
            }
            && match (&self.match_username, visitor.user) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(pattern), Some(user)) => Pattern::of(visitor.owner, pattern).matches(user),
            }
    }

    /// The regular expressions of the rule.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        let patterns = [&self.match_repository, &self.match_username];
        patterns
            .into_iter()
            .filter_map(|pattern| pattern.as_deref())
    }

    /// Whether both rules meet the same visitors, by what they say and not by what it means.
    pub fn matches_like(&self, other: &Self) -> bool {
        self.match_cidr == other.match_cidr
            && self.match_repository == other.match_repository
            && self.match_username == other.match_username
    }
}

fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNet>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        D::Error::custom(format_args!(
            "{text:?} is not a network such as 10.0.0.0/8 or 2001:db8::/32"
        ))
    })
}

fn check_network(network: IpNet) -> Result<(), InvalidField> {
    if network.prefix_len() == 0 {
        let reason = format!("{network} is every address: leave match_cidr out instead");
        return Err(InvalidField::new("match_cidr", reason));
    }
    if network.trunc() != network {
        let reason = format!(
            "{network} has bits behind the prefix; {} is the network",
            network.trunc()
        );
        return Err(InvalidField::new("match_cidr", reason));
    }
    Ok(())
}

fn refuse_repeated(list: &str, permissions: &[PolicyPermission]) -> Result<(), InvalidField> {
    for (number, permission) in permissions.iter().enumerate() {
        if permissions[..number].contains(permission) {
            let reason = format!("{} is there twice", permission.as_str());
            return Err(InvalidField::new(format!("{list}[{number}]"), reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
