//! `/api/v1/accounts`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    api::{
        Api, body,
        extract::{api_authorization, client_address, path_value},
        render::Problem,
        request_log::RequestFacts,
    },
    auth::driver::Identity,
    error::{Code, Error, Result},
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
        .account_get(&identity, &name(&request)?)
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
    let name = name(&request)?;
    let limit = (MAX_DOCUMENT_BYTES, Code::PayloadTooLarge);
    let body = body::whole(payload, api.idle_timeout, limit).await?;
    let document: AccountDocument = serde_json::from_slice(&body)
        .map_err(|error| Error::with_message(Code::BadRequest, error.to_string()))?;
    if document
        .name
        .as_ref()
        .is_some_and(|other| *other != name.as_str())
    {
        let message = "the name in the document is not the one in the path";
        return Err(Error::with_message(Code::BadRequest, message).into());
    }
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
        .account_delete(&identity, &name(&request)?)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) async fn identity(request: &HttpRequest, api: &Api) -> Result<Identity> {
    let challenged = |error: Error| error.with_header("WWW-Authenticate", "Basic realm=\"kontor\"");
    let offered = api_authorization(request).map_err(challenged)?;
    let client = client_address(request, api);
    let identity = api.registry.admin(offered, client).await?;
    RequestFacts::set_caller(request, Some(identity.to_string()));
    Ok(identity)
}

pub(super) fn name(request: &HttpRequest) -> Result<AccountName> {
    let name: AccountName = path_value(request, "account", Code::NameInvalid)?;
    RequestFacts::set_account(request, name.as_str());
    Ok(name)
}
