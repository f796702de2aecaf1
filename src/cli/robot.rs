//! `kontor robot`: robots of accounts.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{CliError, args::Server, client::part, document::account_path};
use crate::oci::AccountName;

/// Which robot.
#[derive(Debug, Args)]
pub struct RobotArgs {
    /// The account.
    account: AccountName,
    /// The robot's name.
    name: String,
}

impl RobotArgs {
    fn path(&self) -> String {
        format!("{}/{}", path(&self.account), part(&self.name))
    }
}

/// What a robot is made of.
#[derive(Debug, Args)]
pub struct NewRobotArgs {
    /// What it may do: any of view,pull,push,delete.
    #[arg(long, default_value = "pull")]
    permissions: String,
    /// Only repositories that match this regular expression, inside the account; may be given several times.
    #[arg(long = "repository")]
    repositories: Vec<String>,
    /// What it is for.
    #[arg(long, default_value = "")]
    description: String,
    /// When it ends, such as 2027-01-31T00:00:00Z.
    #[arg(long)]
    expires_at: Option<DateTime<Utc>>,
}

/// Manage robots: machines that log in as ACCOUNT+ROBOT.
#[derive(Debug, Subcommand)]
pub enum RobotCommand {
    /// List an account's robots.
    List {
        /// The account.
        account: AccountName,
    },
    /// Make a robot, and print its secret.
    Create {
        /// Which robot.
        #[command(flatten)]
        robot: RobotArgs,
        /// What it is made of.
        #[command(flatten)]
        new: NewRobotArgs,
    },
    /// Show a robot, with the ids of its secrets.
    Show {
        /// Which robot.
        #[command(flatten)]
        robot: RobotArgs,
    },
    /// Print a new secret. The old one stays good for a while.
    Rotate {
        /// Which robot.
        #[command(flatten)]
        robot: RobotArgs,
        /// For how long the old secret stays good; 0 ends it at once.
        #[arg(long, default_value_t = 86_400)]
        overlap_seconds: u32,
        /// When the new secret ends, such as 2027-01-31T00:00:00Z.
        #[arg(long)]
        expires_at: Option<DateTime<Utc>>,
    },
    /// End one secret at once.
    DeleteSecret {
        /// Which robot.
        #[command(flatten)]
        robot: RobotArgs,
        /// Its id, which `show` tells.
        id: String,
    },
    /// Let a robot log in again.
    Enable {
        /// Which robot.
        #[command(flatten)]
        robot: RobotArgs,
    },
    /// Keep a robot from logging in, and end its tokens.
    Disable {
        /// Which robot.
        #[command(flatten)]
        robot: RobotArgs,
    },
    /// Remove a robot with its secrets and tokens.
    Delete {
        /// Which robot.
        #[command(flatten)]
        robot: RobotArgs,
    },
}

const COLUMNS: [&str; 6] = [
    "login",
    "is_disabled",
    "permissions",
    "repositories",
    "expires_at",
    "last_used_at",
];

fn path(account: &AccountName) -> String {
    robots_path(account.as_str())
}

pub(super) fn robots_path(account: &str) -> String {
    format!("{}/robots", account_path(account))
}

/// Runs `kontor robot`.
pub async fn run(server: &Server, command: RobotCommand) -> Result<(), CliError> {
    match command {
        RobotCommand::List { account } => {
            let listed = server.list(&path(&account), "robots").await?;
            server.show_list(&listed, &COLUMNS)
        }
        RobotCommand::Create { robot, new } => create(server, &robot, new).await,
        RobotCommand::Show { robot } => {
            let answer = server.call(Method::GET, &robot.path(), None).await?;
            server.show(&answer["robot"])
        }
        RobotCommand::Rotate {
            robot,
            overlap_seconds,
            expires_at,
        } => {
            let path = format!("{}/secrets", robot.path());
            let order = json!({ "overlap_seconds": overlap_seconds, "expires_at": expires_at });
            let answer = server.call(Method::POST, &path, Some(&order)).await?;
            show_robot_secret(server, &answer, &answer["login"])
        }
        RobotCommand::DeleteSecret { robot, id } => {
            let path = format!("{}/secrets/{}", robot.path(), part(&id));
            server.call(Method::DELETE, &path, None).await?;
            server.say(&format!("the secret {id} was deleted"));
            Ok(())
        }
        RobotCommand::Enable { robot } => set_disabled(server, &robot, false).await,
        RobotCommand::Disable { robot } => set_disabled(server, &robot, true).await,
        RobotCommand::Delete { robot } => {
            server.call(Method::DELETE, &robot.path(), None).await?;
            server.say(&format!("robot {} was deleted", robot.name));
            Ok(())
        }
    }
}

fn show_robot_secret(server: &Server, answer: &Value, login: &Value) -> Result<(), CliError> {
    let login = login.as_str().unwrap_or_default();
    let hint = format!("The robot logs in as {login} with this secret.");
    server.show_secret(answer, "secret", &hint)
}

async fn create(server: &Server, robot: &RobotArgs, new: NewRobotArgs) -> Result<(), CliError> {
    let document = json!({
        "name": robot.name,
        "description": new.description,
        "permissions": super::permissions(&new.permissions)?,
        "repositories": new.repositories,
        "expires_at": new.expires_at,
    });
    let path = path(&robot.account);
    let answer = server.call(Method::POST, &path, Some(&document)).await?;
    show_robot_secret(server, &answer, &answer["robot"]["login"])
}

async fn set_disabled(
    server: &Server,
    robot: &RobotArgs,
    is_disabled: bool,
) -> Result<(), CliError> {
    let path = robot.path();
    let mut document = server.call(Method::GET, &path, None).await?["robot"].take();
    document["is_disabled"] = json!(is_disabled);
    let answer = server.call(Method::PUT, &path, Some(&document)).await?;
    server.show(&answer["robot"])
}
