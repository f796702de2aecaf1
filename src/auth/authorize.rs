//! The decision: a pure function of the account, what is asked for, and who asks.
//!
//! Everything that has to be looked up was looked up before; a request and an explanation ask the same function. What a
//! newcomer gets wrong: what everybody may do needs no right of one's own, so it is asked first, and neither a
//! credential that was narrowed nor a policy that forbids users something takes anything of it away.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    model::{
        account::Account,
        account_rights::AccountRights,
        permission::Permission,
        rbac_policy::{PolicyPermission, RbacPolicy, Visitor},
    },
    oci::RepoName,
};

/// What is known of a caller when a decision is made.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// Nobody has logged in.
    Anonymous,
    /// A person, or a machine that a driver knows as one.
    Person {
        /// The name in the account's policies.
        policy_name: &'a str,
        /// Whether the driver gives the permission on the account's auth tenant.
        is_granted_by_driver: bool,
        /// What the credential that was used is good for, if not for everything.
        narrowed_to: Option<&'a BTreeSet<Permission>>,
    },
    /// A robot or a service identity: its own rights, which no policy adds to and policies may take from.
    Machine {
        /// The name in the account's policies.
        policy_name: &'a str,
        /// Its rights.
        rights: &'a AccountRights,
    },
}

/// What is asked for, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The permission.
    pub permission: Permission,
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
}

/// Why something is allowed or not. Policies are named by their place in the account's list, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The auth tenant's grant gives it.
    Grant,
    /// This policy gives it.
    Policy(usize),
    /// This policy takes it away.
    ForbiddenByPolicy(usize),
    /// The machine's own rights give it.
    MachineRights,
    /// The credential is not good for it.
    CredentialNarrowed,
    /// Nothing gives it.
    NothingAllowsIt,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    pub because: Reason,
}

impl Decision {
    fn allow(because: Reason) -> Self {
        Self {
            allowed: true,
            because,
        }
    }

    fn deny(because: Reason) -> Self {
        Self {
            allowed: false,
            because,
        }
    }
}

impl<'a> Caller<'a> {
    fn credential_is_good_for(&self, permission: Permission) -> bool {
        match self {
            Self::Person {
                narrowed_to: Some(rest),
                ..
            } => rest.contains(&permission),
            _ => true,
        }
    }

    fn policy_name(&self) -> Option<&'a str> {
        match self {
            Self::Anonymous => None,
            Self::Person { policy_name, .. } | Self::Machine { policy_name, .. } => {
                Some(policy_name)
            }
        }
    }
}

/// What policies say of one permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Silent,
    Given(usize),
    Forbidden(usize),
}

/// What forbids wins, whatever the order.
fn verdict(policies: &[RbacPolicy], permission: PolicyPermission, visitor: Visitor<'_>) -> Verdict {
    let forbids = |policy: &RbacPolicy| policy.forbids(permission, visitor);
    let gives = |policy: &RbacPolicy| policy.gives(permission, visitor);
    match (
        policies.iter().position(forbids),
        policies.iter().position(gives),
    ) {
        (Some(number), _) => Verdict::Forbidden(number),
        (None, Some(number)) => Verdict::Given(number),
        (None, None) => Verdict::Silent,
    }
}

/// Whether the caller may do this in a repository of the account.
pub fn repo_decision(
    account: &Account,
    repo: &RepoName,
    asked: Asked,
    caller: Caller<'_>,
) -> Decision {
    let policies = &account.settings.rbac_policies;
    let visitor = Visitor {
        owner: &account.auth_tenant_id,
        repo: Some(repo),
        user: caller.policy_name(),
        client: asked.client,
    };
    let everybody = if asked.permission == Permission::Pull {
        let anybody = Visitor {
            user: None,
            ..visitor
        };
        verdict(policies, PolicyPermission::AnonymousPull, anybody)
    } else {
        Verdict::Silent
    };
    if let Verdict::Given(number) = everybody {
        return Decision::allow(Reason::Policy(number));
    }
    let own = match caller {
        Caller::Anonymous => Decision::deny(Reason::NothingAllowsIt),
        _ => own_decision(account, repo, (asked.permission, visitor), caller),
    };
    match (own.because, everybody) {
        (Reason::NothingAllowsIt, Verdict::Forbidden(number)) => {
            Decision::deny(Reason::ForbiddenByPolicy(number))
        }
        _ => own,
    }
}

/// The same for somebody with a name, beside what everybody may do.
fn own_decision(
    account: &Account,
    repo: &RepoName,
    (permission, visitor): (Permission, Visitor<'_>),
    caller: Caller<'_>,
) -> Decision {
    if !caller.credential_is_good_for(permission) {
        return Decision::deny(Reason::CredentialNarrowed);
    }
    let policies = &account.settings.rbac_policies;
    let verdict = PolicyPermission::for_users(permission)
        .map_or(Verdict::Silent, |named| verdict(policies, named, visitor));
    match (verdict, caller) {
        (Verdict::Forbidden(number), _) => Decision::deny(Reason::ForbiddenByPolicy(number)),
        (_, Caller::Machine { rights, .. }) if rights.allows(permission, account, repo) => {
            Decision::allow(Reason::MachineRights)
        }
        (
            _,
            Caller::Person {
                is_granted_by_driver: true,
                ..
            },
        ) => Decision::allow(Reason::Grant),
        (Verdict::Given(number), Caller::Person { .. }) => Decision::allow(Reason::Policy(number)),
        _ => Decision::deny(Reason::NothingAllowsIt),
    }
}

/// Whether the caller may do this in every repository of the account, and with the account itself. One policy that
/// forbids it in some repository is enough for a no.
pub fn account_decision(account: &Account, asked: Asked, caller: Caller<'_>) -> Decision {
    let visitor = Visitor {
        owner: &account.auth_tenant_id,
        repo: None,
        user: caller.policy_name(),
        client: asked.client,
    };
    if !caller.credential_is_good_for(asked.permission) {
        return Decision::deny(Reason::CredentialNarrowed);
    }
    let forbidden = PolicyPermission::for_users(asked.permission).and_then(|named| {
        let mut policies = account.settings.rbac_policies.iter();
        policies.position(|policy| policy.forbids(named, visitor))
    });
    match (forbidden, caller) {
        (Some(number), Caller::Person { .. } | Caller::Machine { .. }) => {
            Decision::deny(Reason::ForbiddenByPolicy(number))
        }
        (
            None,
            Caller::Person {
                is_granted_by_driver: true,
                ..
            },
        ) => Decision::allow(Reason::Grant),
        (None, Caller::Machine { rights, .. })
            if rights.allows_everywhere(asked.permission, &account.name) =>
        {
            Decision::allow(Reason::MachineRights)
        }
        _ => Decision::deny(Reason::NothingAllowsIt),
    }
}

#[cfg(test)]
mod tests;
