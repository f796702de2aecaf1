//! `/api/v1/tokens`

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{MAX_DOCUMENT_BYTES, document, identity, secret_answer};
use crate::{
    api::{Api, extract::path_value, openapi::Problems, render::Problem},
    error::{Code, Error, Result},
    model::{permission::Permission, secret::StoredSecret},
    registry::personal_tokens::PersonalTokenOrder,
};

/// A personal token as the API shows it, without the token itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PersonalToken)]
struct TokenView {
    id: Uuid,
    description: String,
    /// `null` is everything that the owner may do.
    #[schema(value_type = Option<Vec<Permission>>)]
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

/// A token that one wants.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PersonalTokenOrder)]
struct TokenDocument {
    #[serde(default)]
    description: String,
    #[schema(value_type = Option<Vec<Permission>>)]
    permissions: Option<BTreeSet<Permission>>,
    expires_at: Option<DateTime<Utc>>,
    expires_in_seconds: Option<u32>,
}

/// What is to be revoked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Revocation)]
struct RevokeDocument {
    subject: Option<String>,
    jti: Option<String>,
}

/// One's own tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = PersonalTokens)]
struct TokensAnswer {
    personal_tokens: Vec<TokenView>,
}

/// A token that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = PersonalTokenMade)]
struct TokenMadeAnswer {
    personal_token: TokenView,
    /// The user name that goes with it.
    login: String,
    /// Shown this once.
    token: String,
}

/// One's own tokens.
#[utoipa::path(
    get,
    path = "/api/v1/tokens",
    operation_id = "personal_tokens_list",
    tag = "tokens",
    responses((status = 200, description = "the tokens, without their secrets", body = TokensAnswer), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let tokens = api.registry.personal_tokens_list(&who).await?;
    let tokens: Vec<TokenView> = tokens.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(TokensAnswer {
        personal_tokens: tokens,
    }))
}

/// Makes a token for oneself, and shows it this once.
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    operation_id = "personal_token_create",
    tag = "tokens",
    request_body = TokenDocument,
    responses((status = 201, description = "the token", body = TokenMadeAnswer), Problems),
)]
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
    let answer = TokenMadeAnswer {
        personal_token: new.stored.into(),
        login,
        token: new.secret,
    };
    Ok(secret_answer(StatusCode::CREATED, &answer))
}

/// Ends one of one's own tokens.
#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{id}",
    operation_id = "personal_token_delete",
    tag = "tokens",
    params(("id" = Uuid, Path, description = "the token")),
    responses((status = 204, description = "the token is gone"), Problems),
)]
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let id: Uuid = path_value(&request, "id", Code::BadRequest)?;
    api.registry.personal_token_remove(&who, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes back what was issued to somebody, or one access token.
#[utoipa::path(
    post,
    path = "/api/v1/tokens/revoke",
    operation_id = "tokens_revoke",
    tag = "tokens",
    request_body = RevokeDocument,
    responses((status = 204, description = "what was named is not valid any more"), Problems),
)]
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
