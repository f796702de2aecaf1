//! A Keystone that misbehaves on purpose, and one that counts. The real one is in `tests/it/identity`.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use storage_drivers::OpenStackConfig;

use super::*;
use crate::clock::ManualClock;

/// A request: its first line and head in lower case, and its body.
struct Seen {
    head: String,
    body: String,
}

impl Seen {
    fn of(connection: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?.to_lowercase();
        let length = header(&head, "content-length").parse().unwrap_or(0);
        let mut body = vec![0; length];
        connection.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).ok()?;
        Some(Self { head, body })
    }

    fn is_validation(&self) -> bool {
        self.head.starts_with("get ")
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines();
    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_default()
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n{body}"
    )
}

fn start() -> DateTime<Utc> {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn token() -> Value {
    json!({ "token": {
        "user": { "id": "u1", "name": "ann", "domain": { "id": "d1", "name": "d" } },
        "project": { "id": "p1", "name": "p", "domain": { "id": "d1", "name": "d" } },
        "roles": [{ "id": "r1", "name": "member" }],
        "expires_at": "2030-01-01T01:00:00.000000Z",
    } })
}

/// The token with some parts of it changed.
fn token_with(changes: &Value) -> String {
    let mut token = token();
    for (key, value) in changes.as_object().unwrap() {
        token["token"][key] = value.clone();
    }
    token.to_string()
}

struct Fake {
    driver: KeystoneDriver,
    clock: Arc<ManualClock>,
    /// How often users were asked about; logins of the service user do not count.
    asked: Arc<AtomicUsize>,
}

/// A driver before a Keystone that lets the service user log in, and answers all else with `reply`, or does as it likes
/// with the connection and returns nothing.
fn fake(reply: impl Fn(&Seen, usize) -> Option<String> + Send + Sync + 'static) -> Fake {
    fake_with(KeystoneConfig::default(), reply)
}

fn fake_with(
    config: KeystoneConfig,
    reply: impl Fn(&Seen, usize) -> Option<String> + Send + Sync + 'static,
) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let auth_url = format!("http://{}/v3", listener.local_addr().unwrap());
    let (asked, logins) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let (reply, logins) = (Arc::new(reply), Arc::new(logins));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let (reply, counted, logins) = (
                Arc::clone(&reply),
                Arc::clone(&counted),
                Arc::clone(&logins),
            );
            std::thread::spawn(move || {
                let Some(seen) = Seen::of(&mut connection) else {
                    return;
                };
                let text = if seen.body.contains("\"service\"") {
                    let number = logins.fetch_add(1, Ordering::SeqCst) + 1;
                    let body = json!({ "token": { "expires_at": "2999-01-01T00:00:00.000000Z", "catalog": [] } });
                    let subject = format!("x-subject-token: service-{number}\r\n");
                    Some(answer(201, &subject, &body.to_string()))
                } else {
                    reply(&seen, counted.fetch_add(1, Ordering::SeqCst))
                };
                if let Some(text) = text {
                    drop(connection.write_all(text.as_bytes()));
                }
            });
        }
    });
    let login = json!({ "auth_url": auth_url, "user": "service", "password": "hunter2", "project": "service" });
    let login: OpenStackConfig = serde_json::from_value(login).unwrap();
    let session = Arc::new(OpenStackSession::new(&login).unwrap());
    let clock = Arc::new(ManualClock::new(start()));
    let bounds = Bounds {
        calls: config.max_calls,
        wait: Duration::from_millis(300),
        answer: Duration::from_secs(2),
    };
    let used: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    Fake {
        driver: KeystoneDriver::bounded(&config, Some(&session), used, bounds).unwrap(),
        clock,
        asked,
    }
}

const NAME: &str = "ann@d/p";

impl Fake {
    async fn login(&self, user: &str, secret: &str) -> Result<Option<Identity>, AuthError> {
        self.driver
            .authenticate(Credentials::Password { user, secret })
            .await
    }

