//! `kontor check`: whether the tables agree with one another and with what lies in storage.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use storage_drivers::{ObjectKey, StorageError};

use super::Registry;
use crate::{
    db::{
        accounts::account_find,
        consistency::{account_names, blob_chunks_of, blob_page, expected_objects, findings},
        containers::container_list,
        loose_objects::loose_object_list,
    },
    error::{Error, Result},
    model::account::Account,
    oci::{Digest, Hasher},
};

/// Rows that are read at a time.
const PAGE: i64 = 1000;

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// Objects that exist and should.
    pub objects: u64,
    /// Objects that belong to nothing and are noted as such: writes that were cut off.
    pub loose_objects: u64,
    /// Objects that lie in storage and that nobody knows.
    pub unknown_objects: u64,
    /// Blobs whose digest was computed again.
    pub digests: u64,
}

impl Registry {
    /// Checks the database, and that every object it names is in storage with its length; with
    /// `digests` also that every blob still has its digest. An object may be noted as loose, but none may
    /// be unknown.
    pub async fn check(&self, digests: bool) -> Result<CheckReport> {
        let mut report = CheckReport {
            problems: self.db.read(findings).await?,
            ..Default::default()
        };
        report.problems.extend(self.quota_check().await?);
        for name in self.db.read(account_names).await? {
            let wanted = name.clone();
            let account = self
                .db
                .read(move |conn| account_find(conn, &wanted))
                .await?;
            let Some(account) = account else { continue };
            self.check_objects(&account, &mut report).await?;
            if digests {
                self.check_digests(&account, &mut report).await?;
            }
        }
        Ok(report)
    }

    async fn check_objects(&self, account: &Account, report: &mut CheckReport) -> Result<()> {
        let mut found = self.objects_in_storage(account).await?;
        let mut after = None;
        loop {
            let name = account.name.clone();
            let page = self
                .db
                .read(move |conn| expected_objects(conn, &name, after, PAGE))
                .await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.id());
            for object in page {
                let place = format!("{}/{} on {}", account.name, object.key, object.storage);
                match found.remove(&(object.storage, object.key)) {
                    Some(size) if size == object.size_bytes => report.objects += 1,
                    Some(size) => report.problems.push(format!(
                        "object {place} has {size} bytes instead of {}",
                        object.size_bytes
                    )),
                    None => report.problems.push(format!("object {place} is missing")),
                }
            }
        }
        let name = account.name.clone();
        for loose in self
            .db
            .read(move |conn| loose_object_list(conn, &name))
            .await?
        {
            report.loose_objects += 1;
            found.remove(&(loose.storage, loose.key));
        }
        for (storage, key) in found.into_keys() {
            // It may have been deleted since the list was made.
            let driver = self.backends.get(&storage)?;
            match driver.read(&account.tenant(), &key, Some(0..0)).await {
                Err(StorageError::NotFound(_)) => {}
                _ => {
                    report.unknown_objects += 1;
                    let place = format!("{}/{key} on {storage}", account.name);
                    report.problems.push(format!(
                        "object {place} belongs to nothing and is not noted"
                    ));
                }
            }
        }
        Ok(())
    }

    async fn objects_in_storage(
        &self,
        account: &Account,
    ) -> Result<HashMap<(String, ObjectKey), u64>> {
        let name = account.name.clone();
        let storages = self
            .db
            .read(move |conn| container_list(conn, &name))
            .await?;
        let mut found = HashMap::new();
        for storage in storages {
            let driver = self.backends.get(&storage)?;
            let mut objects = driver.list(&account.tenant()).await?;
            while let Some(object) = objects.try_next().await? {
                found.insert((storage.clone(), object.key), object.size_bytes);
            }
        }
        Ok(found)
    }

    async fn check_digests(&self, account: &Account, report: &mut CheckReport) -> Result<()> {
        let mut after = 0;
        loop {
            let name = account.name.clone();
            let page = self
                .db
                .read(move |conn| blob_page(conn, &name, after, PAGE))
                .await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = *last;
            for (id, digest) in page {
                report.digests += 1;
                match self.blob_digest(account, id, &digest).await {
                    Ok(actual) if actual == digest => {}
                    Ok(actual) => report.problems.push(format!(
                        "blob {}/{digest} has the content of {actual}",
                        account.name
                    )),
                    Err(error) => report.problems.push(format!(
                        "blob {}/{digest} cannot be read: {}",
                        account.name,
                        error.causes().unwrap_or_else(|| error.to_string())
                    )),
                }
            }
        }
    }

    async fn blob_digest(&self, account: &Account, id: i64, expected: &Digest) -> Result<Digest> {
        let mut hasher = Hasher::new(expected.algorithm());
        for chunk in self.db.read(move |conn| blob_chunks_of(conn, id)).await? {
            let driver = self.backends.get(&chunk.storage)?;
            let key = ObjectKey::Chunk(chunk.object_id);
            let mut content = driver.read(&account.tenant(), &key, None).await?;
            while let Some(piece) = content.try_next().await.map_err(Error::internal)? {
                hasher.update(&piece);
            }
        }
        Ok(hasher.finish())
    }
}
