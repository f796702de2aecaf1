//! Pages of repositories, manifests and tags with what lists show of them, and what is left of an account.
//!
//! Every page is read by its key (`name > last ORDER BY name LIMIT n`), so it takes as long at the end of a list as at
//! its beginning. What a newcomer gets wrong: sums over a page come from one query for the page, not one for each row.

use std::collections::HashMap;

use chrono::NaiveDateTime;
use diesel::{
    dsl::{count_star, max, sql},
    prelude::*,
    sql_types::BigInt,
};

use super::{
    Conn, as_u64,
    schema::{
        blob_mounts, blobs, manifest_blob_refs, manifest_manifest_refs, manifests, repos, tags,
    },
    stored,
};
use crate::{
    error::Result,
    model::listing::{ManifestSummary, RemainingManifests, RepoSummary, TagSummary},
    oci::AccountName,
};

/// How many tags one page of manifests shows at most.
const TAGS_PER_PAGE: usize = 10_000;

/// Up to `limit` repositories of an account, by name after `after`.
pub fn repo_summaries(
    conn: &mut Conn,
    account: &AccountName,
    after: &str,
    limit: i64,
) -> Result<Vec<RepoSummary>> {
    let rows: Vec<(i64, String)> = repos::table
        .filter(repos::account_name.eq(account.as_str()))
        .filter(repos::name.gt(after))
        .order(repos::name)
        .limit(limit)
        .select((repos::id, repos::name))
        .load(conn)?;
    let ids: Vec<i64> = rows.iter().map(|(id, _)| *id).collect();
    let of_manifests: Vec<(i64, i64, Option<NaiveDateTime>)> = manifests::table
        .filter(manifests::repo_id.eq_any(&ids))
        .group_by(manifests::repo_id)
        .select((manifests::repo_id, count_star(), max(manifests::pushed_at)))
        .load(conn)?;
    let of_tags: Vec<(i64, i64)> = tags::table
        .filter(tags::repo_id.eq_any(&ids))
        .group_by(tags::repo_id)
        .select((tags::repo_id, count_star()))
        .load(conn)?;
    let of_blobs: Vec<(i64, i64)> = blob_mounts::table
        .inner_join(blobs::table)
        .filter(blob_mounts::repo_id.eq_any(&ids))
        .group_by(blob_mounts::repo_id)
        .select((blob_mounts::repo_id, sum_of_sizes()))
        .load(conn)?;
    let of_manifests: HashMap<_, _> = of_manifests
        .into_iter()
        .map(|(id, count, pushed_at)| (id, (count, pushed_at)))
        .collect();
    let of_tags: HashMap<i64, i64> = of_tags.into_iter().collect();
    let of_blobs: HashMap<i64, i64> = of_blobs.into_iter().collect();
    let summaries = rows.into_iter().map(|(id, name)| {
        let (manifest_count, pushed_at) = of_manifests.get(&id).copied().unwrap_or_default();
        RepoSummary {
            name,
            manifest_count: as_u64(manifest_count),
            tag_count: as_u64(of_tags.get(&id).copied().unwrap_or_default()),
            size_bytes: as_u64(of_blobs.get(&id).copied().unwrap_or_default()),
            pushed_at: pushed_at.map(|at| at.and_utc()),
        }
    });
    Ok(summaries.collect())
}

fn sum_of_sizes() -> diesel::expression::SqlLiteral<BigInt> {
    sql::<BigInt>("CAST(COALESCE(SUM(blobs.size_bytes), 0) AS BIGINT)")
}

/// Up to `limit` tags of a repository, by name after `after`.
pub fn tag_summaries(
    conn: &mut Conn,
    repo_id: i64,
    after: &str,
    limit: i64,
) -> Result<Vec<TagSummary>> {
    let rows: Vec<TagRow> = tags::table
        .filter(tags::repo_id.eq(repo_id))
        .filter(tags::name.gt(after))
        .order(tags::name)
        .limit(limit)
        .select(TagRow::as_select())
        .load(conn)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = tags)]
struct TagRow {
    name: String,
    digest: String,
    pushed_at: NaiveDateTime,
    last_pulled_at: Option<NaiveDateTime>,
}

impl TryFrom<TagRow> for TagSummary {
    type Error = crate::error::Error;

    fn try_from(row: TagRow) -> Result<Self> {
        Ok(Self {
            name: row.name,
            digest: stored(&row.digest)?,
            pushed_at: row.pushed_at.and_utc(),
            last_pulled_at: row.last_pulled_at.map(|at| at.and_utc()),
        })
    }
}

