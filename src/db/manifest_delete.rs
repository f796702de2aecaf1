//! Deleting a manifest with all that goes with it: its tags, and what is about it and nothing else.
//!
//! The repository is held alone, so what is found here stays so. A signature that has a tag of its own, or that an index
//! lists which stays, was meant to live on. What a newcomer gets wrong: with a trash the bytes stay on the books and the
//! blobs stay mounted, but the manifests are gone for everybody who asks.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use storage_drivers::ObjectKey;

use super::{
    Conn,
    blob_mounts::{mounts_lock, mounts_release},
    blobs::blobs_share,
    loose_objects::{LooseObject, loose_object_note},
    quotas::quota_return_manifests,
    repos::Repo,
    schema::{manifest_blob_refs, manifest_manifest_refs, manifests, tags},
    stored,
    tag_history::{TagAuthor, tag_note},
    tags::tags_of,
    trash::{TrashOrder, trash_blob_ids, trash_put, trash_take},
};
use crate::{
    error::Result,
    oci::{Digest, Tag},
};

/// How many manifests go with another one at most. What is more stays, as if it had tags.
const MAX_COMPANIONS: usize = 1000;

/// How often it is asked for one deletion what lists a manifest.
const MAX_LOOKS: usize = 5000;

/// What tools append to the fallback tag of a digest for what they say about it (cosign, its "Tag-based discovery").
const FALLBACK_SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// How a manifest is deleted.
#[derive(Clone, Copy)]
pub struct Deletion<'a> {
    /// When, and by whom.
    pub author: TagAuthor<'a>,
    /// How long it can be restored; `None` deletes it for good.
    pub purge_at: Option<DateTime<Utc>>,
    /// How long blobs stay that nothing else needs then.
    pub keep_until: DateTime<Utc>,
    /// Tags that nobody may delete: a manifest with one of them does not go with another one.
    pub is_protected: &'a dyn Fn(&Tag) -> bool,
}

/// A manifest that is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct GoneManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its tags, which are gone as well.
    pub tags: Vec<Tag>,
    /// Its object, which is loose now.
    pub object: LooseObject,
}

/// What became of a manifest that was to be deleted.
#[derive(Debug, PartialEq, Eq)]
pub enum ManifestDelete {
    /// It is not there.
    Missing,
    /// An index of the repository lists it.
    InUse {
        /// One such index.
        by: String,
    },
    /// It is gone; it comes first, and then those that went with it.
    Gone(Vec<GoneManifest>),
}

/// Deletes a manifest, unless an index needs it, with its tags and with what is about it and has no life of its own. The
/// repository is held alone. It changes the books of quotas, so it comes last in a transaction.
pub fn manifest_delete(
    conn: &mut Conn,
    repo: &Repo,
    digest: &Digest,
    deletion: Deletion<'_>,
) -> Result<ManifestDelete> {
    if !super::manifests::manifest_exists(conn, repo.id, digest)? {
        return Ok(ManifestDelete::Missing);
    }
    let myself = BTreeSet::from([digest.clone()]);
    if let Some(by) = listed_by(conn, repo.id, digest, &myself)? {
        return Ok(ManifestDelete::InUse { by });
    }
    let going = with_companions(conn, repo.id, digest, deletion.is_protected)?;
    let names: Vec<&str> = going.iter().map(Digest::as_str).collect();
    let mut blob_ids = trash_blob_ids(conn, repo.id, &names)?;
    let needed: Vec<i64> = manifest_blob_refs::table
        .filter(manifest_blob_refs::repo_id.eq(repo.id))
        .filter(manifest_blob_refs::digest.eq_any(&names))
        .select(manifest_blob_refs::blob_id)
        .load(conn)?;
    blob_ids.extend(needed);
    let blob_ids: Vec<i64> = blob_ids.into_iter().collect();
    // The repository is held alone, so no reference comes or goes. The trash refers to the blobs, which holds them:
    // that has to come before the mounts.
    blobs_share(conn, &blob_ids)?;
    let rows = rows_hold(conn, repo.id, &going)?;
    mounts_lock(conn, repo.id, &blob_ids)?;
    let (mut gone, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        bytes += row.freed_bytes(conn, repo.id, (digest, deletion))?;
        let manifest = row.remove(conn, repo, deletion)?;
        // The one that was asked for comes first.
        let place = if manifest.digest == *digest {
            0
        } else {
            gone.len()
        };
        gone.insert(place, manifest);
    }
    mounts_release(conn, repo.id, &blob_ids, deletion.keep_until)?;
    let count = i64::try_from(gone.len()).unwrap_or(i64::MAX);
    quota_return_manifests(conn, repo, (count, bytes))?;
    Ok(ManifestDelete::Gone(gone))
}

/// A manifest that goes, with its row held.
struct Going {
    digest: Digest,
    object: LooseObject,
    size_bytes: i64,
    tags: Vec<Tag>,
}

/// Holds the rows of manifests, in order.
fn rows_hold(conn: &mut Conn, repo_id: i64, digests: &[Digest]) -> Result<Vec<Going>> {
    type Row = (String, String, String, i64);
    let names: Vec<&str> = digests.iter().map(Digest::as_str).collect();
    let query = manifests::table
        .filter(manifests::repo_id.eq(repo_id))
        .filter(manifests::digest.eq_any(names))
        .order(manifests::digest)
        .select((
            manifests::digest,
            manifests::object_id,
            manifests::storage,
            diesel::dsl::sql::<diesel::sql_types::BigInt>("CAST(LENGTH(content) AS BIGINT)"),
        ));
    let rows: Vec<Row> = match conn {
        Conn::Postgres(c) => query.for_update().load(c)?,
        Conn::Sqlite(c) => query.load(c)?,
    };
    let mut held = Vec::with_capacity(rows.len());
    for (digest, object_id, storage, size_bytes) in rows {
        let digest: Digest = stored(&digest)?;
        held.push(Going {
            tags: tags_of(conn, repo_id, &digest)?,
            digest,
            object: LooseObject {
                key: ObjectKey::Manifest(stored(&object_id)?),
                storage,
            },
            size_bytes,
        });
    }
    Ok(held)
}

