//! What goes out: errors, and bodies whose length is known.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    body::{BodySize, MessageBody},
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue},
    },
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::error::{Code, Error};

/// An error in the form of the OCI Distribution Specification, section "Error Codes".
#[derive(Debug)]
pub struct OciError(pub Error);

/// An error in the form of RFC 9457, for the management API.
#[derive(Debug)]
pub struct Problem(pub Error);

/// An error as a line of text, for LIQUID and Keppel's API; or what is in the way of a deletion, as Keppel has it.
#[derive(Debug)]
pub struct PlainError(pub Error);

impl From<Error> for PlainError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Error> for OciError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for OciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PlainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for PlainError {
    fn status_code(&self) -> StatusCode {
        status(&self.0)
    }

    fn error_response(&self) -> HttpResponse {
        log(&self.0);
        let error = &self.0;
        let remaining = error.detail().filter(|detail| {
            ["remaining_manifests", "remaining_blobs"]
                .iter()
                .any(|what| detail.get(what).is_some())
        });
        match remaining {
            Some(remaining) => response(error).json(remaining),
            None => response(error)
                .content_type("text/plain; charset=utf-8")
                .body(format!("{error}\n")),
        }
    }
}

impl ResponseError for OciError {
    fn status_code(&self) -> StatusCode {
        status(&self.0)
    }

    fn error_response(&self) -> HttpResponse {
        log(&self.0);
        let error = &self.0;
        let detail = error.detail().cloned().unwrap_or(Value::Null);
        response(error).json(json!({
            "errors": [{
                "code": error.code().wire_name(),
                "message": error.message(),
                "detail": detail,
            }]
        }))
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        status(&self.0)
    }

    fn error_response(&self) -> HttpResponse {
        log(&self.0);
        let error = &self.0;
        let mut problem = json!({
            "type": "about:blank",
            "title": error.code().default_message(),
            "status": error.code().status(),
            "code": error.code().wire_name(),
            "detail": error.message(),
        });
        if let Some(path) = error.field_path() {
            problem["path"] = json!(path);
        }
        if let Some(detail) = error.detail() {
            problem["context"] = detail.clone();
        }
        response(error)
            .content_type("application/problem+json")
            .body(problem.to_string())
    }
}

/// The status of an error.
fn status(error: &Error) -> StatusCode {
    StatusCode::from_u16(error.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An answer with an error's status and headers.
fn response(error: &Error) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status(error));
    for (name, value) in error.headers() {
        // A value that cannot be a header is left out rather than turned into another error.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_str(value)) {
            response.append_header((name, value));
        }
    }
    response
}

/// The one place where a request's error is logged.
fn log(error: &Error) {
    let code = error.code().wire_name();
    let causes = error.causes();
    let causes = causes.as_deref().unwrap_or("-");
    match error.code() {
        Code::Internal => tracing::error!(code, causes, "a request failed"),
        Code::Unavailable => tracing::warn!(code, causes, "a request could not be served"),
        _ => tracing::debug!(
            code,
            reason = error.message(),
            causes,
            "a request was refused"
        ),
    }
}

/// The value of a `Warning` header (RFC 7234, section 5.5): text of our own making, which has no quotes.
pub fn warning(text: &str) -> String {
    const MAX_TEXT_BYTES: usize = 4000;
    let text: String = text
        .chars()
        .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'))
        .take(MAX_TEXT_BYTES)
        .collect();
    format!("299 - \"{text}\"")
}

/// The body of an answer to HEAD: no bytes, but the length that GET would have.
pub struct HeadBody(pub u64);

impl MessageBody for HeadBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}
