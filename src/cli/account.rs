//! `kontor account`: the management API from the command line.

use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::{Method, header::HeaderValue};
use serde_json::{Map, Value, json};

use super::{
    CliError,
    args::Server,
    client::ClientError,
    document::{Replaces, Versioned, account_path},
    progress::Progress,
};
use crate::oci::AccountName;

/// Manage accounts of a running registry.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// List the accounts.
    List,
    /// Show an account.
    Show {
        /// The account.
        name: AccountName,
    },
    /// Create an account.
    Create {
        /// The account.
        name: AccountName,
        /// Who owns the account.
        #[arg(long)]
        auth_tenant: String,
        /// The storage backend; the registry's default if not given.
        #[arg(long)]
        storage: Option<String>,
        /// What is to be changed.
        #[command(flatten)]
        changes: ChangeArgs,
    },
    /// Change an account; what is not named stays as it is.
    Update {
        /// The account.
        name: AccountName,
        /// What is to be changed.
        #[command(flatten)]
        changes: ChangeArgs,
    },
    /// Move an account to another storage backend while it is in use.
    Migrate {
        /// The account.
        name: AccountName,
        /// The storage backend that it moves to.
        #[arg(long)]
        to: String,
        /// Leave what was copied where it was, too.
        #[arg(long)]
        keep_old: bool,
        /// Stay until the move is over, and show how far it has come.
        #[arg(long)]
        wait: bool,
    },
    /// Delete an account that holds no manifests, with its storage.
    Delete {
        /// The account.
        name: AccountName,
        /// Stay until it is gone, and show how far it has come; without it, a large account has to be deleted again.
        #[arg(long)]
        wait: bool,
    },
}

/// What is to be changed of an account. What is not given stays as it is.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Let everybody pull from the repositories that match this regular expression; "" takes it away.
    #[arg(long)]
    anonymous_pull: Option<String>,
    /// Replace all service identities by this JSON list.
    #[arg(long)]
    service_identities: Option<String>,
    /// Replace all RBAC policies by this JSON list.
    #[arg(long)]
    rbac_policies: Option<String>,
    /// Accept manifests that name layers or manifests that are not there.
    #[arg(long)]
    allow_sparse_manifests: Option<bool>,
    /// Send all bytes through the registry instead of redirecting to the object store.
    #[arg(long)]
    proxy_downloads: Option<bool>,
    /// Do so for clients of these networks, such as 10.0.0.0/8,fd00::/8; "" takes it away.
    #[arg(long)]
    proxy_networks: Option<String>,
    /// Answer for this registry when containerd asks with ?ns=, such as docker.io; "" takes it away.
    #[arg(long)]
    serves_namespace: Option<String>,
}

/// Runs `kontor account`.
pub async fn run(server: &Server, command: AccountCommand) -> Result<(), CliError> {
    match command {
        AccountCommand::List => list(server).await,
        AccountCommand::Show { name } => show(server, &name).await,
        AccountCommand::Create {
            name,
            auth_tenant,
            storage,
            changes,
        } => {
            let owner = (auth_tenant.as_str(), storage.as_deref());
            create(server, &name, owner, &changes).await
        }
        AccountCommand::Update { name, changes } => update(server, &name, &changes).await,
        AccountCommand::Migrate {
            name,
            to,
            keep_old,
            wait,
        } => migrate(server, &name, (&to, keep_old), wait).await,
        AccountCommand::Delete { name, wait } => delete(server, &name, wait).await,
    }
}

fn path(name: &AccountName) -> String {
    account_path(name.as_str())
}

/// `kontor account list`
async fn list(server: &Server) -> Result<(), CliError> {
    let accounts = server.list("/api/v1/accounts", "accounts").await?;
    let columns = ["name", "auth_tenant_id", "storage", "state"];
    server.show_list(&accounts, &columns)
}

/// `kontor account show`
async fn show(server: &Server, name: &AccountName) -> Result<(), CliError> {
    server.show(&Value::Object(
        server.account_read(name.as_str()).await?.document,
    ))
}

