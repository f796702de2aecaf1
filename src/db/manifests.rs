//! Manifests and what they refer to.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, as_u64,
    blob_mounts::{mounts_lock, mounts_release, mounts_use},
    blob_put::PushTimes,
    cached::execute_cached,
    dialect::on_backend,
    loose_objects::loose_object_adopt,
    repos::Repo,
    schema::{accounts, manifest_blob_refs, manifest_manifest_refs, manifests, repos, tags},
    stored,
    trash::{trash_blob_ids, trash_take},
};
use crate::{
    error::{Code, Error, Result},
    oci::{Digest, FullRepoName, Reference},
};

/// A manifest as it is served: exactly the bytes that were pushed.
#[derive(Debug)]
pub struct StoredManifest {
    /// The repository's number.
    pub repo_id: i64,
    /// The digest of the content.
    pub digest: Digest,
    /// The media type that it was pushed with.
    pub media_type: String,
    /// The bytes.
    pub content: Vec<u8>,
    /// Who owns the account, if its pulls are in the audit trail; not told in lists.
    pub audited_for: Option<String>,
}

/// The manifest that a tag or digest leads to.
pub fn manifest_find(
    conn: &mut Conn,
    name: &FullRepoName,
    reference: &Reference,
) -> Result<Option<StoredManifest>> {
    type Row = (i64, String, String, Vec<u8>, (bool, String));
    let in_repo = manifests::table
        .inner_join(repos::table.inner_join(accounts::table))
        .filter(repos::account_name.eq(name.account.as_str()))
        .filter(repos::name.eq(name.repo.as_str()))
        .filter(accounts::is_deleting.eq(false))
        .select((
            manifests::repo_id,
            manifests::digest,
            manifests::media_type,
            manifests::content,
            (accounts::audit_pulls, accounts::auth_tenant_id),
        ));
    let row: Option<Row> = match reference {
        Reference::Digest(digest) => in_repo
            .filter(manifests::digest.eq(digest.as_str()))
            .first(conn)
            .optional()?,
        Reference::Tag(tag) => in_repo
            .inner_join(
                tags::table.on(tags::repo_id
                    .eq(manifests::repo_id)
                    .and(tags::digest.eq(manifests::digest))),
            )
            .filter(tags::name.eq(tag.as_str()))
            .first(conn)
            .optional()?,
    };
    row.map(|(repo_id, digest, media_type, content, account)| {
        Ok(StoredManifest {
            repo_id,
            digest: stored(&digest)?,
            media_type,
            content,
            audited_for: account.0.then_some(account.1),
        })
    })
    .transpose()
}

/// Whether the repository has the manifest.
pub fn manifest_exists(conn: &mut Conn, repo_id: i64, digest: &Digest) -> Result<bool> {
    Ok(diesel::select(diesel::dsl::exists(
        manifests::table.find((repo_id, digest.as_str())),
    ))
    .get_result(conn)?)
}

/// Those of `digests` that the repository has as manifests, with their sizes, held until the
/// transaction ends.
pub fn manifests_in_repo(
    conn: &mut Conn,
    repo_id: i64,
    digests: &[Digest],
) -> Result<Vec<(String, u64)>> {
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let digests: Vec<&str> = digests.iter().map(Digest::as_str).collect();
    let size = diesel::dsl::sql::<diesel::sql_types::BigInt>("CAST(LENGTH(content) AS BIGINT)");
    let query = manifests::table
        .filter(manifests::repo_id.eq(repo_id))
        .filter(manifests::digest.eq_any(digests))
        .order(manifests::digest)
        .select((manifests::digest, size));
    let rows: Vec<(String, i64)> = match conn {
        Conn::Postgres(c) => query.for_share().load(c)?,
        Conn::Sqlite(c) => query.load(c)?,
    };
    Ok(rows
        .into_iter()
        .map(|(digest, size)| (digest, as_u64(size)))
        .collect())
}

/// A manifest that is to be stored.
#[derive(Debug)]
pub struct NewManifest {
    /// The digest of the content.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The bytes.
    pub content: Vec<u8>,
    /// The object that holds the same bytes in the account's storage.
    pub object_id: Uuid,
    /// The backend that it lies on.
    pub storage: String,
    /// The manifest that it is about.
    pub subject: Option<Digest>,
    /// The blobs that it needs, by number and in order.
    pub blob_ids: Vec<i64>,
    /// The manifests that it lists.
    pub children: Vec<Digest>,
}

/// A manifest was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inserted {
    /// It lay in the trash, and was counted there with so many bytes.
    pub trash_bytes: Option<i64>,
}

