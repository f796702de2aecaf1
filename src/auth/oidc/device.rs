//! The login of a command line at an identity provider: the device authorization grant (RFC 8628).
//!
//! It runs on the user's machine, so it knows nothing of the registry but what the registry says about the provider. The
//! token goes to the caller and nowhere else. A newcomer will poll faster than the provider allows: it answers `slow_down`,
//! and each of these adds five seconds for the rest of the login.

use std::time::Duration;

use reqwest::{Client, header::ACCEPT, redirect};
use serde::Deserialize;
use storage_drivers::Secret;
use url::Url;

use crate::auth::outbound::read_limited;

/// What a client is told about a provider.
#[derive(Debug, Clone)]
pub struct DeviceMetadata {
    /// The issuer of the tokens.
    pub issuer: String,
    /// The client that the command line is at the provider.
    pub client_id: String,
    /// Its secret, if the provider wants one; it is told to everybody.
    pub client_secret: Option<Secret>,
    /// What to ask for.
    pub scopes: Vec<String>,
    /// Where a login begins.
    pub device_authorization_endpoint: Url,
    /// Where it ends.
    pub token_endpoint: Url,
}

/// What the user has to do (RFC 8628, 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePrompt {
    /// The page to open in a browser, on any machine.
    pub verification_uri: Url,
    /// The same with the code in it, if the provider has that.
    pub verification_uri_complete: Option<Url>,
    /// The code to enter there.
    pub user_code: String,
    /// How long it can be entered.
    pub expires_in: Duration,
}

/// What a login gives.
#[derive(Debug, Clone)]
pub struct DeviceToken {
    /// The token to show to the registry.
    pub token: Secret,
    /// Whether it is an ID token; otherwise it is an access token, which the provider must issue as a JWT for the registry.
    pub is_id_token: bool,
}

/// Why a login did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The user said no, or the provider did.
    #[error("the login was refused")]
    Denied,
    /// The user did not say yes in time.
    #[error("the code has expired; begin again")]
    Expired,
    /// The provider does not accept the request.
    #[error("the identity provider does not accept the login: {0}")]
    Refused(String),
    /// The provider's answer makes no sense.
    #[error("the identity provider's answer is not as specified")]
    Malformed,
    /// The provider does not answer.
    #[error("the identity provider cannot be reached")]
    Unreachable(#[source] reqwest::Error),
}

/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Between two questions if the provider does not say (RFC 8628, 3.2), and what `slow_down` adds (3.5), in seconds.
const DEFAULT_INTERVAL_SECONDS: u64 = 5;
const SLOW_DOWN_SECONDS: u64 = 5;

/// Whatever the provider says, it is not asked more often, nor more seldom, nor for longer, in seconds.
const INTERVAL_SECONDS: std::ops::RangeInclusive<u64> = 1..=60;
const MAX_LOGIN_SECONDS: u64 = 1800;

/// An HTTP client for [`log_in`]: no redirects, ten seconds for a call.
///
/// # Errors
/// If it cannot be made.
pub fn client() -> Result<Client, reqwest::Error> {
    let builder = Client::builder().redirect(redirect::Policy::none());
    builder.timeout(Duration::from_secs(10)).build()
}

/// Logs a user in: asks for a code, hands it to `show`, waits until the user has entered it.
///
/// # Errors
/// If the user or the provider refuses, or the time is over.
pub async fn log_in(
    client: &Client,
    provider: &DeviceMetadata,
    show: impl FnOnce(&DevicePrompt),
) -> Result<DeviceToken, DeviceError> {
    log_in_with(client, provider, show, tokio::time::sleep).await
}

