//! Whom an account's container belongs to: an object called [`MARKER`] says so.
//!
//! A container is ours if the marker is in it, and never because of its name: one without is not adopted. The
//! marker is written conditionally, so that of two servers that prepare an account one comes second and reads
//! what the first has written.
//!
//! What a newcomer will get wrong: the steps must not be left half-way, because a bucket without a marker is
//! nobody's for ever. So they run in tasks of their own, which do not end when the client hangs up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use opendal::Operator;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::bucket::Created;
use super::failure::{At, Failure};
use super::list::{self, MARKER};
use super::names::Container;
use super::server::Server;
use crate::{StorageError, StorageResult, Tenant};

/// A marker is a line; whatever is longer is none.
const MAX_MARKER_BYTES: usize = 4096;
/// How long a marker is believed without looking again.
const BELIEVED_FOR: Duration = Duration::from_secs(30);
/// How many accounts are remembered.
const REMEMBERED_ACCOUNTS: usize = 10_000;
/// How often a marker is looked for that another server is about to write.
const LOOKS: u32 = 5;

/// What the marker says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    account: String,
    auth_tenant_id: String,
}

/// Prepares and releases accounts, and knows whose they are.
pub(super) struct Owners {
    server: Arc<Server>,
    known: Cache<String, (String, Instant)>,
}

/// An account that is being asked about.
struct Account {
    container: Container,
    operator: Operator,
    tenant: Tenant,
}

impl Account {
    fn not_ours<T>(&self) -> StorageResult<T> {
        Err(StorageError::NotOurs {
            place: self.container.place(),
        })
    }

    fn wrong_tenant(&self) -> StorageError {
        StorageError::WrongTenant {
            account: self.tenant.account.clone(),
        }
    }

    /// The auth tenant that the container belongs to, if there is a marker in it. Errors: `NotOurs`.
    async fn owner(&self) -> StorageResult<Option<String>> {
        match self.marker().await {
            Ok(None) => self.not_ours(),
            Ok(Some(marker)) if marker.account == self.tenant.account => {
                Ok(Some(marker.auth_tenant_id))
            }
            Ok(Some(_)) => self.not_ours(),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure.at(&self.container.bucket)),
        }
    }

    /// The marker; `None` if what is there is not a marker.
    async fn marker(&self) -> Result<Option<Marker>, Failure> {
        let mut stream = self.operator.reader(MARKER).await?.into_stream(..).await?;
        let mut text = Vec::new();
        while let Some(piece) = stream.try_next().await? {
            text.extend_from_slice(&piece.to_bytes());
            if text.len() > MAX_MARKER_BYTES {
                return Ok(None);
            }
        }
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Checks a marker that is there. Errors: `WrongTenant`.
    fn owner_check(&self, owner: &str) -> StorageResult<()> {
        if owner == self.tenant.auth_tenant_id {
            Ok(())
        } else {
            Err(self.wrong_tenant())
        }
    }

    /// Writes the marker, unless there is one: then that one decides.
    async fn mark(&self, server: &Server) -> StorageResult<()> {
        let marker = Marker {
            account: self.tenant.account.clone(),
            auth_tenant_id: self.tenant.auth_tenant_id.clone(),
        };
        let text = serde_json::to_vec(&marker).map_err(StorageError::permanent)?;
        let written = self
            .operator
            .write_options(MARKER, text, server.write_options())
            .await
            .map_err(Failure::from);
        match written {
            Err(failure) if !failure.is_conflict() => {
                return Err(failure.at(&self.container.bucket));
            }
            _ => {}
        }
        // Also after a success: without conditional writes the last of two writers has the account.
        match self.owner().await? {
            Some(owner) => self.owner_check(&owner),
            None => Err(StorageError::temporary(
                "the marker of an account vanished while it was prepared",
            )),
        }
    }

    async fn is_empty(&self) -> StorageResult<bool> {
        list::is_empty(&self.operator)
            .await
            .at(&self.container.bucket)
    }
}

