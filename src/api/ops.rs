//! For those who run it: metrics and health.

use actix_web::{HttpResponse, web};
use serde_json::json;
use tracing::warn;

use super::{Api, render::Problem};
use crate::{
    error::Error,
    model::quota::Resource,
    registry::quotas::Books,
    telemetry::{QuotaFigure, quotas_text},
};

/// `GET /metrics`: Prometheus' text format.
pub async fn metrics(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    // What is asked for at each visit; without the database the last figures stay.
    match api.registry.sink_backlogs().await {
        Ok(backlogs) => backlogs.iter().for_each(|sink| {
            let (name, metrics) = ([sink.name.as_str()], &api.metrics);
            let undelivered = metrics.audit_undelivered.with_label_values(&name);
            undelivered.set(sink.undelivered);
            let failures = metrics.audit_failures.with_label_values(&name);
            failures.set(sink.failures.into());
        }),
        Err(error) => warn!(error = ?error, "the backlog of the audit trail is not known"),
    }
    let mut text = api.metrics.render().map_err(Error::internal)?;
    if api.shows_quotas {
        let books = api.registry.quota_metrics().await?;
        text.extend(quotas_text(&quota_figures(&books)).map_err(Error::internal)?);
    }
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text))
}

fn quota_figures(books: &Books) -> Vec<QuotaFigure<'_>> {
    let figures = books.iter().flat_map(|(owner, book)| {
        Resource::ALL.map(|resource| QuotaFigure {
            labels: [book.kind.as_str(), owner, resource.as_str()],
            used: i64::try_from(book.used.of(resource)).unwrap_or(i64::MAX),
            limit: book.limits.of(resource),
        })
    });
    figures.collect()
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}

/// `GET /readyz`: the database and every storage backend were tried just now; the database must work, and one
/// backend at least. A node that is about to stop is not ready.
pub async fn readyz(api: web::Data<Api>) -> HttpResponse {
    if api.drain.has_begun() {
        return HttpResponse::ServiceUnavailable()
            .insert_header(("Retry-After", "5"))
            .json(json!({ "ready": false, "stopping": true }));
    }
    let mut parts = serde_json::Map::new();
    let readiness = api.registry.readiness().await;
    let is_ready = readiness.is_ready;
    for health in readiness.parts {
        let state = match &health.result {
            Ok(()) => "ok",
            Err(error) => {
                let causes = error.causes().unwrap_or_default();
                warn!(part = health.part, causes, "a part does not work");
                "failed"
            }
        };
        parts.insert(health.part, json!(state));
    }
    let mut response = if is_ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    if !is_ready {
        response.insert_header(("Retry-After", "5"));
    }
    response.json(json!({ "ready": is_ready, "parts": parts }))
}
