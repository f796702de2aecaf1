//! `GET /api/v1`: what this registry is. Who has not logged in learns how to, and no more.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{identity, parameters::Parameters};
use crate::{
    api::{Api, extract::api_authorization, openapi::Problems, render::Problem},
    error::Result,
};

/// What clients can ask of this registry.
const CAPABILITIES: [&str; 8] = [
    "accounts",
    "keppel-v1",
    "login-providers",
    "personal-tokens",
    "repositories",
    "robots",
    "storage-migrate",
    "users",
];

/// What this registry is.
#[derive(Serialize, ToSchema)]
#[schema(as = Info)]
struct InfoAnswer {
    api_version: &'static str,
    /// The sources of users, in the order in which they are asked.
    auth_drivers: Vec<String>,
    /// What clients can ask of this registry.
    capabilities: Vec<&'static str>,
    /// Who has logged in learns more.
    #[serde(flatten)]
    inside: Option<InsideAnswer>,
}

/// What is told to those who have logged in.
#[derive(Serialize, ToSchema)]
#[schema(as = InfoInside)]
struct InsideAnswer {
    version: &'static str,
    /// Those that are for every auth tenant.
    storage_backends: Vec<String>,
    /// The one of accounts that name none, if it is for every auth tenant.
    default_storage_backend: Option<String>,
}

/// What this registry is.
#[utoipa::path(
    get,
    path = "/api/v1",
    operation_id = "info_get",
    tag = "info",
    security((), ("password" = []), ("jwt" = []), ("keystone" = [])),
    responses((status = 200, description = "what it is", body = InfoAnswer), Problems),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    Parameters::read(&request, &[])?;
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    let mut info = InfoAnswer {
        api_version: "v1",
        auth_drivers: owned(api.registry.auth_driver_names()),
        capabilities: CAPABILITIES.to_vec(),
        inside: None,
    };
    // Wrong credentials are an error here as everywhere.
    if !matches!(api_authorization(&request), Ok(None)) {
        identity(&request, &api).await?;
        let default = api.registry.default_backend_name();
        info.inside = Some(InsideAnswer {
            version: env!("CARGO_PKG_VERSION"),
            storage_backends: owned(api.registry.open_backend_names()),
            default_storage_backend: default.map(str::to_owned),
        });
    }
    Ok(HttpResponse::Ok().json(info))
}
