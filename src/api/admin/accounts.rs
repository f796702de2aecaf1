//! `/api/v1/accounts`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{account_name, document, identity, same_name};
use crate::{
    api::{Api, render::Problem},
    error::Result,
    model::account::{Account, AccountSettings},
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

/// An account as a client orders it. What `GET` shows can be sent back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountDocument {
    name: Option<String>,
    auth_tenant_id: Option<String>,
    storage: Option<String>,
    #[expect(
        dead_code,
        reason = "shown by GET, so it may come back, but it cannot be set"
    )]
    state: Option<String>,
    #[serde(default)]
    rbac_policies: Vec<crate::model::rbac_policy::RbacPolicy>,
    #[serde(default)]
    allow_sparse_manifests: bool,
    #[serde(default)]
    proxy_downloads: bool,
    #[serde(default)]
    proxy_networks: Vec<ipnet::IpNet>,
    #[serde(default)]
    service_identities: Vec<crate::model::service_identity::ServiceIdentity>,
    #[serde(default)]
    serves_namespace: Option<String>,
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
    let document: AccountDocument = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    same_name(document.name.as_deref(), name.as_str())?;
    let order = AccountOrder {
        auth_tenant_id: document.auth_tenant_id,
        storage: document.storage,
        settings: AccountSettings {
            rbac_policies: document.rbac_policies,
            allow_sparse_manifests: document.allow_sparse_manifests,
            proxy_downloads: document.proxy_downloads,
            proxy_networks: document.proxy_networks,
            service_identities: document.service_identities,
            serves_namespace: document.serves_namespace,
        },
    };
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
