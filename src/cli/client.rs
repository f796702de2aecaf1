//! Speaking to a running registry over HTTP.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Client, Method, RequestBuilder, StatusCode,
    header::{AUTHORIZATION, HeaderMap},
    redirect::Policy,
};
use serde_json::Value;

use super::{args::Server, credentials::Credential};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Speaking to the registry failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached.
    #[error("cannot reach the registry: {}; is it running, and is --server right?", with_causes(.0))]
    Unreachable(#[from] reqwest::Error),
    /// It refused.
    #[error("{status}: {message}{}", way_out(*.status))]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
        /// What a program can make something of.
        context: Value,
    },
    /// Somebody has turned the move elsewhere.
    #[error("the account moves to {0} by now; somebody else has asked for that")]
    Overtaken(String),
    /// The service identities are not JSON.
    #[error("--service-identities: {0}")]
    ServiceIdentities(#[source] serde_json::Error),
    /// The policies are not JSON.
    #[error("--rbac-policies: {0}")]
    Policies(#[from] serde_json::Error),
}

fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

fn way_out(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "; check --user and --password, or what `docker login` stored for this registry"
        }
        StatusCode::PRECONDITION_FAILED => "; look at it again, and repeat",
        _ => "",
    }
}

/// What is asked of the registry.
pub(super) struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    pub body: Option<&'a Value>,
    pub headers: HeaderMap,
}

/// What it says.
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub document: Value,
}

impl Server {
    /// Sends a document or none, and gives the one that comes back.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, super::CliError> {
        let call = Call {
            method,
            path,
            body,
            headers: HeaderMap::new(),
        };
        Ok(self.send(call).await?.document)
    }

    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, super::CliError> {
        let url = format!("{}{}", self.url.trim_end_matches('/'), call.path);
        // Nothing that is asked here is elsewhere, and a token must not be sent there.
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(ClientError::from)?;
        let request = client.request(call.method, url).headers(call.headers);
        let mut request = match self.credential().await? {
            Credential::Basic { user, password } => {
                request.basic_auth(user, Some(password.expose()))
            }
            // Without the word, the registry's own protocol takes no notice of the other header.
            Credential::Keystone(token) => request
                .header(AUTHORIZATION, "keppel")
                .header("X-Auth-Token", token.expose()),
        };
        if let Some(body) = call.body {
            request = request.json(body);
        }
        Ok(sent(request).await?)
    }
}

/// Something that a person named, as a part of a path.
pub(super) fn part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Sends a request and reads the answer. Errors: what the registry says against it.
pub(super) async fn answer(request: RequestBuilder) -> Result<Value, ClientError> {
    Ok(sent(request).await?.document)
}

async fn sent(request: RequestBuilder) -> Result<Answer, ClientError> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await?;
    let document: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(Answer { headers, document });
    }
    let message = document["detail"]
        .as_str()
        .or_else(|| document["errors"][0]["message"].as_str())
        .unwrap_or(&text);
    Err(ClientError::Refused {
        status,
        message: super::output::harmless(message),
        context: document["context"].clone(),
    })
}
