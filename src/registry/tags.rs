//! Listing the tags of a repository.

use super::{
    Registry,
    access::{Pull, RepoAccess},
};
use crate::{
    db::{repos::repo_get, tags::tag_page},
    error::Result,
    oci::Tag,
};

/// The largest page, and the page of a client that names no size.
pub const MAX_PAGE: u64 = 1000;

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Whether there are more.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// Cuts a list that was read with one entry more than the page has.
    pub(super) fn cut(mut items: Vec<T>, limit: usize) -> Self {
        let has_more = items.len() > limit;
        items.truncate(limit);
        Self { items, has_more }
    }

    pub(super) fn empty() -> Self {
        Self {
            items: Vec::new(),
            has_more: false,
        }
    }
}

/// The size of a page, clamped, and the number of rows to read: one more tells whether there are others.
pub(super) fn page_limit(n: Option<u64>) -> (i64, usize) {
    let limit = n.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    (limit as i64 + 1, limit as usize)
}

/// The name after which a page begins. PostgreSQL refuses NUL in a text; no name has it, so what follows it changes
/// nothing.
pub(super) fn page_marker(last: Option<String>) -> String {
    let last = last.unwrap_or_default();
    last.split('\0').next().unwrap_or_default().to_owned()
}

impl Registry {
    /// Up to `n` tags after `last`, in ASCII order. `n = 0` is an empty page.
    pub async fn tags_list(
        &self,
        access: &RepoAccess<Pull>,
        n: Option<u64>,
        last: Option<String>,
    ) -> Result<Page<Tag>> {
        let (name, (rows, limit)) = (access.name().clone(), page_limit(n));
        let last = page_marker(last);
        let tags = self
            .db
            .read(move |conn| {
                let repo = repo_get(conn, &name)?;
                tag_page(conn, repo.id, Some(&last), rows)
            })
            .await?;
        if limit == 0 {
            return Ok(Page::empty());
        }
        Ok(Page::cut(tags, limit))
    }
}
