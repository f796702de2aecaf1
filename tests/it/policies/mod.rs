//! What the policies in an account's settings give, forbid and block, and how a decision is explained.

mod explain;
mod maintenance;
mod rbac;
mod settings;
mod tags;
mod validation;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Setup, TestRegistry};

/// A registry that believes what `X-Forwarded-For` says.
async fn start_behind_proxy() -> TestRegistry {
    let proxies = |config: &mut kontor::config::Config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.server.public_url = Some("https://registry.test/".parse().unwrap());
    };
    Setup::default().config(proxies).start().await
}

impl TestRegistry {
    /// Gives `demo` these settings.
    pub async fn settings(&self, settings: Value) {
        let answer = self.account("demo", settings).await;
        let status = answer.status();
        assert_eq!(status, 200, "{}", answer.text().await.unwrap());
    }

    async fn rbac(&self, policies: Value) {
        self.settings(json!({ "rbac_policies": policies })).await;
    }
}

/// A status and a document.
async fn sent(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// The status of a pull of tags by somebody at an address.
async fn pull_from(registry: &TestRegistry, user: Option<&str>, repo: &str, from: &str) -> u16 {
    let path = format!("/v2/{repo}/tags/list");
    let request = match user {
        Some(user) => registry.as_user(user, Method::GET, &path),
        None => registry.anonymous(Method::GET, &path),
    };
    sent(request.header("X-Forwarded-For", from)).await.0
}
