//! `kontor account`: the management API from the command line.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::CliError;
use crate::oci::AccountName;

/// How to reach the registry and as whom.
#[derive(Debug, Clone)]
pub struct Server {
    /// Such as `http://127.0.0.1:8080`.
    pub url: String,
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
}

/// What is to be changed of an account. What is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Everybody may pull from the repositories that match; empty takes that away.
    pub anonymous_pull: Option<String>,
    /// All RBAC policies, as JSON.
    pub rbac_policies: Option<String>,
    /// Whether manifests may name content that is not there.
    pub allow_sparse_manifests: Option<bool>,
    /// Never redirect to the object store.
    pub proxy_downloads: Option<bool>,
    /// Networks whose clients are not redirected, with commas between them.
    pub proxy_networks: Option<String>,
    /// The registry that the account stands for; empty takes that away.
    pub serves_namespace: Option<String>,
}

/// Speaking to the registry failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached.
    #[error("cannot reach the registry: {0}; is it running, and is --server right?")]
    Unreachable(#[from] reqwest::Error),
    /// It refused.
    #[error("{status}: {message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// Somebody has turned the move elsewhere.
    #[error("the account moves to {0} by now; somebody else has asked for that")]
    Overtaken(String),
    /// The policies are not JSON.
    #[error("--rbac-policies: {0}")]
    Policies(#[from] serde_json::Error),
}

impl Server {
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let mut request = Client::new()
            .request(method, url)
            .basic_auth(&self.user, Some(&self.password));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        let message = answer["detail"]
            .as_str()
            .or_else(|| answer["errors"][0]["message"].as_str())
            .unwrap_or(&text);
        Err(ClientError::Refused {
            status,
            message: message.to_owned(),
        })
    }

    async fn get(&self, name: &AccountName) -> Result<Map<String, Value>, ClientError> {
        let answer = self.call(Method::GET, &path(name), None).await?;
        Ok(answer["account"].as_object().cloned().unwrap_or_default())
    }
}

fn path(name: &AccountName) -> String {
    format!("/api/v1/accounts/{name}")
}

fn print(value: &Value) -> Result<(), CliError> {
    println!(
        "{}",
        serde_json::to_string_pretty(value).map_err(ClientError::from)?
    );
    Ok(())
}

/// `kontor account list`
pub async fn list(server: &Server) -> Result<(), CliError> {
    let answer = server.call(Method::GET, "/api/v1/accounts", None).await?;
    for account in answer["accounts"].as_array().into_iter().flatten() {
        let text = |key: &str| account[key].as_str().unwrap_or_default().to_owned();
        println!(
            "{}\t{}\t{}",
            text("name"),
            text("auth_tenant_id"),
            text("storage")
        );
    }
    Ok(())
}

/// `kontor account show`
pub async fn show(server: &Server, name: &AccountName) -> Result<(), CliError> {
    print(&Value::Object(server.get(name).await?))
}

/// `kontor account create`
pub async fn create(
    server: &Server,
    name: &AccountName,
    (auth_tenant_id, storage): (&str, Option<&str>),
    changes: &Changes,
) -> Result<(), CliError> {
    let mut document = Map::new();
    document.insert("auth_tenant_id".into(), json!(auth_tenant_id));
    if let Some(storage) = storage {
        document.insert("storage".into(), json!(storage));
    }
    put(server, name, document, changes).await
}

/// `kontor account update`
pub async fn update(
    server: &Server,
    name: &AccountName,
    changes: &Changes,
) -> Result<(), CliError> {
    let document = server.get(name).await?;
    put(server, name, document, changes).await
}

/// How often `kontor account migrate --wait` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `kontor account migrate`
pub async fn migrate(
    server: &Server,
    name: &AccountName,
    (to, keep_old): (&str, bool),
    wait: bool,
) -> Result<(), CliError> {
    let path = format!("{}/storage/migrate", path(name));
    let order = json!({ "to": to, "keep_old": keep_old });
    let mut answer = server.call(Method::POST, &path, Some(&order)).await?;
    if !wait {
        println!("{}", progress_line(name, &answer["migration"]));
        println!("it goes on by itself; with --wait this command shows how far it is");
        return Ok(());
    }
    let mut shown = String::new();
    loop {
        let line = progress_line(name, &answer["migration"]);
        if line != shown {
            println!("{line}");
            shown = line;
        }
        let moving = &answer["migration"];
        if moving["to"] != json!(to) {
            return Err(ClientError::Overtaken(moving["to"].to_string()).into());
        }
        if moving["state"] == "done" {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        match server.call(Method::GET, &path, None).await {
            Ok(next) => answer = next,
            // The registry may be restarted meanwhile, and the move goes on all the same.
            Err(ClientError::Unreachable(error)) => println!("{error}; trying again"),
            Err(ClientError::Refused { status, message }) if status.is_server_error() => {
                println!("{status}: {message}; trying again");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn progress_line(name: &AccountName, moving: &Value) -> String {
    let number = |key: &str| moving[key].as_u64().unwrap_or(0);
    let mib = |key: &str| number(key) / (1 << 20);
    let to = moving["to"].as_str().unwrap_or_default();
    let error = moving["error"].as_str();
    format!(
        "{name} -> {to}: {} {:.0} %, {} of {} objects, {} of {} MiB{}",
        moving["state"].as_str().unwrap_or_default(),
        moving["progress"].as_f64().unwrap_or(0.0) * 100.0,
        number("moved_objects"),
        number("moved_objects") + number("remaining_objects"),
        mib("moved_bytes"),
        mib("moved_bytes") + mib("remaining_bytes"),
        error.map_or_else(String::new, |error| format!("; last failure: {error}"))
    )
}

/// `kontor account delete`
pub async fn delete(server: &Server, name: &AccountName) -> Result<(), CliError> {
    server.call(Method::DELETE, &path(name), None).await?;
    println!("account {name} was deleted");
    Ok(())
}

async fn put(
    server: &Server,
    name: &AccountName,
    mut document: Map<String, Value>,
    changes: &Changes,
) -> Result<(), CliError> {
    if let Some(policies) = &changes.rbac_policies {
        let policies = serde_json::from_str(policies).map_err(ClientError::from)?;
        document.insert("rbac_policies".into(), policies);
    }
    if let Some(pattern) = &changes.anonymous_pull {
        let policies = document.entry("rbac_policies").or_insert_with(|| json!([]));
        set_anonymous_pull(policies, pattern);
    }
    if let Some(allowed) = changes.allow_sparse_manifests {
        document.insert("allow_sparse_manifests".into(), json!(allowed));
    }
    if let Some(proxied) = changes.proxy_downloads {
        document.insert("proxy_downloads".into(), json!(proxied));
    }
    if let Some(networks) = &changes.proxy_networks {
        let networks: Vec<&str> = networks.split(',').filter(|n| !n.is_empty()).collect();
        document.insert("proxy_networks".into(), json!(networks));
    }
    if let Some(namespace) = &changes.serves_namespace {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        document.insert("serves_namespace".into(), json!(namespace));
    }
    let answer = server
        .call(Method::PUT, &path(name), Some(&Value::Object(document)))
        .await?;
    print(&answer["account"])
}

/// Replaces the policies that allow nothing but anonymous pulls by one for `pattern`.
fn set_anonymous_pull(policies: &mut Value, pattern: &str) {
    let Some(policies) = policies.as_array_mut() else {
        return;
    };
    policies.retain(|policy| policy["permissions"] != json!(["anonymous_pull"]));
    if !pattern.is_empty() {
        policies.push(json!({ "match_repository": pattern, "permissions": ["anonymous_pull"] }));
    }
}
