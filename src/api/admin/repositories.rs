//! `/api/v1/accounts/<account>/repositories`

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::{account_name, identity, parameters::Parameters, repo_name};
use crate::{
    api::{
        Api,
        extract::{digest, path_value},
        render::Problem,
    },
    error::{Code, Result},
    model::listing::{ManifestSummary, RepoSummary, TagSummary},
    oci::Reference,
};

/// The parameters of every list.
const PAGE: [&str; 2] = ["limit", "last"];

type Time = chrono::DateTime<chrono::Utc>;

fn shown(at: Time) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn repository(repo: &RepoSummary) -> Value {
    json!({
        "name": repo.name,
        "manifest_count": repo.manifest_count,
        "tag_count": repo.tag_count,
        "size_bytes": repo.size_bytes,
        "pushed_at": repo.pushed_at.map(shown),
    })
}

fn manifest(manifest: &ManifestSummary) -> Value {
    let tags: Vec<Value> = manifest.tags.iter().map(tag_of_manifest).collect();
    json!({
        "digest": manifest.digest.as_str(),
        "media_type": manifest.media_type,
        "size_bytes": manifest.size_bytes,
        "pushed_at": shown(manifest.pushed_at),
        "last_pulled_at": manifest.last_pulled_at.map(shown),
        "tags": tags,
        "has_more_tags": manifest.has_more_tags,
    })
}

fn tag_of_manifest(tag: &TagSummary) -> Value {
    json!({
        "name": tag.name,
        "pushed_at": shown(tag.pushed_at),
        "last_pulled_at": tag.last_pulled_at.map(shown),
    })
}

fn tag(tag: &TagSummary) -> Value {
    let mut shown = tag_of_manifest(tag);
    shown["digest"] = json!(tag.digest.as_str());
    shown
}

/// A page of an account's repositories.
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
    let last = page.items.last().map(|repo| repo.name.as_str());
    let next = last.filter(|_| page.has_more);
    let repositories: Vec<Value> = page.items.iter().map(repository).collect();
    Ok(HttpResponse::Ok().json(json!({ "repositories": repositories, "next": next })))
}

/// Deletes a repository that holds no manifests.
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    api.registry
        .repository_delete(&identity, &repo_name(&request)?)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A page of a repository's manifests.
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
    let last = page.items.last().map(|manifest| manifest.digest.as_str());
    let next = last.filter(|_| page.has_more);
    let manifests: Vec<Value> = page.items.iter().map(manifest).collect();
    Ok(HttpResponse::Ok().json(json!({ "manifests": manifests, "next": next })))
}

/// A page of a repository's tags.
pub async fn tags(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let (name, page) = (
        repo_name(&request)?,
        Parameters::read(&request, &PAGE)?.page()?,
    );
    let page = api.registry.repository_tags(&identity, &name, page).await?;
    let last = page.items.last().map(|tag| tag.name.as_str());
    let next = last.filter(|_| page.has_more);
    let tags: Vec<Value> = page.items.iter().map(tag).collect();
    Ok(HttpResponse::Ok().json(json!({ "tags": tags, "next": next })))
}

/// Deletes a manifest with its tags.
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
