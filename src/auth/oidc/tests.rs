//! An issuer that misbehaves on purpose, and tokens that somebody forged. A real issuer is in `tests/it/identity`.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::{
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;
use crate::clock::ManualClock;

mod device_tests;

enum TestKey {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl TestKey {
    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::Ed(_) => "EdDSA",
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn jwk(&self, kid: &str) -> Json {
        match self {
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(pair.public_key())})
            }
            Self::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(x), "y": b64(y), "use": "sig"})
            }
            Self::Rsa(pair) => {
                let n = pair
                    .public_key()
                    .modulus()
                    .big_endian_without_leading_zero();
                json!({"kty": "RSA", "kid": kid, "n": b64(n), "e": "AQAB", "alg": "RS256", "use": "sig"})
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }

    fn token(&self, kid: &str, claims: &Json) -> String {
        self.token_with(
            &json!({"alg": self.alg(), "kid": kid, "typ": "JWT"}),
            claims,
        )
    }

    fn token_with(&self, header: &Json, claims: &Json) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", b64(signature))
    }
}

/// How an issuer behaves; tests change it while it runs.
#[derive(Default)]
struct Behaviour {
    jwks: String,
    /// Instead of the metadata.
    metadata: Option<String>,
    /// Instead of 200 with a body.
    raw: Option<String>,
    delay: Duration,
    calls: Vec<String>,
}

#[derive(Clone)]
struct Issuer {
    url: String,
    behaviour: Arc<Mutex<Behaviour>>,
}

fn http(status: &str, body: &str) -> String {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}")
}

impl Issuer {
    fn new(keys: &[Json]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            behaviour: Arc::default(),
        };
        issuer.publish(keys);
        let this = issuer.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (mut connection, this) = (connection.unwrap(), this.clone());
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if connection.read_exact(&mut byte).is_err() {
                            return;
                        }
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let (answer, delay) = this.answer(path);
                    std::thread::sleep(delay);
                    drop(connection.write_all(answer.as_bytes()));
                });
            }
        });
        issuer
    }

    fn answer(&self, path: String) -> (String, Duration) {
        let mut behaviour = self.behaviour.lock().unwrap();
        behaviour.calls.push(path.clone());
        let metadata = behaviour.metadata.clone().unwrap_or_else(|| {
            json!({
                "issuer": self.url, "jwks_uri": format!("{}/jwks", self.url),
                "token_endpoint": format!("{}/token", self.url),
                "device_authorization_endpoint": format!("{}/device", self.url),
            })
            .to_string()
        });
        let answer = match (&behaviour.raw, path.as_str()) {
            (Some(raw), _) => raw.clone(),
            (None, "/.well-known/openid-configuration") => http("200 OK", &metadata),
            (None, "/jwks") => http("200 OK", &behaviour.jwks),
            _ => http("404 Not Found", ""),
        };
        (answer, behaviour.delay)
    }

    fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    fn publish(&self, keys: &[Json]) {
        self.set(|it| it.jwks = json!({"keys": keys}).to_string());
    }

    fn calls(&self, path: &str) -> usize {
        let behaviour = self.behaviour.lock().unwrap();
        behaviour.calls.iter().filter(|call| *call == path).count()
    }

    /// Claims of a good token.
    fn claims(&self) -> Json {
        let now = start().timestamp();
        json!({"iss": self.url, "sub": "u1", "aud": "kontor", "exp": now + 300, "iat": now, "nbf": now})
    }

    fn claims_with(&self, changes: &Json) -> Json {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            }
        }
        claims
    }
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

struct Fixture {
    driver: OidcDriver,
    clock: Arc<ManualClock>,
}

fn open(configs: &[(&str, Json)]) -> Result<Fixture, ProviderError> {
    let clock = Arc::new(ManualClock::new(start()));
    let configs = configs.iter().map(|(name, config)| {
        let config = serde_json::from_value(config.clone()).unwrap();
        ((*name).to_owned(), config)
    });
    let limits = OutboundLimits {
        connect: Duration::from_millis(300),
        total: Duration::from_millis(300),
        body_bytes: 64 << 10,
    };
    let driver = OidcDriver::with_limits(configs.collect(), clock.clone(), limits)?;
    Ok(Fixture { driver, clock })
}

