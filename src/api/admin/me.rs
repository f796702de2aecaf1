//! `/api/v1/me`

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::identity;
use crate::{
    api::{Api, openapi::Problems, render::Problem},
    auth::driver::Facts,
    error::Result,
    model::{account_rights::AccountRights, permission::Permission},
};

/// Who the caller is.
#[derive(Serialize, ToSchema)]
#[schema(as = Me)]
struct MeView {
    /// `<driver>:<user>`, as in logs and tokens.
    identity: String,
    /// The name that policies match.
    policy_name: String,
    /// Where the credential comes from: who made a robot, the subject of a foreign token.
    origin: Option<String>,
    /// What the credential is good for, if not for everything.
    narrowed_to: Option<BTreeSet<Permission>>,
    /// The rights of a machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountRights>,
}

/// Who the caller is.
#[derive(Serialize, ToSchema)]
#[schema(as = MeShown)]
struct MeAnswer {
    me: MeView,
}

/// Who the caller is: for those who wonder why something is denied.
#[utoipa::path(
    get,
    path = "/api/v1/me",
    operation_id = "me_get",
    tag = "users",
    responses((status = 200, description = "who asks", body = MeAnswer), Problems),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let account = match &who.facts {
        Facts::Account(rights) => Some(rights.clone()),
        _ => None,
    };
    let me = MeView {
        identity: who.to_string(),
        policy_name: who.policy_name(),
        origin: who.origin.clone(),
        narrowed_to: who.narrowed_to.clone(),
        account,
    };
    Ok(HttpResponse::Ok().json(MeAnswer { me }))
}
