//! `GET /v2/`

use reqwest::Method;

use crate::support::TestRegistry;

#[tokio::test]
async fn without_credentials_is_401_with_a_challenge_without_scope() {
    let registry = TestRegistry::start().await;
    registry.allow_anonymous_pull(".*").await;
    let answer = registry
        .anonymous(Method::GET, "/v2/")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(
        answer.headers()["docker-distribution-api-version"],
        "registry/2.0"
    );
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    let host = registry.address.to_string();
    assert_eq!(
        challenge,
        format!("Bearer realm=\"http://{host}/token\",service=\"{host}\"")
    );
}

#[tokio::test]
async fn a_token_without_scopes_and_basic_are_both_accepted() {
    let registry = TestRegistry::start().await;
    let token = registry.token("nobody", &[]).await;
    let answer = registry
        .anonymous(Method::GET, "/v2/")
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let answer = registry
        .as_user("nobody", Method::GET, "/v2/")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
}
