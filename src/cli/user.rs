//! `kontor user`: users of a running registry; and two commands that need no running one.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    CliError,
    args::{ConfigArgs, Server},
    client::part,
    hash_password, password_from_stdin, set_password,
};
use crate::model::permission::Permission;

/// Manage local users.
#[derive(Subcommand)]
pub enum UserCommand {
    /// Print the argon2id hash of the password on standard input, for auth.static_users of the configuration.
    HashPassword,
    /// Give a user a new password, from standard input, by writing into the database. For the machine of the registry,
    /// when nobody can log in any more; otherwise take passwd.
    SetPassword {
        /// Where the configuration is.
        #[command(flatten)]
        config: ConfigArgs,
        /// The user's name.
        #[arg(value_name = "USER")]
        name: String,
    },
    /// List the users of the database.
    List {
        /// Which registry, and as whom.
        #[command(flatten)]
        server: Server,
    },
    /// Make a user, who may do nothing at first. Prints a random password, unless one comes by --password-stdin.
    Create {
        /// Which registry, and as whom.
        #[command(flatten)]
        server: Server,
        /// The new user's name.
        name: String,
        /// Let the user do everything everywhere.
        #[arg(long)]
        operator: bool,
        /// Read the password from standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Say what a user may do on the accounts of an auth tenant; this replaces what it could do there before.
    Grant {
        /// Which registry, and as whom.
        #[command(flatten)]
        server: Server,
        /// The user's name.
        name: String,
        /// Whose accounts; * is everybody's.
        auth_tenant: String,
        /// Such as view,pull,push,delete; "all" is every permission, and "none" takes the grant away.
        permissions: String,
    },
    /// Let a user log in again.
    Enable {
        /// Which registry, and as whom.
        #[command(flatten)]
        server: Server,
        /// The user's name.
        name: String,
    },
    /// Keep a user from logging in, and end all that was issued to it.
    Disable {
        /// Which registry, and as whom.
        #[command(flatten)]
        server: Server,
        /// The user's name.
        name: String,
    },
    /// Remove a user, and end all that was issued to it.
    Delete {
        /// Which registry, and as whom.
        #[command(flatten)]
        server: Server,
        /// The user's name.
        name: String,
    },
    /// Give a user a new password, from standard input, over the API of a running registry: one's own, or any as
    /// an operator. All that was issued to the user ends.
    Passwd {
        /// Which registry, and as whom.
        #[command(flatten)]
        server: Server,
        /// The user's name; yours if it is not given.
        name: Option<String>,
    },
}

pub(super) const PATH: &str = "/api/v1/users";

pub(super) fn path(name: &str) -> String {
    format!("{PATH}/{}", part(name))
}

/// Runs `kontor user`.
pub async fn run(command: UserCommand) -> Result<(), CliError> {
    match command {
        UserCommand::HashPassword => hash_password(),
        UserCommand::SetPassword { config, name } => set_password(config.load()?, &name).await,
        UserCommand::List { server } => {
            let listed = server.list(PATH, "users").await?;
            server.show_list(&listed, &["name", "is_disabled", "grants"])
        }
        UserCommand::Create {
            server,
            name,
            operator,
            password_stdin,
        } => create(&server, &name, operator, password_stdin).await,
        UserCommand::Grant {
            server,
            name,
            auth_tenant,
            permissions,
        } => {
            let permissions = parse_permissions(&permissions)?;
            change(&server, &name, |user| {
                set_grant(&mut user["grants"], &auth_tenant, &permissions);
            })
            .await
        }
        UserCommand::Enable { server, name } => {
            change(&server, &name, |user| user["is_disabled"] = json!(false)).await
        }
        UserCommand::Disable { server, name } => {
            change(&server, &name, |user| user["is_disabled"] = json!(true)).await
        }
        UserCommand::Delete { server, name } => {
            server.call(Method::DELETE, &path(&name), None).await?;
            server.say(&format!("user {name} was deleted"));
            Ok(())
        }
        UserCommand::Passwd { server, name } => {
            let name = match name {
                Some(name) => name,
                None => server.own_name().await?.ok_or(CliError::NoName)?,
            };
            let document = json!({ "password": password_from_stdin()? });
            let path = format!("{}/password", path(&name));
            server.call(Method::PUT, &path, Some(&document)).await?;
            server.say(&format!("{name} has a new password"));
            Ok(())
        }
    }
}

/// Permissions with commas between them, `all` or `none`.
pub(super) fn parse_permissions(text: &str) -> Result<Vec<Permission>, CliError> {
    match text {
        "all" => Ok(Permission::ALL.to_vec()),
        "none" | "" => Ok(Vec::new()),
        list => super::permissions(list),
    }
}

fn set_grant(grants: &mut Value, auth_tenant_id: &str, permissions: &[Permission]) {
    let Some(grants) = grants.as_array_mut() else {
        return;
    };
    grants.retain(|grant| grant["auth_tenant_id"] != auth_tenant_id);
    if !permissions.is_empty() {
        grants.push(json!({ "auth_tenant_id": auth_tenant_id, "permissions": permissions }));
    }
}

async fn create(
    server: &Server,
    name: &str,
    is_operator: bool,
    reads_password: bool,
) -> Result<(), CliError> {
    let mut document = json!({ "name": name });
    if is_operator {
        document["grants"] = json!([]);
        set_grant(&mut document["grants"], "*", &Permission::ALL);
    }
    if reads_password {
        document["password"] = json!(password_from_stdin()?);
    }
    let answer = server.call(Method::POST, PATH, Some(&document)).await?;
    match &answer["password"] {
        Value::Null => {
            server.say(&format!("user {name} was made"));
            server.show_program(&answer)
        }
        _ => {
            let hint = format!("This is the password of {name}.");
            server.show_secret(&answer, "password", &hint)
        }
    }
}

/// Reads the user and sends it back changed.
async fn change(
    server: &Server,
    name: &str,
    change: impl FnOnce(&mut Value),
) -> Result<(), CliError> {
    let mut user = server.call(Method::GET, &path(name), None).await?["user"].take();
    change(&mut user);
    let answer = server.call(Method::PUT, &path(name), Some(&user)).await?;
    server.show(&answer["user"])
}
