//! `kontor policy`: the lists of policies in an account's document, shown and replaced one kind at a time.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    CliError,
    args::Server,
    document::{Replaces, documents},
    output::print_json,
};
use crate::oci::AccountName;

/// Look at the policies of accounts and replace them.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show an account's policies of one kind.
    Show {
        /// The account.
        account: AccountName,
        /// The member of the account's document, such as rbac, tag or gc.
        #[arg(default_value = "rbac")]
        kind: String,
    },
    /// Replace an account's policies of one kind by the list in a YAML or JSON file.
    Set {
        /// The account.
        account: AccountName,
        /// The member of the account's document, such as rbac, tag or gc.
        kind: String,
        /// The file; - is standard input.
        #[arg(short, long)]
        file: PathBuf,
    },
}

/// Kinds that every account has, be they empty.
const KNOWN: [&str; 3] = ["rbac_policies", "tag_policies", "gc_policies"];

/// Runs `kontor policy`.
pub async fn run(server: &Server, command: PolicyCommand) -> Result<(), CliError> {
    match command {
        PolicyCommand::Show { account, kind } => {
            let member = member(&kind);
            let found = server.account_read(account.as_str()).await?;
            match found.document.get(&member) {
                Some(policies) => print_json(policies),
                // The registry leaves out what is empty.
                None if KNOWN.contains(&member.as_str()) => print_json(&json!([])),
                None => Err(CliError::Usage(format!("there are no {member}"))),
            }
        }
        PolicyCommand::Set {
            account,
            kind,
            file,
        } => {
            let member = member(&kind);
            let policies = policies_of(&file)?;
            let mut found = server.account_read(account.as_str()).await?;
            found.document.insert(member.clone(), policies);
            let replaces = Replaces::Version(found.version.as_ref());
            let changed = server
                .account_write(account.as_str(), found.document, replaces)
                .await?;
            print_json(&changed[&member])
        }
    }
}

/// The list of policies in a file; `-` is standard input.
pub(super) fn policies_of(file: &Path) -> Result<Value, CliError> {
    let mut given = documents(file)?;
    match given.len() {
        1 => Ok(given.remove(0)),
        _ => Err(CliError::Usage("give one list of policies".to_owned())),
    }
}

/// `rbac` is short for `rbac_policies`.
fn member(kind: &str) -> String {
    match kind.ends_with("_policies") {
        true => kind.to_owned(),
        false => format!("{kind}_policies"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_a_member_of_the_document() {
        assert_eq!(member("rbac"), "rbac_policies");
        assert_eq!(member("gc_policies"), "gc_policies");
        assert_eq!(member("tag"), "tag_policies");
    }
}