/// Stores a manifest, and takes it out of the trash; `None` if the repository had it already, and then its object stays
/// loose. The caller ends the transaction with [`super::quotas::quota_take_manifest`] if it was stored.
pub fn manifest_insert(
    conn: &mut Conn,
    repo: &Repo,
    manifest: &NewManifest,
    times: PushTimes,
) -> Result<Option<Inserted>> {
    let digest = manifest.digest.as_str();
    let count = on_backend!(conn, |c| diesel::insert_into(manifests::table)
        .values((
            manifests::repo_id.eq(repo.id),
            manifests::digest.eq(digest),
            manifests::media_type.eq(&manifest.media_type),
            manifests::content.eq(&manifest.content),
            manifests::object_id.eq(manifest.object_id.to_string()),
            manifests::storage.eq(&manifest.storage),
            manifests::subject_digest.eq(manifest.subject.as_ref().map(Digest::as_str)),
            manifests::pushed_at.eq(times.now.naive_utc()),
            manifests::next_validation_at.eq(times.validate_at.naive_utc()),
        ))
        .on_conflict((manifests::repo_id, manifests::digest))
        .do_nothing()
        .execute(c))?;
    if count == 0 {
        return Ok(None);
    }
    if loose_object_adopt(conn, manifest.object_id)?.is_none() {
        return Err(Error::from(Code::Swept));
    }
    for blob_id in &manifest.blob_ids {
        diesel::insert_into(manifest_blob_refs::table)
            .values((
                manifest_blob_refs::repo_id.eq(repo.id),
                manifest_blob_refs::digest.eq(digest),
                manifest_blob_refs::blob_id.eq(blob_id),
            ))
            .execute(conn)?;
    }
    for child in &manifest.children {
        diesel::insert_into(manifest_manifest_refs::table)
            .values((
                manifest_manifest_refs::repo_id.eq(repo.id),
                manifest_manifest_refs::parent_digest.eq(digest),
                manifest_manifest_refs::child_digest.eq(child.as_str()),
            ))
            .execute(conn)?;
    }
    // What is restored may need less than it did: then what it needed lies elsewhere now.
    let mut kept_by_trash = trash_blob_ids(conn, repo.id, &[digest])?;
    let trash_bytes = trash_take(conn, repo.id, &manifest.digest)?;
    kept_by_trash.extend(&manifest.blob_ids);
    let all: Vec<i64> = kept_by_trash.into_iter().collect();
    mounts_lock(conn, repo.id, &all)?;
    mounts_use(conn, repo.id, &manifest.blob_ids, times.now)?;
    if trash_bytes.is_some() {
        mounts_release(conn, repo.id, &all, times.keep_until)?;
    }
    Ok(Some(Inserted { trash_bytes }))
}

/// Gives a manifest the times that it had before it was deleted.
pub fn manifest_set_times(
    conn: &mut Conn,
    (repo_id, digest): (i64, &Digest),
    pushed_at: DateTime<Utc>,
    last_pulled_at: Option<DateTime<Utc>>,
) -> Result<()> {
    diesel::update(manifests::table.find((repo_id, digest.as_str())))
        .set((
            manifests::pushed_at.eq(pushed_at.naive_utc()),
            manifests::last_pulled_at.eq(last_pulled_at.map(|at| at.naive_utc())),
        ))
        .execute(conn)?;
    Ok(())
}

/// Up to `limit` manifests whose subject is `subject`, or that the referrers fallback tag lists, by
/// digest and after `after`.
pub fn referrer_page(
    conn: &mut Conn,
    repo_id: i64,
    subject: &Digest,
    after: Option<&Digest>,
    limit: i64,
) -> Result<Vec<StoredManifest>> {
    let in_fallback = manifest_manifest_refs::table
        .inner_join(
            tags::table.on(tags::repo_id
                .eq(manifest_manifest_refs::repo_id)
                .and(tags::digest.eq(manifest_manifest_refs::parent_digest))),
        )
        .filter(tags::repo_id.eq(repo_id))
        .filter(tags::name.eq(subject.fallback_tag()))
        .select(manifest_manifest_refs::child_digest);
    let rows: Vec<(String, String, Vec<u8>)> = manifests::table
        .filter(manifests::repo_id.eq(repo_id))
        .filter(
            manifests::subject_digest
                .assume_not_null()
                .eq(subject.as_str())
                .or(manifests::digest.eq_any(in_fallback)),
        )
        .filter(manifests::digest.gt(after.map_or("", Digest::as_str)))
        .order(manifests::digest)
        .limit(limit)
        .select((manifests::digest, manifests::media_type, manifests::content))
        .load(conn)?;
    rows.into_iter()
        .map(|(digest, media_type, content)| {
            Ok(StoredManifest {
                repo_id,
                digest: stored(&digest)?,
                media_type,
                content,
                audited_for: None,
            })
        })
        .collect()
}

/// Notes when manifests, and the tags that led to them, were last pulled.
pub fn pulls_note(conn: &mut Conn, pulls: &[Pull]) -> Result<()> {
    for pull in pulls {
        let at = Some(pull.at.naive_utc());
        execute_cached!(
            conn,
            diesel::update(manifests::table.find((pull.repo_id, pull.digest.as_str())))
                .set(manifests::last_pulled_at.eq(at)),
        )?;
        if let Some(tag) = &pull.tag {
            execute_cached!(
                conn,
                diesel::update(tags::table.find((pull.repo_id, tag)))
                    .set(tags::last_pulled_at.eq(at)),
            )?;
        }
    }
    Ok(())
}

/// One pull, to be noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// The repository's number.
    pub repo_id: i64,
    /// Which manifest.
    pub digest: Digest,
    /// By which tag, if it was by a tag.
    pub tag: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// When a manifest was last pulled.
pub fn manifest_last_pulled_at(
    conn: &mut Conn,
    repo_id: i64,
    digest: &Digest,
) -> Result<Option<DateTime<Utc>>> {
    let at: Option<Option<chrono::NaiveDateTime>> = manifests::table
        .find((repo_id, digest.as_str()))
        .select(manifests::last_pulled_at)
        .first(conn)
        .optional()?;
    Ok(at.flatten().map(|at| at.and_utc()))
}
