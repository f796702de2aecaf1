//! `/api/v1/audit`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::identity;
use crate::{
    api::{Api, extract::query, openapi::Problems, render::Problem},
    error::{Error, Result},
    model::audit::{AuditFilter, SealedEvent},
    registry::audit::MAX_PAGE,
};

/// How many events are shown if nobody says.
const DEFAULT_LIMIT: i64 = 100;

/// An event as the API shows it: exactly as it was hashed.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEvent)]
struct EventView {
    /// Its place in the chain.
    seq: i64,
    /// SHA-256 over the hash before it and the event.
    hash: String,
    /// Who did what, from where, with which outcome.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEvents)]
struct Page {
    events: Vec<EventView>,
    /// What to ask for with `before` to see the events before these.
    next_before: Option<i64>,
}

fn view(sealed: SealedEvent) -> Result<EventView> {
    Ok(EventView {
        seq: sealed.seq,
        hash: sealed.hash,
        event: RawValue::from_string(sealed.event).map_err(Error::internal)?,
    })
}

/// Sealed events, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    operation_id = "audit_list",
    tag = "audit",
    params(
        ("account" = Option<String>, Query, description = "about this account"),
        ("auth_tenant" = Option<String>, Query, description = "about accounts of this auth tenant"),
        ("user" = Option<String>, Query, description = "by this user, such as `static:ann`"),
        ("action" = Option<String>, Query, description = "of this kind, such as `manifest.push`"),
        ("outcome" = Option<String>, Query, description = "`success`, `failure` or `denied`"),
        ("since" = Option<String>, Query, description = "not before this time (RFC 3339)"),
        ("until" = Option<String>, Query, description = "before this time (RFC 3339)"),
        ("before" = Option<i64>, Query, description = "before this place in the chain", minimum = 1),
        ("limit" = Option<i64>, Query, description = "how many; 100 if left out", minimum = 1),
    ),
    responses((status = 200, description = "a page of events", body = Page), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let filter = filter(query(&request))?;
    let limit = filter.limit;
    let events = api.registry.audit_list(&who, filter).await?;
    // A full page may not be the last.
    let is_full = i64::try_from(events.len()).is_ok_and(|count| count >= limit);
    let next_before = events.last().map(|last| last.seq).filter(|_| is_full);
    let events = events.into_iter().map(view).collect::<Result<_>>()?;
    Ok(HttpResponse::Ok().json(Page {
        events,
        next_before,
    }))
}

/// The filter that the query asks for. An unknown word is an error: a misspelt filter must not show everything.
fn filter(query: Vec<(String, String)>) -> Result<AuditFilter> {
    let mut filter = AuditFilter {
        limit: DEFAULT_LIMIT,
        ..AuditFilter::default()
    };
    for (key, value) in query {
        let wrong = |reason: String| Error::field(&key, reason);
        if value.contains('\0') {
            return Err(wrong("it has a character \\0".into()));
        }
        match key.as_str() {
            "account" => filter.account = Some(value),
            "auth_tenant" => filter.auth_tenant_id = Some(value),
            "user" => filter.user = Some(value),
            "action" => filter.action = Some(value.parse().map_err(wrong)?),
            "outcome" => filter.outcome = Some(value.parse().map_err(wrong)?),
            "since" => filter.since = Some(time(&value).map_err(wrong)?),
            "until" => filter.until = Some(time(&value).map_err(wrong)?),
            "before" => filter.before = Some(number(&value).map_err(wrong)?),
            "limit" => filter.limit = number(&value).map_err(wrong)?.min(MAX_PAGE),
            _ => return Err(wrong("there is none of this name".into())),
        }
    }
    Ok(filter)
}

fn time(text: &str) -> Result<chrono::DateTime<chrono::Utc>, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc())
        .map_err(|_| "it must be a time such as 2026-01-31T12:00:00Z".to_owned())
}

fn number(text: &str) -> Result<i64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "it must be a number from 1 on".to_owned())
}