    async fn token(&self, token: &str) -> Result<Option<Identity>, AuthError> {
        self.driver
            .authenticate(Credentials::KeystoneToken(token))
            .await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn label(result: &Result<Option<Identity>, AuthError>) -> &'static str {
    match result {
        Ok(Some(_)) => "known",
        Ok(None) => "not ours",
        Err(AuthError::Rejected) => "rejected",
        Err(AuthError::Misused(_)) => "misused",
        Err(AuthError::Limited { .. }) => "limited",
        Err(AuthError::Unavailable(_)) => "unavailable",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keystone_answers_is_told_apart() {
    let good = token().to_string();
    for (status, body, at_login, at_token) in [
        (201, good.as_str(), "known", "unavailable"),
        (200, good.as_str(), "unavailable", "known"),
        (401, "", "rejected", "unavailable"),
        (404, "", "rejected", "rejected"),
        (403, "", "unavailable", "unavailable"),
        (400, "", "unavailable", "unavailable"),
        (300, "", "unavailable", "unavailable"),
        (302, "", "unavailable", "unavailable"),
        (413, "", "unavailable", "unavailable"),
        (429, "", "limited", "limited"),
        (500, "", "unavailable", "unavailable"),
        (502, "<html>", "unavailable", "unavailable"),
        (503, "", "unavailable", "unavailable"),
        (201, "{}", "unavailable", "unavailable"),
        (200, "<html>", "unavailable", "unavailable"),
        (201, "", "unavailable", "unavailable"),
    ] {
        let text = answer(status, "retry-after: 7\r\n", body);
        let fake = fake(move |_, _| Some(text.clone()));
        let login = fake.login(NAME, "hunter3").await;
        assert_eq!(label(&login), at_login, "login: {status} {body}");
        let by_token = fake.token("t").await;
        assert_eq!(label(&by_token), at_token, "token: {status} {body}");
        let shown = format!("{login:?} {by_token:?} {:?}", fake.driver);
        assert!(!shown.contains("hunter"), "{shown}");
        if let Err(AuthError::Limited { retry_after }) = login {
            assert_eq!(retry_after, Duration::from_secs(7));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_cut_answers_are_outages_within_bounds() {
    let silent = fake(|_, _| {
        std::thread::sleep(Duration::from_secs(10));
        None
    });
    let cut = fake(|_, _| Some("HTTP/1.1 201 x\r\ncontent-length: 100\r\n\r\n{".to_owned()));
    let endless = fake(|_, _| Some(answer(201, "", &" ".repeat(2 << 20))));
    for fake in [&silent, &cut, &endless] {
        let began = std::time::Instant::now();
        assert_eq!(label(&fake.login(NAME, "x").await), "unavailable");
        assert_eq!(label(&fake.token("t").await), "unavailable");
        assert!(
            began.elapsed() < Duration::from_secs(9),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_questions_than_keystone_is_to_be_asked_do_not_pile_up() {
    let config = KeystoneConfig {
        max_calls: 1,
        ..KeystoneConfig::default()
    };
    // The first question is answered when the second one was given up.
    let (answers, held) = std::sync::mpsc::channel::<()>();
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let held = Mutex::new(held);
    let fake = fake_with(config, move |_, _| {
        begun.send(()).unwrap();
        held.lock().unwrap().recv().unwrap();
        Some(answer(201, "", &token().to_string()))
    });
    let second = async {
        begins.recv().await.unwrap();
        let second = fake.login(NAME, "b").await;
        answers.send(()).unwrap();
        second
    };
    let (first, second) = tokio::join!(fake.login(NAME, "a"), second);
    assert_eq!([label(&first), label(&second)], ["known", "unavailable"]);
    assert_eq!(fake.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_what_keystone_says() {
    let fake = fake(|seen, _| {
        let body = token_with(&json!({
            "user": { "id": "u1", "name": "static:Ann/1@%", "domain": { "id": "d1", "name": "d" } },
            "is_admin_project": true,
            "application_credential": { "id": "c1", "name": "c", "restricted": true },
        }));
        assert!(seen.head.contains("?nocatalog") && seen.body.contains("\"secret\":\"s\""));
        Some(answer(201, "", &body))
    });
    let identity = fake
        .login("applicationcredential-c1", "s")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(identity.driver, "keystone");
    // A colon would let a domain's administrator make users who look like another driver's in policies.
    assert_eq!(identity.user, "static%3AAnn%2F1%40%25@d/p@d");
    assert_eq!(identity.policy_name(), identity.user);
    let Facts::Keystone { roles, attributes } = identity.facts else {
        panic!("{identity:?}");
    };
    assert_eq!(roles, ["member"]);
    let shown: Vec<String> = attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let expected = "application_credential_id=c1 is_admin_project=True project_domain_id=d1 project_domain_name=d \
                    project_id=p1 project_name=p user_domain_id=d1 user_domain_name=d user_id=u1 user_name=static:Ann/1@%";
    assert_eq!(shown.join(" "), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_worth_less_than_a_project_are_refused() {
    for (changes, expected) in [
        (json!({ "project": null }), "misused"),
        (
            json!({ "project": null, "domain": { "id": "d1" }, "roles": [] }),
            "misused",
        ),
        (
            json!({ "project": null, "system": { "all": true } }),
            "misused",
        ),
        (
            json!({ "project": { "id": "p", "name": "p", "domain": { "id": null, "name": null } } }),
            "misused",
        ),
        (
            json!({ "application_credential": { "id": "c", "access_rules": [] } }),
            "misused",
        ),
        (
            json!({ "application_credential": { "id": "c", "access_rules": null } }),
            "known",
        ),
        (json!({ "expires_at": "2029-12-31T23:59:00Z" }), "rejected"),
        // Clocks may differ.
        (json!({ "expires_at": "2029-12-31T23:59:45Z" }), "known"),
        (json!({ "expires_at": "soon" }), "unavailable"),
        (json!({ "roles": null }), "unavailable"),
    ] {
        let body = token_with(&changes);
        let fake = fake(move |_, _| Some(answer(200, "", &body)));
        assert_eq!(label(&fake.token("t").await), expected, "{changes}");
    }
    let fake = fake(|_, _| Some(answer(200, "", &token().to_string())));
    for unsendable in ["", "a b", "a\r\nx-y: z", "\u{e4}", &"x".repeat(17_000)] {
        assert_eq!(label(&fake.token(unsendable).await), "rejected");
    }
    assert_eq!(fake.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_for_somebody_else_is_no_login() {
    let fake = fake(|_, _| Some(answer(201, "", &token().to_string())));
    for other in [
        "bob@d/p",
        "ann@e/p@d",
        "ann@d/q",
        "ann@d/p@e",
        "applicationcredential-c1",
    ] {
        assert_eq!(
            label(&fake.login(other, "x").await),
            "unavailable",
            "{other}"
        );
    }
    // Databases that do not tell cases apart; the name is then Keystone's.
    let identity = fake.login("ANN@d/P@D", "x").await.unwrap().unwrap();
    assert_eq!(identity.user, "ann@d/p@d");
    assert_eq!(label(&fake.login("ann", "x").await), "not ours");
    assert_eq!(label(&fake.login("ann@d/p/q", "x").await), "misused");
    assert_eq!(label(&fake.login(NAME, "").await), "rejected");
    assert_eq!(
        label(&fake.driver.authenticate(Credentials::Jwt("x")).await),
        "not ours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_place_of_the_password_must_be_that_users_for_that_project() {
    let secret = format!("gAAAA{}", "x".repeat(180));
    let fake = fake(|seen, _| {
        assert!(seen.is_validation());
        Some(answer(200, "", &token().to_string()))
    });
    assert_eq!(label(&fake.login(NAME, &secret).await), "known");
    assert_eq!(label(&fake.login("ann@d/p@d", &secret).await), "known");
    for other in ["bob@d/p", "ann@e/p@d", "ann@d/q", "ann@d/p@e", "Ann@d/p"] {
        assert_eq!(
            label(&fake.login(other, &secret).await),
            "rejected",
            "{other}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_counts_for_the_configured_time_and_a_failure_for_two_seconds() {
    let fake = fake(|seen, _| {
        let is_right = seen.body.contains("right");
        Some(if is_right {
            answer(201, "", &token().to_string())
        } else {
            answer(401, "", "")
        })
    });
    for _ in 0..3 {
        assert_eq!(label(&fake.login(NAME, "right").await), "known");
        assert_eq!(label(&fake.login(NAME, "wrong").await), "rejected");
    }
    assert_eq!(fake.asked(), 2);
    // The same letters, divided otherwise.
    assert_eq!(label(&fake.login("ann@d/pr", "ight").await), "rejected");
    assert_eq!(fake.asked(), 3);
    fake.clock.advance(TimeDelta::seconds(2));
    assert_eq!(label(&fake.login(NAME, "wrong").await), "rejected");
    assert_eq!(fake.asked(), 4);
    fake.clock.advance(TimeDelta::milliseconds(27_999));
    assert_eq!(label(&fake.login(NAME, "right").await), "known");
    assert_eq!(fake.asked(), 4);
    fake.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(label(&fake.login(NAME, "right").await), "known");
    assert_eq!(fake.asked(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_never_counts_longer_than_its_token_nor_at_all_if_that_is_off() {
    let body = token_with(&json!({ "expires_at": "2030-01-01T00:00:10Z" }));
    let short = fake(move |_, _| Some(answer(200, "", &body)));
    assert_eq!(label(&short.token("t").await), "known");
    short.clock.advance(TimeDelta::seconds(9));
    assert_eq!(label(&short.token("t").await), "known");
    assert_eq!(short.asked(), 1);
    short.clock.advance(TimeDelta::seconds(1));
    assert_eq!(label(&short.token("t").await), "known");
    assert_eq!(short.asked(), 2);

    let config = KeystoneConfig {
        cache_seconds: 0,
        ..KeystoneConfig::default()
    };
    let off = fake_with(config, |_, _| Some(answer(201, "", &token().to_string())));
    for expected in 1..=3 {
        assert_eq!(label(&off.login(NAME, "x").await), "known");
        assert_eq!(off.asked(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_and_limits_are_not_remembered() {
    for first in [429, 503] {
        let fake = fake(move |_, count| {
            Some(match count {
                0 => answer(first, "", ""),
                _ => answer(201, "", &token().to_string()),
            })
        });
        assert_ne!(label(&fake.login(NAME, "x").await), "known");
        assert_eq!(label(&fake.login(NAME, "x").await), "known", "{first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_login_at_once_is_asked_once_and_a_client_that_leaves_takes_nothing_along() {
    let fake = Arc::new(fake(|_, _| {
        std::thread::sleep(Duration::from_millis(200));
        Some(answer(201, "", &token().to_string()))
    }));
    let login = || {
        let fake = Arc::clone(&fake);
        tokio::spawn(async move { label(&fake.login(NAME, "x").await) })
    };
    let logins: Vec<_> = (0..50).map(|_| login()).collect();
    for login in logins {
        assert_eq!(login.await.unwrap(), "known");
    }
    assert_eq!(fake.asked(), 1);

    fake.clock.advance(TimeDelta::seconds(60));
    let leaving = login();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let staying = login();
    tokio::time::sleep(Duration::from_millis(50)).await;
    leaving.abort();
    assert_eq!(staying.await.unwrap(), "known");
    assert_eq!(fake.asked(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_token_that_ended_is_renewed_once() {
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let seen_tokens = Arc::clone(&tokens);
    let fake = fake(move |seen, _| {
        let token = header(&seen.head, "x-auth-token").to_owned();
        let is_old = token == "service-1";
        seen_tokens.lock().unwrap().push(token);
        assert_eq!(header(&seen.head, "x-subject-token"), "t");
        assert_eq!(header(&seen.head, "openstack-identity-access-rules"), "1.0");
        Some(if is_old {
            answer(401, "", "")
        } else {
            answer(200, "", &self::token().to_string())
        })
    });
    assert_eq!(label(&fake.token("t").await), "known");
    assert_eq!(*tokens.lock().unwrap(), ["service-1", "service-2"]);
}

#[tokio::test]
async fn rights_are_those_of_the_policy_and_everywhere_is_no_project() {
    let fake = fake(|_, _| None);
    let identity = |role: &str| {
        let facts = Facts::Keystone {
            roles: vec![role.to_owned()],
            attributes: [("project_id".to_owned(), "p1".to_owned())].into(),
        };
        Identity::new(KEYSTONE, "ann@d/p@d", facts)
    };
    for (role, tenant, expected) in [
        ("member", "p1", true),
        ("member", "p2", false),
        ("member", ANY_AUTH_TENANT, false),
        ("admin", ANY_AUTH_TENANT, false),
        ("cloud_registry_admin", "p2", true),
        ("cloud_registry_admin", ANY_AUTH_TENANT, true),
        ("reader", "p1", false),
    ] {
        let permits = fake
            .driver
            .permits(&identity(role), Permission::Push, tenant)
            .await;
        assert_eq!(permits.unwrap(), expected, "{role} {tenant}");
    }
    let stranger = Identity {
        facts: Facts::Stored,
        ..identity("admin")
    };
    assert!(
        !fake
            .driver
            .permits(&stranger, Permission::Pull, "p1")
            .await
            .unwrap()
    );
}

#[test]
fn a_driver_that_cannot_be_is_refused() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(start()));
    let login = json!({ "auth_url": "http://k/v3", "user": "u", "password": "p", "project": "q" });
    let login: OpenStackConfig = serde_json::from_value(login).unwrap();
    let session = Arc::new(OpenStackSession::new(&login).unwrap());
    let made = |config: Value, session| {
        let config: KeystoneConfig = serde_json::from_value(config).unwrap();
        KeystoneDriver::new(&config, session, Arc::clone(&clock)).map_err(|error| error.to_string())
    };
    assert!(made(json!({}), Some(&session)).is_ok());
    assert!(made(json!({}), None).unwrap_err().contains("[openstack]"));
    for (config, expected) in [
        (
            json!({ "cache_seconds": 301 }),
            "auth.keystone.cache_seconds: at most 300",
        ),
        (json!({ "max_calls": 0 }), "auth.keystone.max_calls"),
        (json!({ "auth_url": "mailto:x" }), "auth_url"),
        (
            json!({ "policy_file": "/nowhere/policy.yaml" }),
            "/nowhere/policy.yaml",
        ),
    ] {
        let error = made(config, Some(&session)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert!(serde_json::from_value::<KeystoneConfig>(json!({ "cache_second": 1 })).is_err());
}
