//! Writing an object: one PUT, in a task of its own that always ends with the object there or gone.
//!
//! A body goes out as it comes in and cannot be sent twice. So a longer one asks first whether the name is free and
//! the token good; a short one is collected and may be sent again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use reqwest::{Body, RequestBuilder, Response, StatusCode};
use url::Url;

use super::container::random_text;
use super::unexpected;
use crate::detached::{Caller, detached};
use crate::openstack::Session;
use crate::{ByteStream, ObjectKey, StorageError, StorageResult};

/// A body up to this length is collected, and then sent with its length.
const SHORT_BYTES: usize = 64 * 1024;
/// How long Swift may do nothing: take no bytes, or not answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Tells our object from one that somebody else wrote under the same name.
const WRITE_ID: &str = "X-Object-Meta-Kontor-Write";

/// What is to be written where.
pub(super) struct Put {
    pub(super) session: Arc<Session>,
    pub(super) object: Url,
    pub(super) key: ObjectKey,
    /// The announced length in bytes.
    pub(super) size: Option<u64>,
    /// How long a body without an announced length may be.
    pub(super) room: Option<u64>,
}

/// Why a body did not come to its end.
enum Broken {
    Client(io::Error),
    WrongSize(u64),
    OverQuota,
    CallerGone,
}

/// What the sender of a body tells the one who waits for the answer.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    /// The client is what we wait for, so Swift is not to blame.
    awaits_client: AtomicBool,
    broken: Mutex<Option<Broken>>,
}

impl Progress {
    fn broken(&self) -> Option<Broken> {
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Writes the object and returns its length.
pub(super) async fn object_write(put: Put, body: ByteStream) -> StorageResult<u64> {
    detached(move |caller| write_to_end(put, body, caller)).await
}

async fn write_to_end(put: Put, mut body: ByteStream, mut caller: Caller) -> StorageResult<u64> {
    let head = tokio::select! {
        head = collect_head(&mut body) => head?,
        () = caller.gone() => return Err(caller_gone()),
    };
    let write_id = random_text()?;
    let written = match head {
        Head::Whole(content) => put_short(&put, content, &write_id).await,
        Head::Part(start) => {
            free_check(&put).await?;
            put_long(&put, start, body, &mut caller, &write_id).await
        }
    };
    let is_unwanted = caller.gone().now_or_never().is_some();
    // These say that nothing was stored, or that something else has the name.
    let is_certain = matches!(
        written,
        Err(StorageError::AlreadyExists(_)
            | StorageError::NotPrepared { .. }
            | StorageError::Quota { .. })
    );
    if is_unwanted || (written.is_err() && !is_certain) {
        remove_ours(&put, &write_id).await;
    }
    written
}

enum Head {
    Whole(Bytes),
    Part(Vec<Bytes>),
}

/// Collects the beginning of a body, all of it if it is short.
async fn collect_head(body: &mut ByteStream) -> StorageResult<Head> {
    let (mut pieces, mut len) = (Vec::new(), 0);
    while let Some(piece) = body.try_next().await.map_err(StorageError::Body)? {
        len += piece.len();
        pieces.push(piece);
        if len > SHORT_BYTES {
            return Ok(Head::Part(pieces));
        }
    }
    let mut whole = BytesMut::with_capacity(len);
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    Ok(Head::Whole(whole.freeze()))
}

impl Put {
    fn request(&self, client: &reqwest::Client, write_id: &str) -> RequestBuilder {
        client
            .put(self.object.clone())
            .header("If-None-Match", "*")
            .header("Content-Type", "application/octet-stream")
            .header(WRITE_ID, write_id)
    }

    async fn judge(&self, answer: Response, size: u64) -> StorageResult<u64> {
        match answer.status() {
            StatusCode::CREATED => Ok(size),
            StatusCode::PRECONDITION_FAILED => Err(StorageError::AlreadyExists(self.key)),
            StatusCode::NOT_FOUND => Err(StorageError::NotPrepared {
                account: String::new(),
            }),
            StatusCode::PAYLOAD_TOO_LARGE => Err(over_quota()),
            _ => Err(unexpected(answer, "writing an object").await),
        }
    }
}

async fn put_short(put: &Put, content: Bytes, write_id: &str) -> StorageResult<u64> {
    let size = content.len() as u64;
    if let Some(expected) = put.size.filter(|expected| *expected != size) {
        return Err(StorageError::SizeMismatch {
            expected,
            actual: size,
        });
    }
    let answer = put
        .session
        .send(|client| {
            // Swift wants a length of an empty body too.
            put.request(client, write_id)
                .header("Content-Length", size)
                .body(content.clone())
        })
        .await?;
    put.judge(answer, size).await
}

async fn free_check(put: &Put) -> StorageResult<()> {
    let answer = put
        .session
        .send(|client| client.head(put.object.clone()))
        .await?;
    match answer.status() {
        StatusCode::NOT_FOUND => Ok(()),
        status if status.is_success() => Err(StorageError::AlreadyExists(put.key)),
        _ => Err(unexpected(answer, "writing an object").await),
    }
}

async fn put_long(
    put: &Put,
    start: Vec<Bytes>,
    rest: ByteStream,
    caller: &mut Caller,
    write_id: &str,
) -> StorageResult<u64> {
    let progress = Arc::new(Progress::default());
    // The body goes to the client's task, but who waits is known only here: the two are joined by a channel.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let body = stream::iter(start.into_iter().map(Ok)).chain(rest);
    let body = measured(body, put.size, put.room, Arc::clone(&progress), stopped);
    let mut request = put.request(put.session.client(), write_id);
    if let Some(size) = put.size {
        request = request.header("Content-Length", size);
    }
    let mut answer = Box::pin(put.session.send_once(request.body(Body::wrap_stream(body))));
    let mut stop = Some(stop);
    let mut sent = 0;
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer,
            () = caller.gone(), if stop.is_some() => {
                // Breaks the body off, if it is still under way; otherwise the answer will come.
                stop = None;
            }
            () = tokio::time::sleep(IDLE_TIMEOUT) => {
                let now = progress.sent.load(Ordering::Relaxed);
                if now == sent && !progress.awaits_client.load(Ordering::Relaxed) {
                    break Err(StorageError::temporary(format!(
                        "Swift took nothing and answered nothing for {IDLE_TIMEOUT:?}"
                    )));
                }
                sent = now;
            }
        }
    };
    match (progress.broken(), answer) {
        // Swift has judged before the body broke, or because of it; the body's own reason says more.
        (Some(broken), _) => Err(broken_error(broken, put.size)),
        (None, Ok(answer)) => {
            put.judge(answer, progress.sent.load(Ordering::Relaxed))
                .await
        }
        (None, Err(error)) => Err(error),
    }
}

