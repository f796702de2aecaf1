//! What needs a blob, and what would be freed without some manifests.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn, as_u64,
    image_gc::gc_holds,
    schema::{
        blob_mounts, blobs, manifest_blob_refs, repos, tags, trash_blob_refs, trash_manifests,
    },
    stored,
};
use crate::{
    error::Result,
    model::{
        blob_needs::{BlobFacts, BlobMount, TrashedManifest},
        gc_plan::GcHold,
    },
    oci::{AccountName, Digest},
};

/// How many names one query carries.
const NAMES_AT_ONCE: usize = 500;

/// How many manifests that need a blob are named for each repository, and as many of its trash.
const MANIFESTS_NAMED: usize = 10;

/// The bytes of blobs that no manifest needs any more, in any repository of the account nor in a trash, when these
/// manifests of the repository are gone.
pub fn freed_bytes(conn: &mut Conn, repo_id: i64, digests: &HashSet<String>) -> Result<u64> {
    let digests: Vec<&String> = digests.iter().collect();
    let mut gone: HashMap<i64, i64> = HashMap::new();
    for digests in digests.chunks(NAMES_AT_ONCE) {
        let blob_ids: Vec<i64> = manifest_blob_refs::table
            .filter(manifest_blob_refs::repo_id.eq(repo_id))
            .filter(manifest_blob_refs::digest.eq_any(digests.iter().copied()))
            .select(manifest_blob_refs::blob_id)
            .load(conn)?;
        for blob_id in blob_ids {
            *gone.entry(blob_id).or_default() += 1;
        }
    }
    let blob_ids: Vec<i64> = gone.keys().copied().collect();
    let mut freed = 0;
    for blob_ids in blob_ids.chunks(NAMES_AT_ONCE) {
        let needed: Vec<(i64, i64)> = manifest_blob_refs::table
            .filter(manifest_blob_refs::blob_id.eq_any(blob_ids))
            .group_by(manifest_blob_refs::blob_id)
            .select((manifest_blob_refs::blob_id, diesel::dsl::count_star()))
            .load(conn)?;
        let unneeded = needed
            .iter()
            .filter(|(blob_id, count)| gone.get(blob_id) == Some(count));
        let unneeded: Vec<i64> = unneeded.map(|(blob_id, _)| *blob_id).collect();
        let in_trash = trash_blob_refs::table.filter(trash_blob_refs::blob_id.eq(blobs::id));
        let sizes: Vec<i64> = blobs::table
            .filter(blobs::id.eq_any(unneeded))
            .filter(diesel::dsl::not(diesel::dsl::exists(in_trash)))
            .select(blobs::size_bytes)
            .load(conn)?;
        freed += sizes.into_iter().map(as_u64).sum::<u64>();
    }
    Ok(freed)
}

/// A blob of an account, and up to `limit` of the repositories that have it, by name after `after`.
pub fn blob_needs(
    conn: &mut Conn,
    (account, digest): (&AccountName, &Digest),
    (after, limit): (&str, i64),
    now: DateTime<Utc>,
) -> Result<Option<(BlobFacts, Vec<BlobMount>)>> {
    let row: Option<(i64, i64, NaiveDateTime)> = blobs::table
        .filter(blobs::account_name.eq(account.as_str()))
        .filter(blobs::digest.eq(digest.as_str()))
        .select((blobs::id, blobs::size_bytes, blobs::pushed_at))
        .first(conn)
        .optional()?;
    let Some((blob_id, size_bytes, pushed_at)) = row else {
        return Ok(None);
    };
    let mounts: Vec<(i64, String, NaiveDateTime)> = blob_mounts::table
        .inner_join(repos::table)
        .filter(blob_mounts::blob_id.eq(blob_id))
        .filter(repos::name.gt(after))
        .order(repos::name)
        .limit(limit)
        .select((repos::id, repos::name, blob_mounts::keep_until))
        .load(conn)?;
    let mut found = Vec::with_capacity(mounts.len());
    for (repo_id, repository, keep_until) in mounts {
        found.push(mount(
            conn,
            (repo_id, blob_id),
            (repository, keep_until),
            now,
        )?);
    }
    let facts = BlobFacts {
        digest: digest.clone(),
        size_bytes: as_u64(size_bytes),
        pushed_at: pushed_at.and_utc(),
    };
    Ok(Some((facts, found)))
}

