//! What an account's settings say of a push of a manifest or a change of its tags.
//!
//! Tag policies are asked in the transaction that changes the tags, with the settings and the tags held. What a newcomer
//! gets wrong: what was read before such a transaction may be old in it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Registry, legal_holds::refuse_held};
use crate::{
    db::{
        Conn,
        legal_holds::hold_on_any,
        repos::{Hold, Repo, repo_hold},
        tag_history::TagAuthor,
        tags::{tag_digest, tag_put},
    },
    error::{Code, Error, Result},
    model::{
        account::Account,
        audit::AuditEvent,
        tag_policy::{TagChange, TagPolicy, blocking_policy},
        validation_rule::Candidate,
    },
    oci::{Digest, FullRepoName, Manifest, ManifestKind, RepoName, Tag, media_type},
};

/// The largest config of an image whose labels are looked at. Configs have some KiB.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// How long a push waits for its turn to be judged.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Half of the cores may judge manifests: an expression takes its time, and its author may want it to.
static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new((cores / 2).max(1)))
});

/// Tags that are to point at a manifest.
#[derive(Debug, Clone)]
pub(super) struct Tagging {
    pub(super) repo: Repo,
    pub(super) name: RepoName,
    pub(super) digest: Digest,
    pub(super) tags: Vec<Tag>,
    /// Tags that point elsewhere by now stay there.
    pub(super) only_free: bool,
    /// Written with the change.
    pub(super) event: AuditEvent,
}

impl Tagging {
    /// Holds what is needed to decide, and refuses what the account does not allow. It comes first in its transaction.
    pub(super) fn begin(&mut self, conn: &mut Conn) -> Result<()> {
        let hold = match self.only_free {
            true => Hold::Alone,
            false => Hold::Shared,
        };
        let settings = repo_hold(conn, &self.repo, hold)?;
        settings.refuse_in_maintenance()?;
        self.refuse_blocked(conn, &settings.tag_policies)
    }

