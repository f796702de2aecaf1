//! A cloud that misbehaves on purpose: it refuses, cuts off, says nothing, takes nothing. The real one is in
//! `tests/live`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::{SwiftConfig, SwiftDriver};
use crate::{ByteStream, ObjectKey, StorageDriver, StorageError, StorageResult, Tenant};

const KEY: ObjectKey = ObjectKey::Chunk(Uuid::from_u128(7));

fn tenant() -> Tenant {
    Tenant {
        account: "acme".to_owned(),
        auth_tenant_id: "t1".to_owned(),
    }
}

fn body_of(len: usize) -> ByteStream {
    let pieces = vec![Bytes::from_static(&[7; 65_536]); len / 65_536];
    stream::iter(pieces.into_iter().map(Ok)).boxed()
}

/// A request's first line and head, in lower case.
struct Seen(String);

impl Seen {
    fn of(connection: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        Some(Self(String::from_utf8(head).ok()?.to_lowercase()))
    }

    fn is(&self, method: &str, part: &str) -> bool {
        let line = self.0.lines().next().unwrap_or_default();
        line.starts_with(method) && line.contains(part)
    }

    /// The token, such as `token-1`.
    fn token(&self) -> &str {
        let rest = self
            .0
            .split_once("x-auth-token: ")
            .map_or("", |(_, rest)| rest);
        rest.split("\r\n").next().unwrap_or_default()
    }
}

fn plain(status: u16, headers: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n{body}"
    )
}

/// The container of `acme`.
const OURS: &str =
    "x-container-meta-kontor-account: acme\r\nx-container-meta-kontor-tenant: t1\r\n";

/// A driver on a cloud whose Keystone gives `token-1`, `token-2` ... and whose container is there; all else is
/// answered by `answer`, or it does as it likes with the connection and returns nothing.
fn cloud(
    answer: impl Fn(&Seen, &mut TcpStream) -> Option<String> + Send + Sync + 'static,
) -> SwiftDriver {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let catalogue = format!(
        r#"{{"token":{{"expires_at":"2999-01-01T00:00:00.000000Z","catalog":[{{"type":"object-store","endpoints":
        [{{"interface":"public","region":"R","region_id":"R","url":"{address}/v1/AUTH_p"}}]}}]}}}}"#
    );
    let (answer, tokens) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let (answer, tokens, catalogue) =
                (Arc::clone(&answer), Arc::clone(&tokens), catalogue.clone());
            std::thread::spawn(move || {
                let Some(seen) = Seen::of(&mut connection) else {
                    return;
                };
                let text = if seen.is("post", "/v3/auth/tokens") {
                    let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
                    let header = format!("x-subject-token: token-{number}\r\n");
                    Some(plain(201, &header, &catalogue))
                } else if seen.is("head", "/v1/auth_p/kontor-acme ") {
                    Some(plain(204, OURS, ""))
                } else {
                    answer(&seen, &mut connection)
                };
                if let Some(text) = text {
                    drop(connection.write_all(text.as_bytes()));
                }
            });
        }
    });
    let config = serde_json::json!({
        "auth_url": format!("{address}/v3"), "user": "u", "password": "hunter2", "project": "p",
    });
    SwiftDriver::open(
        &serde_json::from_value::<SwiftConfig>(config).unwrap(),
        None,
    )
    .unwrap()
}

fn label<T>(result: &StorageResult<T>) -> &'static str {
    result.as_ref().map_or_else(StorageError::label, |_| "ok")
}

