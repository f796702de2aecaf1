//! The first words of the command line, and nothing else: the others, and what the commands do, are in `cli`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kontor::cli::{
    self, CliError,
    account::{self, AccountCommand},
    args::{ConfigArgs, Server},
    audit::{self, AuditCommand},
    login::{self, LoginArgs},
    robot::{self, RobotCommand},
    token::{self, TokenCommand},
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
    Serve(ConfigArgs),
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
    /// Verify the audit trail, and take copies of it.
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
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Serve(config) => cli::serve(config.load()?).await,
        Command::Migrate(config) => cli::migrate(config.load()?).await,
        Command::Check { config, digests } => cli::check(config.load()?, digests).await,
        Command::Config(ConfigCommand::Check(config)) => {
            cli::config_check(&config.load()?);
            Ok(())
        }
        Command::Audit(command) => audit::run(command).await,
        Command::User(command) => user::run(command).await,
        Command::Account { server, command } => account::run(&server, command).await,
        Command::Robot { server, command } => robot::run(&server, command).await,
        Command::Token { server, command } => token::run(&server, command).await,
        Command::Login(options) => login::run(options).await,
        Command::Whoami(server) => token::whoami(&server).await,
    }
}
