//! `/keppel/v1/quotas/<auth tenant>`, as Keppel has it: manifests only.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::handlers::forbidden;
use crate::{
    api::{
        Api,
        admin::{document, identity},
        extract::path_part,
        render::PlainError,
    },
    model::{
        precondition::ChangeTerms,
        quota::{Book, Resource},
    },
    registry::quotas::LimitsOrder,
};

/// The largest document with a quota.
const MAX_DOCUMENT_BYTES: usize = 4096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaDocument {
    manifests: ManifestsDocument,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestsDocument {
    quota: u64,
}

/// Keppel has no word for "no limit"; the largest number says it.
fn view(book: &Book) -> Value {
    let quota = book.limits.of(Resource::Manifests);
    let quota = quota.unwrap_or(i64::MAX.unsigned_abs());
    json!({ "manifests": { "quota": quota, "usage": book.used.manifests } })
}

/// What an auth tenant uses and may use.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let tenant = path_part(&request, "auth_tenant")?;
    let book = api.registry.tenant_quota_get(&identity, &tenant).await;
    Ok(HttpResponse::Ok().json(view(&book.map_err(forbidden)?)))
}

/// Sets the limit of manifests.
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let tenant = path_part(&request, "auth_tenant")?;
    let wanted: QuotaDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let order = LimitsOrder {
        manifests: Some(Some(wanted.manifests.quota)),
        ..LimitsOrder::default()
    };
    let book = api
        .registry
        .tenant_quota_put(&identity, &tenant, order, ChangeTerms::default())
        .await;
    Ok(HttpResponse::Ok().json(view(&book.map_err(forbidden)?.after)))
}
