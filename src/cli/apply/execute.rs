//! Follows a plan, a step at a time.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    super::{
        CliError,
        account::delete_all,
        args::{Server, foreign_variable},
        client::part,
        document::{Replaces, account_path},
        robot::robots_path,
        user,
    },
    ApplyError,
    plan::{Action, Secret, Step, Target},
    survey::quota_path,
    wanted::{PasswordPlace, malformed},
};
use crate::model::user::{PASSWORD_RULE, is_password};

/// Only its owner reads a secret.
const SECRET_MODE: u32 = 0o600;

/// Does what the step says.
pub(super) async fn execute(server: &Server, step: &Step) -> Result<(), CliError> {
    match &step.target {
        Target::Account(name) if step.action == Action::Delete => {
            delete_all(server, name, step.version.as_ref()).await
        }
        Target::Account(name) => account(server, name, step).await,
        Target::Robot { account, robot } => {
            let path = format!("{}/{}", robots_path(account), part(robot));
            match (step.action, &step.document) {
                (Action::Create, Some(document)) => {
                    robot_create(server, account, document, &step.secret).await
                }
                (Action::Update, Some(document)) => replace(server, &path, document, step).await,
                _ => server.remove(&path, replaces(step)).await,
            }
        }
        Target::User(name) => match (&step.document, &step.secret) {
            (Some(document), Secret::ComesFrom(place)) => {
                let mut document = document.clone();
                document.insert("password".to_owned(), json!(place.password()?));
                let document = Value::Object(document);
                server
                    .call(Method::POST, user::PATH, Some(&document))
                    .await?;
                Ok(())
            }
            (Some(document), _) => replace(server, &user::path(name), document, step).await,
            // Users are never deleted.
            (None, _) => Ok(()),
        },
    }
}

fn replaces(step: &Step) -> Replaces<'_> {
    match step.action {
        Action::Create => Replaces::Nothing,
        Action::Update | Action::Delete => Replaces::Version(step.version.as_ref()),
    }
}

async fn replace(
    server: &Server,
    path: &str,
    document: &Map<String, Value>,
    step: &Step,
) -> Result<(), CliError> {
    let document = Value::Object(document.clone());
    server.replace(path, &document, replaces(step)).await?;
    Ok(())
}

async fn account(server: &Server, name: &str, step: &Step) -> Result<(), CliError> {
    if let Some(document) = &step.document {
        replace(server, &account_path(name), document, step).await?;
    }
    if !step.quota.is_empty() {
        let limits = step.quota.iter();
        let order: Value = limits
            .map(|(resource, limit)| (resource.clone(), json!({ "limit": limit })))
            .collect();
        server
            .call(Method::PUT, &quota_path(name), Some(&order))
            .await?;
    }
    Ok(())
}

/// The file is made first: a secret that cannot be kept is not asked for.
async fn robot_create(
    server: &Server,
    account: &str,
    document: &Map<String, Value>,
    secret: &Secret,
) -> Result<(), CliError> {
    let path = robots_path(account);
    let document = Value::Object(document.clone());
    let Secret::GoesTo(place) = secret else {
        let made = server.call(Method::POST, &path, Some(&document)).await?;
        let name = made["robot"]["name"].as_str().unwrap_or_default();
        eprintln!("nobody has its secret; `kontor robot rotate {account} {name}` gives one");
        return Ok(());
    };
    let mut file = secret_file(place)?;
    match server.call(Method::POST, &path, Some(&document)).await {
        Ok(made) => {
            let secret = made["secret"].as_str().unwrap_or_default();
            writeln!(file, "{secret}")?;
            file.sync_all()?;
            eprintln!("its secret is in {}", place.display());
            Ok(())
        }
        Err(error) => {
            // It is empty; the error is what counts.
            let _ = fs::remove_file(place);
            Err(error)
        }
    }
}

fn secret_file(place: &Path) -> Result<File, ApplyError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(SECRET_MODE);
    options
        .open(place)
        .or_else(|error| malformed(format!("{}: {error}", place.display())))
}

impl PasswordPlace {
    /// The password. It is read for new users only.
    pub(super) fn password(&self) -> Result<String, ApplyError> {
        let (place, text) = match self {
            Self::File(file) => {
                let place = file.display().to_string();
                let text = fs::read_to_string(file);
                (
                    place.clone(),
                    text.or_else(|error| malformed(format!("{place}: {error}")))?,
                )
            }
            Self::Variable(name) => {
                let place = format!("the variable {name}");
                match foreign_variable(name).and_then(|value| value.into_string().ok()) {
                    Some(text) => (place, text),
                    None => return malformed(format!("{place} holds no password")),
                }
            }
        };
        let password = text.trim_end_matches(['\r', '\n']);
        match is_password(password) {
            true => Ok(password.to_owned()),
            false => malformed(format!("{place}: {PASSWORD_RULE}")),
        }
    }
}
