//! The API of Keppel (`/keppel/v1`), for clients that were written for it: the same use cases in its words.
//!
//! Its errors are plain text, its times are seconds since 1970, and an account's document lies under `account`. What a
//! newcomer gets wrong: an account has settings that Keppel does not know; a `PUT` here leaves those as they are.

pub mod accounts;
pub mod repositories;

use std::fmt;

use actix_web::{HttpRequest, HttpResponse, ResponseError, http::StatusCode, web};
use serde_json::json;

use super::{Api, admin, extract::query_value, render};
use crate::{
    error::{Code, Error, Result},
    model::listing::PageOrder,
    registry::caller::Actor,
};

/// The driver that clients of Keppel know.
const KEYSTONE: &str = "keystone";

/// An error in the form of Keppel: a line of text, or what is in the way of a deletion.
#[derive(Debug)]
pub struct KeppelError(pub Error);

impl From<Error> for KeppelError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for KeppelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for KeppelError {
    fn status_code(&self) -> StatusCode {
        render::status(&self.0)
    }

    fn error_response(&self) -> HttpResponse {
        render::log(&self.0);
        let error = &self.0;
        let remaining = error.detail().filter(|detail| {
            ["remaining_manifests", "remaining_blobs"]
                .iter()
                .any(|what| detail.get(what).is_some())
        });
        match remaining {
            Some(remaining) => render::response(error).json(remaining),
            None => render::response(error)
                .content_type("text/plain; charset=utf-8")
                .body(format!("{error}\n")),
        }
    }
}

/// A path that does not exist.
pub async fn not_found() -> Result<HttpResponse, KeppelError> {
    Err(Error::from(Code::NotFound).into())
}

/// Which driver users log in with.
pub async fn info(api: web::Data<Api>) -> HttpResponse {
    let names = api.registry.auth_driver_names();
    let keystone = names.iter().find(|name| **name == KEYSTONE);
    let name = keystone.or(names.first());
    HttpResponse::Ok().json(json!({ "auth_driver": name }))
}

/// The other registries that this one replicates with: none so far.
pub async fn peers(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, KeppelError> {
    identity(&request, &api).await?;
    Ok(HttpResponse::Ok().json(json!({ "peers": [] })))
}

/// Who asks.
async fn identity(request: &HttpRequest, api: &Api) -> Result<Actor> {
    admin::identity(request, api).await
}

/// The part of a list: `limit` and `marker`.
fn page(request: &HttpRequest) -> Result<PageOrder> {
    let limit = query_value(request, "limit").map(|text| match text.parse::<u64>() {
        Ok(limit @ 1..) => Ok(limit),
        _ => {
            let message = "limit must be a number from 1";
            Err(Error::with_message(Code::BadRequest, message))
        }
    });
    Ok(PageOrder {
        limit: limit.transpose()?,
        last: query_value(request, "marker"),
    })
}
