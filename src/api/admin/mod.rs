//! The management API; its errors are problem documents.

pub mod accounts;
pub mod storage_migrate;

use actix_web::{HttpRequest, HttpResponse};

use super::render::Problem;
use crate::error::{Code, Error};

/// Another method on a path that exists.
pub async fn method_not_allowed(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let message = format!("{} is not supported here", request.method());
    Err(Error::with_message(Code::Unsupported, message).into())
}

/// A path that does not exist.
pub async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Error::from(Code::NotFound).into())
}