fn broken_error(broken: Broken, announced: Option<u64>) -> StorageError {
    match broken {
        Broken::Client(error) => StorageError::Body(error),
        Broken::WrongSize(actual) => StorageError::SizeMismatch {
            expected: announced.unwrap_or(0),
            actual,
        },
        Broken::OverQuota => over_quota(),
        Broken::CallerGone => caller_gone(),
    }
}

fn caller_gone() -> StorageError {
    StorageError::Body(io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the caller went away",
    ))
}

fn over_quota() -> StorageError {
    StorageError::Quota {
        place: String::new(),
    }
}

/// What [`measured`] has in hand.
struct Measure<S> {
    body: S,
    stopped: tokio::sync::oneshot::Receiver<()>,
    taken: u64,
}

/// Passes a body on, and breaks it off when it is not as it was announced. Swift then stores nothing.
fn measured(
    body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    size: Option<u64>,
    room: Option<u64>,
    progress: Arc<Progress>,
    stopped: tokio::sync::oneshot::Receiver<()>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let measure = Measure {
        body: body.fuse(),
        stopped,
        taken: 0,
    };
    stream::unfold(Some(measure), move |state| {
        let progress = Arc::clone(&progress);
        async move {
            let mut measure = state?;
            match measure.next(size, room, &progress).await {
                Ok(Some(piece)) => {
                    progress
                        .sent
                        .fetch_add(piece.len() as u64, Ordering::Relaxed);
                    Some((Ok(piece), Some(measure)))
                }
                Ok(None) => None,
                Err(broken) => {
                    *progress
                        .broken
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = Some(broken);
                    Some((Err(io::ErrorKind::ConnectionAborted.into()), None))
                }
            }
        }
    })
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Measure<S> {
    /// The next piece that may go out.
    async fn next(
        &mut self,
        size: Option<u64>,
        room: Option<u64>,
        progress: &Progress,
    ) -> Result<Option<Bytes>, Broken> {
        let Some(piece) = self.pull(progress).await? else {
            return match size {
                Some(size) if size != self.taken => Err(Broken::WrongSize(self.taken)),
                _ => Ok(None),
            };
        };
        if room.is_some_and(|room| self.taken > room) {
            return Err(Broken::OverQuota);
        }
        match size {
            Some(size) if self.taken > size => return Err(Broken::WrongSize(self.taken)),
            // The last piece goes out only when it is known to be the last.
            Some(size) if self.taken == size && self.pull(progress).await?.is_some() => {
                return Err(Broken::WrongSize(self.taken));
            }
            _ => {}
        }
        Ok(Some(piece))
    }

    /// The next piece that is not empty.
    async fn pull(&mut self, progress: &Progress) -> Result<Option<Bytes>, Broken> {
        loop {
            progress.awaits_client.store(true, Ordering::Relaxed);
            let next = tokio::select! {
                next = self.body.next() => next,
                _ = &mut self.stopped => return Err(Broken::CallerGone),
            };
            progress.awaits_client.store(false, Ordering::Relaxed);
            match next {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    self.taken += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Some(Err(error)) => return Err(Broken::Client(error)),
                None => return Ok(None),
            }
        }
    }
}

/// Removes the object if it is the one of this write. What fails here is left to the note that the registry keeps.
async fn remove_ours(put: &Put, write_id: &str) {
    let removed = async {
        let answer = put
            .session
            .send(|client| client.head(put.object.clone()))
            .await?;
        let is_ours = answer
            .headers()
            .get(WRITE_ID)
            .is_some_and(|id| id.as_bytes() == write_id.as_bytes());
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() && !is_ours => Ok(()),
            status if status.is_success() => object_delete(&put.session, &put.object).await,
            _ => Err(unexpected(answer, "removing an unfinished object").await),
        }
    };
    if let Err(error) = removed.await {
        tracing::warn!(key = %put.key, %error, "could not remove an unfinished object; the sweep will");
    }
}

/// Removes an object. A missing one is no error.
pub(super) async fn object_delete(session: &Session, object: &Url) -> StorageResult<()> {
    let answer = session.send(|client| client.delete(object.clone())).await?;
    match answer.status() {
        StatusCode::NOT_FOUND => Ok(()),
        status if status.is_success() => Ok(()),
        _ => Err(unexpected(answer, "deleting an object").await),
    }
}
