//! Speaking to a running registry over HTTP.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::{CliError, args::Server};

/// Speaking to the registry failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached.
    #[error("cannot reach the registry: {0}; is it running, and is --server right?")]
    Unreachable(#[from] reqwest::Error),
    /// It refused.
    #[error("{status}: {message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
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

impl Server {
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let mut request = Client::new()
            .request(method, url)
            .basic_auth(&self.user, Some(&self.password));
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request).await
    }
}

/// Something that a person named, as a part of a path.
pub(super) fn part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Prints a value as JSON.
pub(super) fn print(value: &Value) -> Result<(), CliError> {
    println!(
        "{}",
        serde_json::to_string_pretty(value).map_err(ClientError::from)?
    );
    Ok(())
}

/// Prints a line for each value, with these members of it.
pub(super) fn print_table(values: &Value, columns: &[&str]) {
    for value in values.as_array().into_iter().flatten() {
        let cells: Vec<String> = columns.iter().map(|name| cell(&value[*name])).collect();
        println!("{}", cells.join("\t"));
    }
}

/// What a person reads: lists with commas, and `-` for what is not there.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(members) => members.values().map(cell).collect::<Vec<_>>().join(":"),
        other => other.to_string(),
    }
}

/// Prints a secret alone on standard output, for scripts, and what it is on standard error.
pub(super) fn print_secret(secret: &Value, hint: &str) {
    eprintln!("{hint} It is shown this once only:");
    println!("{}", secret.as_str().unwrap_or_default());
}

/// Sends a request and reads the answer. Errors: what the registry says against it.
pub(super) async fn answer(request: RequestBuilder) -> Result<Value, ClientError> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(answer);
    }
    let message = answer["detail"]
        .as_str()
        .or_else(|| answer["errors"][0]["message"].as_str())
        .unwrap_or(&text);
    Err(ClientError::Refused {
        status,
        message: message.to_owned(),
    })
}
