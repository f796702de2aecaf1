//! `/api/v1/accounts/<account>/gc/preview`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    MAX_DOCUMENT_BYTES, account_name, identity, optional_document, parameters::Parameters,
};
use crate::{
    api::{
        Api,
        openapi::{InAccount, Problems},
        render::Problem,
    },
    error::{Error, Result},
    model::{gc_policy::GcPolicy, gc_status::GcStatus},
    registry::gc_preview::{GcPreviewImage, GcPreviewOrder, GcPreviewRepo, GcPreviewSummary},
};

/// What is to be tried; an empty document, or none, asks about the policies that are stored.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = GcPreviewOrder)]
struct OrderDocument {
    /// Policies instead of the account's; nothing is stored.
    gc_policies: Option<Vec<GcPolicy>>,
    /// The only repository to look at, inside the account. `limit` and `last` are about its images then.
    repository: Option<String>,
}

/// An image, and what would become of it.
#[derive(Serialize, ToSchema)]
#[schema(as = GcPreviewImage)]
struct ImageView {
    digest: String,
    /// Its first tags.
    tags: Vec<String>,
    /// The bytes of the manifest itself.
    size_bytes: u64,
    status: GcStatus,
}

/// Sums over a repository.
#[derive(Serialize, ToSchema)]
#[schema(as = GcPreviewSummary)]
struct SummaryView {
    images: u64,
    deleted_images: u64,
    /// The bytes of the manifests that would go.
    deleted_manifest_bytes: u64,
    /// The bytes of blobs that nothing else in the account needs; `null` if it is too much to find out.
    freed_blob_bytes: Option<u64>,
}

/// What would become of the images of a repository.
#[derive(Serialize, ToSchema)]
#[schema(as = GcPreviewRepository)]
struct RepoView {
    /// The name inside the account.
    name: String,
    summary: SummaryView,
    /// Images that would go, by digest.
    delete: Vec<ImageView>,
    /// Images that would stay, by digest.
    keep: Vec<ImageView>,
    /// There are images that are not shown; ask for the repository alone.
    has_more_images: bool,
}

/// A page of a preview.
#[derive(Serialize, ToSchema)]
#[schema(as = GcPreview)]
struct PreviewAnswer {
    repositories: Vec<RepoView>,
    /// Sums over the repositories of this page.
    summary: SummaryView,
    /// The `last` of the next page, if there is one: a repository, or a digest if one repository was asked for.
    next: Option<String>,
}

impl From<GcPreviewImage> for ImageView {
    fn from(image: GcPreviewImage) -> Self {
        Self {
            digest: image.digest,
            tags: image.tags,
            size_bytes: image.size_bytes,
            status: image.status,
        }
    }
}

impl From<GcPreviewSummary> for SummaryView {
    fn from(summary: GcPreviewSummary) -> Self {
        Self {
            images: summary.images,
            deleted_images: summary.deleted_images,
            deleted_manifest_bytes: summary.deleted_manifest_bytes,
            freed_blob_bytes: summary.freed_blob_bytes,
        }
    }
}

impl From<GcPreviewRepo> for RepoView {
    fn from(repo: GcPreviewRepo) -> Self {
        Self {
            name: repo.name,
            summary: repo.summary.into(),
            delete: repo.delete.into_iter().map(Into::into).collect(),
            keep: repo.keep.into_iter().map(Into::into).collect(),
            has_more_images: repo.is_cut,
        }
    }
}

/// What the GC policies would do now. Nothing is changed.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/gc/preview",
    operation_id = "gc_preview",
    tag = "accounts",
    params(
        InAccount,
        ("limit" = Option<u32>, Query, description = "how many repositories, 100 at most; or images of the one, 1000 at most", minimum = 1, maximum = 4294967295_u32),
        ("last" = Option<String>, Query, description = "the last entry of the page before"),
    ),
    request_body(content = Option<OrderDocument>),
    responses((status = 200, description = "what would go and what would stay", body = PreviewAnswer), Problems),
)]
pub async fn preview(
    request: HttpRequest,
    api: web::Data<Api>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let account = account_name(&request)?;
    let page = Parameters::read(&request, &["limit", "last"])?.page()?;
    let order: Option<OrderDocument> = optional_document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let order = order.unwrap_or_default();
    let repository = order.repository.as_deref().map(|repo| {
        let refused = |error| Error::field("repository", format!("{error}, without the account"));
        repo.parse().map_err(refused)
    });
    let order = GcPreviewOrder {
        gc_policies: order.gc_policies,
        repository: repository.transpose()?,
        page,
    };
    let is_one = order.repository.is_some();
    let page = api.registry.gc_preview(&identity, &account, order).await?;
    let summaries = page.items.iter().map(|repo| repo.summary);
    let summary = summaries
        .reduce(GcPreviewSummary::plus)
        .unwrap_or(GcPreviewSummary {
            freed_blob_bytes: Some(0),
            ..GcPreviewSummary::default()
        });
    let last = page.items.last().map(|repo| match is_one {
        true => repo.last_digest().unwrap_or_default(),
        false => repo.name.clone(),
    });
    Ok(HttpResponse::Ok().json(PreviewAnswer {
        next: last.filter(|_| page.has_more),
        summary: summary.into(),
        repositories: page.items.into_iter().map(Into::into).collect(),
    }))
}
