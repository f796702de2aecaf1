//! Explaining a decision: may this user do that, and by which rule.
//!
//! The decision is the one of requests (`auth/authorize.rs`); here is only found out who is meant. What a newcomer gets
//! wrong: the rights of users of an identity service are known when they log in and not before, so that the answer may be
//! neither yes nor no. Whether a user exists is never told.

use std::net::IpAddr;

use super::{Registry, access::AccountAccess, caller::Actor};
use crate::{
    auth::{
        authorize::{self, Asked, Caller, Decision, Reason},
        driver::{Facts, Identity, KEYSTONE},
        static_users,
    },
    db::robots::robot_find,
    error::{Error, Result},
    model::{
        account::Account,
        permission::Permission,
        rbac_policy::RbacPolicy,
        robot::{ROBOT, login_name, login_parts},
        service_identity::SERVICE,
    },
    oci::{AccountName, RepoName},
};

/// What is to be explained.
#[derive(Debug)]
pub struct Question {
    /// The user as policies know them; empty for the anonymous.
    pub user: String,
    /// The repository inside the account.
    pub repo: RepoName,
    /// Pull, push or delete.
    pub permission: Permission,
    /// From where; from where the question comes if it is not said.
    pub client: Option<IpAddr>,
}

/// Whether the auth tenant's grant gives something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantKnown {
    /// It does.
    Given,
    /// It does not.
    NotGiven,
    /// Only the login of the user would tell.
    Unknown,
    /// There are none for the anonymous and for machines.
    NotAsked,
}

/// The answer.
#[derive(Debug)]
pub struct Explanation {
    /// Whether it may be done; `None` if that depends on a grant that is not known.
    pub allowed: Option<bool>,
    /// Why.
    pub because: &'static str,
    /// The policy that decided, by its place in the account's list from 0.
    pub rule: Option<(usize, RbacPolicy)>,
    /// What is known of the grant.
    pub grant: GrantKnown,
    /// The address that was assumed.
    pub client: Option<IpAddr>,
}

/// Who is meant.
enum Subject {
    Anonymous,
    /// Somebody whose rights can be looked up.
    Known(Identity),
    /// Somebody whose grants cannot, by the name in policies.
    Person(String),
    /// A robot that has ended or is disabled.
    Ended,
}

impl Registry {
    /// Whether a user may do something in a repository of an account, and why. About oneself and the anonymous everybody
    /// may ask who sees the account, about others who may change it.
    pub async fn explain(
        &self,
        actor: &Actor,
        account: &AccountName,
        question: Question,
    ) -> Result<Explanation> {
        let user = question.user.as_str();
        let is_oneself = user == actor.policy_name() || user == actor.to_string();
        let needed = if user.is_empty() || is_oneself {
            Permission::View
        } else {
            Permission::Change
        };
        let AccountAccess { account } = self.account_access(actor, account, needed).await?;
        let asked = Asked {
            permission: question.permission,
            client: question.client.or(actor.origin().client),
        };
        let subject = match user {
            "" => Subject::Anonymous,
            _ if is_oneself => Subject::Known(actor.identity().clone()),
            other => self.subject(&account, other).await?,
        };
        let place = (&account, &question.repo);
        match subject {
            Subject::Anonymous => {
                let decision = self.repo_decide(None, place, asked).await?;
                Ok(explanation(&account, decision, GrantKnown::NotAsked, asked))
            }
            Subject::Known(identity) => {
                let decision = self.repo_decide(Some(&identity), place, asked).await?;
                let grant = self.grant_known(&identity, &account, asked).await?;
                Ok(explanation(&account, decision, grant, asked))
            }
            Subject::Person(name) => Ok(without_grant(place, asked, &name)),
            Subject::Ended => Ok(Explanation {
                allowed: Some(false),
                because: "cannot_log_in",
                rule: None,
                grant: GrantKnown::NotAsked,
                client: asked.client,
            }),
        }
    }

