//! The use cases without HTTP, as `admin`: thousands of them in a second, and nothing that happens by itself.

mod inventory;
mod trash;

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kontor::{
    auth::{authorization::Authorization, challenge::Challenge},
    error::{Code, Error},
    ids::UploadId,
    model::{account::AccountSettings, job::Job, precondition::Precondition, quota::Amounts},
    oci::{Algorithm, Digest, FullRepoName, Reference},
    registry::{
        access::{Delete, Demand, Pull, Push, RepoAccess, RepoPermission},
        accounts::AccountOrder,
        caller::{Actor, Caller},
        chunk_write::Payload,
        pull_blob::{BlobContent, BlobRequest},
        push_manifest::ManifestUpload,
    },
};

use serde_json::Value;
use storage_drivers::ByteStream;

use super::trash_off;
use crate::support::{PASSWORD, Setup, TestRegistry, image::digest};

/// What a use case says: a code is enough to know what a client is told.
pub type Answer<T> = Result<T, Code>;

/// A repository, with the proofs that everything may be done in it.
pub struct Repo {
    pub name: FullRepoName,
    pull: RepoAccess<Pull>,
    push: RepoAccess<Push>,
    delete: RepoAccess<Delete>,
}

/// A registry whose use cases are called directly.
pub struct Direct {
    pub node: TestRegistry,
    caller: Caller,
    actor: Actor,
}

fn code(error: Error) -> Code {
    // A failure that no test has provoked must be seen with its reason.
    let reason = format!("{error:?}");
    let is_provoked = reason.contains("injected") || reason.contains("faulty storage");
    assert!(error.code() != Code::Internal || is_provoked, "{reason}");
    error.code()
}

fn payload(content: &[u8]) -> Payload {
    let content = Bytes::copy_from_slice(content);
    Payload {
        size: Some(content.len() as u64),
        range: None,
        body: stream::iter([Ok(content)]).boxed(),
    }
}

impl Direct {
    pub async fn start() -> Self {
        let setup = Setup::default().unserved().config(|config| {
            // The trail of thousands of cases would be looked through by every check.
            config.audit.keep_days = 1;
        });
        Self::of(setup.start().await).await
    }

    async fn of(node: TestRegistry) -> Self {
        let authorization = || {
            let (user, password) = ("admin".to_owned(), PASSWORD.to_owned());
            Some(Authorization::Basic { user, password })
        };
        let challenge = Challenge {
            realm: "http://localhost/token".into(),
            service: "localhost".into(),
        };
        let stranger = Caller::anonymous(challenge, None, Arc::default());
        let caller = node.registry.caller(authorization(), stranger);
        let caller = caller.await.unwrap();
        let actor = node.registry.admin(authorization(), Arc::default());
        let actor = actor.await.unwrap();
        Self {
            node,
            caller,
            actor,
        }
    }

    async fn access<P: RepoPermission>(&self, repo: &FullRepoName) -> RepoAccess<P> {
        let (caller, demand) = (self.caller.clone(), Demand::default());
        let access = self
            .node
            .registry
            .repo_access(caller, repo.clone(), demand)
            .await;
        access.unwrap()
    }

    pub async fn repo(&self, name: &str) -> Repo {
        let name = name.parse().unwrap();
        Repo {
            pull: self.access(&name).await,
            push: self.access(&name).await,
            delete: self.access(&name).await,
            name,
        }
    }

    /// Makes an account whose auth tenant has the same name.
    pub async fn account_make(&self, name: &str) -> Answer<()> {
        self.account_make_with(name, trash_off()).await
    }

    pub async fn account_make_with(&self, name: &str, settings: Value) -> Answer<()> {
        let settings: AccountSettings = serde_json::from_value(settings).unwrap();
        let order = AccountOrder {
            auth_tenant_id: Some(name.to_owned()),
            storage: None,
            settings,
            condition: Precondition::default(),
        };
        let name = name.parse().unwrap();
        let made = self.node.registry.account_put(&self.actor, &name, order);
        made.await.map(|_| ()).map_err(code)
    }

    pub async fn account_delete(&self, name: &str) -> Answer<()> {
        let (name, condition) = (name.parse().unwrap(), Precondition::default());
        let registry = &self.node.registry;
        let deleted = registry.account_delete(&self.actor, &name, condition).await;
        deleted.map_err(code)
    }

    /// What an account uses.
    pub async fn used(&self, account: &str) -> Amounts {
        let (registry, name) = (&self.node.registry, account.parse().unwrap());
        let book = registry.account_quota_get(&self.actor, &name).await;
        book.unwrap().used
    }

    pub async fn push_blob(&self, repo: &Repo, content: &[u8]) -> Answer<()> {
        let (access, digest) = (&repo.push, digest(content));
        let registry = &self.node.registry;
        let pushed = registry.blob_push(access, &digest, payload(content)).await;
        pushed.map_err(code)
    }

    pub async fn begin_upload(&self, repo: &Repo) -> Answer<UploadId> {
        let (registry, access) = (&self.node.registry, &repo.push);
        let begun = registry.upload_start(access, Algorithm::Sha256).await;
        begun.map_err(code)
    }

