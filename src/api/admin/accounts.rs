//! `/api/v1/accounts`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{account_name, document, from_value, identity, same_name};
use crate::{
    api::{Api, render::Problem},
    error::Result,
    model::account::{Account, AccountSettings},
    oci::AccountName,
    registry::accounts::AccountOrder,
};

/// The largest document that describes an account.
const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// An account as the API shows it.
#[derive(Debug, Serialize)]
struct AccountView {
    name: String,
    auth_tenant_id: String,
    storage: String,
    state: &'static str,
    #[serde(flatten)]
    settings: AccountSettings,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            name: account.name.to_string(),
            auth_tenant_id: account.auth_tenant_id,
            storage: account.storage,
            state: if account.is_deleting {
                "deleting"
            } else {
                "ready"
            },
            settings: account.settings,
        }
    }
}

/// The members of an account's document that are no settings. What `GET` shows can be sent back.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AccountHead {
    name: Option<String>,
    auth_tenant_id: Option<String>,
    storage: Option<String>,
    /// It may come back, but it cannot be set.
    #[serde(rename = "state")]
    _state: Option<String>,
}

/// The names of the members of [`AccountHead`]; all others are settings.
const HEAD: [&str; 4] = ["name", "auth_tenant_id", "storage", "state"];

/// Reads a document that describes an account. It is read in two parts, since serde cannot refuse unknown members of
/// parts that are put together.
fn order(name: &AccountName, document: Map<String, Value>) -> Result<AccountOrder> {
    let is_head = |key: &str| HEAD.contains(&key);
    let (head, settings): (Map<_, _>, Map<_, _>) =
        document.into_iter().partition(|(key, _)| is_head(key));
    let head: AccountHead = from_value(Value::Object(head))?;
    same_name(head.name.as_deref(), name.as_str())?;
    Ok(AccountOrder {
        auth_tenant_id: head.auth_tenant_id,
        storage: head.storage,
        settings: from_value(Value::Object(settings))?,
    })
}

/// The accounts that the user may see.
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let accounts = api.registry.accounts_list(&identity).await?;
    let accounts: Vec<AccountView> = accounts.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(json!({ "accounts": accounts })))
}

/// One account.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let account = api
        .registry
        .account_get(&identity, &account_name(&request)?)
        .await?;
    Ok(HttpResponse::Ok().json(json!({ "account": AccountView::from(account) })))
}

/// Makes the account be as the document says.
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let name = account_name(&request)?;
    let document = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let order = order(&name, document)?;
    let (account, is_new) = api.registry.account_put(&identity, &name, order).await?;
    let mut response = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(response.json(json!({ "account": AccountView::from(account) })))
}

/// Deletes an account that holds no manifests.
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    api.registry
        .account_delete(&identity, &account_name(&request)?)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
