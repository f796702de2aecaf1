//! `/api/v1/accounts/<account>/robots`

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{MAX_DOCUMENT_BYTES, account_name, document, identity, same_name, secret_answer};
use crate::{
    api::{
        Api,
        extract::{path_part, path_value},
        openapi::{InAccount, Problems},
        render::Problem,
    },
    error::{Code, Error, Result},
    model::{
        account_rights::AccountRights,
        permission::Permission,
        robot::{Robot, login_name},
        secret::StoredSecret,
    },
    oci::AccountName,
    registry::robots::{RobotOrder, RobotShown},
};

/// How long the old secrets stay good if nobody says: a day.
const DEFAULT_OVERLAP_SECONDS: u32 = 86_400;

/// A secret without the secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RobotSecret)]
struct SecretView {
    id: Uuid,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl From<StoredSecret> for SecretView {
    fn from(stored: StoredSecret) -> Self {
        Self {
            id: stored.id,
            created_at: stored.created_at,
            expires_at: stored.expires_at,
            last_used_at: stored.last_used_at,
        }
    }
}

/// A robot as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Robot)]
struct RobotView {
    name: String,
    /// The user name for `docker login`.
    login: String,
    description: String,
    #[schema(value_type = Vec<Permission>)]
    permissions: BTreeSet<Permission>,
    repositories: Vec<String>,
    is_disabled: bool,
    expires_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    created_by: String,
    last_used_at: Option<DateTime<Utc>>,
    secrets: Vec<SecretView>,
}

fn view(robot: Robot, secrets: Vec<StoredSecret>) -> RobotView {
    RobotView {
        login: login_name(&robot.rights.account, &robot.name),
        name: robot.name,
        description: robot.description,
        permissions: robot.rights.permissions,
        repositories: robot.rights.repositories,
        is_disabled: robot.is_disabled,
        expires_at: robot.expires_at,
        created_at: robot.created_at,
        created_by: robot.created_by,
        last_used_at: robot.last_used_at,
        secrets: secrets.into_iter().map(Into::into).collect(),
    }
}

impl From<RobotShown> for RobotView {
    fn from(shown: RobotShown) -> Self {
        view(shown.robot, shown.secrets)
    }
}

/// A robot as a client wants it. What `GET` shows can be sent back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RobotOrder)]
struct RobotDocument {
    name: Option<String>,
    #[serde(default)]
    description: String,
    #[schema(value_type = Vec<Permission>)]
    permissions: BTreeSet<Permission>,
    #[serde(default)]
    repositories: Vec<String>,
    #[serde(default)]
    is_disabled: bool,
    expires_at: Option<DateTime<Utc>>,
    // Shown by `GET`, so it may come back, but it cannot be set.
    #[serde(default, rename = "login")]
    #[schema(value_type = Option<serde_json::Value>, read_only)]
    _login: IgnoredAny,
    #[serde(default, rename = "created_at")]
    #[schema(value_type = Option<serde_json::Value>, read_only)]
    _created_at: IgnoredAny,
    #[serde(default, rename = "created_by")]
    #[schema(value_type = Option<serde_json::Value>, read_only)]
    _created_by: IgnoredAny,
    #[serde(default, rename = "last_used_at")]
    #[schema(value_type = Option<serde_json::Value>, read_only)]
    _last_used_at: IgnoredAny,
    #[serde(default, rename = "secrets")]
    #[schema(value_type = Option<serde_json::Value>, read_only)]
    _secrets: IgnoredAny,
}

impl RobotDocument {
    fn order(self, account: AccountName) -> RobotOrder {
        RobotOrder {
            description: self.description,
            rights: AccountRights {
                account,
                permissions: self.permissions,
                repositories: self.repositories,
            },
            is_disabled: self.is_disabled,
            expires_at: self.expires_at,
        }
    }
}

/// What a new secret should be like.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RobotSecretOrder)]
struct SecretDocument {
    expires_at: Option<DateTime<Utc>>,
    overlap_seconds: Option<u32>,
}

/// The account's robots.
#[derive(Serialize, ToSchema)]
#[schema(as = Robots)]
struct RobotsAnswer {
    robots: Vec<RobotView>,
}

/// One robot.
#[derive(Serialize, ToSchema)]
#[schema(as = RobotShown)]
struct RobotAnswer {
    robot: RobotView,
}

/// A robot that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = RobotMade)]
struct RobotMadeAnswer {
    robot: RobotView,
    /// Shown this once.
    secret: String,
}

/// A secret that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = RobotSecretMade)]
struct SecretMadeAnswer {
    robot_secret: SecretView,
    /// The user name for `docker login`.
    login: String,
    /// Shown this once.
    secret: String,
}

/// The account's robots.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/robots",
    operation_id = "robots_list",
    tag = "robots",
    params(InAccount),
    responses((status = 200, description = "the robots", body = RobotsAnswer), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let account = account_name(&request)?;
    let robots = api.registry.robots_list(&who, &account).await?;
    let robots: Vec<RobotView> = robots.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(RobotsAnswer { robots }))
}

