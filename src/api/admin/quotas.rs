//! `/api/v1/accounts/<account>/quota` and `/api/v1/auth-tenants/<id>/quota`

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    account_name, change_answer, document, from_value, identity, parameters::change_terms, tagged,
};
use crate::{
    api::{
        Api,
        extract::path_part,
        openapi::{Conditions, DryRun, InAccount, Problems},
        render::Problem,
    },
    error::{Error, Result},
    model::{
        difference::Difference,
        precondition::{Changed, Tagged as _},
        quota::{Amounts, Book, Resource},
    },
    registry::{caller::Actor, quotas::LimitsOrder},
};

/// The largest document with limits.
const MAX_DOCUMENT_BYTES: usize = 4096;

/// One resource as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QuotaOfResource)]
struct ResourceView {
    /// `null` is no limit.
    limit: Option<u64>,
    used: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved: Option<i64>,
    /// The part of what is used that lies in the trash; it never stands in the way of a push.
    #[serde(skip_serializing_if = "Option::is_none")]
    trash: Option<i64>,
}

/// One resource as a client orders it. What is shown can be sent back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = QuotaOrderOfResource)]
struct ResourceDocument {
    /// `null` is no limit; left out, it stays as it is.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    limit: Option<Option<u64>>,
    #[serde(rename = "used")]
    #[schema(value_type = Option<i64>, read_only)]
    _used: Value,
    #[serde(rename = "reserved")]
    #[schema(value_type = Option<i64>, read_only)]
    _reserved: Value,
    #[serde(rename = "trash")]
    #[schema(value_type = Option<i64>, read_only)]
    _trash: Value,
}

/// Limits as a client orders them. What is left out stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QuotaOrder)]
struct QuotaDocument {
    #[serde(default)]
    bytes: ResourceDocument,
    #[serde(default)]
    manifests: ResourceDocument,
    #[serde(default)]
    repositories: ResourceDocument,
}

/// Reads limits. Serde would take a list for an object.
fn order(document: Map<String, Value>) -> Result<LimitsOrder> {
    for (name, value) in &document {
        if !value.is_object() {
            return Err(Error::field(name, "it must be an object with a limit"));
        }
    }
    let order: QuotaDocument = from_value(Value::Object(document))?;
    Ok(order.into())
}

/// Tells `null`, which is no limit, from a member that is missing.
fn given<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<QuotaDocument> for LimitsOrder {
    fn from(document: QuotaDocument) -> Self {
        Self {
            bytes: document.bytes.limit,
            manifests: document.manifests.limit,
            repositories: document.repositories.limit,
        }
    }
}

/// What is used, and what may be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Quota)]
struct QuotaView {
    bytes: ResourceView,
    manifests: ResourceView,
    repositories: ResourceView,
}

impl From<Book> for QuotaView {
    fn from(book: Book) -> Self {
        let view = |resource, used, reserved| ResourceView {
            limit: book.limits.of(resource),
            used,
            reserved,
            trash: None,
        };
        let used = &book.used;
        Self {
            bytes: view(Resource::Bytes, used.bytes, Some(used.reserved_bytes)),
            manifests: view(Resource::Manifests, used.manifests, None),
            repositories: view(Resource::Repositories, used.repositories, None),
        }
    }
}

/// What became of an order, or would.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaPut)]
struct PutAnswer {
    #[serde(flatten)]
    quota: QuotaView,
    /// What is other than before.
    changes: Vec<Difference>,
}

/// An answer to `GET`, which says how much of the bytes is trash.
async fn shown(api: &Api, owner: &str, book: Book) -> Result<HttpResponse> {
    let mut answer = tagged(StatusCode::OK, Some(book.tag()));
    let mut quota = QuotaView::from(book);
    quota.bytes.trash = Some(api.registry.trash_bytes(book.kind, owner).await?);
    Ok(answer.json(quota))
}

/// An answer to `PUT`.
fn put_answer(changed: Changed<Book>) -> Result<HttpResponse, Problem> {
    let answer = |quota, changes| PutAnswer { quota, changes };
    Ok(change_answer(changed, answer)?)
}

/// What is held.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QuotaAmounts)]
struct AmountsView {
    bytes: i64,
    reserved: i64,
    manifests: i64,
    repositories: i64,
}

impl From<&Amounts> for AmountsView {
    fn from(amounts: &Amounts) -> Self {
        Self {
            bytes: amounts.bytes,
            reserved: amounts.reserved_bytes,
            manifests: amounts.manifests,
            repositories: amounts.repositories,
        }
    }
}

