//! `GET /v2/`: whether this is a registry, and whether the client is logged in.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::api::{Api, extract::caller, render::OciError};

/// Clients log in by this: without credentials it is 401, whatever else is public.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, OciError> {
    let caller = caller(&request, &api).await?;
    api.registry.base_access(&caller)?;
    Ok(HttpResponse::Ok().json(json!({})))
}
