//! `kontor apply`: brings accounts, their robots and local users to what files say. What would change is shown first.
//!
//! The accounts of a run belong to a set, whose name stands in their metadata. What no file names is deleted only with
//! `--prune`, and only if the set owns it; an account of nobody or of another set is not touched without `--adopt`. Each
//! change of an account is for the version that the plan was made from; who was faster is not overwritten. What a newcomer
//! gets wrong: steps are done one after the other, so after a failure the first ones are done. The command can be repeated.

mod execute;
mod plan;
mod survey;
mod wanted;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};

use self::survey::{Plan, Scope};
use super::{
    CliError,
    args::Server,
    document::given,
    output::{harmless, one_line},
};

/// What is wanted.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// A YAML or JSON file with lists `accounts` and `users`, a folder of such files, or - for standard input; may be
    /// given several times.
    #[arg(short = 'f', long = "file", required = true)]
    files: Vec<PathBuf>,
    /// Apply without asking.
    #[arg(long, short)]
    yes: bool,
    /// Delete what the set owns and no file names: accounts, and robots of accounts whose robots are named.
    #[arg(long, conflicts_with = "adopt")]
    prune: bool,
    /// Take over accounts of other sets and of none.
    #[arg(long)]
    adopt: bool,
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
    /// Anybody's files without a name would own the same accounts.
    #[error("--prune deletes what a set owns, and no file names one; write `set: NAME` into it")]
    PruneOfNoSet,
    /// Accounts are somebody else's.
    #[error(
        "the set {set} does not own what its files name: {foreign}. Nothing was changed or deleted; --adopt takes it over"
    )]
    NotOwned {
        /// The set.
        set: String,
        /// What is whose.
        foreign: String,
    },
    /// Accounts that would be deleted hold something.
    #[error(
        "{0}. Nothing was changed or deleted; delete the manifests first, or name the account in a file again"
    )]
    NotEmpty(String),
}

impl ApplyError {
    pub(super) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NobodyToAsk | Self::Malformed(_) | Self::PruneOfNoSet
        )
    }

    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::NotOwned { .. } | Self::NotEmpty(_))
    }
}

/// Runs `kontor apply`.
pub async fn run(server: &Server, options: ApplyArgs) -> Result<(), CliError> {
    let mut documents = Vec::new();
    for file in &options.files {
        documents.extend(given(file)?);
    }
    let wanted = wanted::wanted(documents)?;
    let scope = Scope {
        adopts: options.adopt,
        prunes: options.prune,
    };
    let plan = survey::plan(server, wanted, scope).await?;
    show(server, &plan)?;
    if plan.steps.is_empty() {
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
    let count = plan.steps.len();
    for (number, step) in plan.steps.iter().enumerate() {
        if let Err(error) = execute::execute(server, step).await {
            eprintln!("{} failed, after {number} of {count} steps", step.target);
            return Err(error);
        }
        eprintln!("{}: done", step.target);
    }
    Ok(())
}

fn show(server: &Server, plan: &Plan) -> Result<(), CliError> {
    if plan.foreign_accounts > 0 {
        let count = plan.foreign_accounts;
        eprintln!(
            "accounts that the set {} does not own, which stay: {count}",
            plan.set
        );
    }
    if plan.steps.is_empty() {
        server.say("nothing to do");
    }
    for step in &plan.steps {
        server.say(&format!("{} {}", step.action.sign(), step.target));
        for difference in &step.differences {
            let (path, after) = (harmless(&difference.path), one_line(&difference.after));
            server.say(&match &difference.before {
                None => format!("    + {path}: {after}"),
                Some(before) => format!("    ~ {path}: {} -> {after}", one_line(before)),
            });
        }
    }
    let changes: Vec<Value> = plan.steps.iter().map(plan::Step::shown).collect();
    server.show_program(&json!({ "set": plan.set, "changes": changes }))
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
