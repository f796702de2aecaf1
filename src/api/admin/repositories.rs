//! `/api/v1/accounts/<account>/repositories`

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{account_name, identity, parameters::Parameters, repo_name};
use crate::{
    api::{
        Api,
        extract::{digest, path_value},
        openapi::{InAccount, Problems},
        render::Problem,
    },
    error::{Code, Result},
    model::{
        gc_status::GcStatus,
        listing::{ManifestSummary, RepoSummary, TagSummary},
    },
    oci::Reference,
};

/// The parameters of every list.
pub(super) const PAGE: [&str; 2] = ["limit", "last"];

/// A repository in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = Repository)]
struct RepoView {
    /// The name inside the account.
    name: String,
    manifest_count: u64,
    tag_count: u64,
    /// The bytes of its blobs, each counted once.
    size_bytes: u64,
    /// When a manifest was last pushed.
    pushed_at: Option<DateTime<Utc>>,
}

impl From<RepoSummary> for RepoView {
    fn from(repo: RepoSummary) -> Self {
        Self {
            name: repo.name,
            manifest_count: repo.manifest_count,
            tag_count: repo.tag_count,
            size_bytes: repo.size_bytes,
            pushed_at: repo.pushed_at,
        }
    }
}

/// A tag in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = Tag)]
struct TagView {
    name: String,
    /// The manifest that it leads to.
    digest: String,
    pushed_at: DateTime<Utc>,
    last_pulled_at: Option<DateTime<Utc>>,
}

impl From<TagSummary> for TagView {
    fn from(tag: TagSummary) -> Self {
        Self {
            name: tag.name,
            digest: tag.digest.to_string(),
            pushed_at: tag.pushed_at,
            last_pulled_at: tag.last_pulled_at,
        }
    }
}

/// A manifest in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = Manifest)]
struct ManifestView {
    digest: String,
    media_type: String,
    /// Its own bytes and those of the blobs that it needs, each counted once.
    size_bytes: u64,
    pushed_at: DateTime<Utc>,
    last_pulled_at: Option<DateTime<Utc>>,
    /// Its tags by name; only the first of many.
    tags: Vec<TagView>,
    has_more_tags: bool,
    /// What was wrong with it, or with what it needs, when it was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_error: Option<String>,
    /// What the last run of the account's GC policies made of it; `null` before the first and without policies.
    gc_status: Option<GcStatus>,
}

impl From<ManifestSummary> for ManifestView {
    fn from(manifest: ManifestSummary) -> Self {
        Self {
            digest: manifest.digest.to_string(),
            media_type: manifest.media_type,
            size_bytes: manifest.size_bytes,
            pushed_at: manifest.pushed_at,
            last_pulled_at: manifest.last_pulled_at,
            tags: manifest.tags.into_iter().map(Into::into).collect(),
            has_more_tags: manifest.has_more_tags,
            validation_error: manifest.validation_error,
            gc_status: manifest.gc_status,
        }
    }
}

/// A page of repositories.
#[derive(Serialize, ToSchema)]
#[schema(as = Repositories)]
struct ReposAnswer {
    repositories: Vec<RepoView>,
    /// The `last` of the next page, if there is one.
    next: Option<String>,
}

/// A page of manifests.
#[derive(Serialize, ToSchema)]
#[schema(as = Manifests)]
struct ManifestsAnswer {
    manifests: Vec<ManifestView>,
    /// The `last` of the next page, if there is one.
    next: Option<String>,
}

/// A page of tags.
#[derive(Serialize, ToSchema)]
#[schema(as = Tags)]
struct TagsAnswer {
    tags: Vec<TagView>,
    /// The `last` of the next page, if there is one.
    next: Option<String>,
}

/// The repository in the path.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes parts of a path")]
pub(super) struct InRepo {
    /// The account's name.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$")]
    account: String,
    /// The repository's name inside the account; slashes stay as they are.
    #[param(pattern = "^[a-z0-9]+([._-][a-z0-9]+)*$")]
    repo: String,
}

