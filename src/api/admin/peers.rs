//! `GET /api/v1/peers`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{identity, parameters::Parameters};
use crate::{
    api::{Api, openapi::Problems, render::Problem},
    error::Result,
    registry::info::Peer,
};

/// The configured peers.
#[derive(Serialize, ToSchema)]
#[schema(as = Peers)]
struct PeersAnswer {
    peers: Vec<Peer>,
}

/// The other registries that this one replicates with. The list is empty while none can be configured.
#[utoipa::path(
    get,
    path = "/api/v1/peers",
    operation_id = "peers_list",
    tag = "peers",
    responses((status = 200, description = "the configured peers", body = PeersAnswer), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let peers = api.registry.peers_list(&identity);
    Ok(HttpResponse::Ok().json(PeersAnswer { peers }))
}
