//! Whoever reads the log must not be able to read blobs: addresses that are signed never stand in it.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use reqwest::{Client, Method, redirect};

use super::{Process, digest};

const SECRET_KEY: &str = "hush-hush-hush";

/// What was written, by its address.
type Objects = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Answers one request as an S3 server does that knows no more than the driver needs here.
fn answer(connection: TcpStream, objects: &Objects) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut head = Vec::new();
    for line in reader.by_ref().lines() {
        match line.ok()? {
            end if end.is_empty() => break,
            line => head.push(line.to_lowercase()),
        }
    }
    let words: Vec<&str> = head.first()?.split(' ').collect();
    let (method, address) = (*words.first()?, *words.get(1)?);
    let len = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; len.map_or(0, |len| len.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let mut objects = objects.lock().unwrap();
    let (status, content) = if address.contains("list-type") {
        let list = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        (200, list.as_bytes().to_vec())
    } else if method == "put" {
        objects.insert(address.to_owned(), body);
        (200, Vec::new())
    } else {
        match objects.get(address) {
            Some(content) => (200, content.clone()),
            None => (404, Vec::new()),
        }
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\netag: \"e\"\r\ncontent-length: {}\r\n\r\n",
        content.len()
    );
    let mut connection = reader.into_inner();
    connection.write_all(head.as_bytes()).ok()?;
    connection.write_all(&content).ok()
}

fn object_store() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let objects = Objects::default();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, objects) = (connection.unwrap(), Arc::clone(&objects));
            std::thread::spawn(move || answer(connection, &objects));
        }
    });
    address
}

/// Pushes a blob and fetches it; returns the addresses that the client is sent to.
async fn redirects(host: &str) -> Vec<String> {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .build()
        .unwrap();
    let request = |method, path: &str| {
        let url = format!("http://{host}/v2/demo/app/blobs/{path}");
        client
            .request(method, url)
            .basic_auth("admin", Some("secret word"))
    };
    let blob = digest(b"content");
    let push = request(Method::POST, &format!("uploads/?digest={blob}"));
    let pushed = push.body("content").send().await.unwrap();
    assert_eq!(pushed.status(), 201, "{}", pushed.text().await.unwrap());
    let mut addresses = Vec::new();
    for range in ["bytes=0-", "bytes=2-3"] {
        let pull = request(Method::GET, blob.as_str()).header("Range", range);
        let answer = pull.send().await.unwrap();
        assert_eq!(answer.status(), 307);
        let address = answer.headers()["location"].to_str().unwrap();
        addresses.push(address.to_owned());
    }
    addresses
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_client_is_sent_to_stands_in_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = object_store();
    let variables = [
        ("KONTOR__AUTH__INITIAL_ADMIN_PASSWORD", "secret word"),
        ("KONTOR__LOG__LEVEL", "trace"),
        ("KONTOR__DEFAULT_STORAGE", "s3"),
        ("KONTOR__STORAGE__S3__KIND", "s3"),
        ("KONTOR__STORAGE__S3__ENDPOINT", endpoint.as_str()),
        ("KONTOR__STORAGE__S3__BUCKET", "shared"),
        ("KONTOR__STORAGE__S3__ACCESS_KEY_ID", "the-key"),
        ("KONTOR__STORAGE__S3__SECRET_ACCESS_KEY", SECRET_KEY),
    ];
    let process = Process::start(&folder.path().join("data"), &variables);
    let addresses = redirects(&process.host).await;
    process.signal("-TERM");
    let (is_success, log) = process.end();
    assert!(is_success);
    // The requests do stand in it, and so would their answers' addresses.
    assert_eq!(log.matches("\"status\":307").count(), 2, "{log}");
    assert!(log.contains("\"level\":\"TRACE\""), "{log}");
    for address in addresses {
        let (_, signature) = address.split_once("X-Amz-Signature=").unwrap();
        for secret in [signature.split('&').next().unwrap(), "X-Amz-", SECRET_KEY] {
            assert!(!log.contains(secret), "{secret} stands in the log: {log}");
        }
    }
}
