//! `kontor hold`: legal holds, which keep repositories and tags from being deleted or changed.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::{CliError, args::Server, document::account_path, tag::tag_path};
use crate::oci::{AccountName, FullRepoName, Tag};

/// What is held.
#[derive(Debug, Args)]
pub struct HeldArgs {
    /// The repository, with its account: team/app.
    repo: FullRepoName,
    /// This tag alone, in place of the whole repository.
    #[arg(long)]
    tag: Option<Tag>,
}

/// Look at legal holds, place and lift them.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// List the holds of an account that are in force.
    List {
        /// The account.
        account: AccountName,
    },
    /// Hold a repository or a tag, or change the hold. Making it shorter takes the right to lift it.
    Place {
        /// What.
        #[command(flatten)]
        held: HeldArgs,
        /// Until when, such as 2027-06-30T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        until: DateTime<Utc>,
        /// Why; whoever is refused is told.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a hold before its time.
    Lift {
        /// Of what.
        #[command(flatten)]
        held: HeldArgs,
    },
}

impl HeldArgs {
    fn path(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}/_hold", tag_path(&self.repo, tag)),
            None => {
                let account = account_path(self.repo.account.as_str());
                format!("{account}/repositories/{}/_hold", self.repo.repo)
            }
        }
    }

    fn name(&self) -> String {
        match &self.tag {
            Some(tag) => format!("the tag {tag} of {}", self.repo),
            None => self.repo.to_string(),
        }
    }
}

/// Runs `kontor hold`.
pub async fn run(server: &Server, command: HoldCommand) -> Result<(), CliError> {
    match command {
        HoldCommand::List { account } => {
            let path = format!("{}/holds", account_path(account.as_str()));
            let listed = server.list(&path, "holds").await?;
            let columns = ["repository", "tag", "until", "placed_by", "reason"];
            server.show_list(&listed, &columns)
        }
        HoldCommand::Place {
            held,
            until,
            reason,
        } => {
            let order = json!({ "until": until, "reason": reason });
            let hold = server
                .call(Method::POST, &held.path(), Some(&order))
                .await?;
            server.show(&hold)
        }
        HoldCommand::Lift { held } => {
            server.call(Method::DELETE, &held.path(), None).await?;
            server.say(&format!("the hold on {} was lifted", held.name()));
            Ok(())
        }
    }
}