/// Makes a robot, and shows its secret this once.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/robots",
    operation_id = "robot_create",
    tag = "robots",
    params(InAccount),
    request_body = RobotDocument,
    responses((status = 201, description = "the robot was made", body = RobotMadeAnswer), Problems),
)]
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let account = account_name(&request)?;
    let mut document: RobotDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let name = document
        .name
        .take()
        .ok_or_else(|| Error::field("name", "a robot needs one"))?;
    let order = document.order(account);
    let (robot, new) = api.registry.robot_create(&who, &name, order).await?;
    let answer = RobotMadeAnswer {
        robot: view(robot, vec![new.stored]),
        secret: new.secret,
    };
    Ok(secret_answer(StatusCode::CREATED, &answer))
}

/// One robot.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/robots/{robot}",
    operation_id = "robot_get",
    tag = "robots",
    params(InAccount, ("robot" = String, Path, description = "the robot's name")),
    responses((status = 200, description = "the robot", body = RobotAnswer), Problems),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let (account, name) = (account_name(&request)?, path_part(&request, "robot")?);
    let shown = api.registry.robot_get(&who, &account, &name).await?;
    Ok(HttpResponse::Ok().json(RobotAnswer {
        robot: shown.into(),
    }))
}

/// Makes the robot be as the document says.
#[utoipa::path(
    put,
    path = "/api/v1/accounts/{account}/robots/{robot}",
    operation_id = "robot_put",
    tag = "robots",
    params(InAccount, ("robot" = String, Path, description = "the robot's name")),
    request_body = RobotDocument,
    responses((status = 200, description = "the robot as it is now", body = RobotAnswer), Problems),
)]
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let (account, name) = (account_name(&request)?, path_part(&request, "robot")?);
    let document: RobotDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    same_name(document.name.as_deref(), &name)?;
    let order = document.order(account);
    let shown = api.registry.robot_change(&who, &name, order).await?;
    Ok(HttpResponse::Ok().json(RobotAnswer {
        robot: shown.into(),
    }))
}

/// Removes a robot with its secrets.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}/robots/{robot}",
    operation_id = "robot_delete",
    tag = "robots",
    params(InAccount, ("robot" = String, Path, description = "the robot's name")),
    responses((status = 204, description = "the robot is gone"), Problems),
)]
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let (account, name) = (account_name(&request)?, path_part(&request, "robot")?);
    api.registry.robot_remove(&who, &account, &name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a robot a new secret, and shows it this once.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/robots/{robot}/secrets",
    operation_id = "robot_rotate",
    tag = "robots",
    params(InAccount, ("robot" = String, Path, description = "the robot's name")),
    request_body = SecretDocument,
    responses((status = 201, description = "a new secret", body = SecretMadeAnswer), Problems),
)]
pub async fn rotate(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let (account, name) = (account_name(&request)?, path_part(&request, "robot")?);
    let document: SecretDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let overlap = document.overlap_seconds.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    let overlap = TimeDelta::seconds(overlap.into());
    let robot = (&account, name.as_str());
    let new = api
        .registry
        .robot_rotate(&who, robot, document.expires_at, overlap)
        .await?;
    let answer = SecretMadeAnswer {
        robot_secret: new.stored.into(),
        login: login_name(&account, &name),
        secret: new.secret,
    };
    Ok(secret_answer(StatusCode::CREATED, &answer))
}

/// Ends a secret at once.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}/robots/{robot}/secrets/{id}",
    operation_id = "robot_secret_delete",
    tag = "robots",
    params(InAccount, ("robot" = String, Path, description = "the robot's name"), ("id" = Uuid, Path, description = "the secret")),
    responses((status = 204, description = "the secret is gone"), Problems),
)]
pub async fn secret_delete(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let (account, name) = (account_name(&request)?, path_part(&request, "robot")?);
    let id: Uuid = path_value(&request, "id", Code::BadRequest)?;
    let robot = (&account, name.as_str());
    api.registry.robot_secret_remove(&who, robot, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
