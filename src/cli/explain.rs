//! `kontor explain`: whether somebody may do something, and by which rule.

use std::net::IpAddr;

use clap::Args;
use reqwest::Method;
use url::form_urlencoded::Serializer;

use super::{CliError, args::Server, document::account_path};
use crate::oci::FullRepoName;

/// Who wants to do what.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// pull, push or delete.
    action: String,
    /// The repository, with its account: team/app.
    repo: FullRepoName,
    /// The user as policies name it, such as static:ann; nobody in particular if this is not given.
    #[arg(long = "for", default_value = "")]
    who: String,
    /// The address that the request comes from.
    #[arg(long)]
    ip: Option<IpAddr>,
}

impl ExplainArgs {
    fn path(&self) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("user", &self.who);
        query.append_pair("repository", self.repo.repo.as_ref());
        query.append_pair("action", &self.action);
        if let Some(ip) = self.ip {
            query.append_pair("ip", &ip.to_string());
        }
        let account = account_path(self.repo.account.as_str());
        format!("{account}/explain?{}", query.finish())
    }
}

/// Runs `kontor explain`.
pub async fn run(server: &Server, question: &ExplainArgs) -> Result<(), CliError> {
    let answer = server.call(Method::GET, &question.path(), None).await?;
    server.show(&answer)
}
