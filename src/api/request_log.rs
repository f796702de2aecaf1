//! One log line and a few metrics for each request, written when the last byte of the answer is out.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use actix_web::{
    Error as ActixError, HttpMessage as _, HttpRequest,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use bytes::Bytes;
use tracing::info;

use super::{
    Api,
    extract::{ServedNamespace, request_origin},
    origin::Origin,
    rate_limit,
    render::{OciError, PlainError, Problem},
    unread_body::HeldBody,
};
use crate::model::audit::AuditWho;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// The name of a request.
pub struct RequestId(pub String);

/// What handlers find out about a request and the log line says.
#[derive(Debug, Default, Clone)]
pub struct RequestFacts {
    account: Option<String>,
    caller: Option<String>,
    who: Option<AuditWho>,
}

impl RequestFacts {
    /// The account that the request is about.
    pub fn set_account(request: &HttpRequest, account: &str) {
        Self::change(request, |facts| facts.account = Some(account.to_owned()));
    }

    /// Who asks; `None` is the anonymous.
    pub fn set_caller(request: &HttpRequest, caller: Option<String>) {
        Self::change(request, |facts| facts.caller = caller);
    }

    /// Notes who asks, for the audit trail.
    pub fn set_who(request: &HttpRequest, who: Option<AuditWho>) {
        Self::change(request, |facts| facts.who = who);
    }

    fn change(request: &HttpRequest, change: impl FnOnce(&mut Self)) {
        let mut extensions = request.extensions_mut();
        let mut facts = extensions.remove::<Self>().unwrap_or_default();
        change(&mut facts);
        extensions.insert(facts);
    }
}

/// The middleware.
pub async fn request_log(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let started = Instant::now();
    let Some(api) = request.app_data::<web::Data<Api>>().cloned() else {
        return next
            .call(request)
            .await
            .map(ServiceResponse::map_into_boxed_body);
    };
    api.metrics.http_in_flight.inc();
    let in_flight = InFlight(api.clone());
    let id = api.registry.request_id();
    request.extensions_mut().insert(RequestId(id.clone()));
    let held_body = HeldBody::of(&mut request);
    let mut response = next.call(request).await?;
    let request = response.request().clone();
    if let Some(reason) = denial(&response) {
        audit_denial(&request, &api, &reason).await;
    }
    // Nobody asks for the bytes of a body that has none, or whose length alone is sent.
    let has_no_bytes = matches!(
        response.response().body().size(),
        BodySize::None | BodySize::Sized(0)
    ) || request.method() == Method::HEAD;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    if request.path().starts_with("/v2") {
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    if let Some(ServedNamespace(namespace)) = request.extensions().get::<ServedNamespace>()
        && let Ok(value) = HeaderValue::from_str(namespace)
    {
        headers.insert(OCI_NAMESPACE, value);
    }
    rate_limit::add_headers(&request, headers);
    let line = Line {
        id,
        started,
        status: response.status().as_u16(),
        error: response.response().error().map(ToString::to_string),
        request,
        sent_bytes: 0,
        is_complete: has_no_bytes,
        _in_flight: in_flight,
        held_body,
        api,
    };
    Ok(response.map_body(|_, body| {
        LoggedBody {
            body: body.boxed(),
            line,
        }
        .boxed()
    }))
}

/// Why the caller was not allowed to do this, if that is the answer.
fn denial(response: &ServiceResponse<impl MessageBody>) -> Option<String> {
    let error = response.response().error()?;
    let oci = error.as_error::<OciError>().map(|error| &error.0);
    let error = oci
        .or_else(|| error.as_error::<Problem>().map(|error| &error.0))
        .or_else(|| error.as_error::<PlainError>().map(|error| &error.0))?;
    error.is_denial().then(|| error.message().to_owned())
}

async fn audit_denial(request: &HttpRequest, api: &Api, reason: &str) {
    let facts = request.extensions().get::<RequestFacts>().cloned();
    let facts = facts.unwrap_or_default();
    let origin = request_origin(request, api);
    let what = format!("{} {}", request.method(), request.path());
    api.registry
        .audit_denial((facts.who, &origin), (facts.account, &what), reason)
        .await;
}

struct InFlight(web::Data<Api>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.http_in_flight.dec();
    }
}

struct Line {
    id: String,
    started: Instant,
    request: HttpRequest,
    status: u16,
    error: Option<String>,
    sent_bytes: u64,
    is_complete: bool,
    _in_flight: InFlight,
    held_body: HeldBody,
    api: web::Data<Api>,
}

/// Dropped with the body, so that a client that went away is logged as well.
impl Drop for Line {
    fn drop(&mut self) {
        let request = &self.request;
        let seconds = self.started.elapsed().as_secs_f64();
        let method = method_label(request.method());
        let route = request
            .match_pattern()
            .unwrap_or_else(|| "unmatched".into());
        let status = self.status.to_string();
        let metrics = &self.api.metrics;
        metrics
            .http_requests
            .with_label_values(&[method, &route, &status])
            .inc();
        metrics
            .http_seconds
            .with_label_values(&[method, &route])
            .observe(seconds);
        metrics
            .http_bytes
            .with_label_values(&["out"])
            .inc_by(self.sent_bytes);
        let received = self.held_body.read_bytes();
        metrics
            .http_bytes
            .with_label_values(&["in"])
            .inc_by(received);
        let facts = request
            .extensions()
            .get::<RequestFacts>()
            .cloned()
            .unwrap_or_default();
        let client = Origin::of(request, &self.api.hosts).client;
        info!(
            request_id = %self.id,
            method = request.method().as_str(),
            path = request.path(),
            status = self.status,
            account = facts.account.as_deref().unwrap_or("-"),
            caller = facts.caller.as_deref().unwrap_or("-"),
            client = client.map(|client| client.to_string()).unwrap_or_default(),
            received_bytes = received,
            sent_bytes = self.sent_bytes,
            complete = self.is_complete,
            seconds,
            error = self.error.as_deref().unwrap_or("-"),
            "request"
        );
    }
}

/// The method as a label. A client may invent methods, and must not invent labels.
fn method_label(method: &Method) -> &str {
    const KNOWN: [Method; 7] = [
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if KNOWN.contains(method) {
        method.as_str()
    } else {
        "other"
    }
}

struct LoggedBody {
    body: BoxBody,
    line: Line,
}

impl MessageBody for LoggedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(piece))) => {
                self.line.sent_bytes += piece.len() as u64;
                let sent = self.line.sent_bytes;
                self.line.is_complete = matches!(self.body.size(), BodySize::Sized(n) if n == sent);
            }
            Poll::Ready(None) => self.line.is_complete = true,
            _ => {}
        }
        polled
    }
}
