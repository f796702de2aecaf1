//! Reading and listing objects.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::NaiveDateTime;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::unexpected;
use crate::openstack::Session;
use crate::{ByteStream, ObjectKey, StorageError, StorageResult, StoredObject};

/// How long Swift may send nothing while we wait for it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many names a page of a listing has: the largest that Swift gives by default.
const PAGE: usize = 10_000;

/// Opens an object.
pub(super) async fn object_read(
    session: &Session,
    object: Url,
    key: ObjectKey,
    range: Option<Range<u64>>,
) -> StorageResult<ByteStream> {
    if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
        let size_bytes = object_size(session, &object, key).await?;
        // An empty range cannot be asked for in HTTP.
        return if range.start == range.end && range.end <= size_bytes {
            Ok(stream::empty().boxed())
        } else {
            Err(invalid_range(range, size_bytes))
        };
    }
    let answer = session
        .send(|client| {
            let request = client.get(object.clone());
            match &range {
                Some(range) => {
                    request.header("Range", format!("bytes={}-{}", range.start, range.end - 1))
                }
                None => request,
            }
        })
        .await?;
    let size = match (answer.status(), &range) {
        (StatusCode::NOT_FOUND, _) => return Err(StorageError::NotFound(key)),
        (StatusCode::OK, None) => content_length(answer.headers()),
        (StatusCode::PARTIAL_CONTENT, Some(range)) => {
            let size_bytes = total_size(answer.headers());
            if size_bytes.is_some_and(|size_bytes| range.end > size_bytes) {
                return Err(invalid_range(range, size_bytes.unwrap_or(0)));
            }
            let length = content_length(answer.headers());
            length.filter(|length| *length == range.end - range.start)
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(range)) => {
            let size_bytes = total_size(answer.headers()).unwrap_or(0);
            return Err(invalid_range(range, size_bytes));
        }
        _ => return Err(unexpected(answer, "an object").await),
    };
    match size {
        Some(size) => Ok(exactly(answer, size)),
        None => Err(StorageError::temporary(
            "Swift sent another part of the object than was asked for",
        )),
    }
}

async fn object_size(session: &Session, object: &Url, key: ObjectKey) -> StorageResult<u64> {
    let answer = session.send(|client| client.head(object.clone())).await?;
    match answer.status() {
        StatusCode::NOT_FOUND => Err(StorageError::NotFound(key)),
        status if status.is_success() => content_length(answer.headers())
            .ok_or_else(|| StorageError::temporary("Swift did not say how long the object is")),
        _ => Err(unexpected(answer, "an object").await),
    }
}

fn invalid_range(range: &Range<u64>, size_bytes: u64) -> StorageError {
    StorageError::InvalidRange {
        start: range.start,
        end: range.end,
        size_bytes,
    }
}

/// `HEAD` answers have no body, so reqwest's own `content_length` does not help.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The size of the whole in `Content-Range: bytes 0-9/10` or `bytes */10`.
fn total_size(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.rsplit_once('/')?.1.parse().ok()
}

/// The body of an answer: exactly `size` bytes, or an error. A reader who stops ends the request, and one who waits
/// holds no more than what the connection has read ahead.
fn exactly(answer: Response, size: u64) -> ByteStream {
    let body = answer.bytes_stream();
    let state = Some((body.boxed(), size));
    stream::unfold(state, |state| async move {
        let (mut body, left) = state?;
        let next = tokio::time::timeout(IDLE_TIMEOUT, body.next()).await;
        match next {
            Ok(Some(Ok(piece))) if piece.len() as u64 <= left => {
                let left = left - piece.len() as u64;
                Some((Ok(piece), Some((body, left))))
            }
            Ok(None) if left == 0 => None,
            Ok(Some(Err(e))) => Some((Err(io::Error::other(e.without_url())), None)),
            Ok(_) => Some((Err(cut()), None)),
            Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
        }
    })
    .try_filter(|piece: &Bytes| std::future::ready(!piece.is_empty()))
    .boxed()
}

fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "Swift sent another number of bytes than it announced",
    )
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    last_modified: Option<String>,
}

