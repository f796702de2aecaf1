//! `/api/v1/users`

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    MAX_DOCUMENT_BYTES, change_answer, document, identity, parameters::change_terms, same_name,
    secret_answer, tagged,
};
use crate::{
    api::{
        Api,
        extract::path_part,
        openapi::{Conditions, DryRun, Problems},
        render::Problem,
    },
    error::Result,
    model::{
        difference::Difference,
        precondition::Tagged as _,
        user::{Grant, User},
    },
    registry::{caller::Actor, users::UserOrder},
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

/// What became of an order, or would.
#[derive(Serialize, ToSchema)]
#[schema(as = UserPut)]
struct PutAnswer {
    user: UserView,
    /// What is other than before.
    changes: Vec<Difference>,
}

/// What a new password would change.
#[derive(Serialize, ToSchema)]
#[schema(as = PasswordPlan)]
struct PasswordAnswer {
    /// The password, which is not shown.
    changes: Vec<Difference>,
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

/// The user in the path.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes a part of a path")]
struct InUser {
    /// The user's name.
    name: String,
}

/// Who asks, and for which user.
async fn user(request: &HttpRequest, api: &Api) -> Result<(Actor, String)> {
    Ok((identity(request, api).await?, path_part(request, "name")?))
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
    params(InUser),
    responses(
        (status = 200, description = "the user", body = UserAnswer, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let (who, name) = user(&request, &api).await?;
    let user = api.registry.user_get(&who, &name).await?;
    let response = &mut tagged(StatusCode::OK, Some(user.tag()));
    Ok(response.json(UserAnswer { user: user.into() }))
}

/// Makes the user be as the document says.
#[utoipa::path(
    put,
    path = "/api/v1/users/{name}",
    operation_id = "user_put",
    tag = "users",
    params(InUser, DryRun, Conditions),
    request_body = UserDocument,
    responses(
        (status = 200, description = "the user as it is now, or would be", body = PutAnswer, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (who, name) = user(&request, &api).await?;
    let terms = change_terms(&request)?;
    let document: UserDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    same_name(document.name.as_deref(), &name)?;
    let order = UserOrder {
        grants: document.grants,
        is_disabled: document.is_disabled,
    };
    let changed = api.registry.user_change(&who, &name, order, terms).await?;
    let answer = |user, changes| PutAnswer { user, changes };
    Ok(change_answer(changed, answer)?)
}

/// Removes a user.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{name}",
    operation_id = "user_delete",
    tag = "users",
    params(InUser),
    responses((status = 204, description = "the user is gone"), Problems),
)]
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let (who, name) = user(&request, &api).await?;
    api.registry.user_remove(&who, &name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a user a new password. `If-Match` takes the `ETag` of the user, which a new password changes as well.
#[utoipa::path(
    put,
    path = "/api/v1/users/{name}/password",
    operation_id = "user_password",
    tag = "users",
    params(InUser, DryRun, Conditions),
    request_body = PasswordDocument,
    responses(
        (status = 200, description = "the dry run found nothing wrong", body = PasswordAnswer),
        (status = 204, description = "the password was changed", headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn password(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (who, name) = user(&request, &api).await?;
    let terms = change_terms(&request)?;
    let is_dry_run = terms.is_dry_run;
    let document: PasswordDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let user = api
        .registry
        .user_password(&who, &name, &document.password, terms)
        .await?;
    if !is_dry_run {
        return Ok(tagged(StatusCode::NO_CONTENT, Some(user.tag())).finish());
    }
    // The same whatever the password is: nobody tries one out like this.
    let change = Difference {
        path: "$.password".to_owned(),
        before: Value::Null,
        after: Value::Null,
    };
    Ok(HttpResponse::Ok().json(PasswordAnswer {
        changes: vec![change],
    }))
}
