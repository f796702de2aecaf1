//! `kontor login`: logs a person in at the company's identity provider and leaves docker a personal token.
//!
//! The provider's own token never reaches docker: it is exchanged for a token of the registry, which can be listed and
//! taken back.

use std::path::PathBuf;

use clap::Args;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::json;

use super::{
    CliError,
    client::{ClientError, answer},
    docker_config::{self, DockerConfigError},
};
use crate::{
    auth::oidc::device::{self, DeviceError, DeviceMetadata, DevicePrompt},
    config::Secret,
};

/// The longest life of a token that can be asked for, in days.
const MAX_DAYS: i64 = 3650;

/// What the user wants.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The registry's address.
    #[arg(long, env = "KONTOR_SERVER", default_value = "http://127.0.0.1:8080")]
    server: Url,
    /// The identity provider, if the registry has several.
    #[arg(long)]
    provider: Option<String>,
    /// Print the token instead of giving it to docker.
    #[arg(long)]
    print: bool,
    /// Docker's configuration [default: $DOCKER_CONFIG/config.json or ~/.docker/config.json].
    #[arg(long)]
    docker_config: Option<PathBuf>,
    /// How many days the token lives.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=MAX_DAYS))]
    days: u32,
}

/// The login did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The registry has no provider for people.
    #[error(
        "this registry has no identity provider to log in at; log in with a user name and a password"
    )]
    NoProvider,
    /// It has several, or not the one.
    #[error("--provider must be one of {0}")]
    WhichProvider(String),
    /// The registry's answer makes no sense.
    #[error(
        "the registry's answer is not understood; is its version older or newer than this program's?"
    )]
    Malformed,
    /// The address of the registry is not one.
    #[error("--server: {0}")]
    Address(String),
    /// The provider did not let the user in.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The token could not be stored.
    #[error(transparent)]
    Store(#[from] DockerConfigError),
}

/// A provider as the registry shows it.
#[derive(Debug, Deserialize)]
struct ProviderView {
    name: String,
    issuer: String,
    client_id: String,
    client_secret: Option<Secret>,
    scopes: Vec<String>,
    device_authorization_endpoint: Url,
    token_endpoint: Url,
}

impl From<ProviderView> for DeviceMetadata {
    fn from(view: ProviderView) -> Self {
        Self {
            issuer: view.issuer,
            client_id: view.client_id,
            client_secret: view.client_secret,
            scopes: view.scopes,
            device_authorization_endpoint: view.device_authorization_endpoint,
            token_endpoint: view.token_endpoint,
        }
    }
}

/// Runs the command.
pub async fn run(options: LoginArgs) -> Result<(), CliError> {
    let client = device::client().map_err(ClientError::from)?;
    let server = options.server;
    let provider = choose(&client, &server, options.provider.as_deref()).await?;
    let token = device::log_in(&client, &provider.into(), show)
        .await
        .map_err(LoginError::from)?;
    let order = json!({
        "description": "kontor login",
        "expires_in_seconds": u64::from(options.days) * 86_400,
    });
    let request = client
        .post(address(&server, "/api/v1/tokens")?)
        .bearer_auth(token.token.expose())
        .json(&order);
    let made = answer(request).await?;
    let text = |key: &str| made[key].as_str().ok_or(LoginError::Malformed);
    let (user, secret) = (text("login")?, text("token")?);
    let until = made["personal_token"]["expires_at"]
        .as_str()
        .ok_or(LoginError::Malformed)?;
    if options.print {
        eprintln!("you are {user}; the token is good until {until}");
        println!("{secret}");
        return Ok(());
    }
    let path = match options.docker_config {
        Some(path) => path,
        None => docker_config::default_path().map_err(LoginError::from)?,
    };
    let host = host(&server)?;
    let place = docker_config::store(&path, &host, (user, secret)).map_err(LoginError::from)?;
    println!("you are {user}; docker can use {host} until {until}");
    println!("the token is in {place}; `kontor token list` shows it");
    Ok(())
}

fn show(prompt: &DevicePrompt) {
    match &prompt.verification_uri_complete {
        Some(uri) => eprintln!(
            "open {uri} in a browser and check the code {}",
            prompt.user_code
        ),
        None => eprintln!(
            "open {} in a browser and enter the code {}",
            prompt.verification_uri, prompt.user_code
        ),
    }
    eprintln!("waiting for up to {} s ...", prompt.expires_in.as_secs());
}

async fn choose(
    client: &Client,
    server: &Url,
    wanted: Option<&str>,
) -> Result<ProviderView, CliError> {
    let shown = answer(client.get(address(server, "/api/v1/login-providers")?)).await?;
    let mut views: Vec<ProviderView> =
        serde_json::from_value(shown["providers"].clone()).map_err(|_| LoginError::Malformed)?;
    let names: Vec<String> = views.iter().map(|view| view.name.clone()).collect();
    if views.is_empty() {
        return Err(LoginError::NoProvider.into());
    }
    let place = match wanted {
        None if views.len() == 1 => Some(0),
        None => None,
        Some(wanted) => names.iter().position(|name| name == wanted),
    };
    let place = place.ok_or_else(|| LoginError::WhichProvider(names.join(", ")))?;
    Ok(views.swap_remove(place))
}

fn address(server: &Url, path: &str) -> Result<Url, LoginError> {
    let joined = server.join(path);
    joined.map_err(|_| LoginError::Address(format!("{server} has no host")))
}

/// The registry's name for docker.
fn host(server: &Url) -> Result<String, LoginError> {
    let host = server
        .host_str()
        .ok_or_else(|| LoginError::Address(format!("{server} has no host")))?;
    Ok(server
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}
