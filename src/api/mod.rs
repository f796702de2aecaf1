//! The only home of actix: what comes in as HTTP, what goes out, and every route on one page.
//!
//! A handler parses (`extract.rs`, `body.rs`), calls one use case, and renders (`render.rs`). It decides
//! nothing. What a newcomer gets wrong: a name in a path has slashes, so the routes are tried in the
//! order in which they stand here.

mod admin;
mod body;
mod extract;
mod ops;
mod origin;
mod render;
mod request_log;
mod server;
mod tls;
mod token;
mod unread_body;
mod v2;

use std::{sync::Arc, time::Duration};

use actix_web::{Resource, web};

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
}

/// A resource whose other methods are answered with an OCI error.
fn resource(path: &str) -> Resource {
    web::resource(path).default_service(web::to(v2::method_not_allowed))
}

/// The route table.
fn routes(config: &mut web::ServiceConfig) {
    use v2::{base, blobs, catalog, manifests, referrers, tags, uploads};
    config
        .service(
            resource("/v2/")
                .route(web::get().to(base::get))
                .route(web::head().to(base::get)),
        )
        .service(
            resource("/v2")
                .route(web::get().to(base::get))
                .route(web::head().to(base::get)),
        )
        .service(resource("/v2/_catalog").route(web::get().to(catalog::list)))
        .service(resource("/v2/{name:.+}/tags/list").route(web::get().to(tags::list)))
        .service(
            resource("/v2/{name:.+}/manifests/{reference}")
                .route(web::get().to(manifests::get))
                .route(web::head().to(manifests::head))
                .route(web::put().to(manifests::put))
                .route(web::delete().to(manifests::delete)),
        )
        .service(resource("/v2/{name:.+}/blobs/uploads").route(web::post().to(uploads::start)))
        .service(resource("/v2/{name:.+}/blobs/uploads/").route(web::post().to(uploads::start)))
        .service(
            resource("/v2/{name:.+}/blobs/uploads/{upload}")
                .route(web::get().to(uploads::status))
                .route(web::patch().to(uploads::append))
                .route(web::put().to(uploads::finish))
                .route(web::delete().to(uploads::cancel)),
        )
        .service(
            resource("/v2/{name:.+}/blobs/{digest}")
                .route(web::get().to(blobs::get))
                .route(web::head().to(blobs::head))
                .route(web::delete().to(blobs::delete)),
        )
        .service(resource("/v2/{name:.+}/referrers/{digest}").route(web::get().to(referrers::list)))
        .service(
            resource("/token")
                .route(web::get().to(token::get))
                .route(web::post().to(token::post)),
        )
        .configure(admin_routes)
        .service(web::resource("/.well-known/jwks.json").route(web::get().to(token::jwks)))
        .service(web::resource("/metrics").route(web::get().to(ops::metrics)))
        .service(web::resource("/healthz").route(web::get().to(ops::healthz)))
        .service(web::resource("/readyz").route(web::get().to(ops::readyz)))
        .default_service(web::to(v2::not_found));
}

/// A resource of the management API.
fn admin_resource(path: &str) -> Resource {
    web::resource(path).default_service(web::to(admin::method_not_allowed))
}

/// The management API.
fn admin_routes(config: &mut web::ServiceConfig) {
    use admin::{accounts, me, personal_tokens, robots, storage_migrate, users};
    config
        .service(admin_resource("/api/v1/accounts").route(web::get().to(accounts::list)))
        .service(
            admin_resource("/api/v1/accounts/{account}")
                .route(web::get().to(accounts::get))
                .route(web::put().to(accounts::put))
                .route(web::delete().to(accounts::delete)),
        )
        .service(
            admin_resource("/api/v1/accounts/{account}/storage/migrate")
                .route(web::get().to(storage_migrate::get))
                .route(web::post().to(storage_migrate::post)),
        )
        .service(
            admin_resource("/api/v1/accounts/{account}/robots")
                .route(web::get().to(robots::list))
                .route(web::post().to(robots::post)),
        )
        .service(
            admin_resource("/api/v1/accounts/{account}/robots/{robot}")
                .route(web::get().to(robots::get))
                .route(web::put().to(robots::put))
                .route(web::delete().to(robots::delete)),
        )
        .service(
            admin_resource("/api/v1/accounts/{account}/robots/{robot}/secrets")
                .route(web::post().to(robots::rotate)),
        )
        .service(
            admin_resource("/api/v1/accounts/{account}/robots/{robot}/secrets/{id}")
                .route(web::delete().to(robots::secret_delete)),
        )
        .service(
            admin_resource("/api/v1/users")
                .route(web::get().to(users::list))
                .route(web::post().to(users::post)),
        )
        .service(
            admin_resource("/api/v1/users/{name}")
                .route(web::get().to(users::get))
                .route(web::put().to(users::put))
                .route(web::delete().to(users::delete)),
        )
        .service(
            admin_resource("/api/v1/users/{name}/password").route(web::put().to(users::password)),
        )
        .service(
            admin_resource("/api/v1/tokens")
                .route(web::get().to(personal_tokens::list))
                .route(web::post().to(personal_tokens::post)),
        )
        .service(
            admin_resource("/api/v1/tokens/revoke").route(web::post().to(personal_tokens::revoke)),
        )
        .service(
            admin_resource("/api/v1/tokens/{id}").route(web::delete().to(personal_tokens::delete)),
        )
        .service(
            admin_resource("/api/v1/login-providers")
                .route(web::get().to(admin::login_providers::list)),
        )
        .service(admin_resource("/api/v1/me").route(web::get().to(me::get)))
        .service(web::resource("/api/{rest:.*}").to(admin::not_found));
}
