//! The only home of actix: what comes in as HTTP, what goes out, and every route on one page.
//!
//! A handler parses (`extract.rs`, `body.rs`), calls one use case, and renders (`render.rs`). It decides
//! nothing. What a newcomer gets wrong: a name in a path has slashes, so the routes are tried in the
//! order in which they stand here.

mod admin;
mod body;
mod drain;
mod endpoint;
mod extract;
mod keppel;
mod liquid;
mod openapi;
mod ops;
mod origin;
mod rate_limit;
mod reference_page;
mod render;
mod request_log;
mod server;
mod tls;
mod token;
mod unread_body;
mod v2;

use std::{sync::Arc, time::Duration};

use actix_web::web;
use endpoint::Endpoint;

pub use drain::Drain;
pub use origin::Hosts;
pub use server::{ServeError, ServerOptions, TlsFiles, listen, serve};

use crate::{registry::Registry, telemetry::Metrics};

/// What every handler needs.
#[derive(Debug)]
pub struct Api {
    /// The use cases.
    pub registry: Arc<Registry>,
    /// Where clients reach this registry.
    pub hosts: Hosts,
    /// How long a client may send nothing in the middle of a body.
    pub idle_timeout: Duration,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether the metrics show quotas.
    pub shows_quotas: bool,
    /// Whether it answers only how it is.
    pub is_janitor_only: bool,
    /// Whether it is about to stop.
    pub drain: Drain,
}

/// The route table.
fn routes(config: &mut web::ServiceConfig) {
    use v2::{base, blobs, catalog, manifests, referrers, tags, uploads};
    config
        .service(Endpoint::oci("/v2/").get(base::get).head(base::get))
        .service(Endpoint::oci("/v2").get(base::get).head(base::get))
        .service(Endpoint::oci("/v2/_catalog").get(catalog::list))
        .service(Endpoint::oci("/v2/{name:.+}/tags/list").get(tags::list))
        .service(
            Endpoint::oci("/v2/{name:.+}/manifests/{reference}")
                .get(manifests::get)
                .head(manifests::head)
                .put(manifests::put)
                .delete(manifests::delete),
        )
        .service(Endpoint::oci("/v2/{name:.+}/blobs/uploads").post(uploads::start))
        .service(Endpoint::oci("/v2/{name:.+}/blobs/uploads/").post(uploads::start))
        .service(
            Endpoint::oci("/v2/{name:.+}/blobs/uploads/{upload}")
                .get(uploads::status)
                .patch(uploads::append)
                .put(uploads::finish)
                .delete(uploads::cancel),
        )
        .service(
            Endpoint::oci("/v2/{name:.+}/blobs/{digest}")
                .get(blobs::get)
                .head(blobs::head)
                .delete(blobs::delete),
        )
        .service(Endpoint::oci("/v2/{name:.+}/referrers/{digest}").get(referrers::list))
        .service(Endpoint::oci("/token").get(token::get).post(token::post))
        .configure(quota_routes)
        .configure(trash_routes)
        .configure(admin_routes)
        .configure(keppel_routes)
        .service(web::resource("/.well-known/jwks.json").route(web::get().to(token::jwks)))
        .configure(ops_routes)
        .default_service(web::to(v2::not_found));
}

/// How the process is.
fn ops_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/metrics").route(web::get().to(ops::metrics)))
        .service(web::resource("/healthz").route(web::get().to(ops::healthz)))
        .service(web::resource("/readyz").route(web::get().to(ops::readyz)));
}

/// Repositories in the management API. A repository's name has slashes, but no part of it begins with `_`.
fn repository_routes(config: &mut web::ServiceConfig) {
    use admin::{legal_holds, repositories, tag_history};
    config
        .service(Endpoint::admin("/api/v1/accounts/{account}/repositories").get(repositories::list))
        .service(
            Endpoint::admin(
                "/api/v1/accounts/{account}/repositories/{repo:.+}/_manifests/{digest}",
            )
            .delete(repositories::manifest_delete),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/repositories/{repo:.+}/_manifests")
                .get(repositories::manifests),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/repositories/{repo:.+}/_tags/{tag}/_hold")
                .post(legal_holds::tag_post)
                .delete(legal_holds::tag_delete),
        )
        .service(
            Endpoint::admin(
                "/api/v1/accounts/{account}/repositories/{repo:.+}/_tags/{tag}/history",
            )
            .get(tag_history::history),
        )
        .service(
            Endpoint::admin(
                "/api/v1/accounts/{account}/repositories/{repo:.+}/_tags/{tag}/restore",
            )
            .post(tag_history::restore),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/repositories/{repo:.+}/_tags/{tag}")
                .get(tag_history::get)
                .delete(repositories::tag_delete),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/repositories/{repo:.+}/_hold")
                .post(legal_holds::repo_post)
                .delete(legal_holds::repo_delete),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/repositories/{repo:.+}/_tags")
                .get(repositories::tags),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/repositories/{repo:.+}")
                .delete(repositories::delete),
        );
}

/// The trash and the legal holds of an account.
fn trash_routes(config: &mut web::ServiceConfig) {
    use admin::{legal_holds, trash};
    config
        .service(Endpoint::admin("/api/v1/accounts/{account}/trash").get(trash::list))
        .service(Endpoint::admin("/api/v1/accounts/{account}/trash/restore").post(trash::restore))
        .service(Endpoint::admin("/api/v1/accounts/{account}/trash/purge").post(trash::purge))
        .service(Endpoint::admin("/api/v1/accounts/{account}/holds").get(legal_holds::list));
}

