//! The first words of the command line, and nothing else: the others, and what the commands do, are in `cli`.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use kontor::cli::{
    self, CliError, Role,
    account::{self, AccountCommand},
    apply::{self, ApplyArgs},
    args::{ConfigArgs, Server},
    audit::{self, AuditCommand},
    explain::{self, ExplainArgs},
    gc::{self, GcCommand},
    help_files,
    hold::{self, HoldCommand},
    jobs::{self, JobsCommand},
    login::{self, LoginArgs},
    policy::{self, PolicyCommand},
    quota::{self, QuotaCommand},
    repo::{self, RepoCommand},
    robot::{self, RobotCommand},
    tag::{self, TagCommand},
    token::{self, TokenCommand},
    trash::{self, TrashCommand},
    user::{self, UserCommand},
};

/// A multi-tenant OCI registry that puts tenancy into the storage layer.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the registry.
    Serve {
        /// What this process does: everything, answer requests, or run the jobs.
        #[arg(value_enum, default_value_t)]
        role: Role,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Bring the database's schema up to date.
    Migrate(ConfigArgs),
    /// Check that the database is consistent and that all it names is in storage.
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        /// Compute the digest of every blob as well.
        #[arg(long)]
        digests: bool,
    },
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the audit trail, verify it, and take copies of it.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Manage local users.
    #[command(subcommand)]
    User(UserCommand),
    /// Manage accounts of a running registry.
    Account {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: AccountCommand,
    },
    /// Look at repositories.
    Repo {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: RepoCommand,
    },
    /// Look at tags and what they pointed at, delete them and bring them back.
    Tag {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: TagCommand,
    },
    /// See what garbage collection would delete, and what keeps the rest.
    Gc {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: GcCommand,
    },
    /// Look at deleted images, bring them back, or delete them for good.
    Trash {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: TrashCommand,
    },
    /// Look at legal holds, place and lift them.
    Hold {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: HoldCommand,
    },
    /// Look at the registry's jobs and have them look at everything now.
    Jobs {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: JobsCommand,
    },
    /// Look at the policies of accounts and replace them.
    Policy {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Look at quotas and set them.
    Quota {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: QuotaCommand,
    },
    /// Say whether somebody may do something, and by which rule.
    Explain {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        question: ExplainArgs,
    },
    /// Bring accounts, robots and users to what files say; shows what would change, and asks.
    Apply {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        options: ApplyArgs,
    },
    /// Manage robots: machines that log in as ACCOUNT+ROBOT.
    Robot {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: RobotCommand,
    },
    /// Manage personal tokens, which log in instead of a password; take back what was issued.
    Token {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Log in at the company's identity provider, in a browser, and leave docker a personal token.
    Login(LoginArgs),
    /// Show who the registry takes you for.
    Whoami(Server),
    /// Print what a shell needs to complete the command line.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder.
    Man {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration can be used; if not, which key is wrong and why.
    Check(ConfigArgs),
}

#[expect(
    clippy::print_stderr,
    reason = "the error of a command goes to standard error"
)]
fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = actix_web::rt::System::new().block_on(run(cli.command));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kontor: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Serve { role, config } => cli::serve(config.load()?, role).await,
        Command::Migrate(config) => cli::migrate(config.load()?).await,
        Command::Check { config, digests } => cli::check(config.load()?, digests).await,
        Command::Config(ConfigCommand::Check(config)) => {
            cli::config_check(&config.load()?);
            Ok(())
        }
        Command::Audit(command) => audit::run(command).await,
        Command::User(command) => user::run(command).await,
        Command::Account { server, command } => account::run(&server, command).await,
        Command::Repo { server, command } => repo::run(&server, command).await,
        Command::Tag { server, command } => tag::run(&server, command).await,
        Command::Gc { server, command } => gc::run(&server, command).await,
        Command::Trash { server, command } => trash::run(&server, command).await,
        Command::Hold { server, command } => hold::run(&server, command).await,
        Command::Jobs { server, command } => jobs::run(&server, command).await,
        Command::Policy { server, command } => policy::run(&server, command).await,
        Command::Quota { server, command } => quota::run(&server, command).await,
        Command::Explain { server, question } => explain::run(&server, &question).await,
        Command::Apply { server, options } => apply::run(&server, options).await,
        Command::Robot { server, command } => robot::run(&server, command).await,
        Command::Token { server, command } => token::run(&server, command).await,
        Command::Login(options) => login::run(options).await,
        Command::Whoami(server) => token::whoami(&server).await,
        Command::Completion { shell } => {
            help_files::completion(shell, Cli::command());
            Ok(())
        }
        Command::Man { dir } => help_files::man(&dir, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_uses_a_word_twice() {
        Cli::command().debug_assert();
    }
}
