//! `kontor trash`: deleted manifests that can come back.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{CliError, args::Server, document::account_path};
use crate::oci::{AccountName, Digest, FullRepoName, Tag};

/// A deleted manifest.
#[derive(Debug, Args)]
pub struct DeletedArgs {
    /// The repository, with its account: team/app.
    repo: FullRepoName,
    /// The digest of the manifest.
    digest: Digest,
}

/// Look at deleted images, bring them back, or delete them for good.
#[derive(Debug, Subcommand)]
pub enum TrashCommand {
    /// List the deleted manifests of an account that can come back.
    List {
        /// The account.
        account: AccountName,
    },
    /// Bring a manifest back, with what went with it.
    Restore {
        /// Which.
        #[command(flatten)]
        deleted: DeletedArgs,
        /// A tag that is to point at it, even if it points elsewhere now; may be given several times. Without any: those
        /// that it had and that are free.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<Tag>,
    },
    /// Delete a manifest for good, with what went with it.
    Purge {
        /// Which.
        #[command(flatten)]
        deleted: DeletedArgs,
    },
}

impl DeletedArgs {
    /// The path below `trash`, and the document that names the manifest.
    fn call(&self, action: &str) -> (String, Value) {
        let account = account_path(self.repo.account.as_str());
        let document = json!({
            "repository": self.repo.repo.as_ref(),
            "digest": self.digest.as_ref(),
        });
        (format!("{account}/trash/{action}"), document)
    }
}

/// Runs `kontor trash`.
pub async fn run(server: &Server, command: TrashCommand) -> Result<(), CliError> {
    match command {
        TrashCommand::List { account } => {
            let path = format!("{}/trash", account_path(account.as_str()));
            let listed = server.list(&path, "trash").await?;
            let columns = [
                "repository",
                "digest",
                "tags",
                "size_bytes",
                "deleted_at",
                "deleted_by",
                "purge_at",
            ];
            server.show_list(&listed, &columns)
        }
        TrashCommand::Restore { deleted, tags } => {
            let (path, mut order) = deleted.call("restore");
            if !tags.is_empty() {
                let tags = tags.iter().map(ToString::to_string);
                order["tags"] = tags.collect();
            }
            let answer = server.call(Method::POST, &path, Some(&order)).await?;
            server.show_list(&answer["restored"], &["digest AS restored", "tags"])
        }
        TrashCommand::Purge { deleted } => {
            let (path, order) = deleted.call("purge");
            let answer = server.call(Method::POST, &path, Some(&order)).await?;
            server.say(&format!("{} manifests are gone for good", answer["purged"]));
            server.show_program(&answer)
        }
    }
}