impl Owners {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            known: Cache::new(REMEMBERED_ACCOUNTS),
        }
    }

    fn account(&self, tenant: &Tenant) -> StorageResult<Account> {
        let container = self.server.layout.container(tenant)?;
        Ok(Account {
            operator: self.server.operator(&container)?,
            container,
            tenant: tenant.clone(),
        })
    }

    fn remember(&self, tenant: &Tenant, owner: String) {
        self.known
            .insert(tenant.account.clone(), (owner, Instant::now()));
    }

    /// Forgets an account, because its container has turned out to be gone.
    pub(super) fn forget(&self, tenant: &Tenant) {
        self.known.remove(&tenant.account);
    }

    /// Whether the tenant may write to its account. Errors: `NotPrepared`, `WrongTenant`, `NotOurs`.
    pub(super) async fn check(&self, tenant: &Tenant) -> StorageResult<()> {
        if let Some((owner, since)) = self.known.get(&tenant.account)
            && owner == tenant.auth_tenant_id
            && since.elapsed() < BELIEVED_FOR
        {
            return Ok(());
        }
        let account = self.account(tenant)?;
        let Some(owner) = account.owner().await? else {
            self.forget(tenant);
            return Err(StorageError::NotPrepared {
                account: tenant.account.clone(),
            });
        };
        let outcome = account.owner_check(&owner);
        self.remember(tenant, owner);
        outcome
    }

    /// As [`crate::StorageDriver::prepare_account`].
    pub(super) async fn prepare(&self, tenant: &Tenant) -> StorageResult<()> {
        let account = self.account(tenant)?;
        self.forget(tenant);
        match account.owner().await {
            Ok(Some(owner)) => account.owner_check(&owner),
            Ok(None) if self.server.layout.is_shared() => self.occupy_existing(&account).await,
            Ok(None) => self.occupy(&account).await,
            Err(error) => self.refused_look(&account, error).await,
        }?;
        self.remember(tenant, tenant.auth_tenant_id.clone());
        Ok(())
    }

    /// The look at the marker was refused. If that is because the bucket is somebody else's, says so.
    async fn refused_look(&self, account: &Account, error: StorageError) -> StorageResult<()> {
        let bucket = &account.container.bucket;
        let may_ask = self.server.config.create_buckets && !self.server.layout.is_shared();
        let is_refused = |f: Failure| f.status == Some(403) && !f.is_bad_credential();
        if !may_ask || !account.marker().await.is_err_and(is_refused) {
            return Err(error);
        }
        match self.server.bucket_create(bucket).await {
            Ok(Created::Foreign) => account.not_ours(),
            _ => Err(error),
        }
    }

    /// Makes a bucket, or takes one that somebody has made for us.
    async fn occupy(&self, account: &Account) -> StorageResult<()> {
        let bucket = &account.container.bucket;
        if !self.server.config.create_buckets {
            return self.occupy_existing(account).await;
        }
        if self.server.bucket_exists(bucket).await.at(bucket)? {
            return self.another_prepares(account).await;
        }
        match self.server.bucket_create(bucket).await.at(bucket)? {
            Created::Foreign => account.not_ours(),
            Created::Known => self.another_prepares(account).await,
            Created::New => {
                let outcome = account.mark(&self.server).await;
                if matches!(outcome, Err(StorageError::Backend { .. })) {
                    self.undo(account).await;
                }
                outcome
            }
        }
    }

    /// Removes a new bucket that could not be marked, unless it was: the answer may have been lost, or another
    /// server was faster.
    async fn undo(&self, account: &Account) {
        let bucket = &account.container.bucket;
        let removed = async {
            if account.owner().await?.is_none() && account.is_empty().await? {
                self.server.bucket_delete(bucket).await.at(bucket)?;
            }
            StorageResult::Ok(())
        };
        if let Err(error) = removed.await {
            tracing::warn!(bucket, %error, "could not remove a new bucket that could not be marked; remove it by hand if it is empty");
        }
    }

    /// There is a bucket without a marker. Perhaps another server has just made it.
    async fn another_prepares(&self, account: &Account) -> StorageResult<()> {
        for look in 1..=LOOKS {
            if let Some(owner) = account.owner().await? {
                return account.owner_check(&owner);
            }
            if !account.is_empty().await? {
                break;
            }
            sleep(Duration::from_millis(50) * look).await;
        }
        account.not_ours()
    }

    /// Takes a bucket or folder that somebody else makes, if it is empty.
    async fn occupy_existing(&self, account: &Account) -> StorageResult<()> {
        if account.is_empty().await? {
            return account.mark(&self.server).await;
        }
        match account.owner().await? {
            Some(owner) => account.owner_check(&owner),
            None => account.not_ours(),
        }
    }

    /// As [`crate::StorageDriver::release_account`].
    pub(super) async fn release(&self, tenant: &Tenant) -> StorageResult<()> {
        let account = self.account(tenant)?;
        let bucket = &account.container.bucket;
        self.forget(tenant);
        let Some(owner) = account.owner().await? else {
            return Ok(());
        };
        account.owner_check(&owner)?;
        let not_empty = StorageError::NotEmpty {
            account: tenant.account.clone(),
        };
        if !account.is_empty().await? {
            return Err(not_empty);
        }
        self.uploads_abort(&account.container).await.at(bucket)?;
        account.operator.delete(MARKER).await.at(bucket)?;
        let removed = self.removed(&account).await;
        if matches!(removed, Ok(true)) {
            return Ok(());
        }
        // Without its marker the bucket would be nobody's.
        account.mark(&self.server).await?;
        removed.and(Err(not_empty))
    }

    /// Removes what is left of a container that was just seen empty; `false` if it is not empty after all.
    async fn removed(&self, account: &Account) -> StorageResult<bool> {
        // A write that was let in before may have ended meanwhile, and not every server refuses to remove a
        // bucket that has something in it.
        if !account.is_empty().await? {
            return Ok(false);
        }
        if self.server.layout.is_shared() || !self.server.config.create_buckets {
            return Ok(true);
        }
        let bucket = &account.container.bucket;
        self.server.bucket_delete(bucket).await.at(bucket)
    }

    async fn uploads_abort(&self, container: &Container) -> Result<(), Failure> {
        let mut before = Vec::new();
        loop {
            let found = self
                .server
                .uploads(&container.bucket, &container.folder)
                .await?;
            // Those that stay are not worth a release that never ends.
            if found.is_empty() || found == before {
                return Ok(());
            }
            for upload in &found {
                self.server.upload_abort(&container.bucket, upload).await?;
            }
            before = found;
        }
    }
}
