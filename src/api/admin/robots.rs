//! `/api/v1/accounts/<account>/robots`

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    MAX_DOCUMENT_BYTES, account_name, change_answer, document, identity, parameters::change_terms,
    same_name, secret_answer, tagged,
};
use crate::{
    api::{
        Api,
        extract::{path_part, path_value},
        openapi::{Conditions, DryRun, InAccount, Problems},
        render::Problem,
    },
    error::{Code, Error, Result},
    model::{
        account_rights::AccountRights,
        difference::Difference,
        permission::Permission,
        precondition::Tagged as _,
        robot::{RobotShown, login_name},
        secret::StoredSecret,
    },
    oci::AccountName,
    registry::{caller::Actor, robots::RobotOrder},
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

impl From<RobotShown> for RobotView {
    fn from(RobotShown { robot, secrets }: RobotShown) -> Self {
        Self {
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

/// What became of an order, or would.
#[derive(Serialize, ToSchema)]
#[schema(as = RobotPut)]
struct PutAnswer {
    robot: RobotView,
    /// What is other than before.
    changes: Vec<Difference>,
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

/// The robot in the path.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes a path")]
struct InRobot {
    /// The account's name.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$")]
    account: String,
    /// The robot's name.
    robot: String,
}

/// Who asks, and for which robot.
async fn robot(request: &HttpRequest, api: &Api) -> Result<(Actor, AccountName, String)> {
    let who = identity(request, api).await?;
    Ok((who, account_name(request)?, path_part(request, "robot")?))
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
    let secrets = vec![new.stored];
    let answer = RobotMadeAnswer {
        robot: RobotShown { robot, secrets }.into(),
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
    params(InRobot),
    responses(
        (status = 200, description = "the robot", body = RobotAnswer, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let (who, account, name) = robot(&request, &api).await?;
    let shown = api.registry.robot_get(&who, &account, &name).await?;
    let response = &mut tagged(StatusCode::OK, Some(shown.tag()));
    Ok(response.json(RobotAnswer {
        robot: shown.into(),
    }))
}

/// Makes the robot be as the document says. Its secrets stay.
#[utoipa::path(
    put,
    path = "/api/v1/accounts/{account}/robots/{robot}",
    operation_id = "robot_put",
    tag = "robots",
    params(InRobot, DryRun, Conditions),
    request_body = RobotDocument,
    responses(
        (status = 200, description = "the robot as it is now, or would be", body = PutAnswer, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (who, account, name) = robot(&request, &api).await?;
    let terms = change_terms(&request)?;
    let document: RobotDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    same_name(document.name.as_deref(), &name)?;
    let order = document.order(account);
    let changed = api.registry.robot_change(&who, &name, order, terms).await?;
    let answer = |robot, changes| PutAnswer { robot, changes };
    Ok(change_answer(changed, answer)?)
}

/// Removes a robot with its secrets.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}/robots/{robot}",
    operation_id = "robot_delete",
    tag = "robots",
    params(InRobot),
    responses((status = 204, description = "the robot is gone"), Problems),
)]
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let (who, account, name) = robot(&request, &api).await?;
    api.registry.robot_remove(&who, &account, &name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a robot a new secret, and shows it this once.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/robots/{robot}/secrets",
    operation_id = "robot_rotate",
    tag = "robots",
    params(InRobot),
    request_body = SecretDocument,
    responses((status = 201, description = "a new secret", body = SecretMadeAnswer), Problems),
)]
pub async fn rotate(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (who, account, name) = robot(&request, &api).await?;
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
    params(InRobot, ("id" = Uuid, Path, description = "the secret")),
    responses((status = 204, description = "the secret is gone"), Problems),
)]
pub async fn secret_delete(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (who, account, name) = robot(&request, &api).await?;
    let id: Uuid = path_value(&request, "id", Code::BadRequest)?;
    let robot = (&account, name.as_str());
    api.registry.robot_secret_remove(&who, robot, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
