//! Users, robots, personal tokens, refresh tokens, revocation; and those who attack them.

mod attacks;
mod brute_force;
mod enumeration;
mod jwks;
mod keystone_live;
mod oidc_live;
mod personal_tokens;
mod refresh_tokens;
mod revocation;
mod robots;
mod takeover;
mod users;

use chrono::TimeDelta;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use crate::support::{PASSWORD, Setup, TestRegistry};

/// The scope of most tests.
pub const PULL: &str = "repository:demo/app:pull";

/// A registry with one name on all its nodes, so that a token of one is good on the others.
async fn start_public() -> TestRegistry {
    let public = |config: &mut kontor::config::Config| {
        config.server.public_url = Some("https://registry.test/".parse().unwrap());
    };
    Setup::default().config(public).start().await
}

impl TestRegistry {
    /// A request with any name and password.
    pub fn basic(&self, user: &str, secret: &str, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).basic_auth(user, Some(secret))
    }

    /// A request to the management API as `admin`; gives the status and the document.
    pub async fn api(&self, method: Method, path: &str, document: Value) -> (u16, Value) {
        sent(
            self.admin(method, &format!("/api/v1/{path}"))
                .json(&document),
        )
        .await
    }

    /// `GET /token` with any name and password.
    pub async fn login(&self, user: &str, secret: &str, query: &[(&str, &str)]) -> Response {
        let query = Serializer::new(String::new()).extend_pairs(query).finish();
        let path = format!("/token?{query}");
        let request = self.basic(user, secret, Method::GET, &path);
        request.send().await.unwrap()
    }

    /// A token for scopes with any name and password.
    pub async fn token_of(&self, user: &str, secret: &str, scopes: &[&str]) -> String {
        let query: Vec<_> = scopes.iter().map(|scope| ("scope", *scope)).collect();
        let answer = self.login(user, secret, &query).await;
        assert_eq!(answer.status(), 200, "{user}");
        let answer: Value = answer.json().await.unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }

    /// The scopes that somebody gets of those that are asked for.
    pub async fn granted(&self, user: &str, secret: &str, scope: &str) -> String {
        let form = [
            ("grant_type", "password"),
            ("username", user),
            ("password", secret),
            ("scope", scope),
        ];
        let (status, answer) = self.form(&form).await;
        assert_eq!(status, 200, "{user} {scope}: {answer}");
        answer["scope"].as_str().unwrap().to_owned()
    }

    /// `POST /token`.
    pub async fn form(&self, form: &[(&str, &str)]) -> (u16, Value) {
        let form = Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self
            .anonymous(Method::POST, "/token")
            .header("Content-Type", "application/x-www-form-urlencoded");
        sent(request.body(form)).await
    }

    /// A refresh token.
    pub async fn refresh_token(&self, user: &str, secret: &str) -> String {
        let answer = self.login(user, secret, &[("offline_token", "true")]).await;
        assert_eq!(answer.status(), 200, "{user}");
        let answer: Value = answer.json().await.unwrap();
        answer["refresh_token"].as_str().unwrap().to_owned()
    }

    /// What a refresh token gives.
    pub async fn refresh(&self, token: &str, scope: &str) -> (u16, Value) {
        self.form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("scope", scope),
        ])
        .await
    }

    /// The status of a pull with a token.
    pub async fn pull_status(&self, token: &str) -> u16 {
        let request = self.bearer(token, Method::GET, "/v2/demo/app/tags/list");
        request.send().await.unwrap().status().as_u16()
    }

    /// The status of `GET /v2/` with a name and a password.
    pub async fn basic_status(&self, user: &str, secret: &str) -> u16 {
        let request = self.basic(user, secret, Method::GET, "/v2/");
        request.send().await.unwrap().status().as_u16()
    }

    /// Makes the user `bob`, who may read and write the accounts of `demo`; gives the password.
    pub async fn make_bob(&self) -> String {
        let grant = json!({ "auth_tenant_id": "demo", "permissions": ["view", "pull", "push"] });
        let order = json!({ "name": "bob", "grants": [grant] });
        let (status, answer) = self.api(Method::POST, "users", order).await;
        assert_eq!(status, 201, "{answer}");
        answer["password"].as_str().unwrap().to_owned()
    }

    /// Makes the robot `ci` of `demo`; gives its secret.
    pub async fn make_robot(&self, order: Value) -> String {
        let mut order = order;
        order["name"] = json!("ci");
        let (status, answer) = self.api(Method::POST, "accounts/demo/robots", order).await;
        assert_eq!(status, 201, "{answer}");
        answer["secret"].as_str().unwrap().to_owned()
    }

    /// Makes a personal token of `ann`; gives its id and itself.
    pub async fn make_personal(&self, order: Value) -> (String, String) {
        let (status, answer) = sent(
            self.as_user("ann", Method::POST, "/api/v1/tokens")
                .json(&order),
        )
        .await;
        assert_eq!(status, 201, "{answer}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&answer["personal_token"]["id"]),
            text(&answer["token"]),
        )
    }

    /// Lets time pass.
    pub fn pass(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }
}

/// The status and the document of an answer.
async fn sent(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[tokio::test]
async fn everybody_learns_who_they_are() {
    let registry = TestRegistry::start().await;
    let me = |user: &'static str, secret: String| {
        let request = registry.basic(user, &secret, Method::GET, "/api/v1/me");
        async move { sent(request).await.1["me"].take() }
    };
    let ann = me("ann", PASSWORD.to_owned()).await;
    assert_eq!(ann["identity"], "static:ann");
    assert_eq!(ann["policy_name"], "static:ann");
    assert_eq!(ann["origin"], Value::Null);
    assert_eq!(ann["narrowed_to"], Value::Null);
    let (id, token) = registry
        .make_personal(json!({ "permissions": ["pull"] }))
        .await;
    let narrowed = me("ann", token).await;
    assert_eq!(narrowed["identity"], "static:ann");
    assert_eq!(narrowed["narrowed_to"], json!(["pull"]));
    assert_eq!(narrowed["origin"], format!("personal token {id}"));
    let secret = registry
        .make_robot(json!({ "permissions": ["pull"], "repositories": ["app"] }))
        .await;
    let robot = me("demo+ci", secret).await;
    assert_eq!(robot["identity"], "robot:demo+ci");
    assert_eq!(robot["account"]["account"], "demo");
    assert_eq!(robot["account"]["repositories"], json!(["app"]));
    let anonymous = registry.anonymous(Method::GET, "/api/v1/me");
    assert_eq!(sent(anonymous).await.0, 401);
}
