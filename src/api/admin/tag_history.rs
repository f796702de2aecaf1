//! `/api/v1/accounts/<account>/repositories/<repository>/_tags/<tag>`: what a tag has pointed at.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    identity,
    parameters::Parameters,
    repo_name,
    repositories::{InRepo, PAGE, PageParams},
};
use crate::{
    api::{Api, extract::path_value, openapi::Problems, render::Problem},
    error::{Code, Result},
    model::trash::TagChangeEntry,
    oci::Tag,
};

/// A change of a tag.
#[derive(Serialize, ToSchema)]
#[schema(as = TagChange)]
struct ChangeView {
    /// What the tag pointed at since then; `null` if it was deleted.
    digest: Option<String>,
    changed_at: DateTime<Utc>,
    /// Who changed it, `<driver>:<user>`; `null` if that is not known any more.
    changed_by: Option<String>,
}

fn known(name: String) -> Option<String> {
    Some(name).filter(|name| !name.is_empty())
}

impl From<TagChangeEntry> for ChangeView {
    fn from(entry: TagChangeEntry) -> Self {
        Self {
            digest: entry.digest.map(|digest| digest.to_string()),
            changed_at: entry.changed_at,
            changed_by: known(entry.changed_by),
        }
    }
}

/// A page of the changes of a tag.
#[derive(Serialize, ToSchema)]
#[schema(as = TagHistory)]
struct HistoryAnswer {
    history: Vec<ChangeView>,
    /// The `last` of the next page, if there is one.
    next: Option<String>,
}

/// What a tag pointed at.
#[derive(Serialize, ToSchema)]
#[schema(as = TagThen)]
struct TagThenView {
    name: String,
    digest: String,
    /// `present`, `trash` or `gone`: whether the manifest can be pulled, restored, or neither.
    manifest: &'static str,
    /// What to pull, `<account>/<repository>@<digest>`.
    reference: String,
    /// Since when the tag pointed at it.
    changed_at: DateTime<Utc>,
    /// Who made it do so; `null` if that is not known any more.
    changed_by: Option<String>,
}

/// A tag that came back.
#[derive(Serialize, ToSchema)]
#[schema(as = RestoredTag)]
struct RestoredTagView {
    name: String,
    /// What it points at again.
    digest: String,
}

pub(super) fn tag(request: &HttpRequest) -> Result<Tag> {
    path_value(request, "tag", Code::TagInvalid)
}

/// What a tag points at, or pointed at at a time.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_tags/{tag}",
    operation_id = "tag_get",
    tag = "repositories",
    params(
        InRepo,
        ("tag" = String, Path, description = "the tag", pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"),
        ("at" = Option<String>, Query, description = "the time (RFC 3339); now if left out"),
    ),
    responses((status = 200, description = "what it pointed at", body = TagThenView), Problems),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let (name, tag) = (repo_name(&request)?, tag(&request)?);
    let at = Parameters::read(&request, &["at"])?.time("at")?;
    let then = api.registry.tag_at(&identity, (&name, &tag), at).await?;
    Ok(HttpResponse::Ok().json(TagThenView {
        name: tag.to_string(),
        reference: format!("{name}@{}", then.digest),
        digest: then.digest.to_string(),
        manifest: then.whereabouts.as_str(),
        changed_at: then.changed_at,
        changed_by: known(then.changed_by),
    }))
}

/// A page of the changes of a tag, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_tags/{tag}/history",
    operation_id = "tag_history",
    tag = "repositories",
    params(
        InRepo,
        ("tag" = String, Path, description = "the tag", pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"),
        PageParams,
    ),
    responses((status = 200, description = "a page of changes", body = HistoryAnswer), Problems),
)]
pub async fn history(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let (name, tag) = (repo_name(&request)?, tag(&request)?);
    let page = Parameters::read(&request, &PAGE)?.page()?;
    let page = api
        .registry
        .tag_history(&identity, (&name, &tag), page)
        .await?;
    let last = page.items.last().map(|entry| entry.id.to_string());
    Ok(HttpResponse::Ok().json(HistoryAnswer {
        next: last.filter(|_| page.has_more),
        history: page.items.into_iter().map(Into::into).collect(),
    }))
}

/// Makes a deleted tag point at what it pointed at last.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_tags/{tag}/restore",
    operation_id = "tag_restore",
    tag = "repositories",
    params(
        InRepo,
        ("tag" = String, Path, description = "the tag", pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"),
    ),
    responses((status = 200, description = "the tag is back", body = RestoredTagView), Problems),
)]
pub async fn restore(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let (name, tag) = (repo_name(&request)?, tag(&request)?);
    let digest = api.registry.tag_restore(&identity, &name, &tag).await?;
    Ok(HttpResponse::Ok().json(RestoredTagView {
        name: tag.to_string(),
        digest: digest.to_string(),
    }))
}
