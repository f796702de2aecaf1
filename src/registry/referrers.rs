//! Listing the manifests that are about another one: signatures, SBOMs, attestations.

use serde::Serialize;

use super::{
    Registry,
    access::{Pull, RepoAccess},
    tags::Page,
};
use crate::{
    db::{
        manifests::{StoredManifest, referrer_page},
        repos::repo_find,
    },
    error::{Error, Result},
    oci::{Descriptor, Digest, Manifest, media_type},
};

/// Entries of a page. With annotations of usual length it stays far below the 4 MiB that clients take.
const PAGE: usize = 100;

/// How many manifests are looked through for one page when a filter lets few of them pass.
const MAX_SCANNED_PAGES: usize = 20;

/// An image index that lists referrers (OCI Distribution Specification, "Listing Referrers").
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferrersIndex {
    schema_version: u8,
    media_type: &'static str,
    /// The referrers.
    pub manifests: Vec<Descriptor>,
}

impl ReferrersIndex {
    fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_INDEX,
            manifests,
        }
    }
}

/// A page of referrers and the digest after which the next page begins.
#[derive(Debug)]
pub struct Referrers {
    /// The page.
    pub index: ReferrersIndex,
    /// Where the next page begins, if there is one.
    pub next_after: Option<Digest>,
}

impl Registry {
    /// The manifests whose subject is `subject`, which itself need not exist.
    pub async fn referrers_list(
        &self,
        access: &RepoAccess<Pull>,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<Digest>,
    ) -> Result<Referrers> {
        let (mut found, mut after, mut has_more) = (Vec::new(), last, true);
        for _ in 0..MAX_SCANNED_PAGES {
            let page = self.referrers_page(access, subject, after.clone()).await?;
            has_more = page.has_more;
            after = page
                .items
                .last()
                .map(|manifest| manifest.digest.clone())
                .or(after);
            for manifest in page.items {
                let entry = describe(&manifest)?;
                if artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted))
                {
                    found.push(entry);
                }
            }
            if !has_more || found.len() >= PAGE {
                break;
            }
        }
        Ok(Referrers {
            index: ReferrersIndex::new(found),
            next_after: after.filter(|_| has_more),
        })
    }

    async fn referrers_page(
        &self,
        access: &RepoAccess<Pull>,
        subject: &Digest,
        after: Option<Digest>,
    ) -> Result<Page<StoredManifest>> {
        let (name, subject) = (access.name().clone(), subject.clone());
        let manifests = self
            .db
            .read(move |conn| match repo_find(conn, &name)? {
                None => Ok(Vec::new()),
                Some(repo) => {
                    referrer_page(conn, repo.id, &subject, after.as_ref(), PAGE as i64 + 1)
                }
            })
            .await?;
        Ok(Page::cut(manifests, PAGE))
    }
}

fn describe(stored: &StoredManifest) -> Result<Descriptor> {
    let manifest = Manifest::parse(&stored.content, Some(&stored.media_type))
        .map_err(|error| Error::internal(format!("{} cannot be read: {error}", stored.digest)))?;
    Ok(Descriptor {
        media_type: Some(stored.media_type.clone()),
        digest: stored.digest.clone(),
        size: stored.content.len() as u64,
        urls: Vec::new(),
        annotations: manifest.annotations,
        artifact_type: manifest.artifact_type,
        platform: None,
    })
}