/// A book that was wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QuotaRepair)]
struct RepairView {
    /// Whose book it is.
    book: String,
    was: AmountsView,
    is: AmountsView,
}

/// What a recount has put right.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QuotaRecount)]
struct RecountAnswer {
    repaired: Vec<RepairView>,
}

/// The auth tenant in the path.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes a part of a path")]
struct InTenant {
    /// The auth tenant: a project's id, or a name that the operator chose.
    #[param(min_length = 1, max_length = 255)]
    auth_tenant: String,
}

/// Who asks, and for which auth tenant.
async fn tenant(request: &HttpRequest, api: &Api) -> Result<(Actor, String)> {
    let identity = identity(request, api).await?;
    Ok((identity, path_part(request, "auth_tenant")?))
}

/// What an account uses and may use.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/quota",
    operation_id = "account_quota_get",
    tag = "quotas",
    params(InAccount),
    responses(
        (status = 200, description = "what it uses and may use", body = QuotaView, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn account_get(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let name = account_name(&request)?;
    let book = api.registry.account_quota_get(&identity, &name).await?;
    Ok(shown(&api, name.as_str(), book).await?)
}

/// Sets limits of an account.
#[utoipa::path(
    put,
    path = "/api/v1/accounts/{account}/quota",
    operation_id = "account_quota_put",
    tag = "quotas",
    params(InAccount, DryRun, Conditions),
    request_body = QuotaDocument,
    responses(
        (status = 200, description = "as it is now, or would be", body = PutAnswer, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn account_put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let name = account_name(&request)?;
    let terms = change_terms(&request)?;
    let order = order(document(payload, &api, MAX_DOCUMENT_BYTES).await?)?;
    let registry = &api.registry;
    let changed = registry.account_quota_put(&identity, &name, order, terms);
    put_answer(changed.await?)
}

/// What an auth tenant uses and may use.
#[utoipa::path(
    get,
    path = "/api/v1/auth-tenants/{auth_tenant}/quota",
    operation_id = "tenant_quota_get",
    tag = "quotas",
    params(InTenant),
    responses(
        (status = 200, description = "what it uses and may use", body = QuotaView, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn tenant_get(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (identity, tenant) = tenant(&request, &api).await?;
    let book = api.registry.tenant_quota_get(&identity, &tenant).await?;
    Ok(shown(&api, &tenant, book).await?)
}

/// Sets limits of an auth tenant.
#[utoipa::path(
    put,
    path = "/api/v1/auth-tenants/{auth_tenant}/quota",
    operation_id = "tenant_quota_put",
    tag = "quotas",
    params(InTenant, DryRun, Conditions),
    request_body = QuotaDocument,
    responses(
        (status = 200, description = "as it is now, or would be", body = PutAnswer, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn tenant_put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (identity, tenant) = tenant(&request, &api).await?;
    let terms = change_terms(&request)?;
    let order = order(document(payload, &api, MAX_DOCUMENT_BYTES).await?)?;
    let registry = &api.registry;
    let changed = registry.tenant_quota_put(&identity, &tenant, order, terms);
    put_answer(changed.await?)
}

/// Takes the limits of an auth tenant away: those of the configuration count again.
#[utoipa::path(
    delete,
    path = "/api/v1/auth-tenants/{auth_tenant}/quota",
    operation_id = "tenant_quota_reset",
    tag = "quotas",
    params(InTenant),
    responses((status = 204, description = "the limits of the configuration count again"), Problems),
)]
pub async fn tenant_delete(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (identity, tenant) = tenant(&request, &api).await?;
    api.registry.tenant_quota_reset(&identity, &tenant).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Counts again, and says which books were wrong.
#[utoipa::path(
    post,
    path = "/api/v1/auth-tenants/{auth_tenant}/quota/recount",
    operation_id = "tenant_quota_recount",
    tag = "quotas",
    params(InTenant),
    responses((status = 200, description = "what was wrong", body = RecountAnswer), Problems),
)]
pub async fn tenant_recount(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (identity, tenant) = tenant(&request, &api).await?;
    let wrong = api.registry.quota_recount(&identity, &tenant).await?;
    let repaired = wrong.iter().map(|error| RepairView {
        book: error.owner.clone(),
        was: (&error.book).into(),
        is: (&error.counted).into(),
    });
    Ok(HttpResponse::Ok().json(RecountAnswer {
        repaired: repaired.collect(),
    }))
}
