//! `kontor audit`: look at the audit trail, verify it, and take copies of it. On the machine of the registry with its
//! configuration, or anywhere on a copy with the public keys.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{
    CliError,
    args::{ConfigArgs, Server},
    audit_list::{self, AuditListArgs},
    require_registry,
};
use crate::{
    app::App,
    audit::lines::{Read, event_line, head_line, read_line},
    auth::audit_head::HeadKeys,
    model::audit_chain::{AuditHead, ChainCheck, ChainReport},
    telemetry::init_log,
};

/// What can be done with the audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List decisions of a running registry: who did what, and what was denied.
    List {
        /// Where the registry is.
        #[command(flatten)]
        server: Server,
        /// Which decisions.
        #[command(flatten)]
        filter: Box<AuditListArgs>,
    },
    /// Prove that no event was altered or removed, in the database or in a file.
    Verify(VerifyArgs),
    /// Print all sealed events and signed heads as JSON lines.
    Export(ConfigArgs),
    /// Print the newest signed head, to be kept where nobody can alter it.
    Head(ConfigArgs),
}

/// What is verified, and against what.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file of JSON lines (an export, or what `audit.file` names) instead of the database.
    #[arg(long, requires = "jwks")]
    file: Option<PathBuf>,
    /// The registry's public keys, as /.well-known/jwks.json gives them; keys that signed before included.
    #[arg(long, requires = "file")]
    jwks: Option<PathBuf>,
    /// A signed head that was kept elsewhere: finds out as well whether the end was cut off.
    #[arg(long)]
    head: Vec<PathBuf>,
}

/// Does what the command says.
pub async fn run(command: AuditCommand) -> Result<(), CliError> {
    match command {
        AuditCommand::List { server, filter } => audit_list::run(&server, &filter).await,
        AuditCommand::Verify(args) => verify(args).await,
        AuditCommand::Export(config) => export(&config).await,
        AuditCommand::Head(config) => {
            let app = open(&config)?;
            let statements = app.registry().audit_heads().await?;
            let newest = statements
                .last()
                .ok_or_else(|| CliError::Audit("nothing is sealed yet".into()))?;
            println!("{newest}");
            Ok(())
        }
    }
}

fn open(config: &ConfigArgs) -> Result<App, CliError> {
    let config = config.load()?;
    init_log(&config.log)?;
    require_registry(&config)?;
    Ok(App::build(config)?)
}

async fn export(config: &ConfigArgs) -> Result<(), CliError> {
    let app = open(config)?;
    let mut out = std::io::stdout().lock();
    let broken = |error: serde_json::Error| CliError::Audit(error.to_string());
    // The heads first: what is sealed meanwhile is left out, since nothing here would cover it.
    let statements = app.registry().audit_heads().await?;
    let keys = app.registry().audit_keys();
    let newest = statements.last().map(|statement| keys.verify(statement));
    let end = newest
        .transpose()
        .map_err(|e| CliError::Audit(e.to_string()))?;
    let end = end.map_or(0, |head| head.seq);
    for statement in &statements {
        writeln!(out, "{}", head_line(statement).map_err(broken)?)?;
    }
    let mut after = 0;
    loop {
        let page = app.registry().audit_page(after).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for event in page.iter().filter(|event| event.seq <= end) {
            writeln!(out, "{}", event_line(event).map_err(broken)?)?;
        }
    }
    Ok(())
}

async fn verify(args: VerifyArgs) -> Result<(), CliError> {
    let report = match (&args.file, &args.jwks) {
        (Some(file), Some(jwks)) => {
            let keys = std::fs::read_to_string(jwks)?;
            let keys = HeadKeys::from_jwks(&keys).map_err(|e| CliError::Audit(e.to_string()))?;
            verify_file(file, &keys, &kept_heads(&args.head, &keys)?)?
        }
        _ => {
            let app = open(&args.config)?;
            let kept = kept_heads(&args.head, &app.registry().audit_keys())?;
            let verdict = app.registry().audit_verify(&kept).await?;
            verdict.map_err(CliError::Audit)?
        }
    };
    let count = report.last - report.first + 1;
    println!("{count} events are as they were sealed");
    if count > 0 {
        println!("  first: {}", report.first);
        println!("  last:  {}", report.last);
        println!("  hash:  {}", report.hash);
    }
    Ok(())
}

fn kept_heads(files: &[PathBuf], keys: &HeadKeys) -> Result<Vec<AuditHead>, CliError> {
    let read = |path: &PathBuf| {
        let statement = std::fs::read_to_string(path)?;
        let head = keys.verify(&statement);
        head.map_err(|error| CliError::Audit(format!("{}: {error}", path.display())))
    };
    files.iter().map(read).collect()
}

/// Reads the file twice: all heads must be known before the first event.
fn verify_file(path: &Path, keys: &HeadKeys, kept: &[AuditHead]) -> Result<ChainReport, CliError> {
    let wrong = |number: usize, reason: &dyn std::fmt::Display| {
        CliError::Audit(format!("line {}: {reason}", number + 1))
    };
    let mut heads = kept.to_vec();
    for (number, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        if let Read::Head(statement) = read_line(&line?).map_err(|e| wrong(number, &e))? {
            heads.push(keys.verify(&statement).map_err(|e| wrong(number, &e))?);
        }
    }
    let broken = |error: crate::model::audit_chain::ChainError| CliError::Audit(error.to_string());
    let mut check = ChainCheck::new(heads).map_err(broken)?;
    for (number, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        if let Read::Event(event) = read_line(&line?).map_err(|e| wrong(number, &e))? {
            check.add(&event).map_err(broken)?;
        }
    }
    check.finish().map_err(broken)
}
