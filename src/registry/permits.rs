//! Whether a user may do something: what the drivers and the account's policies say.

use std::sync::Arc;

use super::{Registry, access::unavailable};
use crate::{
    auth::{
        authorize,
        driver::{AuthDriver, Identity},
    },
    db::accounts::account_find,
    error::Result,
    model::{permission::Permission, user::ANY_AUTH_TENANT},
    oci::{AccountName, FullRepoName},
};

impl Registry {
    /// Whether a user, or everybody, may do this in a repository. Who may do it everywhere may do it in
    /// an account that does not exist, and learns so from the 404 that follows; nobody else does.
    pub(super) async fn user_may(
        &self,
        identity: Option<&Identity>,
        name: &FullRepoName,
        permission: Permission,
    ) -> Result<bool> {
        let account = name.account.clone();
        let account = self
            .db
            .read(move |conn| account_find(conn, &account))
            .await?;
        let Some(account) = account else {
            return self
                .driver_permits(identity, permission, ANY_AUTH_TENANT)
                .await;
        };
        let is_granted_by_driver = self
            .driver_permits(identity, permission, &account.auth_tenant_id)
            .await?;
        let user = identity.map(Identity::policy_name);
        let caller = authorize::Caller {
            user: user.as_deref(),
            is_granted_by_driver,
        };
        Ok(authorize::repo_allows(
            &account, &name.repo, permission, caller,
        ))
    }

    /// Whether a user may do this in every repository of an account, by a grant on its auth tenant.
    pub(super) async fn user_may_everywhere(
        &self,
        identity: Option<&Identity>,
        account: AccountName,
        permission: Permission,
    ) -> Result<bool> {
        let account = self
            .db
            .read(move |conn| account_find(conn, &account))
            .await?;
        let Some(account) = account else {
            return Ok(false);
        };
        self.driver_permits(identity, permission, &account.auth_tenant_id)
            .await
    }

    pub(super) async fn driver_permits(
        &self,
        identity: Option<&Identity>,
        permission: Permission,
        auth_tenant_id: &str,
    ) -> Result<bool> {
        let Some(identity) = identity else {
            return Ok(false);
        };
        let Some(driver) = self.driver(&identity.driver) else {
            return Ok(false);
        };
        driver
            .permits(identity, permission, auth_tenant_id)
            .await
            .map_err(unavailable)
    }

    pub(super) fn driver(&self, name: &str) -> Option<&Arc<dyn AuthDriver>> {
        self.drivers.iter().find(|driver| driver.name() == name)
    }
}
