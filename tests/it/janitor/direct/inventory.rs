//! What an account holds, read at once: for comparisons that are made very often.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use kontor::{
    db::{
        Conn,
        consistency::expected_objects,
        listings::manifest_summaries,
        repos::{repo_find, repo_mounts},
        trash_list::trash_page,
    },
    error::Result,
    model::trash::TrashSummary,
    oci::{AccountName, Digest, FullRepoName},
};

use super::{Direct, Repo};
use crate::support::tenant;

/// More than a case ever has.
const LIMIT: i64 = 1000;

/// A manifest that is there.
pub struct Image {
    pub pushed_at: DateTime<Utc>,
    pub tags: BTreeSet<String>,
}

/// What a repository holds.
#[derive(Default)]
pub struct Contents {
    pub images: BTreeMap<Digest, Image>,
    pub blobs: BTreeSet<Digest>,
}

fn contents(conn: &mut Conn, name: &FullRepoName) -> Result<Contents> {
    let Some(repo) = repo_find(conn, name)? else {
        return Ok(Contents::default());
    };
    let (manifests, has_more) = manifest_summaries(conn, repo.id, "", LIMIT)?;
    assert!(!has_more);
    let images = manifests.into_iter().map(|manifest| {
        let tags = manifest.tags.into_iter().map(|tag| tag.name).collect();
        let pushed_at = manifest.pushed_at;
        (manifest.digest, Image { pushed_at, tags })
    });
    Ok(Contents {
        images: images.collect(),
        blobs: repo_mounts(conn, repo.id, LIMIT)?.into_iter().collect(),
    })
}

impl Direct {
    /// What the repositories of an account hold, and its trash. All objects that must be in storage are there.
    pub async fn inventory(
        &self,
        account: &str,
        repos: &[Repo],
    ) -> (Vec<Contents>, Vec<TrashSummary>) {
        let names: Vec<FullRepoName> = repos.iter().map(|repo| repo.name.clone()).collect();
        let name: AccountName = account.parse().unwrap();
        let read = self.node.db.read(move |conn| {
            let of_repos: Result<Vec<_>> = names.iter().map(|name| contents(conn, name)).collect();
            let trash = trash_page(conn, &name, ("", ""), LIMIT)?;
            let objects = expected_objects(conn, &name, None, LIMIT)?;
            Ok((of_repos?, trash, objects))
        });
        let (of_repos, trash, objects) = read.await.unwrap();
        let listed = self.node.storage.list(&tenant(account)).await.unwrap();
        let stored: Vec<_> = listed.try_collect().await.unwrap();
        let stored: BTreeMap<_, _> = stored.iter().map(|o| (o.key.id(), o.size_bytes)).collect();
        for object in objects {
            let size = stored.get(&object.key.id());
            assert_eq!(size, Some(&object.size_bytes), "{}", object.key);
        }
        (of_repos, trash)
    }
}