fn config(issuer: &Issuer, changes: &Json) -> Json {
    let mut config = json!({
        "issuer": issuer.url, "audiences": ["kontor"], "allow_http": true, "allow_private_addresses": true,
    });
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

fn driver(issuer: &Issuer, changes: &Json) -> Fixture {
    open(&[("corp", config(issuer, changes))]).unwrap()
}

impl Fixture {
    async fn outcome(&self, token: &str) -> &'static str {
        match self.driver.verify(token).await {
            Ok(Some(_)) => "ok",
            Ok(None) => "none",
            Err(AuthError::Rejected) => "rejected",
            Err(AuthError::Unavailable(_)) => "unavailable",
            Err(_) => "other",
        }
    }

    fn later(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }
}

#[tokio::test]
async fn a_good_token_of_each_kind_of_key_is_verified_and_remembered() {
    let keys = [TestKey::ed(), TestKey::ec(), TestKey::rsa()];
    let set: Vec<_> = keys.iter().map(|key| key.jwk(key.alg())).collect();
    let issuer = Issuer::new(&set);
    let it = driver(&issuer, &json!({}));
    for key in &keys {
        let token = key.token(key.alg(), &issuer.claims());
        let jwt = it.driver.verify(&token).await.unwrap().unwrap();
        assert_eq!(
            (jwt.provider.as_str(), jwt.subject.as_str()),
            ("corp", "u1")
        );
        assert_eq!(jwt.expires_at, start() + TimeDelta::seconds(300));
        assert!(it.driver.recognizes(&token));
        assert!(!format!("{jwt:?} {:?}", it.driver).contains("iat"));
        // Without the name of the key, a single one fits.
        let nameless = key.token_with(&json!({"alg": key.alg()}), &issuer.claims());
        assert_eq!(it.outcome(&nameless).await, "ok");
        let access = key.token_with(
            &json!({"alg": key.alg(), "typ": "at+jwt"}),
            &issuer.claims(),
        );
        assert_eq!(it.outcome(&access).await, "ok");
    }
    assert_eq!(issuer.calls("/jwks"), 1);
    assert_eq!(issuer.calls("/.well-known/openid-configuration"), 1);
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_for_other_drivers() {
    let key = TestKey::ed();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let it = driver(&issuer, &json!({}));
    let other = key.token(
        "k",
        &issuer.claims_with(&json!({"iss": "https://other.example"})),
    );
    let slash = key.token(
        "k",
        &issuer.claims_with(&json!({"iss": format!("{}/", issuer.url)})),
    );
    let nobody = key.token("k", &issuer.claims_with(&json!({"iss": null})));
    for token in [
        "hunter2",
        "",
        "a.b",
        "a.b.c",
        "eyes.and.ears",
        "ey..",
        &other,
        &slash,
        &nobody,
    ] {
        assert_eq!(it.outcome(token).await, "none", "{token}");
        assert!(!it.driver.recognizes(token));
    }
    assert!(issuer.behaviour.lock().unwrap().calls.is_empty());
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let (key, foreign) = (TestKey::ed(), TestKey::ed());
    let rsa = TestKey::rsa();
    let issuer = Issuer::new(&[key.jwk("k"), rsa.jwk("r")]);
    let it = driver(&issuer, &json!({}));
    let claims = issuer.claims();
    let good = key.token("k", &claims);
    assert_eq!(it.outcome(&good).await, "ok");
    let parts: Vec<&str> = good.split('.').collect();
    let other_claims = b64(issuer.claims_with(&json!({"sub": "admin"})).to_string());

    let none = |alg: &str| {
        format!(
            "{}.{}.",
            b64(json!({"alg": alg, "kid": "k"}).to_string()),
            parts[1]
        )
    };
    let hmac_with = |secret: &[u8], kid: &str| {
        let header = b64(json!({"alg": "HS256", "kid": kid, "typ": "JWT"}).to_string());
        let message = format!("{header}.{}", parts[1]);
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, secret),
            message.as_bytes(),
        );
        format!("{message}.{}", b64(tag))
    };
    let (TestKey::Ed(pair), TestKey::Rsa(rsa_pair)) = (&key, &rsa) else {
        unreachable!()
    };
    let rsa_der = rsa_pair.public_key().as_der().unwrap();
    let rsa_pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::prelude::BASE64_STANDARD.encode(rsa_der.as_ref())
    );
    for (what, token) in [
        ("none", none("none")),
        ("None", none("None")),
        ("no signature", none("EdDSA")),
        (
            "HMAC with the key's bytes",
            hmac_with(pair.public_key().as_ref(), "k"),
        ),
        (
            "HMAC with the JWK",
            hmac_with(key.jwk("k").to_string().as_bytes(), "k"),
        ),
        (
            "HMAC with the RSA key as PEM",
            hmac_with(rsa_pem.as_bytes(), "r"),
        ),
        ("HMAC with nothing", hmac_with(b"", "k")),
        ("foreign key", foreign.token("k", &claims)),
        (
            "key of another type",
            key.token_with(&json!({"alg": "EdDSA", "kid": "r"}), &claims),
        ),
        (
            "algorithm of another type",
            rsa.token_with(&json!({"alg": "EdDSA", "kid": "r"}), &claims),
        ),
        (
            "algorithm that is not pinned",
            rsa.token_with(&json!({"alg": "PS256", "kid": "r"}), &claims),
        ),
        (
            "other claims",
            format!("{}.{other_claims}.{}", parts[0], parts[2]),
        ),
        ("signature cut", good[..good.len() - 4].to_owned()),
        (
            "too long",
            key.token("k", &issuer.claims_with(&json!({"x": "x".repeat(17_000)}))),
        ),
    ] {
        assert_eq!(it.outcome(&token).await, "rejected", "{what}");
    }
}

