//! Forged and misplaced tokens, injected scopes, doubled headers, a stolen database.

use std::{fs, path::Path};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use kontor::auth::signing_key::ensure_key_file;
use reqwest::Method;
use serde_json::{Value, json};

use super::{PULL, sent};
use crate::{
    support::{PASSWORD, TestRegistry},
    v2::helpers::claims,
};

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Signs with an Ed25519 key in a file.
fn signed(file: &Path, header: &Header, claims: &Value) -> String {
    let key = EncodingKey::from_ed_pem(&fs::read(file).unwrap()).unwrap();
    encode(header, claims, &key).unwrap()
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let token = registry.token("ann", &[PULL]).await;
    let (good, header) = (claims(&token), jsonwebtoken::decode_header(&token).unwrap());
    let kid = header.kid.clone().unwrap();
    let jwks = registry.anonymous(Method::GET, "/.well-known/jwks.json");
    let jwk = sent(jwks).await.1["keys"][0].clone();
    let x = jwk["x"].as_str().unwrap();
    let public = BASE64_URL_SAFE_NO_PAD.decode(x).unwrap();

    let mut forged = Vec::new();
    for alg in ["none", "None", "NONE", ""] {
        let head = part(&json!({ "alg": alg, "typ": "JWT", "kid": kid }));
        forged.push((format!("alg {alg:?}"), format!("{head}.{}.", part(&good))));
    }
    let mut symmetric = Header::new(Algorithm::HS256);
    symmetric.kid = Some(kid.clone());
    for secret in [public.as_slice(), x.as_bytes(), jwk.to_string().as_bytes()] {
        let key = EncodingKey::from_secret(secret);
        let token = encode(&symmetric, &good, &key).unwrap();
        forged.push(("HS256 with the public key".into(), token));
    }
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign.pem");
    ensure_key_file(&foreign).unwrap();
    forged.push((
        "a foreign key under our id".into(),
        signed(&foreign, &header, &good),
    ));
    // A key in the token's own header, or where that says.
    let body = signed(&foreign, &header, &good);
    for extra in [
        json!({ "jwk": jwk }),
        json!({ "jku": registry.url("/.well-known/jwks.json") }),
        json!({ "x5u": "http://127.0.0.1:1/" }),
        json!({ "kid": "../../../../dev/null" }),
        json!({ "kid": "' OR 1=1 --" }),
    ] {
        let mut head = json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid });
        for (name, value) in extra.as_object().unwrap() {
            head[name] = value.clone();
        }
        let parts: Vec<&str> = body.split('.').collect();
        let token = format!("{}.{}.{}", part(&head), parts[1], parts[2]);
        forged.push((extra.to_string(), token));
    }
    // Even our own key does not sign what we would not say.
    let ours = registry.config.data_dir.join("signing-key.pem");
    let control = signed(&ours, &header, &good);
    assert_eq!(
        registry.pull_status(&control).await,
        200,
        "our key signs well"
    );
    let now = registry.now().timestamp();
    for (member, value) in [
        ("nbf", json!(now + 120)),
        ("exp", json!(now - 1)),
        ("aud", json!("other.test")),
        ("aud", json!([good["aud"], "other.test"])),
        ("iss", json!("https://evil.example")),
        ("exp", Value::Null),
        ("aud", Value::Null),
        ("access", Value::Null),
    ] {
        let mut changed = good.clone();
        changed[member] = value.clone();
        if value.is_null() {
            changed.as_object_mut().unwrap().remove(member);
        }
        let token = signed(&ours, &header, &changed);
        forged.push((format!("{member} {value}"), token));
    }
    for (what, token) in forged {
        assert_eq!(registry.pull_status(&token).await, 401, "{what}: {token}");
    }
}

#[tokio::test]
async fn our_tokens_are_no_passwords() {
    let registry = TestRegistry::start().await;
    let access = registry.token("admin", &["repository:demo/app:*"]).await;
    for user in ["admin", "static:admin", "", "token"] {
        assert_eq!(registry.basic_status(user, &access).await, 401);
    }
    assert_eq!(registry.login("admin", &access, &[]).await.status(), 401);
    let bearer = registry.bearer(&access, Method::GET, "/token");
    assert_eq!(bearer.send().await.unwrap().status(), 401);
    for kind in ["jwt", "id_token", "access_token"] {
        let kind = format!("urn:ietf:params:oauth:token-type:{kind}");
        let form = [
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("subject_token_type", kind.as_str()),
            ("subject_token", access.as_str()),
        ];
        assert_eq!(registry.form(&form).await.0, 401);
        let named = [form[0], form[1], form[2], ("username", "admin")];
        assert_eq!(registry.form(&named).await.0, 401);
    }
}