impl Entry {
    /// `None` if it is not one of ours.
    fn into_object(self) -> Option<StoredObject> {
        let (folder, name) = self.name.split_once('/')?;
        let modified = self.last_modified.as_deref();
        Some(StoredObject {
            key: ObjectKey::from_parts(folder, name)?,
            size_bytes: self.bytes,
            modified_at: modified.and_then(|text| {
                let text = text.trim_end_matches('Z');
                let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
                Some(at.and_utc())
            }),
        })
    }
}

/// All objects of a container, page by page. The first page is read at once.
pub(super) async fn object_list(
    session: Arc<Session>,
    container: Url,
) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>> {
    let first = page(&session, &container, None, PAGE).await?;
    let pages = stream::unfold(Some(Ok(first)), move |last| {
        let (session, container) = (Arc::clone(&session), container.clone());
        async move {
            let page_now: StorageResult<Vec<Entry>> = last?;
            let next = match &page_now {
                // A server may give fewer than were asked for: only an empty page is the end.
                Ok(entries) if !entries.is_empty() => {
                    let marker = entries.last().map(|entry| entry.name.clone());
                    Some(page(&session, &container, marker.as_deref(), PAGE).await)
                }
                _ => None,
            };
            Some((page_now, next))
        }
    });
    Ok(pages
        .map_ok(|entries| {
            let objects = entries.into_iter().filter_map(Entry::into_object);
            stream::iter(objects.map(Ok).collect::<Vec<_>>())
        })
        .try_flatten()
        .boxed())
}

/// How many names of a listing are looked up to see whether the objects are there.
const LOOKED_UP: usize = 20;

/// Whether the first objects that a listing shows are all gone, or it shows none.
pub(super) async fn shows_only_ghosts(session: &Session, container: &Url) -> StorageResult<bool> {
    for entry in page(session, container, None, LOOKED_UP).await? {
        let mut object = container.clone();
        if let Ok(mut path) = object.path_segments_mut() {
            path.extend(entry.name.split('/'));
        }
        let answer = session.send(|client| client.head(object.clone())).await?;
        if answer.status() != StatusCode::NOT_FOUND {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn page(
    session: &Session,
    container: &Url,
    marker: Option<&str>,
    limit: usize,
) -> StorageResult<Vec<Entry>> {
    let mut url = container.clone();
    url.query_pairs_mut()
        .append_pair("format", "json")
        .append_pair("limit", &limit.to_string())
        .extend_pairs(marker.map(|marker| ("marker", marker)));
    let answer = session.send(|client| client.get(url.clone())).await?;
    match answer.status() {
        StatusCode::OK => {
            let text = answer
                .bytes()
                .await
                .map_err(crate::openstack::transport_error)?;
            serde_json::from_slice(&text).map_err(StorageError::permanent)
        }
        StatusCode::NOT_FOUND | StatusCode::NO_CONTENT => Ok(Vec::new()),
        _ => Err(unexpected(answer, "a container's listing").await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_no_objects() {
        let entry = |name: &str| Entry {
            name: name.to_owned(),
            bytes: 7,
            last_modified: Some("2026-11-24T10:00:00.123450".to_owned()),
        };
        let ours = entry("chunks/00000000-0000-4000-8000-000000000001").into_object();
        let ours = ours.unwrap();
        assert_eq!(ours.size_bytes, 7);
        assert_eq!(ours.modified_at.unwrap().timestamp_subsec_micros(), 123_450);
        for name in [
            "note.txt",
            "chunks/x",
            "other/00000000-0000-4000-8000-000000000001",
        ] {
            assert!(entry(name).into_object().is_none(), "{name}");
        }
    }

    #[test]
    fn the_size_of_the_whole_is_after_the_slash() {
        let headers = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().unwrap());
            total_size(&headers)
        };
        assert_eq!(headers("bytes 0-9/10"), Some(10));
        assert_eq!(headers("bytes */10"), Some(10));
        assert_eq!(headers("bytes 0-9/*"), None);
    }
}
