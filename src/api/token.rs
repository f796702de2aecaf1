//! `GET` and `POST /token`: Docker's token service, its OAuth2 form, and token exchange.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::{
    Api, body,
    extract::{authorization, query, request_origin},
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
    registry::tokens::{IssuedToken, TokenGrant, TokenOrder},
};

/// The largest form of a `POST`.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// The grant of RFC 8693, section 2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The kinds of token that can be exchanged (RFC 8693, section 3); all have to be JWTs.
const SUBJECT_TOKEN_TYPES: [&str; 3] = [
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
    "urn:ietf:params:oauth:token-type:access_token",
];

/// The parameters of a request for a token.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &str) -> Result<String> {
        self.get(name).map(str::to_owned).ok_or_else(|| {
            Error::with_message(Code::BadRequest, format!("the parameter {name} is needed"))
        })
    }

    /// Whether the client wants a refresh token: `offline_token` is Docker's word, `access_type` that of its OAuth2
    /// form.
    fn wants_refresh(&self) -> bool {
        matches!(self.get("offline_token"), Some("true" | "1"))
            || self.get("access_type") == Some("offline")
    }
}

/// The form of Docker's "Token Authentication Specification".
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, OciError> {
    let challenged = |error: Error| error.with_header("WWW-Authenticate", "Basic realm=\"kontor\"");
    let grant = match authorization(&request).map_err(challenged)? {
        None => TokenGrant::Anonymous,
        Some(Authorization::Basic { user, password }) => TokenGrant::Password {
            user,
            secret: password,
        },
        Some(Authorization::Bearer(_) | Authorization::KeystoneToken(_)) => {
            let message = "the token service takes a user name and a password, not a token";
            return Err(challenged(Error::with_message(Code::Unauthorized, message)).into());
        }
    };
    let issued = issue(&request, &api, grant, &Parameters(query(&request))).await?;
    let mut answer = answer(&issued);
    answer["token"] = json!(issued.token);
    Ok(uncached(&answer))
}

/// The form of Docker's "OAuth2 Token Authentication" (RFC 6749), and token exchange (RFC 8693).
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    let limit = (MAX_FORM_BYTES, Code::PayloadTooLarge);
    let form = body::whole(payload, api.idle_timeout, limit).await?;
    let form = Parameters(url::form_urlencoded::parse(&form).into_owned().collect());
    let grant = match form.get("grant_type") {
        Some("password") => TokenGrant::Password {
            user: form.need("username")?,
            secret: form.need("password")?,
        },
        Some("refresh_token") => TokenGrant::Refresh(form.need("refresh_token")?),
        Some(TOKEN_EXCHANGE) => exchange(&form)?,
        _ => {
            // Clients fall back to GET after this.
            let message = format!("grant_type must be password, refresh_token or {TOKEN_EXCHANGE}");
            return Err(Error::with_message(Code::BadRequest, message).into());
        }
    };
    let is_exchange = matches!(grant, TokenGrant::Exchange { .. });
    let issued = issue(&request, &api, grant, &form).await?;
    let granted: Vec<String> = issued.granted.iter().map(Scope::to_string).collect();
    let mut answer = answer(&issued);
    answer["token_type"] = json!("Bearer");
    answer["scope"] = json!(granted.join(" "));
    if is_exchange {
        answer["issued_token_type"] = json!("urn:ietf:params:oauth:token-type:access_token");
    }
    Ok(uncached(&answer))
}

fn exchange(form: &Parameters) -> Result<TokenGrant> {
    let kind = form.need("subject_token_type")?;
    if !SUBJECT_TOKEN_TYPES.contains(&kind.as_str()) {
        let message = format!(
            "subject_token_type must be one of {}",
            SUBJECT_TOKEN_TYPES.join(", ")
        );
        return Err(Error::with_message(Code::BadRequest, message));
    }
    if form.get("actor_token").is_some() {
        let message = "actor_token is not supported: a token acts for itself";
        return Err(Error::with_message(Code::BadRequest, message));
    }
    Ok(TokenGrant::Exchange {
        subject_token: form.need("subject_token")?,
        user: form.get("username").map(str::to_owned),
    })
}

async fn issue(
    request: &HttpRequest,
    api: &Api,
    grant: TokenGrant,
    parameters: &Parameters,
) -> Result<IssuedToken> {
    let origin = Origin::of(request, &api.hosts);
    let challenge = origin.challenge(&api.hosts);
    let asked = parameters.get("service");
    if asked.is_some_and(|service| service != challenge.service) {
        let message = format!("this is the token service of {}", challenge.service);
        return Err(Error::with_message(Code::BadRequest, message));
    }
    if let TokenGrant::Password { user, .. } = &grant {
        // For a login that fails; one that succeeds is known better below.
        RequestFacts::set_caller(request, Some(user.clone()));
    }
    let scopes = parameters.0.iter().filter(|(key, _)| key == "scope");
    let issued = api
        .registry
        .token_issue(TokenOrder {
            grant,
            wants_refresh: parameters.wants_refresh(),
            origin: request_origin(request, api),
            audience: challenge.service,
            scopes: parse_scopes(scopes.map(|(_, value)| value.as_str())),
            remapped_to: origin.remapped_to,
        })
        .await?;
    RequestFacts::set_caller(request, issued.subject.clone());
    Ok(issued)
}

/// What both forms have in common.
fn answer(issued: &IssuedToken) -> Value {
    let mut answer = json!({
        "access_token": issued.token,
        "expires_in": issued.expires_in_seconds,
        "issued_at": issued.issued_at.to_rfc3339_opts(SecondsFormat::Secs, true),
    });
    if let Some(token) = &issued.refresh_token {
        answer["refresh_token"] = json!(token);
    }
    answer
}

/// Tokens must not lie in caches (RFC 6749, section 5.1).
fn uncached(body: &Value) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body)
}

/// How long others may keep our public keys.
const JWKS_MAX_AGE: &str = "public, max-age=300";

/// `GET /.well-known/jwks.json`: the public keys, for others who want to check our tokens.
pub async fn jwks(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, JWKS_MAX_AGE))
        .json(json!({ "keys": api.registry.jwks() }))
}
