//! `GET /api/v1/login-providers`: where `kontor login` can log people in. It is public, as login pages are.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{Api, openapi::Problems};

/// An identity provider with a login for devices (RFC 8628).
#[derive(Serialize, ToSchema)]
#[schema(as = LoginProvider)]
struct ProviderView {
    name: String,
    issuer: String,
    client_id: String,
    /// For issuers that want one from a command line: it is no secret.
    client_secret: Option<String>,
    scopes: Vec<String>,
    device_authorization_endpoint: String,
    token_endpoint: String,
}

/// Where `kontor login` can log people in.
#[derive(Serialize, ToSchema)]
#[schema(as = LoginProviders)]
struct ProvidersAnswer {
    providers: Vec<ProviderView>,
}

/// The identity providers with a login for devices (RFC 8628).
#[utoipa::path(
    get,
    path = "/api/v1/login-providers",
    operation_id = "login_providers_list",
    tag = "users",
    security(()),
    responses((status = 200, description = "the providers", body = ProvidersAnswer), Problems),
)]
pub async fn list(api: web::Data<Api>) -> HttpResponse {
    let providers = api.registry.login_providers().await;
    let providers = providers
        .into_iter()
        .map(|(name, provider)| ProviderView {
            name,
            issuer: provider.issuer,
            client_id: provider.client_id,
            client_secret: provider
                .client_secret
                .as_ref()
                .map(|secret| secret.expose().to_owned()),
            scopes: provider.scopes,
            device_authorization_endpoint: provider.device_authorization_endpoint.to_string(),
            token_endpoint: provider.token_endpoint.to_string(),
        })
        .collect();
    HttpResponse::Ok().json(ProvidersAnswer { providers })
}
