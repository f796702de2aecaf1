//! Writing and deleting objects so that a crash leaves none that nobody knows.

use std::sync::Arc;

use storage_drivers::{ByteStream, StorageDriver, StorageError, Tenant};
use tracing::warn;

use super::Registry;
use crate::{
    db::{
        Db,
        loose_objects::{LooseObject, loose_object_forget, loose_object_note},
    },
    error::Result,
    model::account::Account,
};

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
                    .write(move |conn| loose_object_forget(conn, key.id()))
                    .await;
                if let Err(error) = forgotten {
                    warn!(%key, error = ?error, "the note of an object that was not written stays");
                }
                Ok(Err(error))
            }
        }
    }

    /// Deletes objects that stopped belonging to anything. It goes on when the caller is dropped; what
    /// cannot be deleted stays noted.
    pub(super) async fn objects_delete(&self, account: &Account, objects: Vec<LooseObject>) {
        let mut work: Vec<(Arc<dyn StorageDriver>, LooseObject)> = Vec::new();
        for object in objects {
            match self.backends.get(&object.storage) {
                Ok(driver) => work.push((Arc::clone(driver), object)),
                Err(error) => {
                    warn!(key = %object.key, error = ?error, "an object stays in storage")
                }
            }
        }
        let (db, tenant) = (self.db.clone(), account.tenant());
        // An error here means that the task panicked or the runtime ends: the notes stay.
        let _ = tokio::spawn(delete_all(db, tenant, work)).await;
    }
}

async fn delete_all(db: Db, tenant: Tenant, work: Vec<(Arc<dyn StorageDriver>, LooseObject)>) {
    let mut gone = Vec::with_capacity(work.len());
    for (driver, object) in work {
        match driver.delete(&tenant, &object.key).await {
            Ok(()) => gone.push(object.key.id()),
            Err(error) => warn!(key = %object.key, %error, "an object stays in storage"),
        }
    }
    if gone.is_empty() {
        return;
    }
    let forgotten = db
        .write(move |conn| {
            for id in gone {
                loose_object_forget(conn, id)?;
            }
            Ok(())
        })
        .await;
    if let Err(error) = forgotten {
        warn!(error = ?error, "the notes of deleted objects stay");
    }
}
