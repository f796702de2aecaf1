//! `/api/v1/accounts/<account>/robots`

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::json;
use uuid::Uuid;

use super::{MAX_DOCUMENT_BYTES, account_name, document, identity, same_name, secret_answer};
use crate::{
    api::{
        Api,
        extract::{path_part, path_value},
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
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
struct RobotView {
    name: String,
    /// The user name for `docker login`.
    login: String,
    description: String,
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
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RobotDocument {
    name: Option<String>,
    #[serde(default)]
    description: String,
    permissions: BTreeSet<Permission>,
    #[serde(default)]
    repositories: Vec<String>,
    #[serde(default)]
    is_disabled: bool,
    expires_at: Option<DateTime<Utc>>,
    // Shown by `GET`, so it may come back, but it cannot be set.
    #[serde(default, rename = "login")]
    _login: IgnoredAny,
    #[serde(default, rename = "created_at")]
    _created_at: IgnoredAny,
    #[serde(default, rename = "created_by")]
    _created_by: IgnoredAny,
    #[serde(default, rename = "last_used_at")]
    _last_used_at: IgnoredAny,
    #[serde(default, rename = "secrets")]
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
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SecretDocument {
    expires_at: Option<DateTime<Utc>>,
    overlap_seconds: Option<u32>,
}

/// The account's robots.
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let account = account_name(&request)?;
    let robots = api.registry.robots_list(&who, &account).await?;
    let robots: Vec<RobotView> = robots.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(json!({ "robots": robots })))
}

/// Makes a robot, and shows its secret this once.
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
    let answer = json!({ "robot": view(robot, vec![new.stored]), "secret": new.secret });
    Ok(secret_answer(StatusCode::CREATED, &answer))
}

/// One robot.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let (account, name) = (account_name(&request)?, path_part(&request, "robot")?);
    let shown = api.registry.robot_get(&who, &account, &name).await?;
    Ok(HttpResponse::Ok().json(json!({ "robot": RobotView::from(shown) })))
}

/// Makes the robot be as the document says.
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
    Ok(HttpResponse::Ok().json(json!({ "robot": RobotView::from(shown) })))
}

/// Removes a robot with its secrets.
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let (account, name) = (account_name(&request)?, path_part(&request, "robot")?);
    api.registry.robot_remove(&who, &account, &name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a robot a new secret, and shows it this once.
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
    let answer = json!({
        "robot_secret": SecretView::from(new.stored),
        "login": login_name(&account, &name),
        "secret": new.secret,
    });
    Ok(secret_answer(StatusCode::CREATED, &answer))
}

/// Ends a secret at once.
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