#[tokio::test]
async fn nothing_in_a_header_helps_a_forger() {
    let (key, foreign) = (TestKey::ed(), TestKey::ed());
    let issuer = Issuer::new(&[key.jwk("k")]);
    let it = driver(&issuer, &json!({}));
    let claims = issuer.claims();
    let header = |changes: &Json| {
        let mut header = json!({"alg": "EdDSA", "kid": "k"});
        for (name, value) in changes.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    };
    let own_key = header(&json!({"kid": "mine", "jwk": foreign.jwk("mine")}));
    let own_url = header(
        &json!({"kid": "mine", "jku": "http://127.0.0.1:1/jwks", "x5u": "http://127.0.0.1:1/"}),
    );
    let own_chain = header(&json!({"kid": "mine", "x5c": ["AAAA"]}));
    for (what, token) in [
        (
            "foreign key in the header",
            foreign.token_with(&own_key, &claims),
        ),
        (
            "foreign key behind a URL",
            foreign.token_with(&own_url, &claims),
        ),
        ("foreign chain", foreign.token_with(&own_chain, &claims)),
        (
            "own key in the header, kid of the issuer's",
            foreign.token_with(&header(&json!({"jwk": foreign.jwk("k")})), &claims),
        ),
        (
            "critical header",
            key.token_with(&header(&json!({"crit": ["exp"], "exp": 1})), &claims),
        ),
        (
            "critical header without a name",
            key.token_with(&header(&json!({"crit": []})), &claims),
        ),
        (
            "critical header, null",
            key.token_with(&header(&json!({"crit": null})), &claims),
        ),
        (
            "type of another token",
            key.token_with(&header(&json!({"typ": "logout+jwt"})), &claims),
        ),
    ] {
        assert_eq!(it.outcome(&token).await, "rejected", "{what}");
    }
}

