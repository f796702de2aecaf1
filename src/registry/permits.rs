//! Whether a user may do something: what has to be looked up for the decision, which `auth/authorize.rs` makes.

use std::sync::Arc;

use super::{Registry, access::unavailable};
use crate::{
    auth::{
        authorize::{self, Asked, Caller, Decision},
        driver::{AuthDriver, Facts, Identity},
    },
    db::accounts::account_find,
    error::{Error, Result},
    model::{
        account::Account,
        pattern::{self, Pattern},
        permission::Permission,
        user::ANY_AUTH_TENANT,
    },
    oci::{AccountName, FullRepoName, RepoName},
};

impl Registry {
    /// Whether a user, or everybody, may do this in a repository. Who may do it everywhere may do it in
    /// an account that does not exist, and learns so from the 404 that follows; nobody else does.
    pub(super) async fn user_may(
        &self,
        identity: Option<&Identity>,
        name: &FullRepoName,
        asked: Asked,
    ) -> Result<bool> {
        let account = name.account.clone();
        let account = self
            .db
            .read(move |conn| account_find(conn, &account))
            .await?;
        let Some(account) = account else {
            return self
                .driver_permits(identity, asked.permission, ANY_AUTH_TENANT)
                .await;
        };
        let decision = self
            .repo_decide(identity, (&account, &name.repo), asked)
            .await?;
        Ok(decision.allowed)
    }

    /// The decision on a repository of an account, with its reason.
    pub(super) async fn repo_decide(
        &self,
        identity: Option<&Identity>,
        (account, repo): (&Account, &RepoName),
        asked: Asked,
    ) -> Result<Decision> {
        self.decide(identity, account, asked.permission, |caller| {
            authorize::repo_decision(account, repo, asked, caller)
        })
        .await
    }

    /// Whether a user may do this in every repository of an account.
    pub(super) async fn user_may_everywhere(
        &self,
        identity: Option<&Identity>,
        account: AccountName,
        asked: Asked,
    ) -> Result<bool> {
        let account = self
            .db
            .read(move |conn| account_find(conn, &account))
            .await?;
        match account {
            None => Ok(false),
            Some(account) => self.user_may_with_account(identity, &account, asked).await,
        }
    }

    /// Whether a user may do this with an account.
    pub(super) async fn user_may_with_account(
        &self,
        identity: Option<&Identity>,
        account: &Account,
        asked: Asked,
    ) -> Result<bool> {
        let decision = self
            .decide(identity, account, asked.permission, |caller| {
                authorize::account_decision(account, asked, caller)
            })
            .await?;
        Ok(decision.allowed)
    }

    /// Gathers what is known of a user for a decision on an account.
    async fn decide(
        &self,
        identity: Option<&Identity>,
        account: &Account,
        permission: Permission,
        decision: impl FnOnce(Caller<'_>) -> Decision,
    ) -> Result<Decision> {
        patterns_compile(account).await?;
        let Some(identity) = identity else {
            return Ok(decision(Caller::Anonymous));
        };
        let policy_name = identity.policy_name();
        if let Facts::Account(rights) = &identity.facts {
            let policy_name = &policy_name;
            return Ok(decision(Caller::Machine {
                policy_name,
                rights,
            }));
        }
        let tenant = &account.auth_tenant_id;
        let is_granted_by_driver = self
            .driver_permits(Some(identity), permission, tenant)
            .await?;
        Ok(decision(Caller::Person {
            policy_name: &policy_name,
            is_granted_by_driver,
            narrowed_to: identity.narrowed_to.as_ref(),
        }))
    }

    /// Whether a user may do this with all accounts of an auth tenant, those to come included. A machine has rights
    /// on its account alone.
    pub(super) async fn driver_permits(
        &self,
        identity: Option<&Identity>,
        permission: Permission,
        auth_tenant_id: &str,
    ) -> Result<bool> {
        let Some(identity) = identity else {
            return Ok(false);
        };
        let is_narrowed_away = identity
            .narrowed_to
            .as_ref()
            .is_some_and(|rest| !rest.contains(&permission));
        let Some(driver) = self.driver(&identity.driver).filter(|_| !is_narrowed_away) else {
            return Ok(false);
        };
        driver
            .permits(identity, permission, auth_tenant_id)
            .await
            .map_err(unavailable)
    }

    /// The driver of that name; drivers of several sources have a name for each, `<driver>.<source>`.
    pub(super) fn driver(&self, name: &str) -> Option<&Arc<dyn AuthDriver>> {
        let own = name.split_once('.').map_or(name, |(driver, _)| driver);
        self.drivers.iter().find(|driver| driver.name() == own)
    }
}

/// Compiles the patterns of an account's policies if they are not remembered, where no request has to wait for it.
async fn patterns_compile(account: &Account) -> Result<()> {
    let owner = &account.auth_tenant_id;
    let policies = account.settings.rbac_policies.iter();
    let missing = pattern::missing(owner, policies.flat_map(|policy| policy.patterns()));
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.into_iter().map(str::to_owned).collect();
    let owner = owner.clone();
    let compile = move || {
        for pattern in missing {
            Pattern::of(&owner, &pattern);
        }
    };
    tokio::task::spawn_blocking(compile)
        .await
        .map_err(Error::internal)
}