fn mount(
    conn: &mut Conn,
    (repo_id, blob_id): (i64, i64),
    (repository, keep_until): (String, NaiveDateTime),
    now: DateTime<Utc>,
) -> Result<BlobMount> {
    let rows = MANIFESTS_NAMED as i64 + 1;
    let mut manifests: Vec<String> = manifest_blob_refs::table
        .filter(manifest_blob_refs::repo_id.eq(repo_id))
        .filter(manifest_blob_refs::blob_id.eq(blob_id))
        .order(manifest_blob_refs::digest)
        .limit(rows)
        .select(manifest_blob_refs::digest)
        .load(conn)?;
    let mut trash: Vec<(String, NaiveDateTime)> = trash_blob_refs::table
        .inner_join(
            trash_manifests::table.on(trash_manifests::repo_id
                .eq(trash_blob_refs::repo_id)
                .and(trash_manifests::digest.eq(trash_blob_refs::digest))),
        )
        .filter(trash_blob_refs::repo_id.eq(repo_id))
        .filter(trash_blob_refs::blob_id.eq(blob_id))
        .order(trash_blob_refs::digest)
        .limit(rows)
        .select((trash_blob_refs::digest, trash_manifests::purge_at))
        .load(conn)?;
    let has_more_manifests = manifests.len() > MANIFESTS_NAMED;
    let has_more_in_trash = trash.len() > MANIFESTS_NAMED;
    manifests.truncate(MANIFESTS_NAMED);
    trash.truncate(MANIFESTS_NAMED);
    let trash = trash.into_iter().map(|(digest, purge_at)| {
        let purge_at = purge_at.and_utc();
        Ok(TrashedManifest {
            digest: stored(&digest)?,
            purge_at,
        })
    });
    let manifests = manifests.iter().map(|digest| stored(digest));
    Ok(BlobMount {
        holds: holds(conn, (repo_id, blob_id), now)?,
        repository,
        kept_until: keep_until.and_utc(),
        manifests: manifests.collect::<Result<_>>()?,
        has_more_manifests,
        trash: trash.collect::<Result<_>>()?,
        has_more_in_trash,
    })
}

/// The holds of a repository that keep the blob: on all of it, or on tags of manifests that need it.
fn holds(
    conn: &mut Conn,
    (repo_id, blob_id): (i64, i64),
    now: DateTime<Utc>,
) -> Result<Vec<GcHold>> {
    let mut holds = gc_holds(conn, repo_id, now)?;
    let names = holds.iter().filter_map(|hold| hold.tag.as_ref());
    let names: Vec<String> = names.map(ToString::to_string).collect();
    let mut needed: HashSet<String> = HashSet::new();
    for names in names.chunks(NAMES_AT_ONCE) {
        let found: Vec<String> = tags::table
            .inner_join(
                manifest_blob_refs::table.on(manifest_blob_refs::repo_id
                    .eq(tags::repo_id)
                    .and(manifest_blob_refs::digest.eq(tags::digest))),
            )
            .filter(tags::repo_id.eq(repo_id))
            .filter(tags::name.eq_any(names))
            .filter(manifest_blob_refs::blob_id.eq(blob_id))
            .select(tags::name)
            .load(conn)?;
        needed.extend(found);
    }
    holds.retain(|hold| {
        hold.tag
            .as_ref()
            .is_none_or(|tag| needed.contains(tag.as_str()))
    });
    Ok(holds)
}
