//! Mounting: a blob of one repository becomes reachable through another without being sent again.

use super::{
    Registry,
    access::{Push, RepoAccess},
};
use crate::{
    db::{
        audit::audit_append,
        blobs::{blob_mount_from, blob_repos},
        repos::repo_ensure,
    },
    error::Result,
    model::audit::AuditAction,
    oci::{Digest, FullRepoName, RepoName},
};

/// How many repositories that have the blob are looked at when the client names none.
const MAX_CANDIDATES: usize = 32;

impl Registry {
    /// Mounts the blob `digest` of `from`, or of any repository of the account that the caller may read.
    /// `false` if there is none such: the client then sends the blob. That is also the answer when the
    /// caller may not read `from`, so nobody learns what lies there.
    pub async fn blob_mount(
        &self,
        access: &RepoAccess<Push>,
        digest: &Digest,
        from: Option<FullRepoName>,
    ) -> Result<bool> {
        let candidates = match from {
            Some(from) => vec![from],
            None => self.mount_candidates(access, digest).await?,
        };
        for from in candidates {
            // Content never crosses from one account's storage into another's.
            if from.account != access.name().account
                || !self.may_also_pull(access.caller(), &from).await?
            {
                continue;
            }
            let (name, digest) = (access.name().clone(), digest.clone());
            let times = self.blob_times();
            let (now, keep_until) = (times.now, times.keep_until);
            let event = self.repo_event(access, AuditAction::BlobMount).of(&digest);
            let event = event.named(from.to_string());
            let is_mounted = self
                .db
                .write(move |conn| {
                    let target = repo_ensure(conn, &name, now)?;
                    target.account.settings.refuse_in_maintenance()?;
                    let is_mounted = blob_mount_from(conn, &from, &target, (&digest, keep_until))?;
                    if is_mounted {
                        audit_append(conn, &event.on(&target.account))?;
                    }
                    Ok(is_mounted)
                })
                .await?;
            if is_mounted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn mount_candidates(
        &self,
        access: &RepoAccess<Push>,
        digest: &Digest,
    ) -> Result<Vec<FullRepoName>> {
        let (account, digest) = (access.name().account.clone(), digest.clone());
        let repos = {
            let account = account.clone();
            self.db
                .read(move |conn| blob_repos(conn, &account, &digest))
                .await?
        };
        let names = repos
            .iter()
            .filter_map(|repo| repo.parse::<RepoName>().ok());
        let mut names: Vec<_> = names
            .filter_map(|repo| FullRepoName::new(account.clone(), repo).ok())
            .collect();
        // The caller can surely read what it is about to write to.
        names.sort_by_key(|name| name != access.name());
        names.truncate(MAX_CANDIDATES);
        Ok(names)
    }
}
