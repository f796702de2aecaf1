//! `kontor audit list`: decisions of a running registry.

use chrono::{DateTime, Utc};
use clap::Args;
use reqwest::Method;
use url::form_urlencoded::Serializer;

use super::{CliError, args::Server};
use crate::oci::AccountName;

/// Which decisions. Without any filter, all that you may see.
#[derive(Debug, Args)]
pub struct AuditListArgs {
    /// About this account.
    #[arg(long)]
    account: Option<AccountName>,
    /// About accounts of this auth tenant.
    #[arg(long)]
    auth_tenant: Option<String>,
    /// Of this user, such as static:ann.
    #[arg(long)]
    by: Option<String>,
    /// Of this kind, such as manifest.push.
    #[arg(long)]
    action: Option<String>,
    /// Which ended so: success, failure or denied.
    #[arg(long)]
    outcome: Option<String>,
    /// Not before, such as 2027-01-31T00:00:00Z.
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    /// Before this time.
    #[arg(long)]
    until: Option<DateTime<Utc>>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Before the event of this number, the smallest of an earlier answer.
    #[arg(long)]
    before: Option<u64>,
}

const COLUMNS: [&str; 9] = [
    "seq",
    "event.at AS at",
    "event.action AS action",
    "event.outcome AS outcome",
    "event.who.name AS who",
    "event.client AS client",
    "event.account AS account",
    "event.target.repository AS repository",
    "event.reason AS reason",
];

impl AuditListArgs {
    fn path(&self) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("limit", &self.limit.to_string());
        let time = |time: &Option<DateTime<Utc>>| time.map(|time| time.to_rfc3339());
        for (name, value) in [
            ("account", self.account.as_ref().map(ToString::to_string)),
            ("auth_tenant", self.auth_tenant.clone()),
            ("user", self.by.clone()),
            ("action", self.action.clone()),
            ("outcome", self.outcome.clone()),
            ("since", time(&self.since)),
            ("until", time(&self.until)),
            ("before", self.before.map(|seq| seq.to_string())),
        ] {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        format!("/api/v1/audit?{}", query.finish())
    }
}

/// Runs `kontor audit list`.
pub async fn run(server: &Server, filter: &AuditListArgs) -> Result<(), CliError> {
    let answer = server.call(Method::GET, &filter.path(), None).await?;
    server.show_list(&answer["events"], &COLUMNS)
}
