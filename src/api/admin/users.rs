//! `/api/v1/users`

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{MAX_DOCUMENT_BYTES, document, identity, same_name, secret_answer};
use crate::{
    api::{Api, extract::path_part, render::Problem},
    error::Result,
    model::user::{Grant, User},
    registry::users::UserOrder,
};

/// A user as the API shows it, without the hash of the password.
#[derive(Debug, Serialize)]
struct UserView {
    name: String,
    grants: Vec<Grant>,
    is_disabled: bool,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            grants: user.grants,
            is_disabled: user.is_disabled,
        }
    }
}

/// A new user. There is no `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUserDocument {
    name: String,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    is_disabled: bool,
    password: Option<String>,
}

/// A user as a client wants it. What `GET` shows can be sent back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserDocument {
    name: Option<String>,
    grants: Vec<Grant>,
    #[serde(default)]
    is_disabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordDocument {
    password: String,
}

/// All users of the database.
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let users = api.registry.users_list(&who).await?;
    let users: Vec<UserView> = users.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(json!({ "users": users })))
}

/// Makes a user; shows the password if nobody chose it.
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let document: NewUserDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let is_chosen = document.password.is_some();
    let view = UserView {
        name: document.name.clone(),
        grants: document.grants.clone(),
        is_disabled: document.is_disabled,
    };
    let order = UserOrder {
        grants: document.grants,
        is_disabled: document.is_disabled,
    };
    let password = api
        .registry
        .user_create(&who, &document.name, order, document.password)
        .await?;
    let mut answer = json!({ "user": view });
    if !is_chosen {
        answer["password"] = json!(password);
    }
    Ok(secret_answer(StatusCode::CREATED, &answer))
}

/// One user.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let user = api
        .registry
        .user_get(&who, &path_part(&request, "name")?)
        .await?;
    Ok(HttpResponse::Ok().json(json!({ "user": UserView::from(user) })))
}

/// Makes the user be as the document says.
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let name = path_part(&request, "name")?;
    let document: UserDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    same_name(document.name.as_deref(), &name)?;
    let order = UserOrder {
        grants: document.grants,
        is_disabled: document.is_disabled,
    };
    let user = api.registry.user_change(&who, &name, order).await?;
    Ok(HttpResponse::Ok().json(json!({ "user": UserView::from(user) })))
}

/// Removes a user.
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let name = path_part(&request, "name")?;
    api.registry.user_remove(&who, &name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a user a new password.
pub async fn password(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let name = path_part(&request, "name")?;
    let document: PasswordDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    api.registry
        .user_password(&who, &name, &document.password)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
