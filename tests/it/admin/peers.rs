//! `/api/v1/peers`

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestRegistry;

#[tokio::test]
async fn everybody_who_has_logged_in_sees_the_peers() {
    let registry = TestRegistry::start().await;
    const PEERS: &str = "/api/v1/peers";
    let answer = registry.as_user("nobody", Method::GET, PEERS).send().await;
    let peers: Value = answer.unwrap().json().await.unwrap();
    assert_eq!(peers, json!({ "peers": [] }));
    let answer = registry.anonymous(Method::GET, PEERS).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let path = format!("{PEERS}?limit=1");
    let answer = registry.as_user("nobody", Method::GET, &path).send().await;
    assert_eq!(answer.unwrap().status(), 422);
}
