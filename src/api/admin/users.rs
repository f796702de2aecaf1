//! `/api/v1/users`

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MAX_DOCUMENT_BYTES, document, identity, same_name, secret_answer};
use crate::{
    api::{Api, extract::path_part, openapi::Problems, render::Problem},
    error::Result,
    model::user::{Grant, User},
    registry::users::UserOrder,
};

/// A user as the API shows it, without the hash of the password.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
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
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewUser)]
struct NewUserDocument {
    name: String,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    is_disabled: bool,
    password: Option<String>,
}

/// A user as a client wants it. What `GET` shows can be sent back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserOrder)]
struct UserDocument {
    name: Option<String>,
    grants: Vec<Grant>,
    #[serde(default)]
    is_disabled: bool,
}

/// A new password. There is no `Debug`: it holds it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PasswordOrder)]
struct PasswordDocument {
    /// Eight characters at least.
    #[schema(min_length = 8)]
    password: String,
}

/// All users of the database.
#[derive(Serialize, ToSchema)]
#[schema(as = Users)]
struct UsersAnswer {
    users: Vec<UserView>,
}

/// One user.
#[derive(Serialize, ToSchema)]
#[schema(as = UserShown)]
struct UserAnswer {
    user: UserView,
}

/// A user that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = UserMade)]
struct UserMadeAnswer {
    user: UserView,
    /// Shown this once, if nobody chose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

/// All users of the database.
#[utoipa::path(
    get,
    path = "/api/v1/users",
    operation_id = "users_list",
    tag = "users",
    responses((status = 200, description = "the users of the database", body = UsersAnswer), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let users = api.registry.users_list(&who).await?;
    let users: Vec<UserView> = users.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(UsersAnswer { users }))
}

/// Makes a user; shows the password if nobody chose it.
#[utoipa::path(
    post,
    path = "/api/v1/users",
    operation_id = "user_create",
    tag = "users",
    request_body = NewUserDocument,
    responses((status = 201, description = "the user was made", body = UserMadeAnswer), Problems),
)]
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
    let answer = UserMadeAnswer {
        user: view,
        password: (!is_chosen).then_some(password),
    };
    Ok(secret_answer(StatusCode::CREATED, &answer))
}

/// One user.
#[utoipa::path(
    get,
    path = "/api/v1/users/{name}",
    operation_id = "user_get",
    tag = "users",
    params(("name" = String, Path, description = "the user's name")),
    responses((status = 200, description = "the user", body = UserAnswer), Problems),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let user = api
        .registry
        .user_get(&who, &path_part(&request, "name")?)
        .await?;
    Ok(HttpResponse::Ok().json(UserAnswer { user: user.into() }))
}

/// Makes the user be as the document says.
#[utoipa::path(
    put,
    path = "/api/v1/users/{name}",
    operation_id = "user_put",
    tag = "users",
    params(("name" = String, Path, description = "the user's name")),
    request_body = UserDocument,
    responses((status = 200, description = "the user as it is now", body = UserAnswer), Problems),
)]
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
    Ok(HttpResponse::Ok().json(UserAnswer { user: user.into() }))
}

/// Removes a user.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{name}",
    operation_id = "user_delete",
    tag = "users",
    params(("name" = String, Path, description = "the user's name")),
    responses((status = 204, description = "the user is gone"), Problems),
)]
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let name = path_part(&request, "name")?;
    api.registry.user_remove(&who, &name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a user a new password.
#[utoipa::path(
    put,
    path = "/api/v1/users/{name}/password",
    operation_id = "user_password",
    tag = "users",
    params(("name" = String, Path, description = "the user's name")),
    request_body = PasswordDocument,
    responses((status = 204, description = "the password was changed"), Problems),
)]
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
