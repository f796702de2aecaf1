//! A server that misbehaves on purpose: it refuses, cuts off, says nothing or does not stop.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::fake::{body_of, error, plain, server};
use super::{KEY, label, tenant};
use crate::StorageDriver;

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_refused_once_is_sent_again() {
    for (last, outcome, aborts) in [
        (
            "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>",
            "ok",
            0,
        ),
        (
            "<Error><Code>InternalError</Code><Message>m</Message></Error>",
            "temporary",
            1,
        ),
    ] {
        let (parts, aborted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (sent, gone) = (Arc::clone(&parts), Arc::clone(&aborted));
        let driver = server(move |seen, _| {
            Some(if seen.is("post", "?uploads") {
                let id = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
                plain(200, "", id)
            } else if seen.is("put", "partnumber=1") && sent.fetch_add(1, Ordering::SeqCst) == 0 {
                error(503, "SlowDown")
            } else if seen.is("put", "partnumber=") {
                plain(200, "etag: \"e\"\r\n", "")
            } else if seen.is("post", "uploadid=u") {
                plain(200, "", last)
            } else if seen.is("delete", "uploadid=u") {
                gone.fetch_add(1, Ordering::SeqCst);
                plain(204, "", "")
            } else {
                error(404, "NoSuchKey")
            })
        });
        let written = driver
            .write(&tenant("acct"), &KEY, None, body_of(6 << 20))
            .await;
        assert_eq!(label(written), outcome);
        assert_eq!(parts.load(Ordering::SeqCst), 2);
        assert_eq!(aborted.load(Ordering::SeqCst), aborts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_finds_its_object() {
    // One part, and a body that is sent as it comes.
    for size in [10, 6 << 20] {
        for (is_ours, outcome) in [(true, "ok"), (false, "already_exists")] {
            let note = Arc::new(Mutex::new(None::<String>));
            let driver = server(move |seen, _| {
                let mut note = note.lock().unwrap();
                if seen.is("put", "chunks/") && note.is_none() {
                    let other = || Some("x-amz-meta-kontor-write: other\r\n".to_owned());
                    *note = if is_ours { seen.note() } else { other() };
                    // No answer.
                    return None;
                }
                Some(match note.as_ref() {
                    Some(note) if seen.is("head", "chunks/") => plain(200, note, ""),
                    _ if seen.is("put", "chunks/") => error(412, "PreconditionFailed"),
                    _ => error(400, "Unexpected"),
                })
            });
            let (tenant, body) = (tenant("acct"), body_of(size));
            let written = driver.write(&tenant, &KEY, Some(size as u64), body).await;
            assert_eq!(label(written), outcome);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_announced_length_or_an_error() {
    let answers = [
        // Less than announced, more than asked for, and nothing for too long.
        (None, "content-length: 10\r\n\r\n12345", false),
        (Some(2..4), "content-length: 10\r\n\r\n1234567890", false),
        (None, "content-length: 10\r\n\r\n1234567890", true),
    ];
    for (range, text, is_whole) in answers {
        let driver = server(move |_, connection| {
            drop(connection.write_all(format!("HTTP/1.1 200 OK\r\n{text}").as_bytes()));
            std::thread::sleep(Duration::from_secs(3));
            None
        });
        let body = driver.read(&tenant("acct"), &KEY, range).await.unwrap();
        let content: Result<Vec<Bytes>, _> = body.try_collect().await;
        assert_eq!(content.is_ok(), is_whole, "{content:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_a_temporary_failure() {
    let driver = server(|_, _| {
        std::thread::sleep(Duration::from_secs(5));
        None
    });
    assert_eq!(label(driver.check().await), "temporary");
    assert_eq!(
        label(driver.read(&tenant("acct"), &KEY, None).await),
        "temporary"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_stops_the_server() {
    const ALL_BYTES: usize = 256 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let (hung_up, noticed) = std::sync::mpsc::channel();
    let (count, hung_up) = (Arc::clone(&sent), Mutex::new(hung_up));
    let driver = server(move |_, connection| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL_BYTES}\r\n\r\n");
        connection.write_all(head.as_bytes()).unwrap();
        while connection.write_all(&[7; 65_536]).is_ok() {
            count.fetch_add(65_536, Ordering::SeqCst);
        }
        hung_up.lock().unwrap().send(()).unwrap();
        None
    });
    let mut body = driver.read(&tenant("acct"), &KEY, None).await.unwrap();
    let piece = body.next().await.unwrap().unwrap();
    assert!(piece.len() <= 1 << 20);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // What is on its way is in the buffers of two sockets, and not here.
    assert!(sent.load(Ordering::SeqCst) < 32 << 20);
    drop(body);
    tokio::task::spawn_blocking(move || noticed.recv_timeout(Duration::from_secs(5)))
        .await
        .unwrap()
        .unwrap();
}
