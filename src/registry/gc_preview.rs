//! What the GC policies of an account would do now, or what others would do in their place.
//!
//! The plan is that of the run (`image_gc.rs`). What a newcomer gets wrong: it is as of now, while the run looks again at
//! each image before it deletes it.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{
    Registry,
    image_gc::GcRepo,
    tags::{Page, page_marker},
};
use crate::{
    auth::driver::Identity,
    db::{
        blob_needs::freed_bytes,
        repos::{repo_find, repo_names},
    },
    error::{Code, Error, Result},
    model::{
        account::{Account, AccountSettings},
        gc_policy::GcPolicy,
        gc_status::GcStatus,
        listing::PageOrder,
        permission::Permission,
    },
    oci::{AccountName, FullRepoName, RepoName},
};

/// How many repositories a page has at most.
pub const MAX_REPOSITORIES: u64 = 100;

/// How many images a page shows of a repository at most: of those that go, and of those that stay.
pub const MAX_IMAGES: usize = 1000;

/// A page of more images than this, looked at or shown, ends with the repository.
const IMAGES_LOOKED_AT: u64 = 100_000;
const IMAGES_SHOWN: usize = 10_000;

/// For repositories in which more images go it is not found out what their blobs free.
const MAX_FREEING: usize = 10_000;

/// Two at once on a node: a repository may have many images, and anybody who sees the account may ask.
static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(2)));

/// How long a question waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Default)]
pub struct GcPreviewOrder {
    /// Policies to be tried instead of the account's.
    pub gc_policies: Option<Vec<GcPolicy>>,
    /// The only repository to look at.
    pub repository: Option<RepoName>,
    /// The part of the list: of repositories by name, or of the images of the one by digest.
    pub page: PageOrder,
}

/// An image, and what would become of it.
#[derive(Debug)]
pub struct GcPreviewImage {
    /// The digest.
    pub digest: String,
    /// Its first tags.
    pub tags: Vec<String>,
    /// The bytes of the manifest itself.
    pub size_bytes: u64,
    /// What would become of it, and why.
    pub status: GcStatus,
}

/// Sums.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct GcPreviewSummary {
    /// How many images there are.
    pub images: u64,
    /// How many of them would go.
    pub deleted_images: u64,
    /// The bytes of the manifests that would go.
    pub deleted_manifest_bytes: u64,
    /// The bytes of blobs that nothing else in the account needs; `None` if it is too much to find out.
    pub freed_blob_bytes: Option<u64>,
}

/// What would become of the images of a repository.
#[derive(Debug)]
pub struct GcPreviewRepo {
    /// The name inside the account.
    pub name: String,
    /// Images that would go.
    pub delete: Vec<GcPreviewImage>,
    /// Images that would stay.
    pub keep: Vec<GcPreviewImage>,
    /// Not all images are shown.
    pub is_cut: bool,
    /// Of the whole repository.
    pub summary: GcPreviewSummary,
}

impl GcPreviewSummary {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let freed = self.freed_blob_bytes.zip(other.freed_blob_bytes);
        Self {
            images: self.images + other.images,
            deleted_images: self.deleted_images + other.deleted_images,
            deleted_manifest_bytes: self.deleted_manifest_bytes + other.deleted_manifest_bytes,
            freed_blob_bytes: freed.map(|(mine, theirs)| mine + theirs),
        }
    }
}

impl GcPreviewRepo {
    /// The last digest that is shown.
    pub fn last_digest(&self) -> Option<String> {
        let shown = self.delete.last().into_iter().chain(self.keep.last());
        shown.map(|image| image.digest.clone()).max()
    }
}

/// How many tags of an image are shown.
const MAX_TAGS: usize = 100;

