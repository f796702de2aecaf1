//! Bodies of an announced length, which go out as they come in, to servers that answer too early, too late or not.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::fake::{Seen, body_of, error, plain, served, server};
use super::{KEY, config, label, tenant};
use crate::{ByteStream, S3Config, S3Driver, StorageDriver, StorageResult};

const SIZE: usize = 64 << 20;

/// Writes a body that is said to have `SIZE` bytes.
async fn written(driver: &S3Driver, body: ByteStream) -> StorageResult<u64> {
    let size = Some(SIZE as u64);
    driver.write(&tenant("acct"), &KEY, size, body).await
}

fn is_object(seen: &Seen) -> bool {
    seen.is("put", "chunks/")
}

/// The headers of the request that writes a body of `size` bytes, without those that are always others.
async fn headers_of(change: fn(S3Config) -> S3Config, size: usize) -> BTreeMap<String, String> {
    let head = Arc::new(Mutex::new(String::new()));
    let seen_head = Arc::clone(&head);
    let endpoint = served(
        |_| true,
        move |seen, _| {
            if !is_object(seen) {
                return Some(error(404, "NoSuchKey"));
            }
            seen_head.lock().unwrap().clone_from(&seen.head);
            Some(plain(200, "etag: \"e\"\r\n", ""))
        },
    );
    let driver = S3Driver::open(&change(config(&endpoint))).unwrap();
    let (tenant, announced) = (tenant("acct"), Some(size as u64));
    let written = driver.write(&tenant, &KEY, announced, body_of(size)).await;
    assert_eq!(written.unwrap(), size as u64);
    let head = head.lock().unwrap().clone();
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    headers
        .map(|(name, value)| match name {
            "authorization" => (name, value.split("signature").next().unwrap()),
            "host" | "content-length" | "x-amz-date" | "x-amz-meta-kontor-write" => (name, ""),
            _ => (name, value),
        })
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_written_alike_whatever_their_size() {
    let changes: [fn(S3Config) -> S3Config; 3] = [
        |config| config,
        |config| S3Config {
            conditional_writes: false,
            server_side_encryption: Some("AES256".to_owned()),
            ..config
        },
        |config| S3Config {
            server_side_encryption: Some("aws:kms".to_owned()),
            kms_key_id: Some("the-key".to_owned()),
            storage_class: Some("STANDARD_IA".to_owned()),
            session_token: Some(crate::Secret::new("the-token")),
            ..config
        },
    ];
    for change in changes {
        let small = headers_of(change, 10).await;
        assert_eq!(small["x-amz-content-sha256"], "unsigned-payload");
        assert_eq!(headers_of(change, SIZE).await, small);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_the_body_counts() {
    let cases = [
        (403, "AccessDenied", "failed"),
        (404, "NoSuchBucket", "failed"),
        (503, "SlowDown", "temporary"),
        (412, "PreconditionFailed", "already_exists"),
        (403, "QuotaExceeded", "quota"),
        (200, "", "failed"),
    ];
    for (status, code, outcome) in cases {
        for taken in [0, 1 << 20] {
            let endpoint = served(
                |seen| !is_object(seen),
                move |seen, connection| {
                    if !is_object(seen) {
                        return Some(error(404, "NoSuchKey"));
                    }
                    io::copy(&mut (&*connection).take(taken), &mut io::sink()).unwrap();
                    connection
                        .write_all(error(status, code).as_bytes())
                        .unwrap();
                    // As servers do: an end of the connection could overtake the answer.
                    std::thread::sleep(Duration::from_millis(500));
                    None
                },
            );
            let driver = S3Driver::open(&config(&endpoint)).unwrap();
            let error = written(&driver, body_of(SIZE)).await.unwrap_err();
            let text = format!("{error:?}");
            assert_eq!(error.label(), outcome, "{status} {taken} {text}");
            assert!(!text.contains("Backend") || text.contains(code), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_makes_it_look_for_the_reason() {
    let other = plain(200, "x-amz-meta-kontor-write: other\r\n", "");
    let cases = [
        (plain(403, "", ""), "failed"),
        (plain(404, "", ""), "temporary"),
        (plain(503, "", ""), "temporary"),
        (other, "already_exists"),
    ];
    for (answer, outcome) in cases {
        let endpoint = served(
            |seen| !is_object(seen),
            move |seen, _| (!is_object(seen)).then(|| answer.clone()),
        );
        let driver = S3Driver::open(&config(&endpoint)).unwrap();
        assert_eq!(label(written(&driver, body_of(SIZE)).await), outcome);
    }
}

/// A body that sends something and then does as `end` does.
fn body_then(
    len: usize,
    end: impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> ByteStream {
    body_of(len).chain(end).boxed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_wrong_is_cut_off_and_what_a_server_makes_of_it_removed() {
    for stores in [false, true] {
        let broken = || {
            body_then(
                SIZE - 1,
                stream::iter([Err(io::ErrorKind::TimedOut.into())]),
            )
        };
        let cases = [
            (body_of(SIZE - 1), "size_mismatch"),
            (body_of(SIZE + 1), "size_mismatch"),
            (broken(), "body"),
            // The caller goes away.
            (body_then(SIZE - 1, stream::pending()), "ok"),
        ];
        for (body, outcome) in cases {
            let (note, is_removed, longest) = <(
                Arc<Mutex<Option<String>>>,
                Arc<AtomicBool>,
                Arc<AtomicUsize>,
            )>::default();
            let (noted, removed, most) = (
                Arc::clone(&note),
                Arc::clone(&is_removed),
                Arc::clone(&longest),
            );
            let reads = move |seen: &Seen| {
                if is_object(seen) {
                    // Stored with its first byte: the look may come before the end is seen here.
                    *noted.lock().unwrap() = seen.note().filter(|_| stores);
                }
                true
            };
            let endpoint = served(reads, move |seen, _| {
                if is_object(seen) {
                    most.fetch_max(seen.body_bytes as usize, Ordering::SeqCst);
                    return None;
                }
                if seen.is("delete", "chunks/") {
                    removed.store(true, Ordering::SeqCst);
                    return Some(plain(204, "", ""));
                }
                Some(match note.lock().unwrap().as_ref() {
                    Some(note) => plain(200, note, ""),
                    None => error(404, "NoSuchKey"),
                })
            });
            let driver = S3Driver::open(&config(&endpoint)).unwrap();
            let write = written(&driver, body);
            match tokio::time::timeout(Duration::from_secs(1), write).await {
                Ok(written) => assert_eq!(label(written), outcome),
                Err(_) => assert_eq!(outcome, "ok"),
            }
            for _ in 0..50 {
                if is_removed.load(Ordering::SeqCst) == stores && longest.load(Ordering::SeqCst) > 0
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(is_removed.load(Ordering::SeqCst), stores, "{outcome}");
            assert!((1..SIZE).contains(&longest.load(Ordering::SeqCst)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_which_nothing_comes_is_no_request() {
    let driver = server(|_, _| Some(plain(200, "", "")));
    let broken = stream::iter([Err(io::ErrorKind::TimedOut.into())]);
    for (body, outcome) in [(body_of(0), "size_mismatch"), (broken.boxed(), "body")] {
        assert_eq!(label(written(&driver, body).await), outcome);
    }
    // Its beginning comes with the head.
    let (sent, heads) = std::sync::mpsc::channel();
    let sent = Mutex::new(sent);
    let endpoint = served(
        |seen| !is_object(seen),
        move |seen, connection| {
            if is_object(seen) {
                connection.set_nonblocking(true).unwrap();
                let len = connection.read(&mut [0; 10]).unwrap_or(0);
                sent.lock().unwrap().send(len).unwrap();
            }
            Some(error(403, "AccessDenied"))
        },
    );
    let driver = S3Driver::open(&config(&endpoint)).unwrap();
    let body = body_then(10, stream::pending());
    assert_eq!(label(written(&driver, body).await), "failed");
    assert_eq!(heads.recv().unwrap(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_nothing_for_too_long_is_to_blame() {
    // A server that takes nothing.
    let endpoint = served(
        |seen| !is_object(seen),
        |seen, _| {
            if is_object(seen) {
                std::thread::sleep(Duration::from_secs(5));
            }
            Some(error(404, "NoSuchKey"))
        },
    );
    let driver = S3Driver::open(&config(&endpoint)).unwrap();
    let outcome = written(&driver, body_of(SIZE)).await;
    assert_eq!(label(outcome), "temporary");
    // A server that takes everything and says nothing.
    let driver = server(|seen, _| {
        if is_object(seen) {
            std::thread::sleep(Duration::from_secs(5));
        }
        Some(error(404, "NoSuchKey"))
    });
    let outcome = written(&driver, body_of(SIZE)).await;
    assert_eq!(label(outcome), "temporary");
    // A client that thinks for longer than a server may.
    let driver = server(|_, _| Some(plain(200, "", "")));
    let late = stream::once(async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(Bytes::from_static(&[7; 10]))
    });
    let outcome = written(&driver, body_then(SIZE - 10, late)).await;
    assert_eq!(label(outcome), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_conditions_it_looks_first_and_asks_for_no_piece() {
    let endpoint = served(
        |_| true,
        |seen, _| {
            Some(if seen.is("head", "chunks/") {
                plain(200, "", "")
            } else {
                error(400, "Unexpected")
            })
        },
    );
    let config = S3Config {
        conditional_writes: false,
        ..config(&endpoint)
    };
    let driver = S3Driver::open(&config).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let body = body_of(SIZE).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let outcome = written(&driver, body.boxed()).await;
    assert_eq!(label(outcome), "already_exists");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