/// Quotas: of the management API, of LIQUID and of Keppel.
fn quota_routes(config: &mut web::ServiceConfig) {
    use admin::quotas;
    use liquid::{handlers, keppel};
    config
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/quota")
                .get(quotas::account_get)
                .put(quotas::account_put),
        )
        .service(
            Endpoint::admin("/api/v1/auth-tenants/{auth_tenant}/quota")
                .get(quotas::tenant_get)
                .put(quotas::tenant_put)
                .delete(quotas::tenant_delete),
        )
        .service(
            Endpoint::admin("/api/v1/auth-tenants/{auth_tenant}/quota/recount")
                .post(quotas::tenant_recount),
        )
        .service(Endpoint::keppel("/liquid/v1/info").get(handlers::info))
        .service(Endpoint::keppel("/liquid/v1/report-capacity").post(handlers::report_capacity))
        .service(
            Endpoint::keppel("/liquid/v1/projects/{project}/report-usage")
                .post(handlers::report_usage),
        )
        .service(Endpoint::keppel("/liquid/v1/projects/{project}/quota").put(handlers::quota_put))
        .service(
            Endpoint::keppel("/keppel/v1/quotas/{auth_tenant}")
                .get(keppel::get)
                .put(keppel::put),
        );
}

/// The management API.
fn admin_routes(config: &mut web::ServiceConfig) {
    use admin::{
        accounts, audit, explain, info, jobs, me, personal_tokens, robots, storage_migrate, users,
    };
    config
        .service(Endpoint::admin("/api/v1").get(info::get))
        .service(Endpoint::admin("/api/v1/").get(info::get))
        .service(Endpoint::admin("/api/v1/accounts").get(accounts::list))
        .service(
            Endpoint::admin("/api/v1/accounts/{account}")
                .get(accounts::get)
                .put(accounts::put)
                .delete(accounts::delete),
        )
        .service(Endpoint::admin("/api/v1/accounts/{account}/explain").get(explain::get))
        .service(Endpoint::admin("/api/v1/accounts/{account}/gc/preview").post(admin::gc::preview))
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/blobs/{digest}").get(admin::blobs::get),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/storage/migrate")
                .get(storage_migrate::get)
                .post(storage_migrate::post),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/robots")
                .get(robots::list)
                .post(robots::post),
        )
        .configure(repository_routes)
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/robots/{robot}")
                .get(robots::get)
                .put(robots::put)
                .delete(robots::delete),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/robots/{robot}/secrets")
                .post(robots::rotate),
        )
        .service(
            Endpoint::admin("/api/v1/accounts/{account}/robots/{robot}/secrets/{id}")
                .delete(robots::secret_delete),
        )
        .service(
            Endpoint::admin("/api/v1/users")
                .get(users::list)
                .post(users::post),
        )
        .service(
            Endpoint::admin("/api/v1/users/{name}")
                .get(users::get)
                .put(users::put)
                .delete(users::delete),
        )
        .service(Endpoint::admin("/api/v1/users/{name}/password").put(users::password))
        .service(
            Endpoint::admin("/api/v1/tokens")
                .get(personal_tokens::list)
                .post(personal_tokens::post),
        )
        .service(Endpoint::admin("/api/v1/tokens/revoke").post(personal_tokens::revoke))
        .service(Endpoint::admin("/api/v1/tokens/{id}").delete(personal_tokens::delete))
        .service(Endpoint::admin("/api/v1/login-providers").get(admin::login_providers::list))
        .service(Endpoint::admin("/api/v1/me").get(me::get))
        .service(Endpoint::admin("/api/v1/peers").get(admin::peers::list))
        .service(web::resource("/api/openapi.json").route(web::get().to(openapi::json)))
        .service(web::resource("/api/docs").route(web::get().to(reference_page::get)))
        .service(Endpoint::admin("/api/v1/audit").get(audit::list))
        .service(Endpoint::admin("/api/v1/jobs").get(jobs::list))
        .service(Endpoint::admin("/api/v1/jobs/{job}/run").post(jobs::run))
        .service(web::resource("/api/{rest:.*}").to(admin::not_found));
}

/// The API of Keppel.
fn keppel_routes(config: &mut web::ServiceConfig) {
    use keppel::{accounts, repositories};
    config
        .service(Endpoint::keppel("/keppel/v1").get(keppel::info))
        .service(Endpoint::keppel("/keppel/v1/").get(keppel::info))
        .service(Endpoint::keppel("/keppel/v1/peers").get(keppel::peers))
        .service(Endpoint::keppel("/keppel/v1/accounts").get(accounts::list))
        .service(
            Endpoint::keppel("/keppel/v1/accounts/{account}")
                .get(accounts::get)
                .put(accounts::put)
                .delete(accounts::delete),
        )
        .service(
            Endpoint::keppel("/keppel/v1/accounts/{account}/repositories").get(repositories::list),
        )
        .service(
            Endpoint::keppel(
                "/keppel/v1/accounts/{account}/repositories/{repo:.+}/_manifests/{digest}",
            )
            .delete(repositories::manifest_delete),
        )
        .service(
            Endpoint::keppel("/keppel/v1/accounts/{account}/repositories/{repo:.+}/_manifests")
                .get(repositories::manifests),
        )
        .service(
            Endpoint::keppel("/keppel/v1/accounts/{account}/repositories/{repo:.+}/_tags/{tag}")
                .delete(repositories::tag_delete),
        )
        .service(
            Endpoint::keppel("/keppel/v1/accounts/{account}/repositories/{repo:.+}")
                .delete(repositories::delete),
        )
        .service(web::resource("/keppel/{rest:.*}").to(keppel::not_found));
}
