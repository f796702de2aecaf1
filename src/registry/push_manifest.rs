//! Pushing a manifest: pure checks, one object, one transaction that makes it and its tags exist.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, stream};
use serde_json::json;
use storage_drivers::ObjectKey;

use super::{
    Registry,
    access::{Push, RepoAccess},
    manifest_rules::Tagging,
};
use crate::{
    db::{
        Conn,
        audit::audit_append,
        blob_put::PushTimes,
        blobs::blobs_in_repo,
        loose_objects::LooseObject,
        manifests::{
            NewManifest, manifest_exists, manifest_insert, manifest_set_times, manifests_in_repo,
        },
        quotas::quota_take_manifest,
        repos::{Repo, repo_ensure},
    },
    error::{Code, Error, Result},
    model::{audit::AuditAction, quota::Limits},
    oci::{Algorithm, Descriptor, Digest, FullRepoName, Manifest, ManifestError, Reference, Tag},
};

/// How many tags one push may set. The OCI specification asks for at least 10; each is a header of the
/// answer, and clients take about 100 of those.
const MAX_TAGS: usize = 50;

/// A manifest as a client sends it.
#[derive(Debug)]
pub struct ManifestUpload {
    /// Where it is put: a tag or its digest.
    pub reference: Reference,
    /// More tags, from `?tag=`.
    pub tags: Vec<Tag>,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The bytes.
    pub content: Bytes,
}

/// What became of it.
#[derive(Debug)]
pub struct ManifestPushed {
    /// The digest under which it can be pulled.
    pub digest: Digest,
    /// The manifest that it is about, for `OCI-Subject`.
    pub subject: Option<Digest>,
    /// The tags that `?tag=` set, for `OCI-Tag`.
    pub tags: Vec<Tag>,
}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        Error::with_message(Code::ManifestInvalid, error.to_string())
    }
}

impl Registry {
    /// Stores a manifest, exactly as it came, and points its tags at it.
    pub async fn manifest_push(
        &self,
        access: &RepoAccess<Push>,
        upload: ManifestUpload,
    ) -> Result<ManifestPushed> {
        if upload.content.len() > self.settings.manifest_bytes {
            return Err(Error::new(Code::ManifestTooLarge));
        }
        if upload.tags.len() > MAX_TAGS {
            let message = format!("one push can set at most {MAX_TAGS} tags");
            return Err(Error::with_message(Code::TagInvalid, message));
        }
        let digest = self.digest_of(&upload)?;
        let manifest = Manifest::parse(&upload.content, upload.content_type.as_deref())?;
        let (name, wanted, now) = (access.name().clone(), digest.clone(), self.clock.now());
        let (repo, is_known) = self
            .db
            .write(move |conn| {
                let repo = repo_ensure(conn, &name, now)?;
                repo.account.settings.refuse_in_maintenance()?;
                let is_known = manifest_exists(conn, repo.id, &wanted)?;
                Ok((repo, is_known))
            })
            .await?;
        self.manifest_refuse_invalid(access.name(), &repo.account, &manifest)
            .await?;
        let mut tags: Vec<Tag> = upload.tags.clone();
        if let Reference::Tag(tag) = &upload.reference {
            tags.push(tag.clone());
        }
        // In one order, or two pushes of the same tags wait for each other.
        tags.sort_unstable();
        tags.dedup();
        let subject = manifest
            .subject
            .as_ref()
            .map(|subject| subject.digest.clone());
        let pushed = ManifestPushed {
            digest: digest.clone(),
            subject,
            tags: upload.tags,
        };
        let mut event = self.repo_event(access, AuditAction::ManifestPush);
        event.target.tags = tags.iter().map(ToString::to_string).collect();
        let event = event.of(&digest).on(&repo.account);
        let tagging = Tagging {
            repo,
            name: access.name().repo.clone(),
            digest,
            tags,
            only_free: false,
            event,
        };
        if is_known && self.tags_move(&tagging).await? {
            return Ok(pushed);
        }
        self.manifest_store(tagging, manifest, (upload.content, None))
            .await?;
        Ok(pushed)
    }

