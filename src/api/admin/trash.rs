//! `/api/v1/accounts/<account>/trash`

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    MAX_DOCUMENT_BYTES, account_name, document, identity,
    parameters::Parameters,
    repositories::{PAGE, PageParams},
};
use crate::{
    api::{
        Api,
        openapi::{InAccount, Problems},
        render::Problem,
    },
    error::{Error, Result},
    model::trash::TrashSummary,
    oci::{Digest, FullRepoName, Tag},
    registry::restore::{RestoreOrder, Restored},
};

/// How many tags a restored manifest can be given.
const MAX_TAGS: usize = 100;

/// A deleted manifest that can come back.
#[derive(Serialize, ToSchema)]
#[schema(as = TrashEntry)]
struct TrashView {
    /// The repository inside the account.
    repository: String,
    digest: String,
    media_type: String,
    /// Its own bytes and those of the blobs that it needs, each counted once.
    size_bytes: u64,
    /// The tags that pointed at it.
    tags: Vec<String>,
    deleted_at: DateTime<Utc>,
    /// Who deleted it, `<driver>:<user>`.
    deleted_by: String,
    /// The manifest whose deletion took it with it; it comes back with that.
    deleted_with: Option<String>,
    /// When it goes for good.
    purge_at: DateTime<Utc>,
}

impl From<TrashSummary> for TrashView {
    fn from(entry: TrashSummary) -> Self {
        Self {
            repository: entry.repository,
            digest: entry.digest.to_string(),
            media_type: entry.media_type,
            size_bytes: entry.size_bytes,
            tags: entry.tags.iter().map(ToString::to_string).collect(),
            deleted_at: entry.deleted_at,
            deleted_by: entry.deleted_by,
            deleted_with: entry.deleted_with.map(|digest| digest.to_string()),
            purge_at: entry.purge_at,
        }
    }
}

/// A page of an account's trash.
#[derive(Serialize, ToSchema)]
#[schema(as = Trash)]
struct TrashAnswer {
    trash: Vec<TrashView>,
    /// The `last` of the next page, if there is one.
    next: Option<String>,
}

/// What is to be restored.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TrashRestore)]
struct RestoreDocument {
    /// The repository inside the account.
    repository: String,
    digest: String,
    /// The tags that are to point at it; if left out, those that it had and that are free.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// What is to be purged.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TrashPurge)]
struct PurgeDocument {
    /// The repository inside the account.
    repository: String,
    digest: String,
}

/// A manifest that came back.
#[derive(Serialize, ToSchema)]
#[schema(as = RestoredManifest)]
struct RestoredView {
    digest: String,
    /// The tags that point at it again.
    tags: Vec<String>,
}

impl From<Restored> for RestoredView {
    fn from(restored: Restored) -> Self {
        Self {
            digest: restored.digest.to_string(),
            tags: restored.tags.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What came back.
#[derive(Serialize, ToSchema)]
#[schema(as = TrashRestored)]
struct RestoreAnswer {
    /// In the order in which they came back: the manifests of an index before it.
    restored: Vec<RestoredView>,
}

/// What is gone for good.
#[derive(Serialize, ToSchema)]
#[schema(as = TrashPurged)]
struct PurgeAnswer {
    /// How many manifests, with those that had gone with it.
    purged: usize,
}

/// The manifest that a document names.
fn named(
    request: &HttpRequest,
    (repository, digest): (&str, &str),
) -> Result<(FullRepoName, Digest)> {
    let account = account_name(request)?;
    let repo = repository
        .parse()
        .map_err(|error| Error::field("repository", error))?;
    let name =
        FullRepoName::new(account, repo).map_err(|error| Error::field("repository", error))?;
    let digest = digest
        .parse()
        .map_err(|error| Error::field("digest", error))?;
    Ok((name, digest))
}

fn tags(names: Vec<String>) -> Result<Vec<Tag>> {
    if names.len() > MAX_TAGS {
        return Err(Error::field("tags", format!("at most {MAX_TAGS} tags")));
    }
    let tag = |(number, name): (usize, String)| {
        let path = format!("tags[{number}]");
        name.parse().map_err(|error| Error::field(&path, error))
    };
    names.into_iter().enumerate().map(tag).collect()
}

/// A page of an account's trash.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/trash",
    operation_id = "trash_list",
    tag = "trash",
    params(InAccount, PageParams),
    responses((status = 200, description = "a page of deleted manifests", body = TrashAnswer), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let (account, page) = (
        account_name(&request)?,
        Parameters::read(&request, &PAGE)?.page()?,
    );
    let page = api.registry.trash_list(&identity, &account, page).await?;
    let last = page.items.last();
    let next = last.map(|entry| format!("{}@{}", entry.repository, entry.digest));
    Ok(HttpResponse::Ok().json(TrashAnswer {
        next: next.filter(|_| page.has_more),
        trash: page.items.into_iter().map(Into::into).collect(),
    }))
}

/// Restores a manifest, with those that it lists and those that went with it.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/trash/restore",
    operation_id = "trash_restore",
    tag = "trash",
    params(InAccount),
    request_body = RestoreDocument,
    responses((status = 200, description = "what came back", body = RestoreAnswer), Problems),
)]
pub async fn restore(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let order: RestoreDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let (name, digest) = named(&request, (&order.repository, &order.digest))?;
    let tags = order.tags.map(tags).transpose()?;
    let restored = api
        .registry
        .trash_restore(&identity, &name, RestoreOrder { digest, tags })
        .await?;
    Ok(HttpResponse::Ok().json(RestoreAnswer {
        restored: restored.into_iter().map(Into::into).collect(),
    }))
}

/// Takes a manifest out of the trash for good, with those that went with it.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/trash/purge",
    operation_id = "trash_purge",
    tag = "trash",
    params(InAccount),
    request_body = PurgeDocument,
    responses((status = 200, description = "how many are gone for good", body = PurgeAnswer), Problems),
)]
pub async fn purge(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let order: PurgeDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let (name, digest) = named(&request, (&order.repository, &order.digest))?;
    let purged = api
        .registry
        .trash_entry_purge(&identity, &name, &digest)
        .await?;
    Ok(HttpResponse::Ok().json(PurgeAnswer { purged }))
}
