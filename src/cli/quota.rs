//! `kontor quota`: how much an account, or all accounts of an auth tenant together, may hold.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{CliError, args::Server, client::part, document::account_path};
use crate::oci::AccountName;

/// Whose quota.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct WhoseArgs {
    /// Of an account.
    account: Option<AccountName>,
    /// Of all accounts of this auth tenant together.
    #[arg(long)]
    auth_tenant: Option<String>,
}

impl WhoseArgs {
    fn path(&self) -> String {
        match (&self.account, &self.auth_tenant) {
            (Some(account), _) => format!("{}/quota", account_path(account.as_str())),
            (None, tenant) => {
                let tenant = part(tenant.as_deref().unwrap_or_default());
                format!("/api/v1/auth-tenants/{tenant}/quota")
            }
        }
    }
}

/// New limits. What is not given stays as it is.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct LimitArgs {
    /// Bytes, such as 500MiB, 10GiB or 1TB; "none" is no limit.
    #[arg(long)]
    bytes: Option<String>,
    /// Manifests; "none" is no limit.
    #[arg(long)]
    manifests: Option<String>,
    /// Repositories; "none" is no limit.
    #[arg(long)]
    repositories: Option<String>,
}

/// Look at quotas and set them.
#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Show limits and what is used of them.
    Show {
        /// Whose.
        #[command(flatten)]
        whose: WhoseArgs,
    },
    /// Set limits.
    Set {
        /// Whose.
        #[command(flatten)]
        whose: WhoseArgs,
        /// Which.
        #[command(flatten)]
        limits: LimitArgs,
    },
}

/// What is limited, in the order in which it is shown.
pub(super) const RESOURCES: [&str; 3] = ["bytes", "manifests", "repositories"];

/// Runs `kontor quota`.
pub async fn run(server: &Server, command: QuotaCommand) -> Result<(), CliError> {
    let (path, limits) = match command {
        QuotaCommand::Show { whose } => (whose.path(), None),
        QuotaCommand::Set { whose, limits } => (whose.path(), Some(limits)),
    };
    let quota = match limits {
        None => server.call(Method::GET, &path, None).await?,
        Some(limits) => {
            let order = order(&limits)?;
            server.call(Method::PUT, &path, Some(&order)).await?
        }
    };
    server.show_list(&rows(&quota), &["resource", "limit", "used", "reserved"])
}

/// A document with what is given; the registry leaves other limits as they are.
fn order(limits: &LimitArgs) -> Result<Value, CliError> {
    let given = [&limits.bytes, &limits.manifests, &limits.repositories];
    let mut order = json!({});
    for (resource, text) in RESOURCES.into_iter().zip(given) {
        if let Some(text) = text {
            let limit = limit(text).ok_or_else(|| {
                let message = format!("--{resource}: {text:?} is no number; \"none\" is no limit");
                CliError::Usage(message)
            })?;
            order[resource] = json!({ "limit": limit });
        }
    }
    Ok(order)
}

fn rows(quota: &Value) -> Value {
    let rows = RESOURCES.iter().map(|resource| {
        let mut row = quota[*resource].clone();
        row["resource"] = json!(resource);
        row
    });
    rows.collect()
}

/// A limit as people write it: a number, a number with a unit, or `none`.
pub(super) fn limit(text: &str) -> Option<Value> {
    if text == "none" {
        return Some(Value::Null);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1000 * 1000,
        "GB" => 1000 * 1000 * 1000,
        "TB" => 1000 * 1000 * 1000 * 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    Some(json!(number.parse::<u64>().ok()?.checked_mul(factor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read() {
        for (text, expected) in [
            ("0", json!(0)),
            ("10GiB", json!(10_737_418_240_u64)),
            ("10 MB", json!(10_000_000)),
            ("none", Value::Null),
        ] {
            assert_eq!(limit(text), Some(expected), "{text}");
        }
        for wrong in ["", "GiB", "-1", "1.5GiB", "10 G", "99999999999TiB", "None"] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_is_given_is_ordered() {
        let limits = LimitArgs {
            bytes: Some("1KiB".to_owned()),
            manifests: None,
            repositories: Some("none".to_owned()),
        };
        let expected = json!({ "bytes": { "limit": 1024 }, "repositories": { "limit": null } });
        assert_eq!(order(&limits).unwrap(), expected);
    }

    #[test]
    fn a_row_is_a_resource() {
        let quota = json!({ "bytes": { "limit": 5, "used": 3 } });
        let expected = json!({ "resource": "bytes", "limit": 5, "used": 3 });
        assert_eq!(rows(&quota)[0], expected);
    }
}
