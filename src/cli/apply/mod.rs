//! `kontor apply`: brings accounts to what files say. What would change is shown first.
//!
//! Members that a file does not name stay as they are, and nothing is ever deleted: an account that is in no file may be
//! somebody else's. Each change is for the version that the plan was made from; who was faster is not overwritten. What a
//! newcomer gets wrong: accounts are changed one after the other, so after a failure the first ones have changed. The
//! command can be repeated.

mod plan;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use self::plan::{Step, Wanted};
use super::{
    CliError,
    args::Server,
    client::ClientError,
    document::{Replaces, Versioned, account_path, documents},
    output::{harmless, one_line},
};

/// What is wanted.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// A YAML or JSON file with a list `accounts`, a folder of such files, or - for standard input; may be given several
    /// times.
    #[arg(short = 'f', long = "file", required = true)]
    files: Vec<PathBuf>,
    /// Apply without asking.
    #[arg(long, short)]
    yes: bool,
    /// Show what would change, and change nothing.
    #[arg(long, alias = "plan")]
    dry_run: bool,
    /// End with 2 if something would change.
    #[arg(long, requires = "dry_run")]
    detailed_exitcode: bool,
}

/// A plan cannot be made or was not followed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// For scripts that asked for it.
    #[error("there are changes")]
    HasChanges,
    /// The user said no.
    #[error("nothing was changed")]
    Declined,
    /// Nobody can be asked.
    #[error("there is nobody to ask: look at the plan, and repeat with --yes")]
    NobodyToAsk,
    /// A file says something that makes no sense.
    #[error("{0}")]
    Malformed(String),
}

impl ApplyError {
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Self::NobodyToAsk | Self::Malformed(_))
    }
}

/// Runs `kontor apply`.
pub async fn run(server: &Server, options: ApplyArgs) -> Result<(), CliError> {
    let mut given = Vec::new();
    for file in &options.files {
        given.extend(documents(file)?);
    }
    let wanted = plan::wanted(given)?;
    let mut steps = Vec::new();
    for account in wanted {
        steps.extend(step(server, account).await?);
    }
    show(server, &steps)?;
    if steps.is_empty() {
        return Ok(());
    }
    if options.dry_run {
        return match options.detailed_exitcode {
            true => Err(ApplyError::HasChanges.into()),
            false => Ok(()),
        };
    }
    if !options.yes {
        confirm(&options.files)?;
    }
    let count = steps.len();
    for (number, step) in steps.into_iter().enumerate() {
        let name = step.account.clone();
        if let Err(error) = apply(server, step).await {
            eprintln!("account {name} failed, after {number} of {count} accounts");
            return Err(error);
        }
        eprintln!("account {name}: done");
    }
    Ok(())
}

/// What has to be done for one account; nothing if it is as it should be.
async fn step(server: &Server, wanted: Wanted) -> Result<Option<Step>, CliError> {
    let current = match server.account_read(&wanted.account).await {
        Ok(current) => Some(current),
        Err(CliError::Client(ClientError::Refused { status, .. }))
            if status == StatusCode::NOT_FOUND =>
        {
            None
        }
        Err(error) => return Err(error),
    };
    let quota = match (&wanted.quota, &current) {
        (Some(_), Some(_)) => {
            let path = quota_path(&wanted.account);
            Some(server.call(Method::GET, &path, None).await?)
        }
        _ => None,
    };
    Ok(plan::step(wanted, current, quota.as_ref()))
}

async fn apply(server: &Server, step: Step) -> Result<(), CliError> {
    let Step {
        account,
        current,
        document,
        quota,
        ..
    } = step;
    if let Some(document) = document {
        let replaces = match &current {
            None => Replaces::Nothing,
            Some(Versioned { version, .. }) => Replaces::Version(version.as_ref()),
        };
        server.account_write(&account, document, replaces).await?;
    }
    if let Some(limits) = quota {
        let limits = limits.into_iter();
        let order: Value = limits
            .map(|(resource, limit)| (resource, json!({ "limit": limit })))
            .collect();
        let path = quota_path(&account);
        server.call(Method::PUT, &path, Some(&order)).await?;
    }
    Ok(())
}

fn quota_path(account: &str) -> String {
    format!("{}/quota", account_path(account))
}

fn show(server: &Server, steps: &[Step]) -> Result<(), CliError> {
    if steps.is_empty() {
        server.say("no changes");
    }
    for step in steps {
        let sign = if step.is_new() { '+' } else { '~' };
        server.say(&format!("{sign} account {}", harmless(&step.account)));
        for difference in &step.differences {
            let (path, after) = (harmless(&difference.path), one_line(&difference.after));
            server.say(&match &difference.before {
                None => format!("    + {path}: {after}"),
                Some(before) => format!("    ~ {path}: {} -> {after}", one_line(before)),
            });
        }
    }
    let changes: Vec<Value> = steps.iter().map(Step::shown).collect();
    server.show_program(&json!({ "changes": changes }))
}

fn confirm(files: &[PathBuf]) -> Result<(), ApplyError> {
    let reads_stdin = files.iter().any(|file| file == Path::new("-"));
    if reads_stdin || !io::stdin().is_terminal() {
        return Err(ApplyError::NobodyToAsk);
    }
    eprint!("apply this? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(ApplyError::Declined),
    }
}
