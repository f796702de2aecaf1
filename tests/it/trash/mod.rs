//! What the registry does with deleted and old content.

mod deletion;
mod legal_holds;
mod tag_history;
mod trash_books;
mod trash_quota;

use chrono::TimeDelta;
use kontor::{
    config::StaticUser,
    db::blob_mounts::mounts_sweep,
    model::{permission::Permission, user::Grant},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Setup, TestRegistry, image::digest};

/// The quota of the account `demo`, and that of its auth tenant.
const ACCOUNT_QUOTA: &str = "/api/v1/accounts/demo/quota";
const TENANT_QUOTA: &str = "/api/v1/auth-tenants/demo/quota";

/// A registry with the user `owner` besides the usual ones, who may do everything in `demo`.
async fn start() -> TestRegistry {
    let users = |config: &mut kontor::config::Config| {
        let password_hash = config.auth.static_users.users[0].password_hash.clone();
        config.auth.static_users.users.push(StaticUser {
            name: "owner".into(),
            password_hash,
            grants: vec![Grant {
                auth_tenant_id: "demo".into(),
                permissions: Permission::ALL.into_iter().collect(),
            }],
        });
    };
    Setup::default().config(users).start().await
}

/// The path of a manifest of a repository under `/v2/`.
fn manifest_path(repo: &str, reference: impl std::fmt::Display) -> String {
    format!("/v2/{repo}/manifests/{reference}")
}

fn digest_of(manifest: &Value) -> String {
    digest(&serde_json::to_vec(manifest).unwrap()).to_string()
}

impl TestRegistry {
    /// A request of somebody to the management API, below `/api/v1/accounts/`: status and document.
    async fn ask(
        &self,
        user: &str,
        (method, path): (Method, &str),
        body: Option<Value>,
    ) -> (u16, Value) {
        let path = format!("/api/v1/accounts/{path}");
        let mut request = self.as_user(user, method, &path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The trash of `demo` as `admin` sees it.
    async fn trash(&self) -> Vec<Value> {
        let (status, page) = self.ask("admin", (Method::GET, "demo/trash"), None).await;
        assert_eq!(status, 200, "{page}");
        page["trash"].as_array().unwrap().clone()
    }

    /// The digests in the trash of `demo`.
    async fn trashed(&self) -> Vec<String> {
        let entries = self.trash().await;
        let digest = |entry: &Value| entry["digest"].as_str().unwrap().to_owned();
        entries.iter().map(digest).collect()
    }

    /// Restores something in `demo/app` as `admin`.
    async fn restore(&self, digest: &str) -> (u16, Value) {
        let order = json!({ "repository": "app", "digest": digest });
        let path = (Method::POST, "demo/trash/restore");
        self.ask("admin", path, Some(order)).await
    }

    /// Deletes something in `demo/app` under `/v2/` as `admin`; gives the status.
    async fn delete_manifest(&self, reference: &str) -> u16 {
        let path = manifest_path("demo/app", reference);
        self.delete(&path).await.status().as_u16()
    }

    /// The status of a pull from `demo/app`.
    async fn tag_status(&self, reference: &str) -> u16 {
        let path = manifest_path("demo/app", reference);
        self.get(&path).await.status().as_u16()
    }

    /// Lets time pass.
    fn days_pass(&self, days: i64) {
        self.clock.advance(TimeDelta::days(days));
    }

    /// Purges what is due, and takes mounts and blobs away that nobody needs or keeps.
    async fn purge_and_sweep(&self) {
        while self.registry.trash_purge().await.unwrap() {}
        self.days_pass(2);
        let now = self.now();
        let swept = self.db.write(move |conn| mounts_sweep(conn, now, 1000));
        swept.await.unwrap();
    }
}
