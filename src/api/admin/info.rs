//! `GET /api/v1`: what this registry is. Who has not logged in learns how to, and no more.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::{identity, parameters::Parameters};
use crate::{
    api::{Api, extract::api_authorization, render::Problem},
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
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    Parameters::read(&request, &[])?;
    let mut info = json!({
        "api_version": "v1",
        "auth_drivers": api.registry.auth_driver_names(),
        "capabilities": CAPABILITIES,
    });
    // Wrong credentials are an error here as everywhere.
    if !matches!(api_authorization(&request), Ok(None)) {
        identity(&request, &api).await?;
        info["version"] = json!(env!("CARGO_PKG_VERSION"));
        info["storage_backends"] = json!(api.registry.open_backend_names());
        info["default_storage_backend"] = json!(api.registry.default_backend_name());
    }
    Ok(HttpResponse::Ok().json(info))
}
