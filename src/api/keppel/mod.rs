//! The API of Keppel (`/keppel/v1`), for clients that were written for it: the same use cases in its words.
//!
//! Its errors are plain text, its times are seconds since 1970, and an account's document lies under `account`. What a
//! newcomer gets wrong: an account has settings that Keppel does not know; a `PUT` here leaves those as they are.

pub mod accounts;
pub mod repositories;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::{Api, admin, extract::query_value, render::PlainError};
use crate::{
    error::{Code, Error, Result},
    model::listing::PageOrder,
    registry::caller::Actor,
};

/// The driver that clients of Keppel know.
const KEYSTONE: &str = "keystone";

/// A path that does not exist.
pub async fn not_found() -> Result<HttpResponse, PlainError> {
    Err(Error::from(Code::NotFound).into())
}

/// Which driver users log in with.
pub async fn info(api: web::Data<Api>) -> HttpResponse {
    let names = api.registry.auth_driver_names();
    let keystone = names.iter().find(|name| **name == KEYSTONE);
    let name = keystone.or(names.first());
    HttpResponse::Ok().json(json!({ "auth_driver": name }))
}

/// The other registries that this one replicates with.
pub async fn peers(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    Ok(HttpResponse::Ok().json(json!({ "peers": api.registry.peers_list(&identity) })))
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
