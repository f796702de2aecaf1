//! Carrying out GC policies: which repository is due, what its images are, and what must still be true of one that goes.
//!
//! Images are read without their contents. What a newcomer gets wrong: what was read is old when it is acted upon. Who
//! deletes an image holds the repository and the image ([`gc_image_hold`]) and looks again.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn, as_u64,
    repos::full_name,
    schema::{accounts, legal_holds, manifest_manifest_refs, manifests, repos, tags},
    stored,
};
use crate::{
    error::{Error, Result},
    model::{
        gc_plan::{Condemned, GcHold, GcImage},
        gc_status::GcStatus,
    },
    oci::{AccountName, Digest, FullRepoName, Tag},
};

/// How many rows one query reads.
const PAGE_ROWS: i64 = 5_000;

/// Puts the account's repositories on the list of those that are due, or takes them all away.
pub fn gc_schedule(
    conn: &mut Conn,
    account: &AccountName,
    at: Option<DateTime<Utc>>,
) -> Result<()> {
    diesel::update(repos::table.filter(repos::account_name.eq(account.as_str())))
        .set(repos::next_gc_at.eq(at.map(|at| at.naive_utc())))
        .execute(conn)?;
    Ok(())
}

/// Takes the repository that is due for longest, until `lease_until`; nobody else takes it before.
pub fn gc_claim(
    conn: &mut Conn,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Option<(i64, FullRepoName)>> {
    type Due = (i64, String, String, Option<NaiveDateTime>);
    let due: Option<Due> = repos::table
        .inner_join(accounts::table)
        .filter(accounts::is_deleting.eq(false))
        .filter(repos::next_gc_at.le(now.naive_utc()))
        .order(repos::next_gc_at)
        .select((
            repos::id,
            repos::account_name,
            repos::name,
            repos::next_gc_at,
        ))
        .first(conn)
        .optional()?;
    let Some((id, account, name, Some(held))) = due else {
        return Ok(None);
    };
    let name = full_name(&account, &name)?;
    let is_ours = gc_put_off(conn, (id, held.and_utc()), Some(lease_until))?;
    Ok(is_ours.then_some((id, name)))
}

/// Says when a repository whose lease is `held` is due again; `false` if somebody else has it, or the account's policies
/// have changed.
pub fn gc_put_off(
    conn: &mut Conn,
    (repo_id, held): (i64, DateTime<Utc>),
    until: Option<DateTime<Utc>>,
) -> Result<bool> {
    let ours = repos::table
        .find(repo_id)
        .filter(repos::next_gc_at.eq(held.naive_utc()));
    let count = diesel::update(ours)
        .set(repos::next_gc_at.eq(until.map(|until| until.naive_utc())))
        .execute(conn)?;
    Ok(count == 1)
}

/// Since when the repository that is due for longest has been due.
pub fn gc_due_since(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let at: Option<Option<NaiveDateTime>> = repos::table
        .inner_join(accounts::table)
        .filter(accounts::is_deleting.eq(false))
        .filter(repos::next_gc_at.is_not_null())
        .order(repos::next_gc_at)
        .select(repos::next_gc_at)
        .first(conn)
        .optional()?;
    Ok(at.flatten().map(|at| at.and_utc()))
}

/// All images of a repository by digest, each with its status as it is stored.
pub fn gc_images(conn: &mut Conn, repo_id: i64) -> Result<Vec<(GcImage, Option<String>)>> {
    type Row = (
        String,
        Option<String>,
        NaiveDateTime,
        Option<NaiveDateTime>,
        i64,
        Option<String>,
    );
    let size = diesel::dsl::sql::<diesel::sql_types::BigInt>("CAST(LENGTH(content) AS BIGINT)");
    let mut found: Vec<(GcImage, Option<String>)> = Vec::new();
    loop {
        let after = found.last().map_or("", |(image, _)| image.digest.as_str());
        let rows: Vec<Row> = manifests::table
            .filter(manifests::repo_id.eq(repo_id))
            .filter(manifests::digest.gt(after))
            .order(manifests::digest)
            .limit(PAGE_ROWS)
            .select((
                manifests::digest,
                manifests::subject_digest,
                manifests::pushed_at,
                manifests::last_pulled_at,
                size.clone(),
                manifests::gc_status,
            ))
            .load(conn)?;
        let is_last = rows.len() < PAGE_ROWS as usize;
        for (digest, subject, pushed_at, last_pulled_at, size_bytes, status) in rows {
            let image = GcImage {
                digest: stored(&digest)?,
                tags: Vec::new(),
                pushed_at: pushed_at.and_utc(),
                last_pulled_at: last_pulled_at.map(|at| at.and_utc()),
                children: Vec::new(),
                subject: subject.map(|subject| stored(&subject)).transpose()?,
                size_bytes: as_u64(size_bytes),
                condemned_with: status.as_deref().and_then(condemned_with),
            };
            found.push((image, status));
        }
        if is_last {
            break;
        }
    }
    let places: HashMap<String, usize> = (0..)
        .zip(&found)
        .map(|(place, (image, _))| (image.digest.to_string(), place))
        .collect();
    children_add(conn, repo_id, (&places, &mut found))?;
    tags_add(conn, repo_id, (&places, &mut found))?;
    Ok(found)
}

/// What the status of a run before says that the image was to go with.
fn condemned_with(status: &str) -> Option<Condemned> {
    // Most are of another kind, and there may be very many.
    if !status.contains("\"delete_with") {
        return None;
    }
    match serde_json::from_str(status).ok()? {
        GcStatus::DeleteWith { subject } => subject.parse().ok().map(Condemned::Subject),
        GcStatus::DeleteWithParent { parent } => parent.parse().ok().map(Condemned::Parent),
        _ => None,
    }
}

type Places<'a> = (
    &'a HashMap<String, usize>,
    &'a mut Vec<(GcImage, Option<String>)>,
);