#[tokio::test]
async fn claims_must_be_right() {
    let key = TestKey::ed();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let settings = json!({
        "audiences": ["kontor", "kontor-2"], "client_id": "cli", "authorized_parties": ["portal"],
        "max_token_age_seconds": 600,
    });
    let it = driver(&issuer, &settings);
    let now = start().timestamp();
    let mut deep = json!(1);
    for _ in 0..20 {
        deep = json!([deep]);
    }
    let mut deeper = "[".repeat(200);
    deeper.push_str(&"]".repeat(200));
    for (changes, expected) in [
        (json!({}), "ok"),
        (json!({"aud": "kontor-2"}), "ok"),
        (json!({"aud": ["other", "kontor"]}), "ok"),
        (json!({"aud": "other"}), "rejected"),
        (json!({"aud": ["other"]}), "rejected"),
        (json!({"aud": []}), "rejected"),
        (json!({"aud": null}), "rejected"),
        (json!({"aud": {"kontor": 1}}), "rejected"),
        (json!({"aud": "KONTOR"}), "rejected"),
        (json!({"azp": "cli"}), "ok"),
        (json!({"azp": "kontor"}), "ok"),
        (json!({"azp": "portal"}), "ok"),
        (json!({"azp": "stranger"}), "rejected"),
        (json!({"azp": 1}), "rejected"),
        (json!({"sub": null}), "rejected"),
        (json!({"sub": ""}), "rejected"),
        (json!({"sub": 1}), "rejected"),
        (json!({"exp": now - 29}), "ok"),
        (json!({"exp": now - 30}), "rejected"),
        (json!({"exp": now + 1, "nbf": now + 30}), "ok"),
        (json!({"exp": 1.9e9}), "ok"),
        (json!({"exp": 1e300}), "ok"),
        (json!({"exp": (now + 300).to_string()}), "rejected"),
        (json!({"exp": null}), "rejected"),
        (json!({"nbf": now + 31}), "rejected"),
        (json!({"nbf": "soon"}), "rejected"),
        (json!({"nbf": null}), "ok"),
        (json!({"iat": now + 31}), "rejected"),
        (json!({"iat": now - 630}), "ok"),
        (json!({"iat": now - 631}), "rejected"),
        (json!({"iat": null}), "rejected"),
        (json!({"groups": vec!["g"; 512]}), "ok"),
        (json!({"groups": vec!["g"; 513]}), "rejected"),
        (json!({"deep": deep}), "rejected"),
    ] {
        let token = key.token("k", &issuer.claims_with(&changes));
        assert_eq!(it.outcome(&token).await, expected, "{changes}");
    }
    // The party of an access token is whoever asked for it.
    let access = json!({"alg": "EdDSA", "kid": "k", "typ": "at+JWT"});
    let token = key.token_with(&access, &issuer.claims_with(&json!({"azp": "stranger"})));
    assert_eq!(it.outcome(&token).await, "ok");
    let text = issuer
        .claims()
        .to_string()
        .replace("\"u1\"", &format!("\"u1\",\"x\":{deeper}"));
    let message = format!("{}.{}", b64(r#"{"alg":"EdDSA","kid":"k"}"#), b64(text));
    let signature = b64(key.sign(message.as_bytes()));
    assert_eq!(it.outcome(&format!("{message}.{signature}")).await, "none");
}

#[tokio::test]
async fn a_remembered_token_ends_with_itself_and_with_its_key() {
    let (old, new) = (TestKey::ed(), TestKey::ed());
    let issuer = Issuer::new(&[old.jwk("old")]);
    let it = driver(&issuer, &json!({"clock_skew_seconds": 0}));
    let short = old.token(
        "old",
        &issuer.claims_with(&json!({"exp": start().timestamp() + 20})),
    );
    let long = old.token(
        "old",
        &issuer.claims_with(&json!({"exp": start().timestamp() + 90_000})),
    );
    assert_eq!(it.outcome(&short).await, "ok");
    assert_eq!(it.outcome(&long).await, "ok");
    it.later(20);
    assert_eq!(it.outcome(&short).await, "rejected");
    // The key is withdrawn; the next look at the set is when something unknown comes, or after an hour.
    issuer.publish(&[new.jwk("new")]);
    assert_eq!(it.outcome(&new.token("new", &issuer.claims())).await, "ok");
    assert_eq!(it.outcome(&long).await, "ok");
    it.later(61);
    assert_eq!(it.outcome(&long).await, "rejected");
    assert_eq!(issuer.calls("/jwks"), 3);
}

#[tokio::test]
async fn invented_key_names_do_not_hammer_the_issuer() {
    let key = TestKey::ed();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let it = driver(&issuer, &json!({}));
    for round in 0..3 {
        for number in 0..50 {
            let kid = format!("{round}-{number}");
            assert_eq!(
                it.outcome(&key.token(&kid, &issuer.claims())).await,
                "rejected"
            );
        }
        it.later(10);
    }
    assert_eq!(issuer.calls("/jwks"), 3);
    // Tokens that are no good anyway make no call at all.
    let expired = issuer.claims_with(&json!({"exp": 1}));
    assert_eq!(it.outcome(&key.token("x", &expired)).await, "rejected");
    assert_eq!(issuer.calls("/jwks"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_make_one_call_and_one_who_leaves_stops_nobody() {
    let key = TestKey::ed();
    let issuer = Issuer::new(&[key.jwk("k")]);
    issuer.set(|it| it.delay = Duration::from_millis(60));
    let it = Arc::new(driver(&issuer, &json!({})));
    let token = key.token("k", &issuer.claims());
    let gone = tokio::time::timeout(Duration::from_millis(10), it.driver.verify(&token)).await;
    assert!(gone.is_err());
    let others = (0..20).map(|_| {
        let (it, token) = (Arc::clone(&it), token.clone());
        tokio::spawn(async move { it.outcome(&token).await })
    });
    for other in futures::future::join_all(others).await {
        assert_eq!(other.unwrap(), "ok");
    }
    assert_eq!(issuer.calls("/jwks"), 1);
}

#[tokio::test]
async fn keys_outlive_an_outage_but_not_a_day_of_it() {
    let key = TestKey::ed();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let it = driver(&issuer, &json!({}));
    let token = key.token(
        "k",
        &issuer.claims_with(&json!({"exp": start().timestamp() + 900_000})),
    );
    let unknown = key.token(
        "u",
        &issuer.claims_with(&json!({"exp": start().timestamp() + 900_000})),
    );
    assert_eq!(it.outcome(&token).await, "ok");
    it.later(3599);
    assert_eq!(it.outcome(&token).await, "ok");
    assert_eq!(issuer.calls("/jwks"), 1);
    it.later(61);
    assert_eq!(it.outcome(&token).await, "ok");
    assert_eq!(issuer.calls("/jwks"), 2);
    issuer.set(|it| it.raw = Some(http("503 Service Unavailable", "")));
    it.later(3600 * 23);
    assert_eq!(it.outcome(&token).await, "ok");
    // Whether the issuer has it cannot be said.
    assert_eq!(it.outcome(&unknown).await, "unavailable");
    it.later(3600);
    assert_eq!(it.outcome(&token).await, "unavailable");
    issuer.set(|it| it.raw = None);
    it.later(10);
    assert_eq!(it.outcome(&token).await, "ok");
    assert_eq!(it.outcome(&unknown).await, "rejected");
}

#[tokio::test]
async fn an_issuer_that_misbehaves_is_not_believed() {
    let key = TestKey::ed();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let claims = issuer.claims();
    let token = key.token("k", &claims);
    let metadata = |issuer_url: &str, jwks: &str| {
        let text = json!({"issuer": issuer_url, "jwks_uri": jwks}).to_string();
        (Some(text), None, Duration::ZERO)
    };
    let url = issuer.url.as_str();
    let elsewhere = Issuer::new(&[key.jwk("k")]);
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}/jwks\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        elsewhere.url
    );
    let raw = |text: String| (None, Some(text), Duration::ZERO);
    for (what, (metadata, raw, delay)) in [
        (
            "other issuer",
            metadata("https://other.example", &format!("{url}/jwks")),
        ),
        (
            "issuer with a slash",
            metadata(&format!("{url}/"), &format!("{url}/jwks")),
        ),
        (
            "keys at a link-local address",
            metadata(url, "http://169.254.169.254/jwks"),
        ),
        ("keys at a file", metadata(url, "file:///etc/passwd")),
        ("keys nowhere", metadata(url, &format!("{url}/nowhere"))),
        ("no metadata", raw(http("200 OK", "hello"))),
        (
            "no set",
            raw(http(
                "200 OK",
                &json!({"issuer": url, "jwks_uri": format!("{url}/x"), "keys": 1}).to_string(),
            )),
        ),
        ("redirect", raw(redirect)),
        ("huge", raw(http("200 OK", &"x".repeat(65 << 10)))),
        (
            "cut",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned()),
        ),
        ("no HTTP", raw("hello".to_owned())),
        ("slow", (None, None, Duration::from_millis(600))),
    ] {
        issuer.set(|it| (it.metadata, it.raw, it.delay) = (metadata, raw, delay));
        let it = driver(&issuer, &json!({}));
        let began = std::time::Instant::now();
        assert_eq!(it.outcome(&token).await, "unavailable", "{what}");
        assert!(began.elapsed() < Duration::from_secs(2), "{what}");
    }
    assert!(elsewhere.behaviour.lock().unwrap().calls.is_empty());
}

#[tokio::test]
async fn private_addresses_are_refused_unless_the_operator_allows_them() {
    let key = TestKey::ed();
    let issuer = Issuer::new(&[key.jwk("k")]);
    // Written out: an error at start.
    let literal = config(&issuer, &json!({"allow_private_addresses": false}));
    let failed = open(&[("corp", literal)]).map(|_| ()).unwrap_err();
    assert!(
        failed.to_string().contains("auth.oidc.corp.issuer"),
        "{failed}"
    );
    // By name, for the issuer, and for the keys that a good issuer points to.
    let port = issuer.url.rsplit_once(':').unwrap().1;
    let name = format!("http://localhost:{port}");
    for jwks in [json!(null), json!(format!("{name}/jwks"))] {
        let changes = json!({"issuer": name, "allow_private_addresses": false, "jwks_uri": jwks});
        let it = driver(&issuer, &changes);
        let token = key.token("k", &issuer.claims_with(&json!({"iss": name})));
        assert_eq!(it.outcome(&token).await, "unavailable");
    }
    assert!(issuer.behaviour.lock().unwrap().calls.is_empty());
    // Plain HTTP is another permission.
    let plain = config(&issuer, &json!({"allow_http": false}));
    assert!(open(&[("corp", plain)]).is_err());
}

#[tokio::test]
async fn keys_that_are_not_fit_are_left_out() {
    let key = TestKey::ec();
    let rsa = TestKey::rsa();
    let with = |key: &TestKey, changes: &Json| {
        let mut jwk = key.jwk("k");
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    };
    let small = b64([0xff; 128]);
    let padded = b64([[0; 128], [0xff; 128]].concat());
    for (key, changes, expected) in [
        (&key, json!({}), "ok"),
        (&key, json!({"use": "enc"}), "rejected"),
        (&key, json!({"key_ops": ["sign"]}), "rejected"),
        (&key, json!({"key_ops": ["verify"]}), "ok"),
        (&key, json!({"alg": "ES256"}), "ok"),
        (&key, json!({"alg": "ES384"}), "rejected"),
        (&key, json!({"alg": "HS256"}), "rejected"),
        (&key, json!({"crv": "P-384"}), "rejected"),
        (&key, json!({"kty": "oct", "k": "c2VjcmV0"}), "rejected"),
        (&key, json!({"x": 1}), "rejected"),
        (&key, json!({"x": "AAAA"}), "rejected"),
        (&key, json!({"kid": "other"}), "rejected"),
        (&key, json!({"kid": null}), "ok"),
        (&rsa, json!({"alg": null}), "ok"),
        (&rsa, json!({"alg": "RS512"}), "rejected"),
        (&rsa, json!({"n": small}), "rejected"),
        (&rsa, json!({"n": padded}), "rejected"),
    ] {
        let issuer = Issuer::new(&[
            json!("nonsense"),
            json!({"kty": "new"}),
            with(key, &changes),
        ]);
        let it = driver(&issuer, &json!({}));
        let token = key.token("k", &issuer.claims());
        assert_eq!(it.outcome(&token).await, expected, "{changes}");
    }
    // Two keys of one name are no key.
    let issuer = Issuer::new(&[key.jwk("k"), TestKey::ec().jwk("k")]);
    let it = driver(&issuer, &json!({}));
    assert_eq!(
        it.outcome(&key.token("k", &issuer.claims())).await,
        "rejected"
    );
}

#[test]
fn settings_are_checked_at_start() {
    let issuer = Issuer::new(&[]);
    for (changes, key) in [
        (json!({"audiences": []}), "audiences"),
        (json!({"audiences": [""]}), "audiences"),
        (json!({"algorithms": ["HS256"]}), "algorithms"),
        (json!({"algorithms": ["none"]}), "algorithms"),
        (json!({"algorithms": []}), "algorithms"),
        (json!({"clock_skew_seconds": 301}), "clock_skew_seconds"),
        (json!({"max_token_age_seconds": 0}), "max_token_age_seconds"),
        (json!({"issuer": "corp"}), "issuer"),
        (json!({"issuer": "https://corp.example/?a"}), "issuer"),
        (json!({"issuer": "https://169.254.169.254"}), "issuer"),
        (json!({"jwks_uri": "ftp://corp.example/"}), "jwks_uri"),
        (json!({"user": "claims."}), "user"),
        (json!({"groups": "group"}), "groups"),
        (json!({"grants": "roles"}), "grants"),
        (json!({"user": "groups"}), "user"),
    ] {
        let failed = open(&[("corp", config(&issuer, &changes))])
            .map(|_| ())
            .unwrap_err();
        let start = format!("auth.oidc.corp.{key}: ");
        assert!(failed.to_string().starts_with(&start), "{failed}");
    }
    let twin = config(&issuer, &json!({}));
    assert!(open(&[("a", twin.clone()), ("b", twin.clone())]).is_err());
    assert!(open(&[("a/b", twin)]).is_err());
    let misspelt = config(&issuer, &json!({"audience": ["kontor"]}));
    assert!(serde_json::from_value::<ProviderConfig>(misspelt).is_err());
    let text = format!(
        "{:?}",
        serde_json::from_value::<ProviderConfig>(config(
            &issuer,
            &json!({"client_secret": "hunter2"})
        ))
        .unwrap()
    );
    assert!(!text.contains("hunter2"));
}

#[tokio::test]
async fn one_issuer_may_have_people_and_machines_by_audience() {
    let key = TestKey::ed();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let people = config(&issuer, &json!({"audiences": ["people"]}));
    let machines = config(
        &issuer,
        &json!({"audiences": ["machines"], "people": false}),
    );
    let it = open(&[("people", people), ("machines", machines)]).unwrap();
    assert_eq!(it.driver.people_providers().collect::<Vec<_>>(), ["people"]);
    for (audience, expected) in [
        (json!("people"), Some(true)),
        (json!(["machines"]), Some(false)),
    ] {
        let token = key.token("k", &issuer.claims_with(&json!({"aud": audience})));
        let jwt = it.driver.verify(&token).await.unwrap().unwrap();
        assert_eq!(Some(it.driver.person(&jwt).unwrap().is_some()), expected);
        let offered = it
            .driver
            .authenticate(Credentials::Jwt(&token))
            .await
            .unwrap();
        assert_eq!(Some(offered.is_some()), expected);
    }
    let both = key.token(
        "k",
        &issuer.claims_with(&json!({"aud": ["people", "machines"]})),
    );
    assert_eq!(it.outcome(&both).await, "rejected");
}

#[tokio::test]
async fn a_person_logs_in_by_a_token_with_their_name_or_any() {
    let key = TestKey::ed();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let settings = json!({
        "user": "claims.preferred_username",
        "grants": "claims.roles.map(r, {'auth_tenant_id': r, 'permissions': ['pull']})",
    });
    let it = driver(&issuer, &settings);
    let person = json!({"preferred_username": "ann", "roles": ["t1"]});
    let token = key.token("k", &issuer.claims_with(&person));
    let offered = it.driver.authenticate(Credentials::Jwt(&token)).await;
    let ann = offered.unwrap().unwrap();
    assert_eq!(ann.policy_name(), "oidc.corp:ann");
    assert!(it.driver.still_knows(&ann).await.unwrap());
    // Of a provider that the operator has taken out, or that never had people.
    for other in ["oidc.gone", "oidc", "oidcx.corp", "corp"] {
        let mut eve = ann.clone();
        eve.driver = other.to_owned();
        assert!(!it.driver.still_knows(&eve).await.unwrap(), "{other}");
        let may = it.driver.permits(&eve, Permission::Pull, "t1").await;
        assert!(!may.unwrap(), "{other}");
    }
    for (permission, tenant, expected) in [
        (Permission::Pull, "t1", true),
        (Permission::Push, "t1", false),
        (Permission::Pull, "t2", false),
        (Permission::Pull, "*", false),
    ] {
        assert_eq!(
            it.driver.permits(&ann, permission, tenant).await.unwrap(),
            expected
        );
    }
    for user in ["ann", "oidc"] {
        let offered = Credentials::Password {
            user,
            secret: &token,
        };
        assert_eq!(
            it.driver.authenticate(offered).await.unwrap().as_ref(),
            Some(&ann)
        );
    }
    let offered = Credentials::Password {
        user: "bob",
        secret: &token,
    };
    let Err(AuthError::Misused(text)) = it.driver.authenticate(offered).await else {
        panic!("ann's token was bob's");
    };
    assert!(!text.contains("ann"), "{text}");
    for offered in [
        Credentials::Password {
            user: "ann",
            secret: "hunter2",
        },
        Credentials::Jwt("hunter2"),
        Credentials::KeystoneToken(&token),
    ] {
        assert_eq!(it.driver.authenticate(offered).await.unwrap(), None);
    }
    let slash = json!({"preferred_username": "corp/ann", "roles": []});
    let slash = key.token("k", &issuer.claims_with(&slash));
    let Err(AuthError::Misused(text)) = it.driver.authenticate(Credentials::Jwt(&slash)).await
    else {
        panic!("a name with a slash was taken");
    };
    assert!(text.contains("corp/ann"));
    let poor = key.token(
        "k",
        &issuer.claims_with(&json!({"preferred_username": "ann"})),
    );
    let failed = it.driver.authenticate(Credentials::Jwt(&poor)).await;
    assert!(matches!(failed, Err(AuthError::Rejected)));
}

#[tokio::test]
async fn a_command_line_is_told_where_to_log_in() {
    let issuer = Issuer::new(&[]);
    let it = driver(&issuer, &json!({"client_id": "cli"}));
    let found = it.driver.device_metadata("corp").await.unwrap().unwrap();
    assert_eq!(
        found.token_endpoint.as_str(),
        format!("{}/token", issuer.url)
    );
    assert_eq!((found.client_id.as_str(), found.scopes.len()), ("cli", 3));
    assert!(it.driver.device_metadata("other").await.unwrap().is_none());
    let it = driver(&issuer, &json!({}));
    assert!(it.driver.device_metadata("corp").await.unwrap().is_none());
    issuer.set(|it| it.raw = Some(http("500 Oops", "")));
    let it = driver(&issuer, &json!({"client_id": "cli"}));
    let failed = it.driver.device_metadata("corp").await;
    assert!(matches!(failed, Err(AuthError::Unavailable(_))));
}
