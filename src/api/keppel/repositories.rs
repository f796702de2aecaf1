//! `/keppel/v1/accounts/<account>/repositories`

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::{identity, page};
use crate::{
    api::{
        Api,
        admin::{account_name, repo_name},
        extract::{digest, path_value},
        render::PlainError,
    },
    error::{Code, Result},
    model::{
        gc_status::GcStatus,
        listing::{ManifestSummary, RepoSummary, TagSummary},
    },
    oci::Reference,
};

type Time = chrono::DateTime<chrono::Utc>;

fn seconds(at: Option<Time>) -> Option<i64> {
    at.map(|at| at.timestamp())
}

fn repository(repo: &RepoSummary) -> Value {
    // Keppel shows the time of a repository that never had a manifest as 0.
    json!({
        "name": repo.name,
        "manifest_count": repo.manifest_count,
        "tag_count": repo.tag_count,
        "size_bytes": repo.size_bytes,
        "pushed_at": seconds(repo.pushed_at).unwrap_or_default(),
    })
}

fn tag(tag: &TagSummary) -> Value {
    json!({
        "name": tag.name,
        "pushed_at": tag.pushed_at.timestamp(),
        "last_pulled_at": seconds(tag.last_pulled_at),
    })
}

fn manifest(manifest: &ManifestSummary) -> Value {
    let tags: Vec<Value> = manifest.tags.iter().map(tag).collect();
    let mut shown = json!({
        "digest": manifest.digest.as_str(),
        "media_type": manifest.media_type,
        "size_bytes": manifest.size_bytes,
        "pushed_at": manifest.pushed_at.timestamp(),
        "last_pulled_at": seconds(manifest.last_pulled_at),
        // Nothing here looks for vulnerabilities.
        "vulnerability_status": "Pending",
    });
    if !tags.is_empty() {
        shown["tags"] = json!(tags);
    }
    if let Some(status) = manifest.gc_status.as_ref().and_then(gc_status) {
        shown["gc_status"] = status;
    }
    shown
}

/// A GC status as far as Keppel has a word for it.
fn gc_status(status: &GcStatus) -> Option<Value> {
    Some(match status {
        GcStatus::ProtectedByRecentUpload => json!({ "protected_by_recent_upload": true }),
        GcStatus::ProtectedByParent { parent } => json!({ "protected_by_parent": parent }),
        GcStatus::ProtectedBySubject { subject } => json!({ "protected_by_subject": subject }),
        GcStatus::ProtectedByPolicy { policy, .. } => json!({ "protected_by_policy": policy }),
        GcStatus::Kept { relevant_policies } => {
            let policies = relevant_policies.iter().map(|policy| &policy.policy);
            json!({ "relevant_policies": policies.collect::<Vec<_>>() })
        }
        _ => return None,
    })
}

/// A list; `truncated` is there only if there is more.
fn listed(name: &str, items: Vec<Value>, has_more: bool) -> HttpResponse {
    let mut body = json!({ name: items });
    if has_more {
        body["truncated"] = json!(true);
    }
    HttpResponse::Ok().json(body)
}

/// A page of an account's repositories.
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let found = api
        .registry
        .repositories_list(&identity, &account_name(&request)?, page(&request)?)
        .await?;
    let items = found.items.iter().map(repository).collect();
    Ok(listed("repositories", items, found.has_more))
}

/// Deletes a repository that holds no manifests.
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    api.registry
        .repository_delete(&identity, &repo_name(&request)?)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A page of a repository's manifests.
pub async fn manifests(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let found = api
        .registry
        .repository_manifests(&identity, &repo_name(&request)?, page(&request)?)
        .await?;
    let items = found.items.iter().map(manifest).collect();
    Ok(listed("manifests", items, found.has_more))
}

/// Deletes a manifest with its tags.
pub async fn manifest_delete(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
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
) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let tag = path_value(&request, "tag", Code::TagInvalid)?;
    let (name, reference) = (repo_name(&request)?, Reference::Tag(tag));
    api.registry
        .repository_content_delete(&identity, &name, &reference)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
