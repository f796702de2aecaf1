//! Writing and deleting objects so that a crash leaves none that nobody knows.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use storage_drivers::{ByteStream, StorageDriver, StorageError, Tenant};
use tokio::task::JoinHandle;
use tracing::warn;
use uuid::Uuid;

use super::{Backends, Registry, heartbeat::beating, reservation::reservations_release};
use crate::{
    db::{
        Db,
        loose_objects::{
            LooseObject, loose_object_note, loose_objects_forget, loose_objects_refresh,
        },
    },
    error::Result,
    model::account::Account,
};

/// How many objects are deleted side by side.
const DELETIONS_AT_ONCE: usize = 8;

impl Registry {
    /// Writes an object that belongs to nothing yet: it is noted first, and whoever makes it belong takes
    /// the note away in the same transaction. The outer error is the database's.
    pub(super) async fn object_write(
        &self,
        account: &Account,
        object: &LooseObject,
        size: Option<u64>,
        body: ByteStream,
    ) -> Result<Result<u64, StorageError>> {
        let (name, noted, now) = (account.name.clone(), object.clone(), self.clock.now());
        self.db
            .write(move |conn| loose_object_note(conn, &name, &noted, now))
            .await?;
        self.noted_object_write(account, object, size, body).await
    }

    /// Writes an object that is noted already.
    pub(super) async fn noted_object_write(
        &self,
        account: &Account,
        object: &LooseObject,
        size: Option<u64>,
        body: ByteStream,
    ) -> Result<Result<u64, StorageError>> {
        let driver = self.backends.get(&object.storage)?;
        match driver
            .write(&account.tenant(), &object.key, size, body)
            .await
        {
            Ok(size_bytes) => Ok(Ok(size_bytes)),
            // After a failure of the backend nobody can be sure that nothing was left; the note stays.
            Err(error @ StorageError::Backend { .. }) => Ok(Err(error)),
            Err(error) => {
                let key = object.key;
                let forgotten = self
                    .db
                    .write(move |conn| loose_objects_forget(conn, &[key.id()]))
                    .await;
                if let Err(error) = forgotten {
                    warn!(%key, error = ?error, "the note of an object that was not written stays");
                }
                Ok(Err(error))
            }
        }
    }

    /// Deletes objects that stopped belonging to anything, and says how many are gone. It goes on when the caller is
    /// dropped; what cannot be deleted stays noted.
    pub(super) async fn objects_delete(
        &self,
        account: &Account,
        objects: Vec<LooseObject>,
    ) -> usize {
        self.remover(account).remove(objects).await
    }

    /// What deletes the account's objects, for who cannot wait.
    pub(super) fn remover(&self, account: &Account) -> Remover {
        Remover::new(&self.db, &self.backends, account)
    }

    /// Runs `writing` and says now and then that the objects it is about are not rubbish, however old.
    pub(super) async fn kept_fresh<T>(
        &self,
        ids: Vec<Uuid>,
        writing: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let refresh = || {
            let (ids, now) = (ids.clone(), self.clock.now());
            self.db
                .write(move |conn| loose_objects_refresh(conn, &ids, now))
        };
        beating(self.settings.moves.grace, refresh, writing).await
    }
}

/// Deletes objects of an account that belong to nothing.
#[derive(Debug, Clone)]
pub(super) struct Remover {
    db: Db,
    backends: Arc<Backends>,
    tenant: Tenant,
}

impl Remover {
    pub(super) fn new(db: &Db, backends: &Arc<Backends>, account: &Account) -> Self {
        Self {
            db: db.clone(),
            backends: Arc::clone(backends),
            tenant: account.tenant(),
        }
    }

    /// Deletes in a task of its own, and says how many are gone.
    pub(super) async fn remove(&self, objects: Vec<LooseObject>) -> usize {
        // An error here means that the task panicked or the runtime ends: the notes stay.
        self.begin(objects).await.unwrap_or(0)
    }

    /// Begins to delete, from where nobody can wait. Without a runtime, which ends then, the notes stay.
    pub(super) fn remove_in_background(&self, objects: Vec<LooseObject>) {
        if tokio::runtime::Handle::try_current().is_ok() {
            drop(self.begin(objects));
        }
    }

    fn begin(&self, objects: Vec<LooseObject>) -> JoinHandle<usize> {
        let mut work: Vec<(Arc<dyn StorageDriver>, LooseObject)> = Vec::new();
        for object in objects {
            match self.backends.get(&object.storage) {
                Ok(driver) => work.push((Arc::clone(driver), object)),
                Err(error) => {
                    warn!(key = %object.key, error = ?error, "an object stays in storage");
                }
            }
        }
        tokio::spawn(delete_all(self.db.clone(), self.tenant.clone(), work))
    }
}

/// The object's name: `Ok` if it is gone.
async fn object_delete(
    driver: Arc<dyn StorageDriver>,
    tenant: Tenant,
    object: LooseObject,
) -> Result<Uuid, Uuid> {
    let id = object.key.id();
    match driver.delete(&tenant, &object.key).await {
        Ok(()) => Ok(id),
        Err(error) => {
            warn!(key = %object.key, %error, "an object stays in storage");
            Err(id)
        }
    }
}

async fn delete_all(
    db: Db,
    tenant: Tenant,
    work: Vec<(Arc<dyn StorageDriver>, LooseObject)>,
) -> usize {
    let deletions: Vec<_> = work
        .into_iter()
        .map(|(driver, object)| object_delete(driver, tenant.clone(), object))
        .collect();
    let deleted: Vec<Result<Uuid, Uuid>> = stream::iter(deletions)
        .buffer_unordered(DELETIONS_AT_ONCE)
        .collect()
        .await;
    let stay: Vec<Uuid> = deleted.iter().filter_map(|id| id.err()).collect();
    let gone: Vec<Uuid> = deleted.into_iter().filter_map(Result::ok).collect();
    if let Some(account) = tenant.account.parse().ok().filter(|_| !stay.is_empty()) {
        // That they could not be deleted is not the tenant's fault.
        reservations_release(&db, account, stay).await;
    }
    let count = gone.len();
    if gone.is_empty() {
        return 0;
    }
    let forgotten = db
        .write(move |conn| loose_objects_forget(conn, &gone))
        .await;
    if let Err(error) = forgotten {
        warn!(error = ?error, "the notes of deleted objects stay");
    }
    count
}