async fn content(
    driver: &SwiftDriver,
    range: Option<std::ops::Range<u64>>,
) -> Result<Vec<u8>, String> {
    let stream = driver
        .read(&tenant(), &KEY, range)
        .await
        .map_err(|e| e.label().to_owned())?;
    let pieces: Vec<Bytes> = stream
        .try_collect()
        .await
        .map_err(|e| format!("cut: {e}"))?;
    Ok(pieces.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_length_never_looks_complete() {
    for (head, body) in [
        // Less than announced, and then nothing more.
        ("HTTP/1.1 200 x\r\ncontent-length: 10\r\n\r\n", "short"),
        (
            "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n",
            "5\r\nshort\r\n",
        ),
    ] {
        let text = format!("{head}{body}");
        let driver = cloud(move |_, _| Some(text.clone()));
        let seen = content(&driver, None).await;
        assert!(seen.is_err(), "{head}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_range_than_was_asked_for_is_refused() {
    for (status, headers, body, expected) in [
        // The whole instead of a part.
        (200, "", "0123456789", "failed"),
        (206, "content-range: bytes 2-3/20\r\n", "23", "temporary"),
        // The object ends before the range does.
        (
            206,
            "content-range: bytes 2-9/10\r\n",
            "23456789",
            "invalid_range",
        ),
        (416, "content-range: bytes */10\r\n", "", "invalid_range"),
        (503, "", "", "temporary"),
        (429, "", "", "temporary"),
        (498, "", "", "temporary"),
        (507, "", "", "full"),
        (403, "", "", "failed"),
        (404, "", "", "not_found"),
    ] {
        let driver = cloud(move |_, _| Some(plain(status, headers, body)));
        assert_eq!(
            content(&driver, Some(2..11)).await,
            Err(expected.to_owned()),
            "{status} {headers}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_replaced_once_and_no_more() {
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let seen_tokens = Arc::clone(&tokens);
    let driver = cloud(move |seen, _| {
        seen_tokens.lock().unwrap().push(seen.token().to_owned());
        let is_good = seen.token() == "token-2";
        Some(plain(if is_good { 200 } else { 401 }, "", "content"))
    });
    assert_eq!(content(&driver, None).await, Ok(b"content".to_vec()));
    assert_eq!(*tokens.lock().unwrap(), ["token-1", "token-2"]);
    // It is kept.
    assert_eq!(content(&driver, None).await, Ok(b"content".to_vec()));
    assert_eq!(tokens.lock().unwrap().len(), 3);

    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let driver = cloud(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Some(plain(401, "", ""))
    });
    assert_eq!(content(&driver, None).await, Err("temporary".to_owned()));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_in_the_middle_of_a_long_body_is_a_passing_failure() {
    let puts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&puts);
    let driver = cloud(move |seen, connection| {
        if seen.is("put", "chunks/") {
            count.fetch_add(1, Ordering::SeqCst);
            // All of it is read before the answer: a server that closes earlier may reset the connection, and then
            // nobody gets to know why.
            std::io::copy(&mut connection.take(1 << 20), &mut std::io::sink()).unwrap();
            let is_good = seen.token() != "token-1";
            return Some(plain(if is_good { 201 } else { 401 }, "", ""));
        }
        Some(plain(404, "", ""))
    });
    for expected in ["temporary", "ok"] {
        let body = body_of(1 << 20);
        let written = driver.write(&tenant(), &KEY, Some(1 << 20), body).await;
        assert_eq!(label(&written), expected);
    }
    assert_eq!(puts.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_removed_if_it_is_there_and_ours_only() {
    for is_ours in [true, false] {
        let (note, deletes) = (
            Arc::new(Mutex::new(String::new())),
            Arc::new(AtomicUsize::new(0)),
        );
        let (put_note, deleted) = (Arc::clone(&note), Arc::clone(&deletes));
        let driver = cloud(move |seen, connection| {
            if seen.is("put", "chunks/") {
                let rest = seen.0.split_once("kontor-write: ").unwrap().1;
                *put_note.lock().unwrap() = rest.split("\r\n").next().unwrap().to_owned();
                std::io::copy(&mut connection.take(1 << 20), &mut std::io::sink()).unwrap();
                // Stored, but the answer is lost.
                return None;
            }
            if seen.is("delete", "chunks/") {
                deleted.fetch_add(1, Ordering::SeqCst);
                return Some(plain(204, "", ""));
            }
            let note = put_note.lock().unwrap().clone();
            if note.is_empty() {
                return Some(plain(404, "", ""));
            }
            let note = if is_ours { note } else { "another".to_owned() };
            Some(plain(
                200,
                &format!("x-object-meta-kontor-write: {note}\r\n"),
                "",
            ))
        });
        let written = driver
            .write(&tenant(), &KEY, Some(1 << 20), body_of(1 << 20))
            .await;
        assert_eq!(label(&written), "temporary");
        assert_eq!(deletes.load(Ordering::SeqCst), usize::from(is_ours));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_stops_ends_the_request() {
    let sent = Arc::new(AtomicUsize::new(0));
    let (count, (over, ended)) = (Arc::clone(&sent), std::sync::mpsc::channel());
    let over = Mutex::new(over);
    let driver = cloud(move |_, connection| {
        connection
            .write_all(b"HTTP/1.1 200 x\r\ncontent-length: 1073741824\r\n\r\n")
            .unwrap();
        while connection.write_all(&[7; 65_536]).is_ok() {
            count.fetch_add(65_536, Ordering::SeqCst);
        }
        over.lock().unwrap().send(()).unwrap();
        None
    });
    let mut stream = driver.read(&tenant(), &KEY, None).await.unwrap();
    assert!(stream.try_next().await.unwrap().is_some());
    drop(stream);
    tokio::task::spawn_blocking(move || ended.recv_timeout(Duration::from_secs(20)))
        .await
        .unwrap()
        .expect("the server goes on sending");
    assert!(sent.load(Ordering::SeqCst) < 64 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystone_that_is_away_is_a_passing_failure_and_names_no_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v3", listener.local_addr().unwrap());
    drop(listener);
    let config = serde_json::json!({
        "auth_url": address, "user": "u", "password": "hunter2", "project": "p",
    });
    let driver = SwiftDriver::open(
        &serde_json::from_value::<SwiftConfig>(config).unwrap(),
        None,
    )
    .unwrap();
    let error = driver.check().await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    let text = format!("{error} {error:?} {driver:?}");
    assert!(
        text.contains("Keystone") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn parameters_that_cannot_be_are_refused() {
    let base = serde_json::json!({
        "auth_url": "http://k/v3", "user": "u", "password": "p", "project": "q",
    });
    let opened = |changes: serde_json::Value| {
        let mut config = base.clone();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        SwiftDriver::open(
            &serde_json::from_value::<SwiftConfig>(config).unwrap(),
            None,
        )
        .map(drop)
    };
    assert_eq!(label(&opened(serde_json::json!({}))), "ok");
    for changes in [
        serde_json::json!({ "container_prefix": "a/b" }),
        serde_json::json!({ "reseller_prefix": "../" }),
        serde_json::json!({ "temp_url_key_days": 0 }),
        serde_json::json!({ "password": null }),
        // A login without Keystone, Keystone without a login.
        serde_json::json!({ "auth_url": null }),
        serde_json::json!({ "user": null, "password": null, "project": null }),
        // Neither, and no shared session.
        serde_json::json!({ "auth_url": null, "user": null, "password": null, "project": null }),
        serde_json::json!({ "application_credential_id": "x", "application_credential_secret": "y" }),
    ] {
        assert_eq!(label(&opened(changes.clone())), "failed", "{changes}");
    }
}

#[test]
fn a_backend_without_a_login_takes_the_shared_session() {
    let config = |json| serde_json::from_value::<SwiftConfig>(json).unwrap();
    let login = serde_json::json!({ "auth_url": "http://k/v3", "user": "u", "password": "p", "project": "q" });
    let shared = serde_json::from_value::<crate::OpenStackConfig>(login.clone()).unwrap();
    let shared = Arc::new(crate::OpenStackSession::new(&shared).unwrap());
    let bare = SwiftDriver::open(&config(serde_json::json!({})), Some(&shared)).unwrap();
    assert!(Arc::ptr_eq(&bare.session, &shared));
    let own = SwiftDriver::open(&config(login), Some(&shared)).unwrap();
    assert!(!Arc::ptr_eq(&own.session, &shared));
}
