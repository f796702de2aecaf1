//! Legal holds: `/api/v1/accounts/<account>/holds`, and `_hold` below repositories and tags.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    account_name, document, identity,
    parameters::Parameters,
    repo_name,
    repositories::{InRepo, PAGE, PageParams},
    tag_history::tag,
};
use crate::{
    api::{
        Api,
        openapi::{InAccount, Problems},
        render::Problem,
    },
    error::Result,
    model::trash::LegalHold,
    registry::legal_holds::{HoldOrder, HoldTarget},
};

/// The largest document of a hold.
const MAX_HOLD_BYTES: usize = 16 * 1024;

/// What must not be deleted or changed until a date.
#[derive(Serialize, ToSchema)]
#[schema(as = LegalHold)]
struct HoldView {
    /// The repository inside the account.
    repository: String,
    /// The tag; `null` for the whole repository.
    tag: Option<String>,
    until: DateTime<Utc>,
    reason: String,
    /// Who placed it, or changed it last.
    placed_by: String,
    placed_at: DateTime<Utc>,
}

impl From<LegalHold> for HoldView {
    fn from(hold: LegalHold) -> Self {
        Self {
            repository: hold.repository,
            tag: hold.tag.map(|tag| tag.to_string()),
            until: hold.until,
            reason: hold.reason,
            placed_by: hold.placed_by,
            placed_at: hold.placed_at,
        }
    }
}

/// A hold as a client orders it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LegalHoldOrder)]
struct HoldDocument {
    /// Until when, in the future.
    until: DateTime<Utc>,
    /// Why; whoever is refused is told.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// A page of holds.
#[derive(Serialize, ToSchema)]
#[schema(as = LegalHolds)]
struct HoldsAnswer {
    holds: Vec<HoldView>,
    /// The `last` of the next page, if there is one.
    next: Option<String>,
}

/// What a path is about.
type Target = fn(&HttpRequest) -> Result<HoldTarget>;

fn of_repo(request: &HttpRequest) -> Result<HoldTarget> {
    Ok(HoldTarget {
        name: repo_name(request)?,
        tag: None,
    })
}

fn of_tag(request: &HttpRequest) -> Result<HoldTarget> {
    Ok(HoldTarget {
        name: repo_name(request)?,
        tag: Some(tag(request)?),
    })
}

async fn place(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    target: Target,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let target = target(&request)?;
    let order: HoldDocument = document(payload, &api, MAX_HOLD_BYTES).await?;
    let order = HoldOrder {
        until: order.until,
        reason: order.reason,
    };
    let hold = api.registry.hold_place(&identity, target, order).await?;
    Ok(HttpResponse::Ok().json(HoldView::from(hold)))
}

async fn lift(
    request: HttpRequest,
    api: web::Data<Api>,
    target: Target,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    api.registry.hold_lift(&identity, target(&request)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A page of the holds of an account that are in force.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/holds",
    operation_id = "holds_list",
    tag = "legal holds",
    params(InAccount, PageParams),
    responses((status = 200, description = "a page of holds", body = HoldsAnswer), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let (account, page) = (
        account_name(&request)?,
        Parameters::read(&request, &PAGE)?.page()?,
    );
    let page = api.registry.holds_list(&identity, &account, page).await?;
    let next = page.items.last().map(|hold| {
        let tag = hold.tag.as_ref().map_or("", |tag| tag.as_str());
        format!("{}:{tag}", hold.repository)
    });
    Ok(HttpResponse::Ok().json(HoldsAnswer {
        next: next.filter(|_| page.has_more),
        holds: page.items.into_iter().map(Into::into).collect(),
    }))
}

/// Places a hold on a repository, or makes it longer.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_hold",
    operation_id = "repository_hold_post",
    tag = "legal holds",
    params(InRepo),
    request_body = HoldDocument,
    responses((status = 200, description = "the hold", body = HoldView), Problems),
)]
pub async fn repo_post(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    place(request, payload, api, of_repo).await
}

/// Lifts the hold on a repository.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_hold",
    operation_id = "repository_hold_delete",
    tag = "legal holds",
    params(InRepo),
    responses((status = 204, description = "the hold is lifted"), Problems),
)]
pub async fn repo_delete(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    lift(request, api, of_repo).await
}

/// Places a hold on a tag, or makes it longer.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_tags/{tag}/_hold",
    operation_id = "tag_hold_post",
    tag = "legal holds",
    params(
        InRepo,
        ("tag" = String, Path, description = "the tag", pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"),
    ),
    request_body = HoldDocument,
    responses((status = 200, description = "the hold", body = HoldView), Problems),
)]
pub async fn tag_post(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    place(request, payload, api, of_tag).await
}

/// Lifts the hold on a tag.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}/repositories/{repo}/_tags/{tag}/_hold",
    operation_id = "tag_hold_delete",
    tag = "legal holds",
    params(
        InRepo,
        ("tag" = String, Path, description = "the tag", pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"),
    ),
    responses((status = 204, description = "the hold is lifted"), Problems),
)]
pub async fn tag_delete(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    lift(request, api, of_tag).await
}
