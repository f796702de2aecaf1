//! The management API; its errors are problem documents.
//!
//! Every handler finds out who asks first: nobody learns from an error what is there without a login.

pub mod accounts;
pub mod audit;
pub mod blobs;
pub mod explain;
pub mod gc;
pub mod info;
pub mod jobs;
pub mod legal_holds;
pub mod login_providers;
pub mod me;
mod parameters;
pub mod peers;
pub mod personal_tokens;
pub mod quotas;
pub mod repositories;
pub mod robots;
pub mod storage_migrate;
pub mod tag_history;
pub mod trash;
pub mod users;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Api, body,
    extract::{api_authorization, path_value, request_origin},
    render::Problem,
    request_log::RequestFacts,
};
use crate::{
    error::{Code, Error, Result},
    model::{
        difference::{Difference, differences},
        precondition::{Changed, EntityTag, Tagged},
    },
    oci::{AccountName, FullRepoName},
    registry::caller::Actor,
};

/// The largest document, unless a handler says otherwise.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// A path that does not exist.
pub async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Error::from(Code::NotFound).into())
}

/// Who asks.
pub(super) async fn identity(request: &HttpRequest, api: &Api) -> Result<Actor> {
    let challenged = |error: Error| error.with_header("WWW-Authenticate", "Basic realm=\"kontor\"");
    let offered = api_authorization(request).map_err(challenged)?;
    let origin = request_origin(request, api);
    let identity = api.registry.admin(offered, origin).await?;
    RequestFacts::set_caller(request, Some(identity.to_string()));
    RequestFacts::set_who(request, identity.audit_who());
    Ok(identity)
}

/// The account in the path.
pub(super) fn account_name(request: &HttpRequest) -> Result<AccountName> {
    let name: AccountName = path_value(request, "account", Code::NameInvalid)?;
    RequestFacts::set_account(request, name.as_str());
    Ok(name)
}

/// The repository in the path, below the account.
pub(super) fn repo_name(request: &HttpRequest) -> Result<FullRepoName> {
    let repo = path_value(request, "repo", Code::NameInvalid)?;
    FullRepoName::new(account_name(request)?, repo)
        .map_err(|error| Error::with_message(Code::NameInvalid, error.to_string()))
}

/// How JSON writes the character 0.
const NUL: &[u8] = b"\\u0000";

/// The JSON document that a client sends.
pub(super) async fn document<T: DeserializeOwned>(
    payload: web::Payload,
    api: &Api,
    limit_bytes: usize,
) -> Result<T> {
    document_of(&read(payload, api, limit_bytes).await?)
}

/// The JSON document that a client sends, if it sends one.
async fn optional_document<T: DeserializeOwned>(
    payload: web::Payload,
    api: &Api,
    limit_bytes: usize,
) -> Result<Option<T>> {
    let body = read(payload, api, limit_bytes).await?;
    if body.is_empty() {
        return Ok(None);
    }
    document_of(&body).map(Some)
}

async fn read(payload: web::Payload, api: &Api, limit_bytes: usize) -> Result<web::Bytes> {
    let limit = (limit_bytes, Code::PayloadTooLarge);
    body::whole(payload, api.idle_timeout, limit).await
}

fn document_of<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // PostgreSQL cannot store it, and nobody needs it.
    if body.windows(NUL.len()).any(|bytes| bytes == NUL) {
        return Err(Error::field("", "the document has a character \\u0000"));
    }
    // Serde would take a list for an object.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::field("", "the document must be an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    // Says which member is wrong.
    let document = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        if error.inner().is_data() {
            return Error::field(&error.path().to_string(), error.inner());
        }
        not_json(error.inner())
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(document)
}

/// Reads a part of a document, and says which member is wrong.
pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| Error::field(&error.path().to_string(), error.inner()))
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::with_message(
        Code::BadRequest,
        format!("the document is not JSON: {error}"),
    )
}

/// Refuses a document that names another thing than the path.
fn same_name(in_document: Option<&str>, in_path: &str) -> Result<()> {
    if in_document.is_some_and(|other| other != in_path) {
        return Err(Error::field("name", "it is not the one in the path"));
    }
    Ok(())
}

/// An answer with the `ETag` of what it shows. That of a dry run has none: what it shows is not there.
fn tagged(status: StatusCode, tag: Option<EntityTag>) -> HttpResponseBuilder {
    let mut response = HttpResponseBuilder::new(status);
    if let Some(tag) = tag {
        response.insert_header((header::ETAG, tag.to_string()));
    }
    response
}

/// The answer to a change or its dry run: how it is then, and what is other than before.
fn change_answer<T, V, A>(
    changed: Changed<T>,
    answer: impl FnOnce(V, Vec<Difference>) -> A,
) -> Result<HttpResponse>
where
    T: Tagged,
    V: From<T> + Serialize,
    A: Serialize,
{
    let tag = changed.is_made.then(|| changed.after.tag());
    let (before, after) = (V::from(changed.before), V::from(changed.after));
    let changes = differences(&json(&before)?, &json(&after)?);
    Ok(tagged(StatusCode::OK, tag).json(answer(after, changes)))
}

fn json(view: &impl Serialize) -> Result<Value> {
    serde_json::to_value(view).map_err(Error::internal)
}

/// An answer that holds a secret: it must not lie in a cache.
fn secret_answer(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    HttpResponseBuilder::new(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body)
}
