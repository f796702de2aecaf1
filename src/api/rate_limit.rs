//! Rate limits at the border: a refusal is 429, and every counted answer says what is left.
//!
//! The headers go into the request's extensions, from where `request_log.rs` puts them on the answer, whatever becomes
//! of it.

use actix_web::{
    HttpMessage as _, HttpRequest,
    http::header::{HeaderMap, HeaderName, HeaderValue},
};

use super::Api;
use crate::{
    error::{Code, Error, Result},
    model::rate_limit::{RateLimitKind, RateLimitStatus},
    registry::access::RepoAccess,
};

const ACTION: HeaderName = HeaderName::from_static("x-ratelimit-action");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

struct Counted(RateLimitKind, RateLimitStatus);

/// Counts a request that its caller may make. Errors: there were too many.
pub async fn count<P>(
    request: &HttpRequest,
    api: &Api,
    access: &RepoAccess<P>,
    kind: RateLimitKind,
) -> Result<()> {
    let Some(status) = api.registry.rate_limit(access, kind).await else {
        return Ok(());
    };
    request.extensions_mut().insert(Counted(kind, status));
    if status.is_allowed {
        return Ok(());
    }
    let seconds = status.retry_after_seconds;
    let message = format!("too many requests of this kind in this account; wait {seconds} s");
    Err(Error::with_message(Code::TooManyRequests, message)
        .with_header("Retry-After", seconds.to_string()))
}

/// Says what is left, if the request was counted.
pub fn add_headers(request: &HttpRequest, headers: &mut HeaderMap) {
    let extensions = request.extensions();
    let Some(Counted(kind, status)) = extensions.get::<Counted>() else {
        return;
    };
    headers.insert(ACTION, HeaderValue::from_static(kind.wire_name()));
    headers.insert(LIMIT, status.limit.into());
    headers.insert(REMAINING, status.remaining.into());
    headers.insert(RESET, status.reset_seconds.into());
}
