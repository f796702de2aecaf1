//! Explaining why a blob is there: what keeps it, in which repositories of its account.

use super::{
    Registry,
    tags::{Page, page_marker},
};
use crate::{
    auth::driver::Identity,
    db::blob_needs::blob_needs,
    error::{Code, Error, Result},
    model::{
        blob_needs::{BlobFacts, BlobMount},
        listing::PageOrder,
        permission::Permission,
    },
    oci::{AccountName, Digest},
};

/// How many repositories a page has at most: each needs a few queries.
const MAX_REPOSITORIES: u64 = 100;

impl Registry {
    /// A blob of an account, with a page of the repositories that have it by name. Blobs of other accounts are not told.
    pub async fn blob_explain(
        &self,
        identity: &Identity,
        account: &AccountName,
        digest: &Digest,
        page: PageOrder,
    ) -> Result<(BlobFacts, Page<BlobMount>)> {
        self.account_access(identity, account, Permission::View)
            .await?;
        let limit = page.limit.unwrap_or(MAX_REPOSITORIES).min(MAX_REPOSITORIES) as usize;
        let (after, now) = (page_marker(page.last), self.clock.now());
        let (name, wanted) = (account.clone(), digest.clone());
        let found = self
            .db
            .read(move |conn| blob_needs(conn, (&name, &wanted), (&after, limit as i64 + 1), now));
        let (facts, mounts) = found.await?.ok_or_else(|| {
            let message = format!("account {account} has no blob {digest}");
            Error::with_message(Code::NotFound, message)
        })?;
        Ok((facts, Page::cut(mounts, limit)))
    }
}