/// Up to `limit` manifests of a repository with their tags, by digest after `after`. Fewer if they have very many
/// tags, but one at least if there are any; then the second value is true.
pub fn manifest_summaries(
    conn: &mut Conn,
    repo_id: i64,
    after: &str,
    limit: i64,
) -> Result<(Vec<ManifestSummary>, bool)> {
    type Times = (NaiveDateTime, Option<NaiveDateTime>);
    type Found = (Option<String>, Option<String>);
    type Row = (String, String, i64, Times, Found);
    let own_size = sql::<BigInt>("CAST(LENGTH(manifests.content) AS BIGINT)");
    let rows: Vec<Row> = manifests::table
        .filter(manifests::repo_id.eq(repo_id))
        .filter(manifests::digest.gt(after))
        .order(manifests::digest)
        .limit(limit)
        .select((
            manifests::digest,
            manifests::media_type,
            own_size,
            (manifests::pushed_at, manifests::last_pulled_at),
            (manifests::validation_error, manifests::gc_status),
        ))
        .load(conn)?;
    let Some(((first, ..), (last, ..))) = rows.first().zip(rows.last()) else {
        return Ok((Vec::new(), false));
    };
    let of_blobs: Vec<(String, i64)> = manifest_blob_refs::table
        .inner_join(blobs::table.on(blobs::id.eq(manifest_blob_refs::blob_id)))
        .filter(manifest_blob_refs::repo_id.eq(repo_id))
        .filter(manifest_blob_refs::digest.between(first, last))
        .group_by(manifest_blob_refs::digest)
        .select((manifest_blob_refs::digest, sum_of_sizes()))
        .load(conn)?;
    let of_blobs: HashMap<String, i64> = of_blobs.into_iter().collect();
    let tag_rows: Vec<TagRow> = tags::table
        .filter(tags::repo_id.eq(repo_id))
        .filter(tags::digest.between(first, last))
        .order((tags::digest, tags::name))
        .limit(TAGS_PER_PAGE as i64 + 1)
        .select(TagRow::as_select())
        .load(conn)?;
    let (mut tags_of, cut_at) = tags_by_digest(tag_rows)?;
    let mut summaries = Vec::with_capacity(rows.len());
    for (digest, media_type, own_size, (pushed_at, last_pulled_at), found) in rows {
        let (validation_error, gc_status) = found;
        let has_more_tags = cut_at.as_ref() == Some(&digest);
        if has_more_tags && !summaries.is_empty() {
            return Ok((summaries, true));
        }
        let blob_bytes = of_blobs.get(&digest).copied().unwrap_or_default();
        summaries.push(ManifestSummary {
            tags: tags_of.remove(&digest).unwrap_or_default(),
            digest: stored(&digest)?,
            media_type,
            size_bytes: as_u64(own_size) + as_u64(blob_bytes),
            pushed_at: pushed_at.and_utc(),
            last_pulled_at: last_pulled_at.map(|at| at.and_utc()),
            has_more_tags,
            validation_error,
            // A node of a newer version may have written what this one does not know.
            gc_status: gc_status.and_then(|status| serde_json::from_str(&status).ok()),
        });
        if has_more_tags {
            return Ok((summaries, true));
        }
    }
    Ok((summaries, false))
}

type TagsByDigest = HashMap<String, Vec<TagSummary>>;

/// The tags of each manifest, and the manifest of which not all tags were read, if there is one.
fn tags_by_digest(mut rows: Vec<TagRow>) -> Result<(TagsByDigest, Option<String>)> {
    let cut_at = rows.get(TAGS_PER_PAGE).map(|row| row.digest.clone());
    rows.truncate(TAGS_PER_PAGE);
    let mut found = TagsByDigest::new();
    for row in rows {
        let tags = found.entry(row.digest.clone()).or_default();
        tags.push(row.try_into()?);
    }
    Ok((found, cut_at))
}

/// How many manifests an account has, and some of those that no index lists.
pub fn remaining_in_account(
    conn: &mut Conn,
    account: &AccountName,
    limit: i64,
) -> Result<RemainingManifests> {
    let in_account = || {
        manifests::table
            .inner_join(repos::table)
            .filter(repos::account_name.eq(account.as_str()))
    };
    let count: i64 = in_account().count().get_result(conn)?;
    let next = in_account()
        .filter(diesel::dsl::not(diesel::dsl::exists(listed())))
        .order((repos::name, manifests::digest))
        .limit(limit)
        .select((repos::name, manifests::digest))
        .load(conn)?;
    Ok(RemainingManifests {
        count: as_u64(count),
        next,
    })
}

/// The same of one repository.
pub fn remaining_in_repo(conn: &mut Conn, repo_id: i64, limit: i64) -> Result<RemainingManifests> {
    let in_repo = || {
        manifests::table
            .inner_join(repos::table)
            .filter(manifests::repo_id.eq(repo_id))
    };
    let count: i64 = in_repo().count().get_result(conn)?;
    let next = in_repo()
        .filter(diesel::dsl::not(diesel::dsl::exists(listed())))
        .order(manifests::digest)
        .limit(limit)
        .select((repos::name, manifests::digest))
        .load(conn)?;
    Ok(RemainingManifests {
        count: as_u64(count),
        next,
    })
}

/// Indexes that list the manifest of the outer query.
#[diesel::dsl::auto_type]
fn listed() -> _ {
    manifest_manifest_refs::table
        .filter(manifest_manifest_refs::repo_id.eq(manifests::repo_id))
        .filter(manifest_manifest_refs::child_digest.eq(manifests::digest))
        .filter(manifest_manifest_refs::parent_digest.ne(manifests::digest))
}

/// How many blobs an account has.
pub fn blob_count(conn: &mut Conn, account: &AccountName) -> Result<u64> {
    let count: i64 = blobs::table
        .filter(blobs::account_name.eq(account.as_str()))
        .count()
        .get_result(conn)?;
    Ok(as_u64(count))
}
