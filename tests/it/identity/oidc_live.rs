//! The driver `oidc` with a real OpenID provider, which `ci/oidc cargo test --test it identity` starts.
//!
//! Without its variables the test says so and passes, unless `KONTOR_TEST_LIVE=required`.

use std::{collections::BTreeMap, sync::Arc};

use kontor::{
    auth::{
        driver::{AuthDriver as _, AuthError, Credentials, Facts},
        oidc::{OidcDriver, ProviderConfig, device},
    },
    clock::SystemClock,
    model::permission::Permission,
};
use serde_json::{Value, json};

#[expect(
    clippy::disallowed_methods,
    reason = "where the provider is, the test's caller says"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::print_stdout, reason = "it says what it did not run")]
fn issuer() -> Option<String> {
    let issuer = variable("KONTOR_TEST_OIDC_ISSUER");
    if issuer.is_none() {
        assert_ne!(
            variable("KONTOR_TEST_LIVE").as_deref(),
            Some("required"),
            "KONTOR_TEST_OIDC_ISSUER must be set"
        );
        println!("not run: no KONTOR_TEST_OIDC_ISSUER, see ci/oidc");
    }
    issuer
}

fn driver(issuer: &str, extra: &Value) -> OidcDriver {
    let mut people = json!({
        "issuer": issuer, "audiences": ["kontor-cli"], "client_id": "kontor-cli",
        "user": "claims.preferred_username",
        "groups": "claims.groups.filter(g, g.startsWith('registry:'))",
        "grants": "groups.map(g, {'auth_tenant_id': g.split(':')[1], 'permissions': [g.split(':')[2]]})",
        "allow_http": true, "allow_private_addresses": true,
    });
    for (key, value) in extra.as_object().unwrap() {
        people[key] = value.clone();
    }
    let machines = json!({
        "issuer": issuer, "audiences": ["kontor"], "people": false,
        "allow_http": true, "allow_private_addresses": true,
    });
    let providers = [("people", people), ("machines", machines)].map(|(name, config)| {
        let config: ProviderConfig = serde_json::from_value(config).unwrap();
        (name.to_owned(), config)
    });
    OidcDriver::open(BTreeMap::from(providers), Arc::new(SystemClock)).unwrap()
}

async fn post(url: &str, form: &str) -> (u16, Value) {
    let request = reqwest::Client::new().post(url);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let response = request.body(form.to_owned()).send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn robot_token(issuer: &str) -> String {
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        variable("KONTOR_TEST_OIDC_ROBOT").unwrap(),
        variable("KONTOR_TEST_OIDC_ROBOT_SECRET").unwrap()
    );
    let (status, answer) = post(&format!("{issuer}/token"), &form).await;
    assert_eq!(status, 200, "{answer}");
    answer["access_token"].as_str().unwrap().to_owned()
}

/// Logs in by the device flow; `path` is what a person does meanwhile.
async fn log_in(
    driver: &OidcDriver,
    issuer: &str,
    path: &str,
) -> Result<device::DeviceToken, device::DeviceError> {
    let metadata = driver.device_metadata("people").await.unwrap().unwrap();
    let show = |prompt: &device::DevicePrompt| {
        assert!(prompt.verification_uri.as_str().starts_with(issuer));
        let url = format!("{issuer}/test/{path}&user_code={}", prompt.user_code);
        tokio::spawn(async move {
            let (status, _) = post(&url, "").await;
            assert_eq!(status, 204);
        });
    };
    device::log_in(&device::client().unwrap(), &metadata, show).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_provider_logs_people_and_machines_in() {
    let Some(issuer) = issuer() else { return };
    let it = driver(&issuer, &json!({}));

    let token = log_in(&it, &issuer, "approve?login=ann").await.unwrap();
    assert!(token.is_id_token);
    let ann = Credentials::Password {
        user: "ann",
        secret: token.token.expose(),
    };
    let ann = it.authenticate(ann).await.unwrap().unwrap();
    assert_eq!(ann.policy_name(), "oidc.people:ann");
    assert!(matches!(&ann.facts, Facts::Granted { grants } if grants.len() == 1));
    assert!(it.permits(&ann, Permission::Push, "t1").await.unwrap());
    assert!(!it.permits(&ann, Permission::Push, "t2").await.unwrap());

    let robot = robot_token(&issuer).await;
    let jwt = it.verify(&robot).await.unwrap().unwrap();
    assert_eq!(
        (jwt.provider.as_str(), jwt.subject.as_str()),
        ("machines", "kontor-robot")
    );
    let person = it.authenticate(Credentials::Jwt(&robot)).await.unwrap();
    assert_eq!(person, None);
    let forged = format!("{}AAAA", &robot[..robot.len() - 4]);
    assert!(matches!(it.verify(&forged).await, Err(AuthError::Rejected)));

    let denied = log_in(&it, &issuer, "deny?x=1").await;
    assert!(matches!(denied, Err(device::DeviceError::Denied)));

    // A new key of the issuer is found by itself, the old one ends. The driver asks once in ten seconds, so it is a new one.
    let it = driver(&issuer, &json!({"user": "claims.email"}));
    let (status, _) = post(&format!("{issuer}/test/rotate"), "").await;
    assert_eq!(status, 204);
    assert!(matches!(it.verify(&robot).await, Err(AuthError::Rejected)));
    assert!(
        it.verify(&robot_token(&issuer).await)
            .await
            .unwrap()
            .is_some()
    );

    // An address that the provider did not verify is none.
    let token = log_in(&it, &issuer, "approve?login=bob").await.unwrap();
    let bob = it
        .authenticate(Credentials::Jwt(token.token.expose()))
        .await;
    assert!(matches!(bob, Err(AuthError::Rejected)));
}