impl Going {
    /// Puts it into the trash, if there is one, and gives the bytes that go off the books. An older entry of the digest
    /// goes.
    fn freed_bytes(
        &self,
        conn: &mut Conn,
        repo_id: i64,
        (root, deletion): (&Digest, Deletion<'_>),
    ) -> Result<i64> {
        let older_bytes = trash_take(conn, repo_id, &self.digest)?.unwrap_or(0);
        let Some(purge_at) = deletion.purge_at else {
            return Ok(self.size_bytes + older_bytes);
        };
        let order = TrashOrder {
            now: deletion.author.now,
            by: deletion.author.by,
            purge_at,
            with: (self.digest != *root).then_some(root),
        };
        trash_put(conn, (repo_id, &self.digest), &self.tags, order)?;
        Ok(older_bytes)
    }

    /// Deletes the row, and with it tags and references; the object is loose then.
    fn remove(self, conn: &mut Conn, repo: &Repo, deletion: Deletion<'_>) -> Result<GoneManifest> {
        let author = deletion.author;
        diesel::delete(manifests::table.find((repo.id, self.digest.as_str()))).execute(conn)?;
        for tag in &self.tags {
            tag_note(conn, (repo.id, tag.as_str()), None, author)?;
        }
        loose_object_note(conn, &repo.account.name, &self.object, author.now)?;
        Ok(GoneManifest {
            digest: self.digest,
            tags: self.tags,
            object: self.object,
        })
    }
}

/// A manifest and all that is about it, or about what is about it, and would be of no use without it.
fn with_companions(
    conn: &mut Conn,
    repo_id: i64,
    root: &Digest,
    is_protected: &dyn Fn(&Tag) -> bool,
) -> Result<Vec<Digest>> {
    let mut found = vec![root.clone()];
    let mut known = BTreeSet::from([root.clone()]);
    let (mut waiting, mut next, mut looks) = (Vec::new(), 0, 0);
    loop {
        while let Some(subject) = found.get(next).cloned() {
            next += 1;
            waiting.extend(fallbacks(conn, repo_id, &subject, is_protected)?);
            waiting.extend(untagged_referrers(conn, repo_id, &subject)?);
        }
        let (before, asked) = (found.len(), std::mem::take(&mut waiting));
        for digest in asked {
            looks += 1;
            if found.len() > MAX_COMPANIONS || looks > MAX_LOOKS {
                return Ok(found);
            }
            if known.contains(&digest) {
                continue;
            }
            if listed_by(conn, repo_id, &digest, &known)?.is_some() {
                // What lists it may go as well.
                waiting.push(digest);
            } else {
                known.insert(digest.clone());
                found.push(digest);
            }
        }
        if found.len() == before {
            return Ok(found);
        }
    }
}

/// Manifests whose only tags are those under which tools look for what is about `subject`.
fn fallbacks(
    conn: &mut Conn,
    repo_id: i64,
    subject: &Digest,
    is_protected: &dyn Fn(&Tag) -> bool,
) -> Result<Vec<Digest>> {
    let names = FALLBACK_SUFFIXES.map(|suffix| format!("{}{suffix}", subject.fallback_tag()));
    let digests: Vec<String> = tags::table
        .filter(tags::repo_id.eq(repo_id))
        .filter(tags::name.eq_any(&names))
        .order(tags::name)
        .select(tags::digest)
        .load(conn)?;
    let mut found = Vec::new();
    for digest in digests {
        let digest: Digest = stored(&digest)?;
        let has_no_other = tags_of(conn, repo_id, &digest)?
            .iter()
            .all(|tag| names.iter().any(|name| name == tag.as_str()) && !is_protected(tag));
        if has_no_other {
            found.push(digest);
        }
    }
    Ok(found)
}

fn untagged_referrers(conn: &mut Conn, repo_id: i64, subject: &Digest) -> Result<Vec<Digest>> {
    let has_tag = tags::table
        .filter(tags::repo_id.eq(manifests::repo_id))
        .filter(tags::digest.eq(manifests::digest));
    let digests: Vec<String> = manifests::table
        .filter(manifests::repo_id.eq(repo_id))
        .filter(manifests::subject_digest.eq(subject.as_str()))
        .filter(diesel::dsl::not(diesel::dsl::exists(has_tag)))
        .order(manifests::digest)
        .limit(MAX_COMPANIONS as i64)
        .select(manifests::digest)
        .load(conn)?;
    digests.iter().map(|digest| stored(digest)).collect()
}

/// An index of the repository that lists a manifest and is none of `going`.
fn listed_by(
    conn: &mut Conn,
    repo_id: i64,
    digest: &Digest,
    going: &BTreeSet<Digest>,
) -> Result<Option<String>> {
    let going = going.iter().map(Digest::as_str);
    Ok(manifest_manifest_refs::table
        .filter(manifest_manifest_refs::repo_id.eq(repo_id))
        .filter(manifest_manifest_refs::child_digest.eq(digest.as_str()))
        .filter(manifest_manifest_refs::parent_digest.ne(digest.as_str()))
        .filter(manifest_manifest_refs::parent_digest.ne_all(going.collect::<Vec<_>>()))
        .select(manifest_manifest_refs::parent_digest)
        .first(conn)
        .optional()?)
}