/// What was pushed since the images were read is left out: the next run sees it, and a deletion looks again.
fn children_add(conn: &mut Conn, repo_id: i64, (places, found): Places<'_>) -> Result<()> {
    use manifest_manifest_refs::{child_digest, parent_digest};
    let mut last = (String::new(), String::new());
    loop {
        let rows: Vec<(String, String)> = manifest_manifest_refs::table
            .filter(manifest_manifest_refs::repo_id.eq(repo_id))
            .filter(
                parent_digest
                    .gt(&last.0)
                    .or(parent_digest.eq(&last.0).and(child_digest.gt(&last.1))),
            )
            .order((parent_digest, child_digest))
            .limit(PAGE_ROWS)
            .select((parent_digest, child_digest))
            .load(conn)?;
        let is_last = rows.len() < PAGE_ROWS as usize;
        for (parent, child) in &rows {
            if let Some(place) = places.get(parent)
                && places.contains_key(child)
            {
                found[*place].0.children.push(stored(child)?);
            }
        }
        match rows.into_iter().next_back() {
            Some(row) if !is_last => last = row,
            _ => return Ok(()),
        }
    }
}

fn tags_add(conn: &mut Conn, repo_id: i64, (places, found): Places<'_>) -> Result<()> {
    let mut last = String::new();
    loop {
        let rows: Vec<(String, String)> = tags::table
            .filter(tags::repo_id.eq(repo_id))
            .filter(tags::name.gt(&last))
            .order(tags::name)
            .limit(PAGE_ROWS)
            .select((tags::name, tags::digest))
            .load(conn)?;
        let is_last = rows.len() < PAGE_ROWS as usize;
        for (tag, digest) in &rows {
            if let Some(place) = places.get(digest) {
                found[*place].0.tags.push(stored(tag)?);
            }
        }
        match rows.into_iter().next_back() {
            Some((name, _)) if !is_last => last = name,
            _ => return Ok(()),
        }
    }
}

