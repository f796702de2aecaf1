//! `kontor token`: one's own personal tokens, and taking back what was issued.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::{CliError, args::Server, client::part};

/// What is taken back.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RevokeArgs {
    /// All that was issued to somebody: access tokens, refresh tokens, personal tokens. Such as static:ann.
    #[arg(long)]
    subject: Option<String>,
    /// One access token, by its jti.
    #[arg(long)]
    jti: Option<String>,
}

/// Manage personal tokens, which log in instead of a password.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List your tokens.
    List,
    /// Make a token for yourself, and print it.
    Create {
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// What it is good for, such as pull,push; everything that you may do if this is not given.
        #[arg(long)]
        permissions: Option<String>,
        /// How many days it is good.
        #[arg(long, default_value_t = 30)]
        days: u16,
    },
    /// End one of your tokens.
    Delete {
        /// Its id, which `list` tells.
        id: String,
    },
    /// Take back what was issued before it ends.
    Revoke {
        /// What is taken back.
        #[command(flatten)]
        what: RevokeArgs,
    },
}

const PATH: &str = "/api/v1/tokens";

/// Runs `kontor token`.
pub async fn run(server: &Server, command: TokenCommand) -> Result<(), CliError> {
    match command {
        TokenCommand::List => {
            let listed = server.list(PATH, "personal_tokens").await?;
            let columns = [
                "id",
                "permissions",
                "expires_at",
                "last_used_at",
                "description",
            ];
            server.show_list(&listed, &columns)?;
        }
        TokenCommand::Create {
            description,
            permissions,
            days,
        } => {
            let permissions = permissions.as_deref().map(super::permissions).transpose()?;
            let order = json!({
                "description": description,
                "permissions": permissions,
                "expires_in_seconds": u32::from(days) * 86_400,
            });
            let answer = server.call(Method::POST, PATH, Some(&order)).await?;
            let login = answer["login"].as_str().unwrap_or_default();
            let hint = format!("You log in as {login} with this token instead of the password.");
            server.show_secret(&answer, "token", &hint)?;
        }
        TokenCommand::Delete { id } => {
            let path = format!("{PATH}/{}", part(&id));
            server.call(Method::DELETE, &path, None).await?;
            server.say(&format!("the token {id} was deleted"));
        }
        TokenCommand::Revoke { what } => {
            let order = match (what.subject, what.jti) {
                (Some(subject), _) => json!({ "subject": subject }),
                (None, jti) => json!({ "jti": jti }),
            };
            let path = format!("{PATH}/revoke");
            server.call(Method::POST, &path, Some(&order)).await?;
            server.say("revoked; every node knows it within two seconds");
        }
    }
    Ok(())
}

/// `kontor whoami`: who the registry takes you for.
pub async fn whoami(server: &Server) -> Result<(), CliError> {
    let answer = server.call(Method::GET, "/api/v1/me", None).await?;
    server.show(&answer["me"])
}
