//! `/api/v1/accounts/<account>/explain`

use std::net::IpAddr;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{account_name, identity};
use crate::{
    api::{
        Api,
        extract::query,
        openapi::{InAccount, Problems},
        render::Problem,
    },
    error::{Error, Result},
    model::{permission::Permission, rbac_policy::RbacPolicy},
    registry::explain::{GrantKnown, Question},
};

/// A policy by which something is decided.
#[derive(Serialize, ToSchema)]
#[schema(as = DecidingPolicy)]
struct RuleView {
    /// Its place in the account's list, from 0.
    number: usize,
    policy: RbacPolicy,
}

/// A decision and its reason.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanation)]
struct ExplanationView {
    /// `null` if it depends on a grant that only the login of the user would tell.
    allowed: Option<bool>,
    because: &'static str,
    rule: Option<RuleView>,
    /// `given`, `not_given` or `unknown`; `null` if it does not matter.
    grant: Option<&'static str>,
    /// The address that was taken.
    #[schema(value_type = Option<String>)]
    ip: Option<IpAddr>,
}

/// Whether a user may do something, and by which rule. Requests ask the same function.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}/explain",
    operation_id = "explain",
    tag = "accounts",
    params(
        InAccount,
        ("user" = Option<String>, Query, description = "the user as policies know them; empty for the anonymous"),
        ("repository" = String, Query, description = "the repository inside the account"),
        ("action" = String, Query, description = "`pull`, `push` or `delete`"),
        ("ip" = Option<String>, Query, description = "from where; from where this request comes if left out"),
    ),
    responses((status = 200, description = "the decision", body = ExplanationView), Problems),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let account = account_name(&request)?;
    let question = question(&request)?;
    let answer = api.registry.explain(&who, &account, question).await?;
    let rule = answer
        .rule
        .map(|(number, policy)| RuleView { number, policy });
    let grant = match answer.grant {
        GrantKnown::Given => Some("given"),
        GrantKnown::NotGiven => Some("not_given"),
        GrantKnown::Unknown => Some("unknown"),
        GrantKnown::NotAsked => None,
    };
    Ok(HttpResponse::Ok().json(ExplanationView {
        allowed: answer.allowed,
        because: answer.because,
        rule,
        grant,
        ip: answer.client,
    }))
}

/// The parameters; each may be there once.
fn question(request: &HttpRequest) -> Result<Question> {
    let [mut user, mut repository, mut action, mut ip] = [None, None, None, None];
    for (name, value) in query(request) {
        let member = match name.as_str() {
            "user" => &mut user,
            "repository" => &mut repository,
            "action" => &mut action,
            "ip" => &mut ip,
            _ => {
                let reason = "the parameters are user, repository, action and ip";
                return Err(Error::field("", reason));
            }
        };
        if member.replace(value).is_some() {
            return Err(Error::field(&name, "it is there twice"));
        }
    }
    let repository = repository.unwrap_or_default();
    let repo = repository
        .parse()
        .map_err(|error| Error::field("repository", format!("{error}, without the account")))?;
    let permission = match action.as_deref() {
        Some("pull") => Permission::Pull,
        Some("push") => Permission::Push,
        Some("delete") => Permission::Delete,
        _ => return Err(Error::field("action", "it must be pull, push or delete")),
    };
    let client = ip.filter(|ip| !ip.is_empty()).map(|ip| ip.parse());
    let client = client.transpose();
    Ok(Question {
        user: user.unwrap_or_default(),
        repo,
        permission,
        client: client.map_err(|_| Error::field("ip", "it is not an address"))?,
    })
}