#[tokio::test]
async fn a_scope_cannot_be_smuggled_in() {
    let registry = TestRegistry::start().await;
    for account in ["other", "demo2"] {
        let order = json!({ "auth_tenant_id": "other" });
        assert_eq!(registry.account(account, order).await.status(), 201);
    }
    for scope in [
        "repository:demo/app:pull repository:other/x:push",
        "repository:demo/app:pull\nrepository:other/x:push",
        "repository:demo/app:pull\r\nrepository:other/x:push",
        "repository:demo/app:pull\trepository:other/x:push",
        "repository:demo/app:pull,push\",\"name\":\"other/x",
        "repository:demo/app\"},{\"name\":\"other/x:push",
        "repository:demo/app:pull,repository:other/x:push",
        "repository:demo/app:pull:other/x:push",
        "repository:demo/../other/x:push",
        "repository:demo/app/../../other/x:push",
        "repository:other/x:push",
        "repository:other/*:pull",
        "repository:*:pull",
        "repository:*/*:pull",
        "repository:demo*:pull",
        "repository:demo2/x:pull",
        "repository:DEMO/app:pull",
        "repository:demo/app\0other/x:push",
        "repository:demo%2Fapp:pull",
        "registry:catalog:*,push",
    ] {
        let form = [
            ("grant_type", "password"),
            ("username", "ann"),
            ("password", PASSWORD),
            ("scope", scope),
        ];
        let (status, answer) = registry.form(&form).await;
        assert_eq!(status, 200, "{scope:?}");
        let claims = claims(answer["access_token"].as_str().unwrap());
        for access in claims["access"].as_array().unwrap() {
            let is_hers = access["name"] == "demo/app"
                || (access["name"] == "catalog" && access["actions"] == json!(["*"]));
            assert!(is_hers, "{scope:?}: {access}");
        }
    }
}

#[tokio::test]
async fn doubled_and_half_headers_are_refused_not_ignored() {
    let registry = TestRegistry::start().await;
    registry.allow_anonymous_pull(".*").await;
    registry.push_image("demo/app", "v1", 1).await;
    let ask = |path: &str, headers: &[(&'static str, &str)]| {
        let mut request = registry.anonymous(Method::GET, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        async move { request.send().await.unwrap() }
    };
    let basic = format!(
        "Basic {}",
        base64::prelude::BASE64_STANDARD.encode(format!("ann:{PASSWORD}"))
    );
    let basic = basic.as_str();
    for path in ["/v2/demo/app/tags/list", "/token", "/api/v1/me"] {
        for headers in [
            &[("Authorization", basic), ("Authorization", basic)][..],
            &[("Authorization", basic), ("Authorization", "Bearer x")],
            &[("Authorization", "keppel")],
            &[("Authorization", "keppel"), ("X-Auth-Token", "")],
            &[("Authorization", "keppel"), ("X-Auth-Token", "a b")],
            &[
                ("Authorization", "keppel"),
                ("X-Auth-Token", "a"),
                ("X-Auth-Token", "b"),
            ],
        ] {
            let answer = ask(path, headers).await;
            assert_eq!(answer.status(), 401, "{path} {headers:?}");
            let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("B"), "{challenge}");
        }
    }
    let doubled = [("X-Auth-Token", "a"), ("X-Auth-Token", "b")];
    assert_eq!(ask("/api/v1/me", &doubled).await.status(), 401);
    // On its own it means nothing to clients of the OCI API.
    let alone = [("X-Auth-Token", "a")];
    let answer = ask("/v2/demo/app/tags/list", &alone).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_stolen_database_holds_nothing_to_log_in_with() {
    let registry = TestRegistry::start().await;
    if registry.config.database.url.is_some() {
        return;
    }
    let password = registry.make_bob().await;
    let robot = registry
        .make_robot(json!({ "permissions": ["pull"] }))
        .await;
    let (id, personal) = registry.make_personal(json!({})).await;
    let refresh = registry.refresh_token("ann", &personal).await;
    let access = registry.token("ann", &[PULL]).await;
    let mut content = Vec::new();
    for entry in fs::read_dir(&registry.config.data_dir).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("kontor.db") {
            content.extend(fs::read(path).unwrap());
        }
    }
    let holds = |text: &str| {
        content
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(holds(&id), "the file is the right one");
    for secret in [&password, &robot, &personal, &refresh, &access] {
        assert!(!holds(secret));
        // Nor its second half: without a prefix, or without what a token says in clear.
        assert!(!holds(&secret[secret.len() / 2..]));
    }
}