    /// Refuses tags that a policy blocks or a legal hold keeps.
    pub(super) fn refuse_blocked(&mut self, conn: &mut Conn, policies: &[TagPolicy]) -> Result<()> {
        if self.tags.is_empty() {
            return Ok(());
        }
        let (repo_id, now) = (self.repo.id, self.event.at);
        let is_held = hold_on_any(conn, repo_id, &self.tags, now)?.is_some();
        if policies.is_empty() && !is_held && !self.only_free {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(self.tags.len());
        for tag in std::mem::take(&mut self.tags) {
            let change = match tag_digest(conn, repo_id, &tag)? {
                None => Some(TagChange::Create),
                Some(before) if before == self.digest => None,
                Some(_) if self.only_free => continue,
                Some(_) => Some(TagChange::Move),
            };
            if change == Some(TagChange::Move) {
                refuse_held(conn, repo_id, std::slice::from_ref(&tag), now)?;
            }
            if let Some(change) = change {
                let owned = (self.repo.account.auth_tenant_id.as_str(), policies);
                refuse_by_policy(owned, change, &self.name, &tag)?;
            }
            kept.push(tag);
        }
        self.event.target.tags = kept.iter().map(ToString::to_string).collect();
        self.tags = kept;
        Ok(())
    }

    /// Points the tags at the manifest.
    pub(super) fn put(&self, conn: &mut Conn, now: DateTime<Utc>) -> Result<()> {
        let by = self.event.who_name();
        for tag in &self.tags {
            tag_put(
                conn,
                (self.repo.id, tag),
                &self.digest,
                TagAuthor { by, now },
            )?;
        }
        Ok(())
    }
}

/// Refuses to delete a tag that a policy protects or a legal hold keeps. It holds what it has looked at.
pub(super) fn refuse_tag_delete(
    conn: &mut Conn,
    repo: &Repo,
    (name, tag): (&RepoName, &Tag),
    now: DateTime<Utc>,
) -> Result<()> {
    let settings = repo_hold(conn, repo, Hold::Alone)?;
    refuse_held(conn, repo.id, std::slice::from_ref(tag), now)?;
    let owned = (
        repo.account.auth_tenant_id.as_str(),
        settings.tag_policies.as_slice(),
    );
    refuse_by_policy(owned, TagChange::Delete, name, tag)
}

/// Refuses a change of a tag that a policy forbids.
pub(super) fn refuse_by_policy(
    (owner, policies): (&str, &[TagPolicy]),
    change: TagChange,
    repo: &RepoName,
    tag: &Tag,
) -> Result<()> {
    let Some(number) = blocking_policy((owner, policies), change, repo, tag) else {
        return Ok(());
    };
    let what = match change {
        TagChange::Create => "set",
        TagChange::Move => "moved to another manifest",
        TagChange::Delete => "deleted",
    };
    let message =
        format!("tag {tag} cannot be {what}: the account's tag_policies[{number}] blocks it");
    let detail = json!({ "tag": tag.as_str(), "number": number, "policy": policies.get(number) });
    Err(Error::with_message(Code::Denied, message).with_detail(detail))
}

impl Registry {
    /// Refuses a manifest that does not satisfy the account's validation rule. Indexes have no config to look at; their
    /// manifests are pushed one by one.
    pub(super) async fn manifest_refuse_invalid(
        &self,
        name: &FullRepoName,
        account: &Account,
        manifest: &Manifest,
    ) -> Result<()> {
        let settings = &account.settings;
        let Some(rule) = &settings.validation else {
            return Ok(());
        };
        if manifest.kind == ManifestKind::Index {
            return Ok(());
        }
        let may_be_missing = settings.allow_sparse_manifests;
        let labels = self.labels(name, manifest, may_be_missing).await?;
        let (rule, repo, manifest) = (rule.clone(), name.repo.clone(), manifest.clone());
        let owner = account.auth_tenant_id.clone();
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(&TURNS).acquire_owned()).await;
        let turn = turn.map_err(|_| Error::unavailable("too many manifests are judged at once"))?;
        let turn = turn.map_err(Error::internal)?;
        let judged = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            rule.refusal(Candidate {
                owner: &owner,
                repo: &repo,
                media_type: &manifest.media_type,
                artifact_type: manifest.artifact_type.as_deref(),
                labels: &labels,
                layers: &manifest.blobs,
            })
        });
        match judged.await.map_err(Error::internal)? {
            None => Ok(()),
            Some(reason) => Err(Error::with_message(Code::Denied, reason)),
        }
    }

    /// The labels in an image's config; none if the config is of another kind, or is not here and need not be.
    async fn labels(
        &self,
        name: &FullRepoName,
        manifest: &Manifest,
        may_be_missing: bool,
    ) -> Result<BTreeMap<String, String>> {
        let config = manifest.config.as_ref().filter(|config| {
            let media_type = config.media_type.as_deref();
            media_type.is_some_and(media_type::is_image_config)
        });
        let Some(config) = config else {
            return Ok(BTreeMap::new());
        };
        let content = self
            .blob_read(name, &config.digest, MAX_CONFIG_BYTES)
            .await?;
        let Some(content) = content else {
            if may_be_missing {
                return Ok(BTreeMap::new());
            }
            return Err(Error::new(Code::ManifestBlobUnknown)
                .with_detail(json!({ "digest": config.digest.as_str() })));
        };
        let config: ImageConfig = serde_json::from_slice(&content).map_err(not_a_config)?;
        Ok(config
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default())
    }
}

fn not_a_config(error: impl fmt::Display) -> Error {
    let message = "the config of the image cannot be read, so that its labels are not known";
    Error::with_message(Code::ManifestInvalid, message).caused_by(error.to_string())
}

/// The part of an image's config that rules look at (OCI image spec, config.md).
#[derive(Deserialize)]
struct ImageConfig {
    config: Option<ExecutionParameters>,
}

#[derive(Deserialize)]
struct ExecutionParameters {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}
