//! A server that answers as a test wants it to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::config;
use crate::{ByteStream, S3Driver};

const MARKER: &str = r#"{"account":"acct","auth_tenant_id":"tenant"}"#;

pub(super) fn body_of(len: usize) -> ByteStream {
    let pieces = std::iter::repeat_n(Bytes::from_static(&[7; 65_536]), len / 65_536);
    let last = Bytes::from(vec![7; len % 65_536]);
    stream::iter(pieces.chain([last]).map(Ok)).boxed()
}

/// A request as the server gets it.
pub(super) struct Seen {
    pub(super) line: String,
    /// All before the body.
    pub(super) head: String,
    /// How much of the body came; nothing if it was not read.
    pub(super) body_bytes: u64,
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
        let line = head.lines().next()?.to_owned();
        Some(Self {
            line,
            head,
            body_bytes: 0,
        })
    }

    fn body_read(&mut self, connection: &mut TcpStream) {
        let len = self
            .header("content-length")
            .and_then(|len| len.parse().ok());
        let mut body = connection.take(len.unwrap_or(0));
        let mut buffer = [0; 65_536];
        while let Ok(len @ 1..) = body.read(&mut buffer) {
            self.body_bytes += len as u64;
        }
    }

    pub(super) fn is(&self, method: &str, part: &str) -> bool {
        self.line.starts_with(method) && self.line.contains(part)
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let (_, rest) = self.head.split_once(&format!("\r\n{name}: "))?;
        Some(rest.split("\r\n").next()?.to_owned())
    }

    /// The note of the write, as a header of an answer.
    pub(super) fn note(&self) -> Option<String> {
        let note = self.header("x-amz-meta-kontor-write")?;
        Some(format!("x-amz-meta-kontor-write: {note}\r\n"))
    }
}

/// A server that answers each request with what `answer` returns, or does as it likes with the connection and
/// returns nothing. The marker of `acct` is there. It reads bodies only if `reads` says so. Returns its address.
pub(super) fn served(
    reads: impl Fn(&Seen) -> bool + Send + Sync + 'static,
    answer: impl Fn(&Seen, &mut TcpStream) -> Option<String> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let behaviour = Arc::new((reads, answer));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, behaviour) = (connection.unwrap(), Arc::clone(&behaviour));
            std::thread::spawn(move || {
                let (reads, answer) = &*behaviour;
                let Some(mut seen) = Seen::of(&mut connection) else {
                    return;
                };
                if reads(&seen) {
                    seen.body_read(&mut connection);
                }
                let text = if seen.is("get", ".kontor-account") {
                    Some(plain(200, "", MARKER))
                } else {
                    answer(&seen, &mut connection)
                };
                if let Some(text) = text {
                    drop(connection.write_all(text.as_bytes()));
                }
            });
        }
    });
    endpoint
}

/// The driver in front of such a server, which reads all bodies.
pub(super) fn server(
    answer: impl Fn(&Seen, &mut TcpStream) -> Option<String> + Send + Sync + 'static,
) -> Arc<S3Driver> {
    Arc::new(S3Driver::open(&config(&served(|_| true, answer))).unwrap())
}

pub(super) fn plain(status: u16, headers: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n{body}"
    )
}

pub(super) fn error(status: u16, code: &str) -> String {
    plain(status, "", &format!("<Error><Code>{code}</Code></Error>"))
}