/// The same with another way to wait.
pub(super) async fn log_in_with<W: Future<Output = ()>>(
    client: &Client,
    provider: &DeviceMetadata,
    show: impl FnOnce(&DevicePrompt),
    wait: impl Fn(Duration) -> W,
) -> Result<DeviceToken, DeviceError> {
    let scopes = provider.scopes.join(" ");
    let begin = [("scope", scopes.as_str())];
    let url = &provider.device_authorization_endpoint;
    let (is_success, answer) = post(client, provider, url, &begin).await?;
    if !is_success {
        return Err(failure(&answer));
    }
    let begun: Begun = serde_json::from_slice(&answer).map_err(|_| DeviceError::Malformed)?;
    let expires_in = begun.expires_in.min(MAX_LOGIN_SECONDS);
    show(&DevicePrompt {
        verification_uri: begun.verification_uri,
        verification_uri_complete: begun.verification_uri_complete,
        user_code: printable(&begun.user_code),
        expires_in: Duration::from_secs(expires_in),
    });
    let asked = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", begun.device_code.expose()),
    ];
    let mut interval = begun.interval.unwrap_or(DEFAULT_INTERVAL_SECONDS);
    let mut waited = 0;
    loop {
        interval = interval.clamp(*INTERVAL_SECONDS.start(), *INTERVAL_SECONDS.end());
        waited += interval;
        if waited > expires_in {
            return Err(DeviceError::Expired);
        }
        wait(Duration::from_secs(interval)).await;
        let answered = post(client, provider, &provider.token_endpoint, &asked).await;
        let (is_success, answer) = match answered {
            // RFC 8628, 3.5: back off when the provider does not answer.
            Err(DeviceError::Unreachable(error)) if error.is_timeout() || error.is_connect() => {
                interval *= 2;
                continue;
            }
            other => other?,
        };
        if is_success {
            return token(&answer);
        }
        match serde_json::from_slice::<Failure>(&answer) {
            Ok(failure) if failure.error == "authorization_pending" => {}
            Ok(failure) if failure.error == "slow_down" => interval += SLOW_DOWN_SECONDS,
            _ => return Err(failure(&answer)),
        }
    }
}

#[derive(Deserialize)]
struct Begun {
    device_code: Secret,
    user_code: String,
    verification_uri: Url,
    #[serde(default)]
    verification_uri_complete: Option<Url>,
    expires_in: u64,
    #[serde(default)]
    interval: Option<u64>,
}

/// RFC 6749, 5.2.
#[derive(Deserialize)]
struct Failure {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    id_token: Option<Secret>,
    #[serde(default)]
    access_token: Option<Secret>,
}

async fn post(
    client: &Client,
    provider: &DeviceMetadata,
    url: &Url,
    fields: &[(&str, &str)],
) -> Result<(bool, Vec<u8>), DeviceError> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("client_id", &provider.client_id);
    if let Some(secret) = &provider.client_secret {
        form.append_pair("client_secret", secret.expose());
    }
    form.extend_pairs(fields);
    let failed = |error: reqwest::Error| DeviceError::Unreachable(error.without_url());
    let request = client.post(url.clone()).header(ACCEPT, "application/json");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let response = request.body(form.finish()).send().await.map_err(failed)?;
    let is_success = response.status().is_success();
    let body = read_limited(response, MAX_ANSWER_BYTES).await;
    let body = body.map_err(failed)?.ok_or(DeviceError::Malformed)?;
    Ok((is_success, body.to_vec()))
}

fn token(answer: &[u8]) -> Result<DeviceToken, DeviceError> {
    let granted: Granted = serde_json::from_slice(answer).map_err(|_| DeviceError::Malformed)?;
    let is_id_token = granted.id_token.is_some();
    let token = granted.id_token.or(granted.access_token);
    Ok(DeviceToken {
        token: token.ok_or(DeviceError::Malformed)?,
        is_id_token,
    })
}

fn failure(answer: &[u8]) -> DeviceError {
    match serde_json::from_slice::<Failure>(answer) {
        Err(_) => DeviceError::Malformed,
        Ok(failure) => match failure.error.as_str() {
            "access_denied" => DeviceError::Denied,
            "expired_token" => DeviceError::Expired,
            error => {
                let text = failure.error_description.as_deref().unwrap_or(error);
                DeviceError::Refused(printable(text))
            }
        },
    }
}

/// A provider must not be able to move the cursor of the user's terminal.
fn printable(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(200).collect()
}
