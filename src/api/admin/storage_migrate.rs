//! `/api/v1/accounts/<account>/storage/migrate`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{account_name, document, identity};
use crate::{
    api::{
        Api,
        openapi::{InAccount, Problems},
        render::Problem,
    },
    error::{Code, Error, Result},
    model::storage_move::MoveProgress,
};

/// The largest document that orders a move.
const MAX_DOCUMENT_BYTES: usize = 4096;

/// A move as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StorageMove)]
struct MoveView {
    to: String,
    keep_old: bool,
    state: String,
    /// From 0 to 1, of the copying.
    progress: f64,
    moved_objects: u64,
    moved_bytes: u64,
    remaining_objects: u64,
    remaining_bytes: u64,
    started_at: String,
    finished_at: Option<String>,
    error: Option<String>,
}

impl From<MoveProgress> for MoveView {
    fn from(progress: MoveProgress) -> Self {
        let share = progress.share();
        let (moving, remaining) = (progress.storage_move, progress.remaining);
        Self {
            to: moving.target,
            keep_old: moving.keeps_old,
            state: moving.state.to_string(),
            progress: share,
            moved_objects: moving.moved_objects,
            moved_bytes: moving.moved_bytes,
            remaining_objects: remaining.objects,
            remaining_bytes: remaining.bytes,
            started_at: moving.started_at.to_rfc3339(),
            finished_at: moving.finished_at.map(|at| at.to_rfc3339()),
            error: moving.error,
        }
    }
}

/// Where to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StorageMoveOrder)]
struct MoveDocument {
    to: String,
    #[serde(default)]
    keep_old: bool,
}

/// A move of an account.
#[derive(Serialize, ToSchema)]
#[schema(as = StorageMoveShown)]
struct MoveAnswer {
    migration: MoveView,
}

/// Begins to move the account.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/storage/migrate",
    operation_id = "storage_move_order",
    tag = "accounts",
    params(InAccount),
    request_body = MoveDocument,
    responses((status = 202, description = "the move has begun", body = MoveAnswer), Problems),
)]
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let name = account_name(&request)?;
    let document: MoveDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let order = (document.to.as_str(), document.keep_old);
    let progress = api.registry.account_move(&identity, &name, order).await?;
    Ok(HttpResponse::Accepted().json(MoveAnswer {
        migration: progress.into(),
    }))
}

/// How far it has come.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/storage/migrate",
    operation_id = "storage_move_get",
    tag = "accounts",
    params(InAccount),
    responses((status = 200, description = "how far it has come", body = MoveAnswer), Problems),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let name = account_name(&request)?;
    let progress = api.registry.account_move_show(&identity, &name).await?;
    let progress = progress
        .ok_or_else(|| Error::with_message(Code::NotFound, "the account was never moved"))?;
    Ok(HttpResponse::Ok().json(MoveAnswer {
        migration: progress.into(),
    }))
}
