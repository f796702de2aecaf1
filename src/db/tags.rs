//! Tags. Each change is noted in the tag's history.

use diesel::prelude::*;

use super::{
    Conn,
    cached::execute_cached,
    schema::tags,
    stored,
    tag_history::{TagAuthor, tag_note},
};
use crate::{
    error::Result,
    oci::{Digest, Tag},
};

/// Up to `limit` tags after `after`, in ASCII order (OCI Distribution Specification, "Listing Tags").
pub fn tag_page(
    conn: &mut Conn,
    repo_id: i64,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Tag>> {
    let names: Vec<String> = tags::table
        .filter(tags::repo_id.eq(repo_id))
        .filter(tags::name.gt(after.unwrap_or("")))
        .order(tags::name)
        .limit(limit)
        .select(tags::name)
        .load(conn)?;
    names.iter().map(|name| stored(name)).collect()
}

/// Points a tag at a manifest of the repository.
pub fn tag_put(
    conn: &mut Conn,
    (repo_id, tag): (i64, &Tag),
    digest: &Digest,
    author: TagAuthor<'_>,
) -> Result<()> {
    let now = author.now.naive_utc();
    execute_cached!(
        conn,
        diesel::insert_into(tags::table)
            .values((
                tags::repo_id.eq(repo_id),
                tags::name.eq(tag.as_str()),
                tags::digest.eq(digest.as_str()),
                tags::pushed_at.eq(now),
            ))
            .on_conflict((tags::repo_id, tags::name))
            .do_update()
            .set((tags::digest.eq(digest.as_str()), tags::pushed_at.eq(now)))
    )?;
    tag_note(conn, (repo_id, tag.as_str()), Some(digest.as_str()), author)
}

/// Deletes a tag and leaves the manifest; `false` if there is no such tag.
pub fn tag_delete(
    conn: &mut Conn,
    (repo_id, tag): (i64, &Tag),
    author: TagAuthor<'_>,
) -> Result<bool> {
    let row = tags::table.find((repo_id, tag.as_str()));
    if diesel::delete(row).execute(conn)? == 0 {
        return Ok(false);
    }
    tag_note(conn, (repo_id, tag.as_str()), None, author)?;
    Ok(true)
}

/// The manifest that a tag points at.
pub fn tag_digest(conn: &mut Conn, repo_id: i64, tag: &Tag) -> Result<Option<Digest>> {
    let digest: Option<String> = tags::table
        .find((repo_id, tag.as_str()))
        .select(tags::digest)
        .first(conn)
        .optional()?;
    digest.map(|digest| stored(&digest)).transpose()
}

/// The tags that point at a manifest, in ASCII order.
pub fn tags_of(conn: &mut Conn, repo_id: i64, digest: &Digest) -> Result<Vec<Tag>> {
    let names: Vec<String> = tags::table
        .filter(tags::repo_id.eq(repo_id))
        .filter(tags::digest.eq(digest.as_str()))
        .order(tags::name)
        .select(tags::name)
        .load(conn)?;
    names.iter().map(|name| stored(name)).collect()
}
