//! Tags.

use diesel::prelude::*;

use super::{Conn, schema::tags, stored};
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

/// Deletes a tag and leaves the manifest; `false` if there is no such tag.
pub fn tag_delete(conn: &mut Conn, repo_id: i64, tag: &Tag) -> Result<bool> {
    Ok(diesel::delete(tags::table.find((repo_id, tag.as_str()))).execute(conn)? == 1)
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