    fn digest_of(&self, upload: &ManifestUpload) -> Result<Digest> {
        let Reference::Digest(expected) = &upload.reference else {
            return Ok(Digest::of(Algorithm::Sha256, &upload.content));
        };
        let actual = Digest::of(expected.algorithm(), &upload.content);
        if actual == *expected {
            return Ok(actual);
        }
        Err(Error::new(Code::DigestInvalid)
            .with_detail(json!({ "expected": expected.as_str(), "actual": actual.as_str() })))
    }

    /// Points tags at a manifest that is there; `false` if it has gone meanwhile.
    async fn tags_move(&self, tagging: &Tagging) -> Result<bool> {
        let (mut tagging, now) = (tagging.clone(), self.clock.now());
        self.db
            .write(move |conn| {
                tagging.begin(conn)?;
                let digest = std::slice::from_ref(&tagging.digest);
                if manifests_in_repo(conn, tagging.repo.id, digest)?.is_empty() {
                    return Ok(false);
                }
                tagging.put(conn, now)?;
                audit_append(conn, &tagging.event)?;
                Ok(true)
            })
            .await
    }

    /// Stores a manifest that the repository does not have, or restores it, and gives the tags that point at it then.
    pub(super) async fn manifest_store(
        &self,
        tagging: Tagging,
        manifest: Manifest,
        (content, restored): (Bytes, Option<OldTimes>),
    ) -> Result<Vec<Tag>> {
        let account = tagging.repo.account.clone();
        let name = FullRepoName::new(account.name.clone(), tagging.name.clone());
        let name = name.map_err(Error::internal)?;
        let object = LooseObject {
            key: ObjectKey::Manifest(self.ids.fresh()),
            storage: account.storage.clone(),
        };
        // Checked before the object is written, to spare a refused push the trouble, and again, with the
        // rows held, in the transaction that counts.
        let (checked, for_check) = (tagging.clone(), manifest.clone());
        self.db
            .read(move |conn| {
                let mut checked = checked.clone();
                references(conn, &checked.repo, &for_check)?;
                let policies = checked.repo.account.settings.tag_policies.clone();
                checked.refuse_blocked(conn, &policies)
            })
            .await?;
        let body = stream::iter([Ok(content.clone())]).boxed();
        self.object_write(&account, &object, Some(content.len() as u64), body)
            .await??;
        let store = Store {
            object: object.clone(),
            times: self.manifest_times(),
            defaults: self.settings.quota_defaults,
            tagging,
            manifest,
            content,
            restored,
        };
        let needs = store.manifest.all_blobs().map(|blob| blob.digest.clone());
        let room = self
            .trash_room(&account)
            .needing(&name, needs, store.times.keep_until);
        let inserted = room
            .taken(|| {
                let store = store.clone();
                self.db.write(move |conn| store.run(conn))
            })
            .await;
        match inserted {
            Ok((true, tags)) => Ok(tags),
            Ok((false, tags)) => {
                self.objects_delete(&account, vec![object]).await;
                Ok(tags)
            }
            Err(error) => {
                // After a failure of the database the commit may have happened: keep the object then.
                if error.code().status() < 500 {
                    self.objects_delete(&account, vec![object]).await;
                }
                Err(error)
            }
        }
    }
}

/// The times of a manifest that comes back from the trash.
#[derive(Debug, Clone, Copy)]
pub(super) struct OldTimes {
    pub(super) pushed_at: DateTime<Utc>,
    pub(super) last_pulled_at: Option<DateTime<Utc>>,
}

/// A manifest whose object lies in storage, and that is to belong to its repository.
#[derive(Debug, Clone)]
struct Store {
    tagging: Tagging,
    manifest: Manifest,
    content: Bytes,
    object: LooseObject,
    times: PushTimes,
    restored: Option<OldTimes>,
    defaults: Limits,
}

