//! `GET` and `POST /token`: Docker's token service and its OAuth2 form.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use chrono::SecondsFormat;
use serde_json::{Map, json};

use super::{
    Api, body,
    extract::{authorization, query},
    origin::Origin,
    render::OciError,
    request_log::RequestFacts,
};
use crate::{
    auth::{
        authorization::Authorization,
        scope::{Scope, parse_scopes},
    },
    error::{Code, Error, Result},
    registry::tokens::{IssuedToken, TokenOrder},
};

/// The largest form of a `POST`.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// The form of Docker's "Token Authentication Specification".
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, OciError> {
    let challenged = |error: Error| error.with_header("WWW-Authenticate", "Basic realm=\"kontor\"");
    let credentials = match authorization(&request).map_err(challenged)? {
        None => None,
        Some(Authorization::Basic { user, password }) => Some((user, password)),
        Some(Authorization::Bearer(_)) => {
            let message = "the token service takes a user name and a password, not a token";
            return Err(challenged(Error::with_message(Code::Unauthorized, message)).into());
        }
    };
    let issued = issue(&request, &api, credentials, &query(&request)).await?;
    let issued_at = issued.issued_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    Ok(uncached(json!({
        "token": issued.token,
        "access_token": issued.token,
        "expires_in": issued.expires_in_seconds,
        "issued_at": issued_at,
    })))
}

/// The form of Docker's "OAuth2 Token Authentication" (RFC 6749, section 4.3).
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    let limit = (MAX_FORM_BYTES, Code::PayloadTooLarge);
    let form = body::whole(payload, api.idle_timeout, limit).await?;
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&form).into_owned().collect();
    let field = |name: &str| {
        form.iter()
            .find(|(key, _)| key == name)
            .map(|(_, v)| v.clone())
    };
    let credentials = match field("grant_type").as_deref() {
        Some("password") => field("username").zip(field("password")),
        _ => None,
    };
    let Some(credentials) = credentials else {
        // Clients fall back to GET after this.
        let message = "grant_type must be password, with username and password";
        return Err(Error::with_message(Code::BadRequest, message).into());
    };
    let issued = issue(&request, &api, Some(credentials), &form).await?;
    let granted: Vec<String> = issued.granted.iter().map(Scope::to_string).collect();
    Ok(uncached(json!({
        "access_token": issued.token,
        "token_type": "Bearer",
        "scope": granted.join(" "),
        "expires_in": issued.expires_in_seconds,
        "issued_at": issued.issued_at.to_rfc3339_opts(SecondsFormat::Secs, true),
    })))
}

async fn issue(
    request: &HttpRequest,
    api: &Api,
    credentials: Option<(String, String)>,
    parameters: &[(String, String)],
) -> Result<IssuedToken> {
    let origin = Origin::of(request, &api.hosts);
    let challenge = origin.challenge(&api.hosts);
    let asked = parameters
        .iter()
        .find(|(key, _)| key == "service")
        .map(|(_, value)| value);
    if asked.is_some_and(|service| *service != challenge.service) {
        let message = format!("this is the token service of {}", challenge.service);
        return Err(Error::with_message(Code::BadRequest, message));
    }
    let user = credentials.as_ref().map(|(user, _)| user.clone());
    RequestFacts::set_caller(request, user);
    let scopes = parameters
        .iter()
        .filter(|(key, _)| key == "scope")
        .map(|(_, v)| v.as_str());
    api.registry
        .token_issue(TokenOrder {
            credentials,
            audience: challenge.service,
            scopes: parse_scopes(scopes),
            remapped_to: origin.remapped_to,
        })
        .await
}

/// Tokens must not lie in caches (RFC 6749, section 5.1).
fn uncached(body: serde_json::Value) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body.as_object().cloned().unwrap_or_else(Map::new))
}