/// The holds in a repository that have not ended.
pub fn gc_holds(conn: &mut Conn, repo_id: i64, now: DateTime<Utc>) -> Result<Vec<GcHold>> {
    let rows: Vec<(String, NaiveDateTime)> = legal_holds::table
        .filter(legal_holds::repo_id.eq(repo_id))
        .filter(legal_holds::hold_until.gt(now.naive_utc()))
        .select((legal_holds::tag, legal_holds::hold_until))
        .load(conn)?;
    let holds = rows.into_iter().map(|(tag, until)| {
        Ok(GcHold {
            tag: if tag.is_empty() {
                None
            } else {
                Some(stored(&tag)?)
            },
            until: until.and_utc(),
        })
    });
    holds.collect()
}

/// Stores what was decided about images; those that are gone by now are left out. They are held until the transaction
/// ends, in the order of the digests.
pub fn gc_statuses_put(
    conn: &mut Conn,
    repo_id: i64,
    statuses: &BTreeMap<String, String>,
) -> Result<()> {
    for (digest, status) in statuses {
        diesel::update(manifests::table.find((repo_id, digest)))
            .set(manifests::gc_status.eq(status))
            .execute(conn)?;
    }
    Ok(())
}

/// An image that is about to be deleted, as it is now.
#[derive(Debug, PartialEq, Eq)]
pub struct HeldImage {
    /// When it was pushed.
    pub pushed_at: DateTime<Utc>,
    /// When it was last pulled.
    pub last_pulled_at: Option<DateTime<Utc>>,
    /// Its tags in order.
    pub tags: Vec<Tag>,
}

/// Holds the repository and then an image of it until the transaction ends, so that no hold, no tag and no index that
/// lists it can come between; `None` if it is gone. The account is held already.
pub fn gc_image_hold(conn: &mut Conn, repo_id: i64, digest: &Digest) -> Result<Option<HeldImage>> {
    if let Conn::Postgres(c) = conn {
        // Not FOR UPDATE: pushes may go on to refer to the row.
        let held = repos::table.find(repo_id).select(repos::id);
        let _: Option<i64> = held.for_no_key_update().first(c).optional()?;
    }
    let query = manifests::table
        .find((repo_id, digest.as_str()))
        .select((manifests::pushed_at, manifests::last_pulled_at));
    let row: Option<(NaiveDateTime, Option<NaiveDateTime>)> = match conn {
        Conn::Postgres(c) => query.for_update().first(c).optional()?,
        Conn::Sqlite(c) => query.first(c).optional()?,
    };
    let Some((pushed_at, last_pulled_at)) = row else {
        return Ok(None);
    };
    Ok(Some(HeldImage {
        pushed_at: pushed_at.and_utc(),
        last_pulled_at: last_pulled_at.map(|at| at.and_utc()),
        tags: super::tags::tags_of(conn, repo_id, digest)?,
    }))
}

/// Whether something about the manifest was pushed at `since` or later: a manifest with it as its subject, or one of the
/// tags `about`.
pub fn gc_has_new_referrer(
    conn: &mut Conn,
    repo_id: i64,
    (digest, about): (&Digest, &[String]),
    since: DateTime<Utc>,
) -> Result<bool> {
    let referrers = manifests::table
        .filter(manifests::repo_id.eq(repo_id))
        .filter(manifests::subject_digest.eq(digest.as_str()))
        .filter(manifests::pushed_at.ge(since.naive_utc()));
    let by_tags = tags::table
        .filter(tags::repo_id.eq(repo_id))
        .filter(tags::name.eq_any(about))
        .filter(tags::pushed_at.ge(since.naive_utc()));
    let found = diesel::dsl::exists(referrers).or(diesel::dsl::exists(by_tags));
    diesel::select(found).get_result(conn).map_err(Error::from)
}

/// Makes the GC policies due in every repository of accounts that have some.
pub fn gc_due_now(conn: &mut Conn, now: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::update(repos::table)
        .filter(repos::next_gc_at.gt(now.naive_utc()))
        .set(repos::next_gc_at.eq(Some(now.naive_utc())))
        .execute(conn)?)
}
