//! `GET /api/v1/login-providers`: where `kontor login` can log people in. It is public, as login pages are.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::api::Api;

/// The identity providers with a login for devices (RFC 8628).
pub async fn list(api: web::Data<Api>) -> HttpResponse {
    let providers = api.registry.login_providers().await;
    let shown: Vec<_> = providers
        .into_iter()
        .map(|(name, provider)| {
            json!({
                "name": name,
                "issuer": provider.issuer,
                "client_id": provider.client_id,
                // For issuers that want one from a command line: it is no secret.
                "client_secret": provider.client_secret.as_ref().map(|secret| secret.expose()),
                "scopes": provider.scopes,
                "device_authorization_endpoint": provider.device_authorization_endpoint,
                "token_endpoint": provider.token_endpoint,
            })
        })
        .collect();
    HttpResponse::Ok().json(json!({ "providers": shown }))
}