    pub async fn append(&self, repo: &Repo, id: UploadId, content: &[u8]) -> Answer<u64> {
        let (registry, access) = (&self.node.registry, &repo.push);
        let appended = registry.upload_append(access, id, payload(content)).await;
        appended.map_err(code)
    }

    /// Ends an upload of `whole`, of which `last` is still to come.
    pub async fn finish(
        &self,
        repo: &Repo,
        id: UploadId,
        (whole, last): (&[u8], &[u8]),
    ) -> Answer<()> {
        let (access, digest) = (&repo.push, digest(whole));
        let registry = &self.node.registry;
        let finished = registry.upload_finish(access, id, &digest, payload(last));
        finished.await.map_err(code)
    }

    pub async fn cancel(&self, repo: &Repo, id: UploadId) -> Answer<()> {
        let (registry, access) = (&self.node.registry, &repo.push);
        registry.upload_cancel(access, id).await.map_err(code)
    }

    /// How many bytes of an upload have arrived.
    pub async fn upload_size(&self, repo: &Repo, id: UploadId) -> Answer<u64> {
        let (registry, access) = (&self.node.registry, &repo.push);
        registry.upload_status(access, id).await.map_err(code)
    }

    pub async fn mount(&self, repo: &Repo, digest: &Digest, from: Option<&Repo>) -> Answer<bool> {
        let (registry, access) = (&self.node.registry, &repo.push);
        let mounted = registry
            .blob_mount(access, digest, from.map(|from| from.name.clone()))
            .await;
        mounted.map_err(code)
    }

    /// What a pusher does before it pushes a blob: asks for it.
    pub async fn look_up(&self, repo: &Repo, digest: &Digest) -> Answer<()> {
        let found = self.ask_for(repo, digest).await;
        self.node.registry.pulls_flush().await.map_err(code)?;
        found
    }

    /// The same, and the registry has not noted yet that somebody has asked.
    pub async fn ask_for(&self, repo: &Repo, digest: &Digest) -> Answer<()> {
        let (registry, access) = (&self.node.registry, &repo.pull);
        let size = registry.blob_size(access, digest).await;
        size.map(|_| ()).map_err(code)
    }

    /// Begins to read a blob; the bytes are read when they are taken.
    pub async fn open_blob(&self, repo: &Repo, digest: &Digest) -> Answer<ByteStream> {
        let (registry, access) = (&self.node.registry, &repo.pull);
        let wanted = BlobRequest::default();
        let content = registry.blob_pull(access, digest, &wanted).await;
        let BlobContent::Whole { body, .. } = content.map_err(code)? else {
            panic!("nothing but the whole was asked for");
        };
        Ok(body)
    }

    pub async fn pull_blob(&self, repo: &Repo, digest: &Digest) -> Answer<Vec<u8>> {
        let body = self.open_blob(repo, digest).await?;
        let pieces: Vec<Bytes> = body
            .try_collect()
            .await
            .map_err(|error| code(Error::unavailable(error)))?;
        Ok(pieces.concat())
    }

    /// Pushes a manifest by its digest, and points a tag at it if one is given.
    pub async fn push_manifest(
        &self,
        repo: &Repo,
        (content, tag): (&[u8], Option<&str>),
    ) -> Answer<()> {
        let (registry, access) = (&self.node.registry, &repo.push);
        let upload = ManifestUpload {
            reference: Reference::Digest(digest(content)),
            tags: tag.map(|tag| tag.parse().unwrap()).into_iter().collect(),
            content_type: None,
            content: Bytes::copy_from_slice(content),
        };
        let pushed = registry.manifest_push(access, upload).await;
        pushed.map(|_| ()).map_err(code)
    }

    pub async fn pull_manifest(&self, repo: &Repo, reference: &str) -> Answer<Vec<u8>> {
        let (registry, access) = (&self.node.registry, &repo.pull);
        let reference = reference.parse().unwrap();
        let pulled = registry.manifest_pull(access, &reference).await;
        pulled.map(|manifest| manifest.content).map_err(code)
    }

    /// Deletes a manifest by its digest, or a tag.
    pub async fn delete_manifest(&self, repo: &Repo, reference: &str) -> Answer<()> {
        let (registry, access) = (&self.node.registry, &repo.delete);
        let reference = reference.parse().unwrap();
        let deleted = registry.manifest_delete(access, &reference).await;
        deleted.map_err(code)
    }

    pub async fn delete_blob(&self, repo: &Repo, digest: &Digest) -> Answer<()> {
        let (registry, access) = (&self.node.registry, &repo.delete);
        registry.blob_delete(access, digest).await.map_err(code)
    }

    /// Does everything that is due.
    pub async fn run_jobs(&self) {
        for job in Job::ALL {
            self.node.run_job(*job).await;
        }
    }

    /// Lets the longest time pass that anything may stay that nobody needs, with all jobs at work. It takes several
    /// steps: what one takes away may be due only later for another.
    pub async fn settle(&self) {
        for hours in [27, 27, 27, 2] {
            self.node.wait(chrono::TimeDelta::hours(hours));
            self.run_jobs().await;
        }
    }
}