/// `kontor account create`
async fn create(
    server: &Server,
    name: &AccountName,
    (auth_tenant_id, storage): (&str, Option<&str>),
    changes: &ChangeArgs,
) -> Result<(), CliError> {
    let mut document = Map::new();
    document.insert("auth_tenant_id".into(), json!(auth_tenant_id));
    if let Some(storage) = storage {
        document.insert("storage".into(), json!(storage));
    }
    change(&mut document, changes)?;
    let replaces = Replaces::Nothing;
    let made = server
        .account_write(name.as_str(), document, replaces)
        .await?;
    server.show(&made)
}

/// `kontor account update`
async fn update(server: &Server, name: &AccountName, changes: &ChangeArgs) -> Result<(), CliError> {
    let Versioned {
        mut document,
        version,
    } = server.account_read(name.as_str()).await?;
    change(&mut document, changes)?;
    let replaces = Replaces::Version(version.as_ref());
    let changed = server
        .account_write(name.as_str(), document, replaces)
        .await?;
    server.show(&changed)
}

/// How often `kontor account migrate --wait` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `kontor account migrate`
async fn migrate(
    server: &Server,
    name: &AccountName,
    (to, keep_old): (&str, bool),
    wait: bool,
) -> Result<(), CliError> {
    let path = format!("{}/storage/migrate", path(name));
    let order = json!({ "to": to, "keep_old": keep_old });
    let mut answer = server.call(Method::POST, &path, Some(&order)).await?;
    if !wait {
        server.say(&progress_line(name, &answer["migration"]));
        eprintln!("it goes on by itself; with --wait this command shows how far it is");
        return server.show_program(&answer["migration"]);
    }
    let mut shown = String::new();
    loop {
        let line = progress_line(name, &answer["migration"]);
        if line != shown {
            server.say(&line);
            shown = line;
        }
        let moving = &answer["migration"];
        if moving["to"] != json!(to) {
            return Err(ClientError::Overtaken(moving["to"].to_string()).into());
        }
        if moving["state"] == "done" {
            return server.show_program(moving);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        match server.call(Method::GET, &path, None).await {
            Ok(next) => answer = next,
            // The registry may be restarted meanwhile, and the move goes on all the same.
            Err(error) if error.is_temporary() => eprintln!("{error}; trying again"),
            Err(error) => return Err(error),
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
async fn delete(server: &Server, name: &AccountName, wait: bool) -> Result<(), CliError> {
    let first = server.remove(&path(name), Replaces::Version(None)).await;
    match first {
        Err(error) if wait && remaining_blobs(&error).is_some() => {
            delete_on(server, name.as_str(), &error).await?;
        }
        first => first?,
    }
    server.say(&format!("account {name} was deleted"));
    Ok(())
}

/// Deletes an account of this version, and asks until all its blobs are gone.
pub(super) async fn delete_all(
    server: &Server,
    name: &str,
    version: Option<&HeaderValue>,
) -> Result<(), CliError> {
    let replaces = Replaces::Version(version);
    match server.remove(&account_path(name), replaces).await {
        Err(error) if remaining_blobs(&error).is_some() => delete_on(server, name, &error).await,
        first => first,
    }
}

/// Goes on with a deletion that has begun: the account has another version by now, and nobody can change it.
async fn delete_on(server: &Server, name: &str, first: &CliError) -> Result<(), CliError> {
    let mut progress = Progress::default();
    let mut remaining = remaining_blobs(first);
    while let Some(blobs) = remaining {
        progress.show(&format!("account {name}: {blobs} blobs remain"));
        let path = account_path(name);
        remaining = match server.remove(&path, Replaces::Version(None)).await {
            Ok(()) => None,
            Err(error) => match remaining_blobs(&error) {
                None => return Err(error),
                more => more,
            },
        };
    }
    Ok(())
}

/// How much is left, if the registry has begun and wants to be asked again.
fn remaining_blobs(error: &CliError) -> Option<u64> {
    match error {
        CliError::Client(ClientError::Refused { context, .. }) => {
            context["remaining_blobs"]["count"].as_u64()
        }
        _ => None,
    }
}

fn change(document: &mut Map<String, Value>, changes: &ChangeArgs) -> Result<(), ClientError> {
    if let Some(identities) = &changes.service_identities {
        let identities =
            serde_json::from_str(identities).map_err(ClientError::ServiceIdentities)?;
        document.insert("service_identities".into(), identities);
    }
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
    Ok(())
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
