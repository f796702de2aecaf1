//! `/api/v1/accounts`

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{
    ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

use super::{
    account_name, document, from_value, identity,
    parameters::{Parameters, change_terms, precondition},
    same_name, tagged,
};
use crate::{
    api::{
        Api,
        openapi::{Conditions, DryRun, InAccount, Problems},
        render::Problem,
    },
    error::Result,
    model::{
        account::{Account, AccountSettings},
        difference::{Difference, differences},
        precondition::{ChangeTerms, Precondition, Tagged as _},
        warning::Warning,
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

/// The members of [`AccountHead`], each with what it means; all others are settings.
const HEAD: [(&str, &str); 4] = [
    ("name", "The name; it is in the path, too."),
    (
        "auth_tenant_id",
        "Who owns the account. Needed to make it; it never changes.",
    ),
    (
        "storage",
        "The storage backend; the registry's default for a new account. Another one needs a move.",
    ),
    ("state", "`ready` or `deleting`. It cannot be set."),
];

// The settings lie beside the other members, so the schema is put together, as serde puts the document together.
impl utoipa::PartialSchema for AccountView {
    fn schema() -> RefOr<Schema> {
        let mut schema = <AccountSettings as utoipa::PartialSchema>::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.description = Some("An account. What is shown can be sent back.".to_owned());
            for (name, meaning) in HEAD {
                let member = ObjectBuilder::new().schema_type(Type::String);
                let member = member.description(Some(meaning)).build();
                object.properties.insert(name.to_owned(), member.into());
            }
        }
        schema
    }
}

impl ToSchema for AccountView {
    fn name() -> std::borrow::Cow<'static, str> {
        "Account".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        AccountSettings::schemas(schemas);
    }
}

/// One account.
#[derive(Serialize, ToSchema)]
#[schema(as = AccountShown)]
struct AccountAnswer {
    account: AccountView,
}

/// A page of accounts.
#[derive(Serialize, ToSchema)]
#[schema(as = Accounts)]
struct AccountsAnswer {
    accounts: Vec<AccountView>,
    /// The `last` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What became of an order, or would.
#[derive(Serialize, ToSchema)]
#[schema(as = AccountPut)]
struct PutAnswer {
    account: AccountView,
    /// Whether the account is new.
    created: bool,
    /// What is other than before.
    changes: Vec<Difference>,
    /// What was accepted but cannot be meant so, such as a policy that can never match.
    warnings: Vec<Warning>,
}

impl From<AccountPlan> for PutAnswer {
    fn from(put: AccountPlan) -> Self {
        let as_value = |account: Account| serde_json::to_value(AccountView::from(account));
        let created = put.before.is_none();
        let before = put.before.map(as_value).and_then(Result::ok);
        let before = before.unwrap_or_else(|| Value::Object(Map::new()));
        let after = as_value(put.after.clone()).unwrap_or_default();
        Self {
            account: put.after.into(),
            created,
            changes: differences(&before, &after),
            warnings: put.warnings,
        }
    }
}

/// Reads a document that describes an account. It is read in two parts, since serde cannot refuse unknown members of
/// parts that are put together.
fn order(name: &AccountName, document: Map<String, Value>) -> Result<AccountOrder> {
    let is_head = |key: &str| HEAD.iter().any(|(member, _)| *member == key);
    let (head, settings): (Map<_, _>, Map<_, _>) =
        document.into_iter().partition(|(key, _)| is_head(key));
    let head: AccountHead = from_value(Value::Object(head))?;
    same_name(head.name.as_deref(), name.as_str())?;
    Ok(AccountOrder {
        auth_tenant_id: head.auth_tenant_id,
        storage: head.storage,
        settings: from_value(Value::Object(settings))?,
        condition: Precondition::default(),
    })
}

/// The accounts that the user may see, by name.
#[utoipa::path(
    get,
    path = "/api/v1/accounts",
    operation_id = "accounts_list",
    tag = "accounts",
    params(
        ("limit" = Option<u32>, Query, description = "how many; 1000 at most, and by default", minimum = 1, maximum = 4294967295_u32),
        ("last" = Option<String>, Query, description = "the last name of the page before"),
    ),
    responses((status = 200, description = "a page of accounts", body = AccountsAnswer), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let page = Parameters::read(&request, &["limit", "last"])?.page()?;
    let page = api.registry.accounts_list(&identity, page).await?;
    let last = page.items.last().map(|account| account.name.to_string());
    let answer = AccountsAnswer {
        next: last.filter(|_| page.has_more),
        accounts: page.items.into_iter().map(Into::into).collect(),
    };
    Ok(HttpResponse::Ok().json(answer))
}

/// One account. Its `ETag` goes into `If-Match` of a change.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}",
    operation_id = "account_get",
    tag = "accounts",
    params(InAccount),
    responses(
        (status = 200, description = "the account", body = AccountAnswer, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let account = api
        .registry
        .account_get(&identity, &account_name(&request)?)
        .await?;
    let response = &mut tagged(StatusCode::OK, Some(account.tag()));
    Ok(response.json(AccountAnswer {
        account: account.into(),
    }))
}

/// Makes the account be as the document says.
///
/// All settings are replaced: what is left out gets its default. With `dry_run=true` nothing changes, and the answer is
/// the one that the change would have.
#[utoipa::path(
    put,
    path = "/api/v1/accounts/{account}",
    operation_id = "account_put",
    tag = "accounts",
    params(
        InAccount,
        DryRun,
        Conditions,
    ),
    request_body = AccountView,
    responses(
        (status = 200, description = "the account as it is now, or would be", body = PutAnswer, headers(("ETag" = String))),
        (status = 201, description = "the account is new", body = PutAnswer, headers(("ETag" = String))),
        Problems,
    ),
)]
pub async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    let name = account_name(&request)?;
    let ChangeTerms {
        condition,
        is_dry_run,
    } = change_terms(&request)?;
    let document = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let order = AccountOrder {
        condition,
        ..order(&name, document)?
    };
    let put = if is_dry_run {
        api.registry.account_plan(&identity, &name, order).await?
    } else {
        api.registry.account_put(&identity, &name, order).await?
    };
    let status = if put.before.is_none() && !is_dry_run {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let tag = (!is_dry_run).then(|| put.after.tag());
    Ok(tagged(status, tag).json(PutAnswer::from(put)))
}

/// Deletes an account that holds no manifests, with its storage. One that holds some is 409, and `context` says how many
/// and which come first.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}",
    operation_id = "account_delete",
    tag = "accounts",
    params(
        InAccount,
        ("If-Match" = Option<String>, Header, description = "the `ETag` that the account must have"),
    ),
    responses((status = 204, description = "the account is gone"), Problems),
)]
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let identity = identity(&request, &api).await?;
    Parameters::read(&request, &[])?;
    let condition = precondition(&request)?;
    api.registry
        .account_delete(&identity, &account_name(&request)?, condition)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