impl Store {
    /// The transaction: whether the manifest was stored, and the tags that were put.
    fn run(mut self, conn: &mut Conn) -> Result<(bool, Vec<Tag>)> {
        self.tagging.begin(conn)?;
        let Self {
            tagging, manifest, ..
        } = self;
        let repo = &tagging.repo;
        let (blob_ids, children) = references(conn, repo, &manifest)?;
        let subject = manifest.subject.as_ref();
        let new = NewManifest {
            digest: tagging.digest.clone(),
            media_type: manifest.media_type.clone(),
            content: self.content.to_vec(),
            object_id: self.object.key.id(),
            storage: self.object.storage.clone(),
            subject: subject.map(|subject| subject.digest.clone()),
            blob_ids,
            children,
        };
        let inserted = manifest_insert(conn, repo, &new, self.times)?;
        if let (Some(inserted), Some(old)) = (inserted, self.restored) {
            if inserted.trash_bytes.is_none() {
                let message = format!("{} is not in the trash any more", new.digest);
                return Err(Error::with_message(Code::NotFound, message));
            }
            let key = (repo.id, &new.digest);
            manifest_set_times(conn, key, old.pushed_at, old.last_pulled_at)?;
        }
        tagging.put(conn, self.times.now)?;
        if let Some(inserted) = inserted {
            quota_take_manifest(conn, repo, (&new, inserted), &self.defaults)?;
        }
        audit_append(conn, &tagging.event)?;
        Ok((inserted.is_some(), tagging.tags))
    }
}

/// Checks that all that a manifest needs is in the repository; gives the blobs by number and the
/// manifests by digest.
fn references(
    conn: &mut Conn,
    repo: &Repo,
    manifest: &Manifest,
) -> Result<(Vec<i64>, Vec<Digest>)> {
    let may_be_missing = repo.account.settings.allow_sparse_manifests;
    let wanted: Vec<&Descriptor> = manifest.all_blobs().chain(&manifest.manifests).collect();
    let digests: Vec<Digest> = wanted
        .iter()
        .map(|descriptor| descriptor.digest.clone())
        .collect();
    let known_blobs = blobs_in_repo(conn, repo, &digests)?;
    let children: Vec<Digest> = manifest
        .manifests
        .iter()
        .map(|descriptor| descriptor.digest.clone())
        .collect();
    let known_manifests = manifests_in_repo(conn, repo.id, &children)?;
    let mut blob_ids = Vec::new();
    let mut listed = Vec::new();
    for (position, descriptor) in wanted.into_iter().enumerate() {
        let is_child = position >= digests.len() - children.len();
        let digest = &descriptor.digest;
        let child = known_manifests
            .iter()
            .find(|child| child.0 == digest.as_str());
        if let Some((_, size)) = child.filter(|_| is_child) {
            if *size != descriptor.size {
                return Err(wrong_size(descriptor, *size));
            }
            listed.push(digest.clone());
            continue;
        }
        // BuildKit's cache exports list layers in an index: a child may be a blob.
        if let Some((_, id, size)) = known_blobs.iter().find(|blob| blob.0 == digest.as_str()) {
            if *size != descriptor.size {
                return Err(wrong_size(descriptor, *size));
            }
            blob_ids.push(*id);
        } else if !may_be_missing && !descriptor.is_foreign() {
            return Err(Error::new(Code::ManifestBlobUnknown)
                .with_detail(json!({ "digest": digest.as_str() })));
        } else if is_child {
            listed.push(digest.clone());
        }
    }
    blob_ids.sort_unstable();
    blob_ids.dedup();
    listed.sort();
    listed.dedup();
    Ok((blob_ids, listed))
}

fn wrong_size(descriptor: &Descriptor, actual: u64) -> Error {
    let message = format!(
        "the manifest gives {} bytes for {}, which has {actual}",
        descriptor.size, descriptor.digest
    );
    Error::with_message(Code::ManifestInvalid, message)
}
