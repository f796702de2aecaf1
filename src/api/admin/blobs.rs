//! `/api/v1/accounts/<account>/blobs/<digest>`

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{account_name, identity, parameters::Parameters};
use crate::{
    api::{
        Api,
        extract::digest,
        openapi::{InAccount, Problems},
        render::Problem,
    },
    error::Result,
    model::blob_needs::BlobMount,
};

/// A hold that keeps a blob.
#[derive(Serialize, ToSchema)]
#[schema(as = BlobHold)]
struct HoldView {
    /// The tag that is held; `null` if it is the whole repository.
    tag: Option<String>,
    until: DateTime<Utc>,
}

/// A deleted manifest that needs a blob if it comes back.
#[derive(Serialize, ToSchema)]
#[schema(as = BlobTrash)]
struct TrashView {
    digest: String,
    /// When it cannot come back any more.
    purge_at: DateTime<Utc>,
}

/// A repository that has a blob, and why.
#[derive(Serialize, ToSchema)]
#[schema(as = BlobKeeper)]
struct KeeperView {
    /// The name inside the account.
    repository: String,
    /// Whether a manifest needs it, or a deleted one that can come back.
    is_used: bool,
    /// Until when it stays at least, if it is not used; `null` if it is.
    kept_until: Option<DateTime<Utc>>,
    /// Manifests that need it, 10 at most.
    manifests: Vec<String>,
    has_more_manifests: bool,
    /// Deleted manifests that can come back, 10 at most.
    trash: Vec<TrashView>,
    has_more_in_trash: bool,
    /// Holds on the repository, and on tags of manifests that need the blob.
    holds: Vec<HoldView>,
}

impl From<BlobMount> for KeeperView {
    fn from(mount: BlobMount) -> Self {
        let is_used = !mount.manifests.is_empty() || !mount.trash.is_empty();
        let holds = mount.holds.into_iter().map(|hold| HoldView {
            tag: hold.tag.map(|tag| tag.to_string()),
            until: hold.until,
        });
        let trash = mount.trash.into_iter().map(|manifest| TrashView {
            digest: manifest.digest.to_string(),
            purge_at: manifest.purge_at,
        });
        Self {
            repository: mount.repository,
            is_used,
            kept_until: (!is_used).then_some(mount.kept_until),
            manifests: mount.manifests.iter().map(ToString::to_string).collect(),
            has_more_manifests: mount.has_more_manifests,
            trash: trash.collect(),
            has_more_in_trash: mount.has_more_in_trash,
            holds: holds.collect(),
        }
    }
}

/// A blob of an account, and what keeps it.
#[derive(Serialize, ToSchema)]
#[schema(as = Blob)]
struct BlobAnswer {
    digest: String,
    size_bytes: u64,
    /// When it came into the account.
    pushed_at: DateTime<Utc>,
    /// The repositories that have it, by name. None: it goes with the next sweep.
    kept_by: Vec<KeeperView>,
    /// The `last` of the next page of repositories, if there is one.
    next: Option<String>,
}

/// Why a blob is there.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/blobs/{digest}",
    operation_id = "blob_explain",
    tag = "accounts",
    params(
        InAccount,
        ("digest" = String, Path, description = "the blob\'s digest", pattern = "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"),
        ("limit" = Option<u32>, Query, description = "how many repositories; 100 at most", minimum = 1, maximum = 4294967295_u32),
        ("last" = Option<String>, Query, description = "the last repository of the page before"),
    ),
    responses((status = 200, description = "the blob, and what keeps it", body = BlobAnswer), Problems),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let account = account_name(&request)?;
    let page = Parameters::read(&request, &["limit", "last"])?.page()?;
    let digest = digest(&request)?;
    let (blob, page) = api
        .registry
        .blob_explain(&identity, &account, &digest, page)
        .await?;
    let last = page.items.last().map(|mount| mount.repository.clone());
    Ok(HttpResponse::Ok().json(BlobAnswer {
        digest: blob.digest.to_string(),
        size_bytes: blob.size_bytes,
        pushed_at: blob.pushed_at,
        next: last.filter(|_| page.has_more),
        kept_by: page.items.into_iter().map(Into::into).collect(),
    }))
}
