//! `/keppel/v1/accounts`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::identity;
use crate::{
    api::{
        Api,
        admin::{account_name, document, from_value},
        render::PlainError,
    },
    error::{Code, Error, Result},
    model::{
        account::{Account, AccountSettings},
        listing::PageOrder,
        precondition::{Precondition, Tagged as _},
    },
    oci::AccountName,
    registry::{accounts::AccountOrder, caller::Actor},
};

/// The largest document that describes an account.
const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// The settings that Keppel has as well.
const SHARED: [&str; 6] = [
    "gc_policies",
    "in_maintenance",
    "metadata",
    "rbac_policies",
    "tag_policies",
    "validation",
];

/// How often an order is tried again that somebody else has passed.
const MAX_TRIES: usize = 5;

/// The body of a `PUT`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    account: Map<String, Value>,
}

/// What of an account's document is no setting.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Head {
    auth_tenant_id: Option<String>,
    platform_filter: Value,
    replication: Value,
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// The settings that Keppel has as well, as it shows them.
fn shared(settings: &AccountSettings) -> Result<Map<String, Value>> {
    let all = serde_json::to_value(settings).map_err(Error::internal)?;
    let Value::Object(mut members) = all else {
        return Ok(Map::new());
    };
    members.retain(|name, value| {
        SHARED.contains(&name.as_str()) && (name == "rbac_policies" || !is_empty(value))
    });
    Ok(members)
}

fn view(account: &Account) -> Result<Value> {
    let mut shown = shared(&account.settings)?;
    shown.insert("name".into(), json!(account.name.as_str()));
    shown.insert("auth_tenant_id".into(), json!(account.auth_tenant_id));
    shown.entry("metadata").or_insert(Value::Null);
    if account.is_deleting {
        shown.insert("state".into(), json!("deleting"));
    }
    Ok(Value::Object(shown))
}

/// The accounts that the user may see. Keppel knows no pages of them, so all are read.
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let mut shown = Vec::new();
    let mut page = PageOrder::default();
    loop {
        let found = api.registry.accounts_list(&identity, page).await?;
        for account in &found.items {
            shown.push(view(account)?);
        }
        let last = found.items.last().map(|account| account.name.to_string());
        match last.filter(|_| found.has_more) {
            None => break,
            last => page = PageOrder { limit: None, last },
        }
    }
    Ok(HttpResponse::Ok().json(json!({ "accounts": shown })))
}

/// One account.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let account = api
        .registry
        .account_get(&identity, &account_name(&request)?)
        .await?;
    Ok(HttpResponse::Ok().json(json!({ "account": view(&account)? })))
}

/// Makes the account be as the document says.
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let name = account_name(&request)?;
    let document = document(payload, &api, MAX_DOCUMENT_BYTES).await;
    let Document { account } = document.map_err(bad_body)?;
    for _ in 0..MAX_TRIES {
        let order = order(&identity, &api, &name, account.clone()).await?;
        match api.registry.account_put(&identity, &name, order).await {
            // Somebody has changed what of the settings is to stay.
            Err(error) if error.code() == Code::PreconditionFailed => {}
            Err(error) => return Err(error.into()),
            Ok(put) => {
                return Ok(HttpResponse::Ok().json(json!({ "account": view(&put.after)? })));
            }
        }
    }
    let message = "the account cannot be seen, or others change it all the time";
    Err(Error::with_message(Code::Conflict, message).into())
}

/// What the document orders, on top of the settings that Keppel does not know.
async fn order(
    identity: &Actor,
    api: &Api,
    name: &AccountName,
    account: Map<String, Value>,
) -> Result<AccountOrder> {
    let is_shared = |key: &str| SHARED.contains(&key);
    let (wanted, head): (Map<_, _>, Map<_, _>) =
        account.into_iter().partition(|(key, _)| is_shared(key));
    let head: Head = from_value(Value::Object(head)).map_err(bad_body)?;
    let existing = match api.registry.account_get(identity, name).await {
        Ok(account) => Some(account),
        Err(error) if error.code() == Code::NotFound => None,
        Err(error) => return Err(error),
    };
    refuse_replicas(&head, existing.is_some())?;
    let before = existing.as_ref().map(|account| account.settings.clone());
    let before = serde_json::to_value(before.unwrap_or_default()).map_err(Error::internal)?;
    let Value::Object(mut settings) = before else {
        return Err(Error::internal("settings are not an object"));
    };
    settings.retain(|key, _| !is_shared(key));
    settings.extend(wanted.into_iter().filter(|(_, value)| !value.is_null()));
    Ok(AccountOrder {
        auth_tenant_id: head.auth_tenant_id,
        storage: None,
        settings: from_value(Value::Object(settings))?,
        // Who may change an account but not see it would reset what of the settings is to stay.
        condition: existing.map_or_else(
            || Precondition {
                must_be_new: true,
                ..Precondition::default()
            },
            |account| Precondition::unchanged(account.tag()),
        ),
    })
}

/// A body that does not have the form of an account is 400 in this API.
fn bad_body(error: Error) -> Error {
    if error.code() != Code::InvalidField {
        return error;
    }
    let message = format!("the request body is not valid: {error}");
    Error::with_message(Code::BadRequest, message)
}

/// Refuses what only replicas have: there are none here.
fn refuse_replicas(head: &Head, exists: bool) -> Result<()> {
    let what = [
        ("platform_filter", &head.platform_filter),
        ("replication", &head.replication),
    ];
    let Some((name, _)) = what.iter().find(|(_, value)| !is_empty(value)) else {
        return Ok(());
    };
    if exists {
        let message = format!("the {name} of an account that exists cannot be changed");
        return Err(Error::with_message(Code::Conflict, message));
    }
    let message = format!("this registry has no {name} of accounts; leave it out");
    Err(Error::with_message(Code::InvalidField, message))
}

/// Deletes an account that holds no manifests.
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    api.registry
        .account_delete(&identity, &account_name(&request)?, Precondition::default())
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
