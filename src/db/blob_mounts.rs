//! Through which repositories blobs can be reached, and which of these mounts nobody uses.
//!
//! A mount is used while a manifest of its repository needs the blob, or a deleted one that can come back. `is_used` says
//! so and is changed by those who store and delete manifests, with the mount's row held; what it says only finds work:
//! [`mounts_sweep`] looks for itself before it takes a mount away. A mount that is not used stays until `keep_until`, for
//! somebody may be about to push a manifest. Rows are held in this order: account, repository, blobs, manifests and trash,
//! mounts, books.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn,
    blob_delete::blobs_remove,
    cached::execute_cached,
    dialect::on_backend,
    loose_objects::LooseObject,
    schema::{blob_mounts, blobs, manifest_blob_refs, repos, trash_blob_refs},
    stored,
};
use crate::{
    error::Result,
    oci::{AccountName, Digest, FullRepoName},
};

/// Makes a blob reachable through a repository, and keeps the mount until `keep_until` at least.
pub(super) fn mount_put(
    conn: &mut Conn,
    (repo_id, blob_id): (i64, i64),
    keep_until: DateTime<Utc>,
) -> Result<()> {
    let keep_until = keep_until.naive_utc();
    on_backend!(conn, |c| diesel::insert_into(blob_mounts::table)
        .values((
            blob_mounts::repo_id.eq(repo_id),
            blob_mounts::blob_id.eq(blob_id),
            blob_mounts::is_used.eq(false),
            blob_mounts::keep_until.eq(keep_until),
        ))
        .on_conflict((blob_mounts::repo_id, blob_mounts::blob_id))
        .do_nothing()
        .execute(c))?;
    mount_keep(conn, (repo_id, blob_id), keep_until.and_utc())
}

/// Keeps a mount until `keep_until` at least, if it is there.
pub fn mount_keep(conn: &mut Conn, mount: (i64, i64), keep_until: DateTime<Utc>) -> Result<()> {
    let mount = blob_mounts::table
        .find(mount)
        .filter(blob_mounts::keep_until.lt(keep_until.naive_utc()));
    execute_cached!(
        conn,
        diesel::update(mount).set(blob_mounts::keep_until.eq(keep_until.naive_utc())),
    )?;
    Ok(())
}

/// Keeps blobs of repositories until `keep_until` at least, those that are there.
pub fn mounts_keep(
    conn: &mut Conn,
    wanted: &[(FullRepoName, Digest)],
    keep_until: DateTime<Utc>,
) -> Result<()> {
    let mut mounts: Vec<(i64, i64)> = Vec::with_capacity(wanted.len());
    for (name, digest) in wanted {
        let mount: Option<(i64, i64)> = blob_mounts::table
            .inner_join(repos::table)
            .inner_join(blobs::table)
            .filter(repos::account_name.eq(name.account.as_str()))
            .filter(repos::name.eq(name.repo.as_str()))
            .filter(blobs::account_name.eq(name.account.as_str()))
            .filter(blobs::digest.eq(digest.as_str()))
            .select((blob_mounts::blob_id, blob_mounts::repo_id))
            .first(conn)
            .optional()?;
        mounts.extend(mount);
    }
    // In the order in which everybody holds them.
    mounts.sort_unstable();
    for (blob_id, repo_id) in mounts {
        mount_keep(conn, (repo_id, blob_id), keep_until)?;
    }
    Ok(())
}

/// A manifest of the repository needs these blobs from now on: who kept the mounts for it has got what he wanted. The
/// numbers are in order.
pub(super) fn mounts_use(
    conn: &mut Conn,
    repo_id: i64,
    blob_ids: &[i64],
    now: DateTime<Utc>,
) -> Result<()> {
    for blob_id in blob_ids {
        execute_cached!(
            conn,
            diesel::update(blob_mounts::table.find((repo_id, *blob_id))).set((
                blob_mounts::is_used.eq(true),
                blob_mounts::keep_until.eq(now.naive_utc()),
            )),
        )?;
    }
    Ok(())
}

/// Holds mounts until the transaction ends. Whoever takes references away calls it before, with the numbers in order:
/// of two that take the last ones away, the second sees what the first has done. SQLite has one writer anyway.
pub(super) fn mounts_lock(conn: &mut Conn, repo_id: i64, blob_ids: &[i64]) -> Result<()> {
    if let Conn::Postgres(c) = conn {
        for blob_id in blob_ids {
            let mount = blob_mounts::table.find((repo_id, *blob_id));
            let _held: Option<i64> = mount
                .select(blob_mounts::blob_id)
                .for_update()
                .first(c)
                .optional()?;
        }
    }
    Ok(())
}

/// References to these blobs are gone, whose mounts are held: those that nothing else in the repository needs stay until
/// `keep_until` at least.
pub(super) fn mounts_release(
    conn: &mut Conn,
    repo_id: i64,
    blob_ids: &[i64],
    keep_until: DateTime<Utc>,
) -> Result<()> {
    for blob_id in blob_ids {
        if !is_needed(conn, (repo_id, *blob_id))? {
            diesel::update(blob_mounts::table.find((repo_id, *blob_id)))
                .set(blob_mounts::is_used.eq(false))
                .execute(conn)?;
            mount_keep(conn, (repo_id, *blob_id), keep_until)?;
        }
    }
    Ok(())
}

/// Whether a manifest of the repository, or one of its trash, needs the blob.
fn is_needed(conn: &mut Conn, (repo_id, blob_id): (i64, i64)) -> Result<bool> {
    let by_manifests = manifest_blob_refs::table
        .filter(manifest_blob_refs::repo_id.eq(repo_id))
        .filter(manifest_blob_refs::blob_id.eq(blob_id));
    let by_trash = trash_blob_refs::table
        .filter(trash_blob_refs::repo_id.eq(repo_id))
        .filter(trash_blob_refs::blob_id.eq(blob_id));
    let needed = diesel::dsl::exists(by_manifests).or(diesel::dsl::exists(by_trash));
    Ok(diesel::select(needed).get_result(conn)?)
}

