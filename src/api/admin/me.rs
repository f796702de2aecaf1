//! `/api/v1/me`

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::identity;
use crate::{
    api::{Api, render::Problem},
    auth::driver::Facts,
    error::Result,
};

/// Who the caller is: for those who wonder why something is denied.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let mut me = json!({
        "identity": who.to_string(),
        "policy_name": who.policy_name(),
        "origin": who.origin,
        "narrowed_to": who.narrowed_to,
    });
    if let Facts::Account(rights) = &who.facts {
        me["account"] = json!(rights);
    }
    Ok(HttpResponse::Ok().json(json!({ "me": me })))
}
