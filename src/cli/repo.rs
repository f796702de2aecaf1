//! `kontor repo`: what an account holds, read over the registry's own protocol, so that it shows what one may pull.

use clap::Subcommand;
use reqwest::{
    Method,
    header::{HeaderMap, LINK},
};
use serde_json::{Value, json};

use super::{CliError, args::Server, client::Call};
use crate::oci::AccountName;

/// Look at repositories.
#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// List the repositories that you may see.
    List {
        /// Of this account only.
        account: Option<AccountName>,
    },
}

/// Runs `kontor repo`.
pub async fn run(server: &Server, command: RepoCommand) -> Result<(), CliError> {
    let RepoCommand::List { account } = command;
    let prefix = account.map(|account| format!("{account}/"));
    let names = server.pages("/v2/_catalog?n=1000", "repositories").await?;
    let shown: Vec<Value> = names
        .into_iter()
        .filter(|name| {
            prefix
                .as_ref()
                .is_none_or(|prefix| name.starts_with(prefix))
        })
        .map(|name| json!({ "name": name }))
        .collect();
    server.show_list(&json!(shown), &["name"])
}

impl Server {
    /// All pages of a listing of names.
    pub(super) async fn pages(&self, first: &str, member: &str) -> Result<Vec<String>, CliError> {
        let mut names = Vec::new();
        let mut next = Some(first.to_owned());
        while let Some(path) = next {
            let answer = self
                .send(Call {
                    method: Method::GET,
                    path: &path,
                    body: None,
                    headers: HeaderMap::new(),
                })
                .await?;
            let page = answer.document[member].as_array();
            let page = page.into_iter().flatten().filter_map(Value::as_str);
            names.extend(page.map(ToOwned::to_owned));
            next = next_page(&answer.headers);
        }
        Ok(names)
    }
}

/// The path of the next page; an address elsewhere is none.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (address, _) = link.strip_prefix('<')?.split_once('>')?;
    let is_here = address.starts_with('/') && !address.starts_with("//");
    is_here.then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_page_is_on_the_same_server() {
        let next = |link: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, link.parse().unwrap());
            next_page(&headers)
        };
        assert_eq!(
            next("</v2/a?n=1>; rel=\"next\"").as_deref(),
            Some("/v2/a?n=1")
        );
        for elsewhere in [
            "<//evil.test/v2/>",
            "<https://evil.test/>",
            "<@evil.test/>",
            "x",
        ] {
            assert_eq!(next(elsewhere), None, "{elsewhere}");
        }
    }
}