/// Which part of a list.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes parameters")]
pub(super) struct PageParams {
    /// How many entries; 1000 at most, and by default.
    #[param(minimum = 1, maximum = 4294967295_u32)]
    limit: Option<u32>,
    /// The last entry of the page before.
    last: Option<String>,
}

/// A page of an account's repositories.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/repositories",
    operation_id = "repositories_list",
    tag = "repositories",
    params(InAccount, PageParams),
    responses((status = 200, description = "a page of repositories", body = ReposAnswer), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let (account, page) = (
        account_name(&request)?,
        Parameters::read(&request, &PAGE)?.page()?,
    );
    let page = api
        .registry
        .repositories_list(&identity, &account, page)
        .await?;
    let last = page.items.last().map(|repo| repo.name.to_string());
    Ok(HttpResponse::Ok().json(ReposAnswer {
        next: last.filter(|_| page.has_more),
        repositories: page.items.into_iter().map(Into::into).collect(),
    }))
}

/// Deletes a repository that holds no manifests.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}/repositories/{repo}",
    operation_id = "repository_delete",
    tag = "repositories",
    params(InRepo),
    responses((status = 204, description = "the repository is gone"), Problems),
)]
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    api.registry
        .repository_delete(&identity, &repo_name(&request)?)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A page of a repository's manifests.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_manifests",
    operation_id = "manifests_list",
    tag = "repositories",
    params(InRepo, PageParams),
    responses((status = 200, description = "a page of manifests", body = ManifestsAnswer), Problems),
)]
pub async fn manifests(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let (name, page) = (
        repo_name(&request)?,
        Parameters::read(&request, &PAGE)?.page()?,
    );
    let page = api
        .registry
        .repository_manifests(&identity, &name, page)
        .await?;
    let last = page
        .items
        .last()
        .map(|manifest| manifest.digest.to_string());
    Ok(HttpResponse::Ok().json(ManifestsAnswer {
        next: last.filter(|_| page.has_more),
        manifests: page.items.into_iter().map(Into::into).collect(),
    }))
}

/// A page of a repository's tags.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_tags",
    operation_id = "tags_list",
    tag = "repositories",
    params(InRepo, PageParams),
    responses((status = 200, description = "a page of tags", body = TagsAnswer), Problems),
)]
pub async fn tags(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let (name, page) = (
        repo_name(&request)?,
        Parameters::read(&request, &PAGE)?.page()?,
    );
    let page = api.registry.repository_tags(&identity, &name, page).await?;
    let last = page.items.last().map(|tag| tag.name.to_string());
    Ok(HttpResponse::Ok().json(TagsAnswer {
        next: last.filter(|_| page.has_more),
        tags: page.items.into_iter().map(Into::into).collect(),
    }))
}

/// Deletes a manifest with its tags and what is about it and nothing else.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_manifests/{digest}",
    operation_id = "manifest_delete",
    tag = "repositories",
    params(InRepo, ("digest" = String, Path, description = "the manifest\'s digest", pattern = "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$")),
    responses((status = 204, description = "the manifest and its tags are gone"), Problems),
)]
pub async fn manifest_delete(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let (name, reference) = (repo_name(&request)?, Reference::Digest(digest(&request)?));
    api.registry
        .repository_content_delete(&identity, &name, &reference)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Deletes a tag and leaves the manifest.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_tags/{tag}",
    operation_id = "tag_delete",
    tag = "repositories",
    params(InRepo, ("tag" = String, Path, description = "the tag", pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")),
    responses((status = 204, description = "the tag is gone"), Problems),
)]
pub async fn tag_delete(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let tag = path_value(&request, "tag", Code::TagInvalid)?;
    let (name, reference) = (repo_name(&request)?, Reference::Tag(tag));
    api.registry
        .repository_content_delete(&identity, &name, &reference)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
