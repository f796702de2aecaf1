//! The OpenAPI document of the management API, made from the handlers, and the page that shows it.
//!
//! A handler describes itself with `#[utoipa::path]`; this file lists them. A newcomer forgets the list: a test holds
//! it against the route table.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::Value;
use utoipa::{
    IntoParams, IntoResponses, Modify, OpenApi, ToSchema,
    openapi::{
        Content, Ref, RefOr, Response, ResponseBuilder,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::admin;

/// The account in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes a part of a path")]
pub struct InAccount {
    /// The account's name.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$")]
    account: String,
}

/// The parameter of every change.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes a parameter")]
pub struct DryRun {
    /// Makes all checks, changes nothing, and says what would change.
    dry_run: Option<bool>,
}

/// The headers of every change.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes headers")]
pub struct Conditions {
    /// The `ETag` that it must have; `*`: it must be there.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
    /// It must not be there yet.
    #[param(rename = "If-None-Match", pattern = "^\\*$")]
    if_none_match: Option<String>,
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
struct ProblemDocument {
    /// Always `about:blank`: the code says what it is.
    r#type: String,
    /// What the code means.
    title: String,
    /// The HTTP status.
    status: u16,
    /// For programs; see the page on errors.
    code: String,
    /// For people: what is wrong here, and the way out.
    detail: String,
    /// The member of the document that is wrong, as a JSONPath (RFC 9535).
    #[schema(required = false)]
    path: Option<String>,
    /// More for programs, such as what is left to be deleted.
    #[schema(required = false, value_type = Option<Object>)]
    context: Option<Value>,
}

/// What every operation may answer instead of what was asked for.
pub struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let all = [
            (400, "the request cannot be read"),
            (401, "the login is missing or wrong"),
            (403, "it is not allowed"),
            (404, "there is no such thing, or it is not to be seen"),
            (405, "the method is not supported"),
            (408, "the document arrived too slowly"),
            (409, "it conflicts with what is there"),
            (412, "it is not as `If-Match` or `If-None-Match` asks"),
            (413, "the document is too large"),
            (
                422,
                "a member of the document or a parameter cannot be accepted",
            ),
            (
                429,
                "too many requests, or failed logins; `Retry-After` says when to try again",
            ),
            (500, "the registry failed; see its log"),
            (
                503,
                "database, storage or identity do not work at the moment",
            ),
        ];
        let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
        let response = |description: &str| {
            let builder = ResponseBuilder::new().description(description);
            builder
                .content("application/problem+json", problem.clone())
                .build()
        };
        let all =
            all.map(|(status, description)| (status.to_string(), response(description).into()));
        all.into()
    }
}

/// How to log in.
struct Logins;

impl Modify for Logins {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let basic = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
        components.add_security_scheme("password", basic);
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("jwt", bearer);
        let keystone = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Auth-Token")));
        components.add_security_scheme("keystone", keystone);
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "kontor management API",
        description = "Accounts, robots, users and tokens of the registry. Images are pushed and pulled by the OCI \
                       Distribution API, which is not described here.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        admin::accounts::list,
        admin::accounts::get,
        admin::accounts::put,
        admin::accounts::delete,
        admin::audit::list,
        admin::blobs::get,
        admin::explain::get,
        admin::gc::preview,
        admin::info::get,
        admin::jobs::list,
        admin::jobs::run,
        admin::legal_holds::list,
        admin::legal_holds::repo_post,
        admin::legal_holds::repo_delete,
        admin::legal_holds::tag_post,
        admin::legal_holds::tag_delete,
        admin::quotas::account_get,
        admin::quotas::account_put,
        admin::quotas::tenant_get,
        admin::quotas::tenant_put,
        admin::quotas::tenant_delete,
        admin::quotas::tenant_recount,
        admin::repositories::list,
        admin::repositories::delete,
        admin::repositories::manifests,
        admin::repositories::manifest_delete,
        admin::repositories::tags,
        admin::repositories::tag_delete,
        admin::login_providers::list,
        admin::me::get,
        admin::peers::list,
        admin::personal_tokens::list,
        admin::personal_tokens::post,
        admin::personal_tokens::delete,
        admin::personal_tokens::revoke,
        admin::robots::list,
        admin::robots::post,
        admin::robots::get,
        admin::robots::put,
        admin::robots::delete,
        admin::robots::rotate,
        admin::robots::secret_delete,
        admin::storage_migrate::get,
        admin::storage_migrate::post,
        admin::tag_history::get,
        admin::tag_history::history,
        admin::tag_history::restore,
        admin::trash::list,
        admin::trash::restore,
        admin::trash::purge,
        admin::users::list,
        admin::users::post,
        admin::users::get,
        admin::users::put,
        admin::users::delete,
        admin::users::password,
    ),
    components(schemas(ProblemDocument)),
    modifiers(&Logins),
    security(("password" = []), ("jwt" = []), ("keystone" = [])),
)]
struct Document;

/// The document.
pub fn document() -> Value {
    serde_json::to_value(Document::openapi()).unwrap_or_default()
}

/// `GET /api/openapi.json`. It is public, as the source is.
pub async fn json() -> HttpResponse {
    HttpResponse::Ok().json(document())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The paths and methods of the route table, read from its source.
    fn routes() -> BTreeSet<String> {
        let source = include_str!("mod.rs").replace(['\n', ' '], "");
        let mut found = BTreeSet::new();
        for endpoint in source.split("Endpoint::admin(\"").skip(1) {
            let (path, rest) = endpoint.split_once('"').unwrap();
            let (calls, _) = rest.split_once(".service(").unwrap_or((rest, ""));
            let path = path.replace(":.+}", "}");
            let path = path.trim_end_matches('/');
            for method in ["get", "post", "put", "delete"] {
                if calls.contains(&format!(".{method}(")) {
                    found.insert(format!("{method} {path}"));
                }
            }
        }
        found
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document = document();
        let mut described = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                described.insert(format!("{method} {path}"));
                let id = operation["operationId"].as_str().unwrap().to_owned();
                assert!(ids.insert(id.clone()), "two operations are called {id}");
            }
        }
        assert_eq!(routes(), described);
    }

    #[test]
    fn every_put_can_be_bound_to_what_was_read_and_tried_out() {
        let document = document();
        for (path, methods) in document["paths"].as_object().unwrap() {
            let Some(put) = methods.get("put") else {
                continue;
            };
            let parameters = put["parameters"].as_array().unwrap();
            for name in ["dry_run", "If-Match", "If-None-Match"] {
                assert!(
                    parameters.iter().any(|p| p["name"] == name),
                    "{path} {name}"
                );
            }
            for operation in [Some(put), methods.get("get")].into_iter().flatten() {
                let responses = operation["responses"].as_object().unwrap();
                let has_tag = responses.values().any(|r| r["headers"]["ETag"].is_object());
                assert!(has_tag, "{path}");
            }
        }
    }
}