/// What a sweep of mounts took away.
#[derive(Debug, PartialEq, Eq)]
pub struct MountsSwept {
    /// From which account.
    pub account: AccountName,
    /// How many mounts were taken away.
    pub mounts: usize,
    /// How many blobs went with them.
    pub blobs: usize,
    /// The objects of these blobs: to be deleted now.
    pub objects: Vec<LooseObject>,
}

/// Takes up to `limit` mounts of one account away that nobody uses and nobody has kept for longer than now, and the blobs
/// that cannot be reached any more; `None` if nothing is due. What another node is just looking at is left to it.
pub fn mounts_sweep(
    conn: &mut Conn,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Option<MountsSwept>> {
    let due: Vec<(String, i64, i64)> = blob_mounts::table
        .inner_join(blobs::table)
        .filter(diesel::dsl::not(blob_mounts::is_used))
        .filter(blob_mounts::keep_until.le(now.naive_utc()))
        .order(blob_mounts::keep_until)
        .limit(limit)
        .select((
            blobs::account_name,
            blob_mounts::blob_id,
            blob_mounts::repo_id,
        ))
        .load(conn)?;
    let Some((account, ..)) = due.first().cloned() else {
        return Ok(None);
    };
    // One account: the books of two of them cannot be held in the order in which others hold them.
    let of_account = due.into_iter().filter(|(of, ..)| *of == account);
    let mut mounts: Vec<(i64, i64)> = of_account.map(|(_, blob, repo)| (blob, repo)).collect();
    mounts.sort_unstable();
    let (mut taken, mut unmounted) = (0, Vec::new());
    for of_blob in mounts.chunk_by(|a, b| a.0 == b.0) {
        let blob_id = of_blob[0].0;
        if !blob_take(conn, blob_id)? {
            continue;
        }
        for (_, repo_id) in of_blob {
            taken += usize::from(mount_sweep(conn, (*repo_id, blob_id), now)?);
        }
        let mounts = blob_mounts::table.filter(blob_mounts::blob_id.eq(blob_id));
        let is_mounted: bool = diesel::select(diesel::dsl::exists(mounts)).get_result(conn)?;
        if !is_mounted && !is_referred_to(conn, blob_id)? {
            unmounted.push(blob_id);
        }
    }
    let account: AccountName = stored(&account)?;
    Ok(Some(MountsSwept {
        mounts: taken,
        blobs: unmounted.len(),
        objects: blobs_remove(conn, &account, &unmounted, now)?,
        account,
    }))
}

/// Whether anything refers to a blob that is mounted nowhere: that is a fault of somebody else, and must not stop a sweep.
fn is_referred_to(conn: &mut Conn, blob_id: i64) -> Result<bool> {
    let by_manifests = manifest_blob_refs::table.filter(manifest_blob_refs::blob_id.eq(blob_id));
    let by_trash = trash_blob_refs::table.filter(trash_blob_refs::blob_id.eq(blob_id));
    let referred = diesel::dsl::exists(by_manifests).or(diesel::dsl::exists(by_trash));
    Ok(diesel::select(referred).get_result(conn)?)
}

/// Holds a blob until the transaction ends; `false` if it is gone, or somebody else holds it.
fn blob_take(conn: &mut Conn, blob_id: i64) -> Result<bool> {
    let query = blobs::table.find(blob_id).select(blobs::id);
    let found: Option<i64> = match conn {
        Conn::Postgres(c) => query.for_update().skip_locked().first(c).optional()?,
        Conn::Sqlite(c) => query.first(c).optional()?,
    };
    Ok(found.is_some())
}

/// Takes a mount away whose blob is held, if it is still due and really not used.
fn mount_sweep(conn: &mut Conn, mount: (i64, i64), now: DateTime<Utc>) -> Result<bool> {
    mounts_lock(conn, mount.0, &[mount.1])?;
    if is_needed(conn, mount)? {
        diesel::update(blob_mounts::table.find(mount))
            .set(blob_mounts::is_used.eq(true))
            .execute(conn)?;
        return Ok(false);
    }
    let due = blob_mounts::table
        .find(mount)
        .filter(blob_mounts::keep_until.le(now.naive_utc()));
    Ok(diesel::delete(due).execute(conn)? == 1)
}

/// Takes mounts away whose blobs are held, if nobody needs or keeps them, and gives the blobs that cannot be reached any
/// more. The numbers are in order.
pub(super) fn mounts_drop(
    conn: &mut Conn,
    repo_id: i64,
    blob_ids: &[i64],
    now: DateTime<Utc>,
) -> Result<Vec<i64>> {
    let mut unmounted = Vec::new();
    for blob_id in blob_ids {
        if mount_sweep(conn, (repo_id, *blob_id), now)? {
            let mounts = blob_mounts::table.filter(blob_mounts::blob_id.eq(blob_id));
            let is_mounted: bool = diesel::select(diesel::dsl::exists(mounts)).get_result(conn)?;
            if !is_mounted {
                unmounted.push(*blob_id);
            }
        }
    }
    Ok(unmounted)
}

/// Since when the mount that is due for longest has been due.
pub fn mounts_due_since(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let at: Option<chrono::NaiveDateTime> = blob_mounts::table
        .filter(diesel::dsl::not(blob_mounts::is_used))
        .order(blob_mounts::keep_until)
        .select(blob_mounts::keep_until)
        .first(conn)
        .optional()?;
    Ok(at.map(|at| at.and_utc()))
}
