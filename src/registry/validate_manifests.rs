//! Compares manifests with their digests, with their objects in storage, and with what they refer to.
//!
//! A manifest lies in the database and in storage (decision 0011). An object that is lost or broken is written anew from
//! the database; content that is broken in the database is shown as an error.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use storage_drivers::{ObjectKey, StorageError};
use tracing::{error, warn};

use super::Registry;
use crate::{
    db::{
        accounts::account_find,
        loose_objects::LooseObject,
        manifest_checks::{
            ManifestNeeds, ManifestTask, manifest_claim, manifest_due_since, manifest_needs,
            manifest_object_replace, manifest_validate_later, manifest_validated,
        },
    },
    error::{Error, Result},
    model::account::Account,
    oci::{Digest, Manifest},
};

/// How long a validation may take before another node begins it again.
const LEASE: Duration = Duration::from_secs(15 * 60);

/// When a manifest that could not be looked at is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

impl Registry {
    /// Since when a manifest has been due, or when the first one will be.
    pub(super) async fn manifests_due_since(&self) -> Result<Option<DateTime<Utc>>> {
        if self.settings.janitor.manifest_validation.is_none() {
            return Ok(None);
        }
        self.db.read(manifest_due_since).await
    }

    /// Validates the manifest that is due for longest; `false` if none is.
    pub(super) async fn manifest_validate(&self) -> Result<bool> {
        let Some(every) = self.settings.janitor.manifest_validation else {
            return Ok(false);
        };
        let now = self.clock.now();
        let claimed = self
            .db
            .write(move |conn| manifest_claim(conn, now, now + LEASE))
            .await?;
        let Some(task) = claimed else {
            return Ok(false);
        };
        let problem = match self.manifest_look(&task).await {
            Ok(problem) => problem,
            Err(failed) => {
                let at = self.after(RETRY_AFTER);
                self.db
                    .write(move |conn| manifest_validate_later(conn, &task, at))
                    .await?;
                return Err(failed);
            }
        };
        if let Some(problem) = &problem {
            error!(account = %task.account, digest = %task.digest, problem, "a manifest is broken");
        }
        let next_at = self.after(every);
        self.db
            .write(move |conn| manifest_validated(conn, &task, problem.as_deref(), next_at))
            .await?;
        Ok(true)
    }

    /// What is wrong with a manifest, if anything is and could not be put right.
    async fn manifest_look(&self, task: &ManifestTask) -> Result<Option<String>> {
        let name = task.account.clone();
        let account = self.db.read(move |conn| account_find(conn, &name)).await?;
        let Some(account) = account.filter(|account| !account.is_deleting) else {
            return Ok(None);
        };
        let actual = Digest::of(task.digest.algorithm(), &task.content);
        if actual != task.digest {
            return Ok(Some(format!("the content has the digest {actual}")));
        }
        let manifest = match Manifest::parse(&task.content, Some(&task.media_type)) {
            Ok(manifest) => manifest,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let children: Vec<String> = manifest
            .manifests
            .iter()
            .map(|child| child.digest.to_string())
            .collect();
        let (repo_id, digest) = (task.repo_id, task.digest.clone());
        let needs = self
            .db
            .read(move |conn| manifest_needs(conn, repo_id, &digest, &children))
            .await?;
        if let Some(problem) = missing(&account, &manifest, &needs) {
            return Ok(Some(problem));
        }
        if !self.manifest_object_is_whole(&account, task).await? {
            self.manifest_object_renew(&account, task).await?;
        }
        Ok(None)
    }

    async fn manifest_object_is_whole(
        &self,
        account: &Account,
        task: &ManifestTask,
    ) -> Result<bool> {
        let driver = self.backends.get(&task.storage)?;
        let key = ObjectKey::Manifest(task.object_id);
        let mut content = match driver.read(&account.tenant(), &key, None).await {
            Err(StorageError::NotFound(_)) => return Ok(false),
            opened => opened?,
        };
        let mut expected = task.content.as_slice();
        while let Some(piece) = content.try_next().await.map_err(Error::unavailable)? {
            match expected.strip_prefix(&piece[..]) {
                Some(rest) => expected = rest,
                None => return Ok(false),
            }
        }
        Ok(expected.is_empty())
    }

    /// Writes the object of a manifest anew.
    async fn manifest_object_renew(&self, account: &Account, task: &ManifestTask) -> Result<()> {
        warn!(account = %account.name, digest = %task.digest, "the object of a manifest is written anew");
        let object = LooseObject {
            key: ObjectKey::Manifest(self.ids.fresh()),
            storage: task.storage.clone(),
        };
        let content = Bytes::from(task.content.clone());
        let size = Some(content.len() as u64);
        let body = stream::iter([Ok(content)]).boxed();
        self.object_write(account, &object, size, body).await??;
        let (replacing, id, now) = (task.clone(), object.key.id(), self.clock.now());
        let is_replaced = self
            .db
            .write(move |conn| manifest_object_replace(conn, &replacing, id, now))
            .await?;
        if !is_replaced {
            self.objects_delete(account, vec![object]).await;
        }
        Ok(())
    }
}

/// What a manifest needs and cannot be had.
fn missing(account: &Account, manifest: &Manifest, needs: &ManifestNeeds) -> Option<String> {
    let blob = |digest: &Digest| {
        needs
            .blobs
            .iter()
            .find(|(found, _)| found == digest.as_str())
    };
    for descriptor in manifest.all_blobs() {
        match blob(&descriptor.digest) {
            Some((digest, false)) => return Some(format!("blob {digest} is broken")),
            Some(_) => {}
            None if account.settings.allow_sparse_manifests || descriptor.is_foreign() => {}
            None => return Some(format!("blob {} is missing", descriptor.digest)),
        }
    }
    for descriptor in &manifest.manifests {
        let digest = &descriptor.digest;
        let is_there =
            needs.manifests.iter().any(|found| found == digest.as_str()) || blob(digest).is_some();
        if !is_there && !account.settings.allow_sparse_manifests && !descriptor.is_foreign() {
            return Some(format!("manifest {digest} is missing"));
        }
    }
    None
}
