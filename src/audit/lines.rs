//! Audit events as JSON lines, in a file or on standard output.
//!
//! A line is `{"seq":..,"hash":"..","event":{..}}` with the event's bytes as they were hashed, or `{"head":".."}`, a
//! signed head; so the lines can be verified by themselves. What a newcomer gets wrong: an event that is read and
//! written again may have other bytes, and its hash would not fit any more; and a write that hangs is given up but goes
//! on, so that only a lock keeps the next one from writing into its lines.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, TryLockError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::value::RawValue;

use super::{AuditSink, Delivery, SinkError};
use crate::model::audit::SealedEvent;

/// A line: an event with its place, or a head.
#[derive(Default, Serialize, Deserialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
}

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// An event.
    Event(SealedEvent),
    /// A signed head.
    Head(String),
}

/// An event as a line.
pub fn event_line(sealed: &SealedEvent) -> serde_json::Result<String> {
    serde_json::to_string(&Line {
        seq: Some(sealed.seq),
        hash: Some(sealed.hash.clone()),
        event: Some(serde_json::from_str(&sealed.event)?),
        head: None,
    })
}

/// A signed head as a line.
pub fn head_line(head: &str) -> serde_json::Result<String> {
    serde_json::to_string(&Line {
        head: Some(head.to_owned()),
        ..Line::default()
    })
}

/// Reads a line.
pub fn read_line(line: &str) -> serde_json::Result<Read> {
    let line: Line<'_> = serde_json::from_str(line)?;
    match line {
        Line {
            seq: Some(seq),
            hash: Some(hash),
            event: Some(event),
            head: None,
        } => Ok(Read::Event(SealedEvent {
            seq,
            hash,
            event: event.get().to_owned(),
        })),
        Line {
            head: Some(head),
            seq: None,
            ..
        } => Ok(Read::Head(head)),
        _ => Err(serde_json::Error::custom(
            "it is neither an event nor a head",
        )),
    }
}

fn text(delivery: &Delivery) -> serde_json::Result<String> {
    let events = delivery.events.iter().map(event_line);
    let heads = delivery.heads.iter().map(|head| head_line(head));
    let mut text = String::new();
    for line in events.chain(heads) {
        text.push_str(&line?);
        text.push('\n');
    }
    Ok(text)
}

/// Why nothing was written: it is not waited for, or threads that wait would pile up behind a disk that hangs.
fn busy() -> io::Error {
    io::Error::new(
        io::ErrorKind::WouldBlock,
        "another write of audit events goes on",
    )
}

/// A file that is added to, by one writer at a time, on this machine.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
}

impl FileSink {
    /// Adds to this file, which is made if it is missing.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

#[async_trait]
impl AuditSink for FileSink {
    fn name(&self) -> &str {
        "file"
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<(), SinkError> {
        let (path, text) = (self.path.clone(), text(delivery)?);
        // Opened each time: a file that was moved away by logrotate is made anew.
        Ok(tokio::task::spawn_blocking(move || append(&path, &text)).await??)
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    // Held until the file is closed, also against threads of this process.
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => busy(),
        fs::TryLockError::Error(error) => error,
    })?;
    cut_torn_line(&mut file)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// Removes a last line without an end: a crash cut its writing off, and its event comes again.
fn cut_torn_line(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut last = [0; 1];
    while end > 0 {
        file.seek(SeekFrom::Start(end - 1))?;
        file.read_exact(&mut last)?;
        if last == *b"\n" {
            break;
        }
        end -= 1;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(())
}

/// Standard output, for log collectors of containers. Each process has its own.
#[derive(Debug)]
pub struct StdoutSink;

/// Held by whoever writes a delivery to standard output.
static WRITING: Mutex<()> = Mutex::new(());

fn print(out: &mut impl Write, text: &str) -> io::Result<()> {
    let _writing = match WRITING.try_lock() {
        Ok(writing) => writing,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(busy()),
    };
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[async_trait]
impl AuditSink for StdoutSink {
    fn name(&self) -> &str {
        "stdout"
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<(), SinkError> {
        let text = text(delivery)?;
        Ok(tokio::task::spawn_blocking(move || print(&mut io::stdout(), &text)).await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(seq: i64) -> SealedEvent {
        SealedEvent {
            seq,
            hash: "ab".into(),
            event: r#"{"b":1, "a":"\u00e9"}"#.into(),
        }
    }

    fn delivery() -> Delivery {
        Delivery {
            events: vec![sealed(1), sealed(2)],
            heads: vec!["x.y.z".into()],
        }
    }

    #[test]
    fn a_line_keeps_the_bytes_of_its_event() {
        let line = event_line(&sealed(7)).unwrap();
        assert_eq!(
            line,
            r#"{"seq":7,"hash":"ab","event":{"b":1, "a":"\u00e9"}}"#
        );
        assert_eq!(read_line(&line).unwrap(), Read::Event(sealed(7)));
        let head = read_line(&head_line("x.y.z").unwrap()).unwrap();
        assert_eq!(head, Read::Head("x.y.z".into()));
        assert!(read_line("{\"seq\":7}").is_err());
    }

    #[tokio::test]
    async fn two_writers_do_not_write_into_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let sink = FileSink::new(path.clone());
        // Half a line of somebody who hangs: another process, or a delivery that was given up.
        let mut slow = OpenOptions::new();
        let mut slow = slow.append(true).create(true).open(&path).unwrap();
        slow.try_lock().unwrap();
        let line = head_line("a.b.c").unwrap();
        let (begin, rest) = line.split_at(5);
        slow.write_all(begin.as_bytes()).unwrap();
        let refused = sink.deliver(&delivery()).await.unwrap_err();
        assert!(refused.to_string().contains("goes on"), "{refused}");
        slow.write_all(format!("{rest}\n").as_bytes()).unwrap();
        drop(slow);
        sink.deliver(&delivery()).await.unwrap();
        let lines = fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), 4);
        assert!(lines.lines().all(|line| read_line(line).is_ok()), "{lines}");
    }

    #[test]
    fn two_deliveries_do_not_mix_on_standard_output() {
        /// Tries to write the next delivery in the middle of one.
        struct Nested(Vec<u8>, bool);
        impl Write for Nested {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let mut other = Vec::new();
                self.1 |= print(&mut other, "other\n").is_ok();
                self.0.extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut out = Nested(Vec::new(), false);
        print(&mut out, "one\n").unwrap();
        print(&mut out, "two\n").unwrap();
        assert_eq!((out.0.as_slice(), out.1), (&b"one\ntwo\n"[..], false));
    }

    #[tokio::test]
    async fn a_line_that_a_crash_has_torn_is_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let sink = FileSink::new(path.clone());
        sink.deliver(&delivery()).await.unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        assert_eq!(whole.lines().count(), 3);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        sink.deliver(&delivery()).await.unwrap();
        let lines = fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), 5);
        assert!(lines.lines().all(|line| read_line(line).is_ok()));
    }
}
