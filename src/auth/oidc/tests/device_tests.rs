//! The device login against a provider that answers by a script. No test waits.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use storage_drivers::Secret;

use super::{
    super::device::{self, DeviceError, DeviceMetadata, DeviceToken},
    http,
};

/// A provider that gives these answers in turn, then closes.
fn provider(answers: Vec<String>) -> (DeviceMetadata, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    std::thread::spawn(move || {
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let mut text = String::new();
            // Until the form's last field has come: its length is in the head.
            loop {
                let mut bytes = [0; 4096];
                let count = connection.read(&mut bytes).unwrap();
                text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.to_lowercase();
                let length = length.split("content-length: ").nth(1).unwrap();
                let length = length.split("\r\n").next().unwrap();
                if body.len() >= length.parse::<usize>().unwrap() {
                    break;
                }
            }
            record.lock().unwrap().push(text);
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    let metadata = DeviceMetadata {
        issuer: url.clone(),
        client_id: "cli".into(),
        client_secret: Some(Secret::new("not secret")),
        scopes: vec!["openid".into(), "email".into()],
        device_authorization_endpoint: format!("{url}/device").parse().unwrap(),
        token_endpoint: format!("{url}/token").parse().unwrap(),
    };
    (metadata, seen)
}

fn begun(expires_in: u64, interval: Option<u64>) -> String {
    let mut answer = json!({
        "device_code": "secret-code", "user_code": "AB\u{1b}[2JCD", "verification_uri": "https://op.example/device",
        "expires_in": expires_in,
    });
    if let Some(interval) = interval {
        answer["interval"] = interval.into();
    }
    http("200 OK", &answer.to_string())
}

fn refusal(error: &str) -> String {
    http("400 Bad Request", &json!({"error": error}).to_string())
}

async fn log_in(metadata: &DeviceMetadata) -> (Result<DeviceToken, DeviceError>, Vec<u64>, String) {
    let waits = Mutex::new(Vec::new());
    let mut shown = String::new();
    let wait = |time: Duration| {
        waits.lock().unwrap().push(time.as_secs());
        std::future::ready(())
    };
    let client = device::client().unwrap();
    let show = |prompt: &device::DevicePrompt| shown = prompt.user_code.clone();
    let result = device::log_in_with(&client, metadata, show, wait).await;
    (result, waits.into_inner().unwrap(), shown)
}

#[tokio::test]
async fn it_waits_as_it_is_told_and_gives_the_id_token() {
    let tokens = json!({"id_token": "the-id-token", "access_token": "a", "token_type": "Bearer"});
    let (metadata, seen) = provider(vec![
        begun(300, Some(0)),
        refusal("authorization_pending"),
        refusal("slow_down"),
        refusal("authorization_pending"),
        http("200 OK", &tokens.to_string()),
    ]);
    let (result, waits, shown) = log_in(&metadata).await;
    let token = result.unwrap();
    assert!(token.is_id_token);
    assert_eq!(token.token.expose(), "the-id-token");
    assert!(!format!("{token:?}").contains("the-id-token"));
    assert_eq!(waits, [1, 1, 6, 6]);
    assert_eq!(shown, "AB[2JCD");
    let seen = seen.lock().unwrap();
    assert!(seen[0].starts_with("POST /device "), "{}", seen[0]);
    assert!(seen[0].contains("client_id=cli&client_secret=not+secret&scope=openid+email"));
    assert!(seen[1].starts_with("POST /token "), "{}", seen[1]);
    assert!(seen[1].contains("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code"));
    assert!(seen[1].contains("device_code=secret-code"));
}

#[tokio::test]
async fn it_ends_when_the_answer_is_no() {
    for (answers, expected) in [
        (
            vec![refusal("invalid_client")],
            "Refused(\"invalid_client\")",
        ),
        (vec![http("200 OK", "hello")], "Malformed"),
        (vec![begun(300, None), refusal("access_denied")], "Denied"),
        (vec![begun(300, None), refusal("expired_token")], "Expired"),
        (
            vec![begun(300, None), http("500 Oops", "oops")],
            "Malformed",
        ),
        (vec![begun(300, None), http("200 OK", "{}")], "Malformed"),
        (vec![begun(4, None)], "Expired"),
        (
            vec![
                begun(11, None),
                refusal("authorization_pending"),
                refusal("authorization_pending"),
            ],
            "Expired",
        ),
        (vec![begun(0, Some(0))], "Expired"),
    ] {
        let (metadata, _) = provider(answers);
        let (result, waits, _) = log_in(&metadata).await;
        assert_eq!(format!("{:?}", result.unwrap_err()), expected);
        assert!(waits.iter().all(|seconds| *seconds == 5), "{waits:?}");
    }
}

#[tokio::test]
async fn an_access_token_will_do_if_there_is_no_id_token() {
    let tokens = json!({"access_token": "a"}).to_string();
    let (metadata, _) = provider(vec![begun(300, Some(9_999)), http("200 OK", &tokens)]);
    let (result, waits, _) = log_in(&metadata).await;
    assert!(!result.unwrap().is_id_token);
    assert_eq!(waits, [60]);
}
