//! `/api/v1/accounts/<account>/explain`

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::{account_name, identity};
use crate::{
    api::{Api, extract::query, render::Problem},
    error::{Error, Result},
    model::permission::Permission,
    registry::explain::{GrantKnown, Question},
};

/// Whether a user may do something, and by which rule.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let who = identity(&request, &api).await?;
    let account = account_name(&request)?;
    let question = question(&request)?;
    let answer = api.registry.explain(&who, &account, question).await?;
    let rule = answer
        .rule
        .map(|(number, policy)| json!({ "number": number, "policy": policy }));
    let grant = match answer.grant {
        GrantKnown::Given => Some("given"),
        GrantKnown::NotGiven => Some("not_given"),
        GrantKnown::Unknown => Some("unknown"),
        GrantKnown::NotAsked => None,
    };
    Ok(HttpResponse::Ok().json(json!({
        "allowed": answer.allowed,
        "because": answer.because,
        "rule": rule,
        "grant": grant,
        "ip": answer.client,
    })))
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
