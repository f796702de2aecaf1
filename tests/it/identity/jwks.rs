//! `GET /.well-known/jwks.json`

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use kontor::auth::signing_key::ensure_key_file;
use reqwest::Method;
use serde_json::Value;

use super::PULL;
use crate::support::{Setup, TestRegistry};

async fn keys(registry: &TestRegistry) -> Vec<Value> {
    let answer = registry
        .anonymous(Method::GET, "/.well-known/jwks.json")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "public, max-age=300");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let keys: Value = answer.json().await.unwrap();
    keys["keys"].as_array().unwrap().clone()
}

/// Whether a key of the set has signed the token.
fn is_signed_by(key: &Value, token: &str) -> bool {
    let decoding = DecodingKey::from_ed_components(key["x"].as_str().unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_aud = false;
    validation.validate_exp = false;
    decode::<Value>(token, &decoding, &validation).is_ok()
}

#[tokio::test]
async fn others_can_check_our_tokens_and_do_not_see_the_private_key() {
    let registry = TestRegistry::start().await;
    let keys = keys(&registry).await;
    let [key] = keys.as_slice() else {
        panic!("{keys:?}")
    };
    let mut members: Vec<&str> = key
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!((&key["kty"], &key["alg"]), (&"OKP".into(), &"EdDSA".into()));
    let token = registry.token("ann", &[PULL]).await;
    assert_eq!(key["kid"], decode_header(&token).unwrap().kid.unwrap());
    assert!(is_signed_by(key, &token));
    let other = TestRegistry::start().await;
    assert!(!is_signed_by(key, &other.token("ann", &[PULL]).await));
}

#[tokio::test]
async fn keys_that_were_replaced_are_still_shown() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.pem");
    ensure_key_file(&old).unwrap();
    let change = move |config: &mut kontor::config::Config| {
        config.auth.previous_key_files = vec![old];
    };
    let registry = Setup::default().config(change).start().await;
    let keys = keys(&registry).await;
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0]["kid"], keys[1]["kid"]);
    let token = registry.token("ann", &[PULL]).await;
    assert!(is_signed_by(&keys[0], &token) && !is_signed_by(&keys[1], &token));
}
