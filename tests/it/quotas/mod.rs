//! Quotas: limits that hold, books that are exact, and who may see and set them.

mod api;
mod books;
mod limits;
mod liquid;

use kontor::{
    config::StaticUser,
    model::{permission::Permission, user::Grant},
};
use reqwest::{Body, Method, Response};
use serde_json::{Value, json};

use crate::support::{Setup, TestRegistry, image::digest};

/// A registry with users for quotas besides the usual ones: `quota-reader` sees those of `demo`, `owner` has everything
/// there but may not change quotas.
async fn start() -> TestRegistry {
    start_with(|_| {}).await
}

async fn start_with(
    change: impl FnOnce(&mut kontor::config::Config) + Send + 'static,
) -> TestRegistry {
    use Permission::{Change, Delete, Pull, Push, QuotaView, View};
    let users = |config: &mut kontor::config::Config| {
        let password_hash = config.auth.static_users.users[0].password_hash.clone();
        let user = |name: &str, permissions: &[Permission]| StaticUser {
            name: name.into(),
            password_hash: password_hash.clone(),
            grants: vec![Grant {
                auth_tenant_id: "demo".into(),
                permissions: permissions.iter().copied().collect(),
            }],
        };
        let more = [
            user("quota-reader", &[QuotaView]),
            user("owner", &[View, Pull, Push, Delete, Change, QuotaView]),
        ];
        config.auth.static_users.users.extend(more);
        config.database.wait_timeout_seconds = 120;
        change(config);
    };
    Setup::default().config(users).start().await
}

/// The path of the quota of the auth tenant `demo`.
const TENANT: &str = "/api/v1/auth-tenants/demo/quota";

/// The path of the quota of the account `demo`.
const ACCOUNT: &str = "/api/v1/accounts/demo/quota";

impl TestRegistry {
    /// Sets one limit as `admin`.
    pub async fn limit(&self, path: &str, resource: &str, limit: impl Into<Option<u64>>) -> Value {
        let order = json!({ resource: { "limit": limit.into() } });
        let answer = self.admin(Method::PUT, path).json(&order).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// A quota as `admin` sees it.
    pub async fn quota(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// A blob in one request; without a length the body comes in pieces.
    pub async fn try_blob(&self, repo: &str, content: &[u8], has_length: bool) -> Response {
        let digest = digest(content);
        let path = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
        let request = self.admin(Method::POST, &path);
        let request = if has_length {
            request.body(content.to_vec())
        } else {
            request.body(unsized_body(content))
        };
        request.send().await.unwrap()
    }

    /// Fails if a book is not what a count says, or anything else is wrong.
    pub async fn assert_books(&self) {
        let problems = self.registry.check(false).await.unwrap().problems;
        assert_eq!(problems, Vec::<String>::new());
    }
}

/// A body whose length nobody announces.
fn unsized_body(content: &[u8]) -> Body {
    let pieces: Vec<std::io::Result<Vec<u8>>> = content
        .chunks(64 << 10)
        .map(|piece| Ok(piece.to_vec()))
        .collect();
    Body::wrap_stream(futures::stream::iter(pieces))
}
