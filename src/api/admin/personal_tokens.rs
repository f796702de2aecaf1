//! `/api/v1/tokens`

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{MAX_DOCUMENT_BYTES, document, identity, secret_answer};
use crate::{
    api::{Api, extract::path_value, render::Problem},
    error::{Code, Error, Result},
    model::{permission::Permission, secret::StoredSecret},
    registry::personal_tokens::PersonalTokenOrder,
};

/// A personal token as the API shows it, without the token itself.
#[derive(Debug, Serialize)]
struct TokenView {
    id: Uuid,
    description: String,
    /// `null` is everything that the owner may do.
    permissions: Option<BTreeSet<Permission>>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl From<StoredSecret> for TokenView {
    fn from(stored: StoredSecret) -> Self {
        Self {
            id: stored.id,
            description: stored.description,
            permissions: stored.identity.narrowed_to,
            created_at: stored.created_at,
            expires_at: stored.expires_at,
            last_used_at: stored.last_used_at,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenDocument {
    #[serde(default)]
    description: String,
    permissions: Option<BTreeSet<Permission>>,
    expires_at: Option<DateTime<Utc>>,
    expires_in_seconds: Option<u32>,
}

/// What is to be revoked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeDocument {
    subject: Option<String>,
    jti: Option<String>,
}

/// One's own tokens.
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let tokens = api.registry.personal_tokens_list(&who).await?;
    let tokens: Vec<TokenView> = tokens.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(json!({ "personal_tokens": tokens })))
}

/// Makes a token for oneself, and shows it this once.
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let document: TokenDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    if document.expires_at.is_some() && document.expires_in_seconds.is_some() {
        let message = "expires_at and expires_in_seconds exclude each other";
        return Err(Error::field("", message).into());
    }
    let order = PersonalTokenOrder {
        description: document.description,
        permissions: document.permissions,
        expires_at: document.expires_at,
        expires_in_seconds: document.expires_in_seconds,
    };
    let new = api.registry.personal_token_create(&who, order).await?;
    let login = new.stored.identity.user.clone();
    let answer = json!({
        "personal_token": TokenView::from(new.stored),
        "login": login,
        "token": new.secret,
    });
    Ok(secret_answer(StatusCode::CREATED, &answer))
}

/// Ends one of one's own tokens.
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let id: Uuid = path_value(&request, "id", Code::BadRequest)?;
    api.registry.personal_token_remove(&who, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes back what was issued to somebody, or one access token.
pub async fn revoke(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let document: RevokeDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    match (document.subject, document.jti) {
        (Some(subject), None) => api.registry.tokens_revoke(&who, &subject).await?,
        (None, Some(jti)) => api.registry.token_revoke(&who, &jti).await?,
        _ => {
            let message = "name either a subject, <driver>:<user>, or the jti of a token";
            return Err(Error::field("", message).into());
        }
    }
    Ok(HttpResponse::NoContent().finish())
}