impl Registry {
    /// What would become of an account's images, a page at a time.
    pub async fn gc_preview(
        &self,
        identity: &Identity,
        name: &AccountName,
        order: GcPreviewOrder,
    ) -> Result<Page<GcPreviewRepo>> {
        let access = self.account_access(identity, name, Permission::View);
        let mut account = access.await?.account;
        if let Some(gc_policies) = order.gc_policies {
            let tried = AccountSettings {
                gc_policies,
                ..AccountSettings::default()
            };
            let tried = tokio::task::spawn_blocking(move || tried.validate().map(|()| tried));
            account.settings.gc_policies = tried.await.map_err(Error::internal)??.gc_policies;
        }
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(&TURNS).acquire_owned()).await;
        let turn = turn.map_err(|_| Error::unavailable("too many previews are made at once"))?;
        let _turn = turn.map_err(Error::internal)?;
        match order.repository {
            Some(repo) => self.preview_one(account, repo, order.page).await,
            None => self.preview_page(account, order.page).await,
        }
    }

    /// The images of one repository by digest.
    async fn preview_one(
        &self,
        account: Account,
        repo: RepoName,
        page: PageOrder,
    ) -> Result<Page<GcPreviewRepo>> {
        let limit = page
            .limit
            .unwrap_or(MAX_IMAGES as u64)
            .min(MAX_IMAGES as u64) as usize;
        let part = Part::After(page_marker(page.last), limit);
        let found = self.preview(&account, &repo, part).await?;
        let found = found.ok_or_else(|| {
            let message = format!("there is no repository {}/{repo}", account.name);
            Error::with_message(Code::NotFound, message)
        })?;
        Ok(Page {
            has_more: found.is_cut,
            items: vec![found],
        })
    }

    /// Repositories by name, with the first images of each.
    async fn preview_page(&self, account: Account, page: PageOrder) -> Result<Page<GcPreviewRepo>> {
        let limit = page.limit.unwrap_or(MAX_REPOSITORIES).min(MAX_REPOSITORIES) as usize;
        let (name, after) = (account.name.clone(), page_marker(page.last));
        let names = self
            .db
            .read(move |conn| repo_names(conn, &name, &after, limit as i64 + 1))
            .await?;
        let mut names = Page::cut(names, limit);
        let (mut items, mut looked_at, mut shown): (Vec<GcPreviewRepo>, u64, usize) =
            Default::default();
        for repo in names.items {
            if looked_at > IMAGES_LOOKED_AT || shown > IMAGES_SHOWN {
                names.has_more = true;
                break;
            }
            // One that has gone meanwhile is left out.
            if let Some(found) = self.preview(&account, &repo, Part::First).await? {
                looked_at += found.summary.images;
                shown += found.delete.len() + found.keep.len();
                items.push(found);
            }
        }
        Ok(Page {
            has_more: names.has_more && !items.is_empty(),
            items,
        })
    }

    async fn preview(
        &self,
        account: &Account,
        repo: &RepoName,
        part: Part,
    ) -> Result<Option<GcPreviewRepo>> {
        let name = FullRepoName::new(account.name.clone(), repo.clone());
        let name = name.map_err(|error| Error::with_message(Code::NotFound, error.to_string()))?;
        let (now, policies) = (self.clock.now(), account.settings.gc_policies.clone());
        let read = self.db.read(move |conn| {
            let Some(mut repo) = repo_find(conn, &name)? else {
                return Ok(None);
            };
            repo.account.settings.gc_policies.clone_from(&policies);
            GcRepo::read(conn, repo, (&name.repo, now)).map(Some)
        });
        let Some(read) = read.await? else {
            return Ok(None);
        };
        let repo_id = read.repo.id;
        let made = tokio::task::spawn_blocking(move || part.of(&read));
        let (mut found, doomed) = made.await.map_err(Error::internal)?;
        if doomed.len() <= MAX_FREEING {
            let freed = self
                .db
                .read(move |conn| freed_bytes(conn, repo_id, &doomed));
            found.summary.freed_blob_bytes = Some(freed.await?);
        }
        Ok(Some(found))
    }
}

/// Which images of a repository are shown.
enum Part {
    /// The first that go and the first that stay.
    First,
    /// So many after a digest, whether they go or stay.
    After(String, usize),
}

impl Part {
    /// Plans and cuts the part out; also gives the digests of all that go.
    fn of(self, read: &GcRepo) -> (GcPreviewRepo, HashSet<String>) {
        let plan = read.plan();
        let doomed: HashSet<usize> = plan.doomed().collect();
        let mut found = GcPreviewRepo {
            name: read.name.to_string(),
            delete: Vec::new(),
            keep: Vec::new(),
            is_cut: false,
            summary: GcPreviewSummary {
                images: read.images.len() as u64,
                deleted_images: doomed.len() as u64,
                deleted_manifest_bytes: doomed
                    .iter()
                    .map(|place| read.images[*place].size_bytes)
                    .sum(),
                freed_blob_bytes: None,
            },
        };
        for (place, image) in read.images.iter().enumerate() {
            let is_full = |list: &Vec<GcPreviewImage>, others: usize| match &self {
                Self::First => list.len() >= MAX_IMAGES,
                Self::After(_, limit) => list.len() + others >= *limit,
            };
            let (list, others) = match doomed.contains(&place) {
                true => (&mut found.delete, found.keep.len()),
                false => (&mut found.keep, found.delete.len()),
            };
            if matches!(&self, Self::After(last, _) if image.digest.as_str() <= last.as_str()) {
                continue;
            }
            if is_full(list, others) {
                found.is_cut = true;
                continue;
            }
            let tags = image.tags.iter().take(MAX_TAGS);
            list.push(GcPreviewImage {
                digest: image.digest.to_string(),
                tags: tags.map(ToString::to_string).collect(),
                size_bytes: image.size_bytes,
                status: plan.status(place),
            });
        }
        let digests = doomed
            .iter()
            .map(|place| read.images[*place].digest.to_string());
        (found, digests.collect())
    }
}
