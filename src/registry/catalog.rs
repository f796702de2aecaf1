//! Listing repositories: only of accounts that the caller may see, and never for the anonymous.

use std::collections::BTreeSet;

use super::{
    Registry,
    caller::Caller,
    tags::{Page, page_limit},
};
use crate::{
    db::{accounts::account_list, repos::repo_page},
    error::Result,
    model::permission::Permission,
    oci::{AccountName, FullRepoName},
};

impl Registry {
    /// Up to `n` repositories after `last`, by account and name.
    pub async fn catalog_list(
        &self,
        caller: &Caller,
        n: Option<u64>,
        last: Option<FullRepoName>,
    ) -> Result<Page<FullRepoName>> {
        let identity = self.catalog_access(caller)?;
        let accounts = self.db.read(account_list).await?;
        let mut visible = BTreeSet::new();
        let is_shown = |name: &AccountName| caller.remapped_to().is_none_or(|only| only == name);
        for account in accounts
            .into_iter()
            .filter(|account| !account.is_deleting && is_shown(&account.name))
        {
            let tenant = &account.auth_tenant_id;
            if self
                .driver_permits(Some(&identity), Permission::View, tenant)
                .await?
            {
                visible.insert(account.name);
            }
        }
        let (rows, limit) = page_limit(n);
        if limit == 0 {
            return Ok(Page::empty());
        }
        let repos = self
            .db
            .read(move |conn| repo_page(conn, &visible, last.as_ref(), rows))
            .await?;
        Ok(Page::cut(repos, limit))
    }
}