    /// Who is called so in policies.
    async fn subject(&self, account: &Account, name: &str) -> Result<Subject> {
        match name.split_once(':') {
            Some((ROBOT, login)) => self.machine(account, login, Some(ROBOT)).await,
            Some((SERVICE, login)) => self.machine(account, login, Some(SERVICE)).await,
            Some((static_users::NAME, user)) if self.driver(static_users::NAME).is_some() => {
                let identity = Identity::new(static_users::NAME, user, Facts::Stored);
                Ok(Subject::Known(identity))
            }
            Some((driver, _)) if driver != KEYSTONE && self.driver(driver).is_some() => {
                Ok(Subject::Person(name.to_owned()))
            }
            _ if name.contains('/') && name.contains('@') => Ok(Subject::Person(name.to_owned())),
            None if name.contains('+') => self.machine(account, name, None).await,
            _ => Err(Error::field(
                "user",
                "it is not a name as policies know it: static:<name>, oidc.<issuer>:<name>, \
                 <user>@<domain>/<project>@<domain>, robot:<account>+<name>, service:<account>+<name>, or nothing for the \
                 anonymous",
            )),
        }
    }

    /// A robot or a service identity of the account.
    async fn machine(&self, account: &Account, login: &str, kind: Option<&str>) -> Result<Subject> {
        let unknown = || {
            let message = format!(
                "account {} has no such robot or service identity",
                account.name
            );
            Error::field("user", message)
        };
        let Some((owner, name)) = login_parts(login).filter(|(owner, _)| *owner == account.name)
        else {
            return Err(unknown());
        };
        if kind != Some(SERVICE) {
            let name = name.to_owned();
            let robot = self.db.read(move |conn| robot_find(conn, &owner, &name));
            if let Some(robot) = robot.await? {
                let is_active = robot.is_active(self.clock.now());
                return Ok(if is_active {
                    Subject::Known(robot.identity())
                } else {
                    Subject::Ended
                });
            }
        }
        let services = account.settings.service_identities.iter();
        let service = services
            .filter(|_| kind != Some(ROBOT))
            .find(|service| service.name == name)
            .ok_or_else(unknown)?;
        let login = login_name(&account.name, name);
        let rights = Facts::Account(service.rights(&account.name));
        Ok(Subject::Known(Identity::new(SERVICE, login, rights)))
    }

    async fn grant_known(
        &self,
        identity: &Identity,
        account: &Account,
        asked: Asked,
    ) -> Result<GrantKnown> {
        if matches!(identity.facts, Facts::Account(_)) {
            return Ok(GrantKnown::NotAsked);
        }
        let tenant = &account.auth_tenant_id;
        let is_given = self
            .driver_permits(Some(identity), asked.permission, tenant)
            .await?;
        Ok(if is_given {
            GrantKnown::Given
        } else {
            GrantKnown::NotGiven
        })
    }
}

/// What is sure whatever the grant is.
fn without_grant(
    (account, repo): (&Account, &RepoName),
    asked: Asked,
    policy_name: &str,
) -> Explanation {
    let decide = |is_granted_by_driver| {
        let caller = Caller::Person {
            policy_name,
            is_granted_by_driver,
            narrowed_to: None,
        };
        authorize::repo_decision(account, repo, asked, caller)
    };
    let (without, with) = (decide(false), decide(true));
    if without.allowed == with.allowed {
        return explanation(account, without, GrantKnown::Unknown, asked);
    }
    Explanation {
        allowed: None,
        because: "grant_unknown",
        rule: None,
        grant: GrantKnown::Unknown,
        client: asked.client,
    }
}

fn explanation(
    account: &Account,
    decision: Decision,
    grant: GrantKnown,
    asked: Asked,
) -> Explanation {
    let (because, number) = match decision.because {
        Reason::Grant => ("grant", None),
        Reason::Policy(number) => ("policy", Some(number)),
        Reason::ForbiddenByPolicy(number) => ("forbidden_by_policy", Some(number)),
        Reason::MachineRights => ("machine_rights", None),
        Reason::CredentialNarrowed => ("credential_narrowed", None),
        Reason::NothingAllowsIt => ("nothing_allows_it", None),
    };
    let policy = |number: usize| {
        let policy = account.settings.rbac_policies.get(number);
        policy.map(|policy| (number, policy.clone()))
    };
    Explanation {
        allowed: Some(decision.allowed),
        because,
        rule: number.and_then(policy),
        grant,
        client: asked.client,
    }
}
