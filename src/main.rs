//! The command line, and nothing else: what the commands do is in `cli`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use kontor::{
    cli::{self, CliError, account},
    config::Config,
    oci::AccountName,
};

/// A multi-tenant OCI registry that puts tenancy into the storage layer.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
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
    /// Manage local users.
    #[command(subcommand)]
    User(UserCommand),
    /// Manage accounts of a running registry.
    Account {
        #[command(flatten)]
        server: ServerArgs,
        #[command(subcommand)]
        command: AccountCommand,
    },
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file (TOML). Every key can also be set as KONTOR__SECTION__KEY.
    #[arg(long, env = "KONTOR_CONFIG")]
    config: Option<PathBuf>,
    /// Where the database, the signing key and the default storage lie [default: ./kontor-data].
    #[arg(long)]
    data_dir: Option<String>,
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, CliError> {
        let overrides: Vec<(&str, String)> = self
            .data_dir
            .iter()
            .map(|folder| ("data_dir", folder.clone()))
            .collect();
        Ok(Config::from_process(self.config.as_deref(), &overrides)?)
    }
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration can be used; if not, which key is wrong and why.
    Check(ConfigArgs),
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Print the argon2id hash of the password on standard input, for auth.static_users.
    HashPassword,
    /// Give a user of the database a new password, from standard input.
    SetPassword {
        #[command(flatten)]
        config: ConfigArgs,
        /// The user's name.
        user: String,
    },
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// The registry's address.
    #[arg(
        long,
        global = true,
        env = "KONTOR_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    server: String,
    /// The user's name.
    #[arg(long, global = true, env = "KONTOR_USER", default_value = "admin")]
    user: String,
    /// The user's password; better given in the environment.
    #[arg(
        long,
        global = true,
        env = "KONTOR_PASSWORD",
        hide_env_values = true,
        default_value = ""
    )]
    password: String,
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// List the accounts: name, auth tenant, storage.
    List,
    /// Show an account as JSON.
    Show { name: AccountName },
    /// Create an account.
    Create {
        name: AccountName,
        /// Who owns the account.
        #[arg(long)]
        auth_tenant: String,
        /// The storage backend; the registry's default if not given.
        #[arg(long)]
        storage: Option<String>,
        #[command(flatten)]
        changes: ChangeArgs,
    },
    /// Change an account; what is not named stays as it is.
    Update {
        name: AccountName,
        #[command(flatten)]
        changes: ChangeArgs,
    },
    /// Move an account to another storage backend while it is in use.
    Migrate {
        name: AccountName,
        /// The storage backend that it moves to.
        #[arg(long)]
        to: String,
        /// Leave what was copied where it was, too.
        #[arg(long)]
        keep_old: bool,
        /// Stay until the move is over, and show how far it has come.
        #[arg(long)]
        wait: bool,
    },
    /// Delete an account that holds no manifests, with its storage.
    Delete { name: AccountName },
}

#[derive(Debug, Args)]
struct ChangeArgs {
    /// Let everybody pull from the repositories that match this regular expression; "" takes it away.
    #[arg(long)]
    anonymous_pull: Option<String>,
    /// Replace all RBAC policies by this JSON list.
    #[arg(long)]
    rbac_policies: Option<String>,
    /// Accept manifests that name layers or manifests that are not there.
    #[arg(long)]
    allow_sparse_manifests: Option<bool>,
    /// Send all bytes through the registry instead of redirecting to the object store.
    #[arg(long)]
    proxy_downloads: Option<bool>,
    /// Do so for clients of these networks, such as 10.0.0.0/8,fd00::/8; "" takes it away.
    #[arg(long)]
    proxy_networks: Option<String>,
    /// Answer for this registry when containerd asks with ?ns=, such as docker.io; "" takes it away.
    #[arg(long)]
    serves_namespace: Option<String>,
}

impl From<ChangeArgs> for account::Changes {
    fn from(args: ChangeArgs) -> Self {
        Self {
            anonymous_pull: args.anonymous_pull,
            rbac_policies: args.rbac_policies,
            allow_sparse_manifests: args.allow_sparse_manifests,
            proxy_downloads: args.proxy_downloads,
            proxy_networks: args.proxy_networks,
            serves_namespace: args.serves_namespace,
        }
    }
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
        Command::User(UserCommand::HashPassword) => cli::hash_password(),
        Command::User(UserCommand::SetPassword { config, user }) => {
            cli::set_password(config.load()?, &user).await
        }
        Command::Account { server, command } => run_account(server, command).await,
    }
}

async fn run_account(server: ServerArgs, command: AccountCommand) -> Result<(), CliError> {
    let server = account::Server {
        url: server.server,
        user: server.user,
        password: server.password,
    };
    match command {
        AccountCommand::List => account::list(&server).await,
        AccountCommand::Show { name } => account::show(&server, &name).await,
        AccountCommand::Create {
            name,
            auth_tenant,
            storage,
            changes,
        } => {
            let owner = (auth_tenant.as_str(), storage.as_deref());
            account::create(&server, &name, owner, &changes.into()).await
        }
        AccountCommand::Update { name, changes } => {
            account::update(&server, &name, &changes.into()).await
        }
        AccountCommand::Migrate {
            name,
            to,
            keep_old,
            wait,
        } => account::migrate(&server, &name, (&to, keep_old), wait).await,
        AccountCommand::Delete { name } => account::delete(&server, &name).await,
    }
}
