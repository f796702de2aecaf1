//! `/api/v1/accounts`

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, http::header, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    account_name, document, from_value, identity,
    parameters::{Parameters, precondition},
    same_name,
};
use crate::{
    api::{Api, render::Problem},
    error::{Error, Result},
    model::{
        account::{Account, AccountSettings},
        difference::differences,
        precondition::entity_tag,
    },
    oci::AccountName,
    registry::accounts::{AccountOrder, AccountPlan},
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
        condition: Default::default(),
    })
}

/// The accounts that the user may see.
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let parameters = Parameters::read(&request, &["limit", "last"])?;
    let page = api
        .registry
        .accounts_list(&identity, parameters.page()?)
        .await?;
    let last = page.items.last().map(|account| account.name.to_string());
    let next = last.filter(|_| page.has_more);
    let accounts: Vec<AccountView> = page.items.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(json!({ "accounts": accounts, "next": next })))
}

/// An account with its entity tag.
fn answer(mut response: HttpResponseBuilder, account: Account) -> HttpResponse {
    response
        .insert_header((header::ETAG, entity_tag(account.version)))
        .json(json!({ "account": AccountView::from(account) }))
}

/// One account.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let account = api
        .registry
        .account_get(&identity, &account_name(&request)?)
        .await?;
    Ok(answer(HttpResponse::Ok(), account))
}

/// Makes the account be as the document says, or says what that would change.
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let name = account_name(&request)?;
    let is_dry_run = Parameters::read(&request, &["dry_run"])?.flag("dry_run")?;
    let condition = precondition(&request)?;
    let document = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let order = AccountOrder {
        condition,
        ..order(&name, document)?
    };
    if is_dry_run {
        let plan = api.registry.account_plan(&identity, &name, order).await?;
        return Ok(HttpResponse::Ok().json(dry_run(plan)?));
    }
    let (account, is_new) = api.registry.account_put(&identity, &name, order).await?;
    let response = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer(response, account))
}

/// What an order would change.
fn dry_run(plan: AccountPlan) -> Result<Value> {
    let shown = |account| serde_json::to_value(AccountView::from(account));
    let is_new = plan.before.is_none();
    let before = plan.before.map_or(Ok(json!({})), shown);
    let (before, after) = (
        before.map_err(Error::internal)?,
        shown(plan.after).map_err(Error::internal)?,
    );
    let changes = differences(&before, &after);
    Ok(json!({ "dry_run": true, "created": is_new, "changes": changes, "account": after }))
}

/// Deletes an account that holds no manifests.
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let condition = precondition(&request)?;
    api.registry
        .account_delete(&identity, &account_name(&request)?, condition)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
