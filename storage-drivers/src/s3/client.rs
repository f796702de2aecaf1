//! The HTTP client that all requests pass through, OpenDAL's too: it sets the time limits, sends again what a
//! busy server has refused, and turns what is no success into a [`Failure`].
//!
//! It must not log requests, since presigned addresses are secrets, and must not follow redirects: a signature
//! holds for one host.
//!
//! What a newcomer will get wrong: a write cannot be retried by those above, because its body is gone by then,
//! and a blob of many gigabytes must not fail because one part was refused once. So writes are retried here, and
//! nothing else is.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use http::{Method, Request, Response, request};
use opendal::{Buffer, HttpBody, HttpTransport};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::failure::Failure;
use crate::{StorageError, StorageResult};

/// How long it may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long nothing may pass in either direction.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// How long a server may think about a large object that it has: putting it together takes some of them minutes.
pub(super) const STORE_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 300 });
/// The waits before a write is sent again.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// A request's body goes out in pieces of this size, so that progress is seen.
pub(super) const PIECE_BYTES: usize = 64 * 1024;
/// The longest answer that is read as a whole. A page of a listing has about 300 bytes per object.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Sends requests.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
}

/// When something was last sent.
type Progress = Arc<Mutex<Instant>>;

fn last_seen(progress: &Progress) -> Instant {
    *progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body in small pieces, each of which counts as progress when it is taken.
fn paced(body: Buffer, progress: Progress) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream::unfold((body, progress), |(mut rest, progress)| async move {
        *progress.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if rest.is_empty() {
            return None;
        }
        let mut piece = rest.current();
        piece.truncate(PIECE_BYTES);
        rest.advance(piece.len());
        Some((Ok(piece), (rest, progress)))
    })
}

/// A stream that may be shared between threads, which OpenDAL asks for: nobody polls it from two.
struct Shared(Mutex<BoxStream<'static, opendal::Result<Buffer>>>);

impl Stream for Shared {
    type Item = opendal::Result<Buffer>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let inner = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.as_mut().poll_next(cx)
    }
}

/// The next piece of an answer's body.
async fn next_piece(answer: &mut reqwest::Response) -> Result<Option<Bytes>, Failure> {
    match timeout(IDLE_LIMIT, answer.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(e)) => Err(Failure::unreachable(&e.without_url())),
        Err(_) => Err(Failure::timeout()),
    }
}

/// The whole body of an answer.
async fn whole_body(answer: &mut reqwest::Response) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = next_piece(answer).await? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(Failure::local("the server's answer is too long"));
        }
    }
    Ok(body.into())
}

/// Takes what is no success for a failure.
async fn success(mut answer: reqwest::Response) -> Result<reqwest::Response, Failure> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let body = whole_body(&mut answer).await.unwrap_or_default();
    Err(Failure::of_answer(answer.status().as_u16(), &body))
}

fn is_write(request: &Request<Buffer>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    matches!(*request.method(), Method::PUT | Method::POST) || query.contains("uploadId=")
}

impl Client {
    pub(super) fn new() -> StorageResult<Self> {
        // Whoever runs us may have installed one already, which then stays.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            // Objects come as they are stored; a length must be that of the body.
            .no_gzip()
            .no_deflate()
            .no_brotli()
            .no_zstd()
            .user_agent("kontor")
            .build()
            .map_err(StorageError::permanent)?;
        Ok(Self { http })
    }

    async fn execute(&self, request: Request<reqwest::Body>) -> Result<reqwest::Response, Failure> {
        let request = reqwest::Request::try_from(request)
            .map_err(|e| Failure::local(&e.without_url().to_string()))?;
        let answer = self.http.execute(request).await;
        answer.map_err(|e| Failure::unreachable(&e.without_url()))
    }

    /// Sends a request and waits for the head of the answer, whatever it is.
    async fn send(&self, request: Request<Buffer>) -> Result<reqwest::Response, Failure> {
        let limit = if request.method() == Method::POST {
            STORE_LIMIT
        } else {
            IDLE_LIMIT
        };
        let progress = Arc::new(Mutex::new(Instant::now()));
        let request = request.map(|body| {
            if body.is_empty() {
                reqwest::Body::from(Bytes::new())
            } else {
                reqwest::Body::wrap_stream(paced(body, Arc::clone(&progress)))
            }
        });
        let mut answer = pin!(self.execute(request));
        loop {
            let deadline = last_seen(&progress) + limit;
            tokio::select! {
                answer = &mut answer => return answer,
                () = sleep_until(deadline) => {
                    if last_seen(&progress) + limit <= Instant::now() {
                        return Err(Failure::timeout());
                    }
                }
            }
        }
    }

    /// Sends a request and takes what is no success for a failure.
    async fn send_once(&self, request: Request<Buffer>) -> Result<reqwest::Response, Failure> {
        success(self.send(request).await?).await
    }

    /// Sends a request whose body of `size` bytes comes as it is asked for, once. If fewer come, it breaks off, and
    /// does not look like an end. There is no limit on the time: only the sender of the pieces knows who waits.
    pub(super) async fn streamed(
        &self,
        head: request::Parts,
        size: u64,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> Result<(), Failure> {
        let mut left = size;
        let body = stream::poll_fn(move |cx| match ready!(pieces.poll_recv(cx)) {
            Some(piece) => {
                left = left.saturating_sub(piece.len() as u64);
                Poll::Ready(Some(Ok(piece)))
            }
            None if left > 0 => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted))),
            None => Poll::Ready(None),
        });
        let body = reqwest::Body::wrap_stream(body.map_err(io::Error::from));
        let mut answer = success(self.execute(Request::from_parts(head, body)).await?).await?;
        // An answer that was read to its end leaves the connection to the next request.
        whole_body(&mut answer).await.map(drop)
    }

    /// Sends a request as it is, once, and returns the whole answer if it is a success.
    pub(super) async fn whole(
        &self,
        request: Request<Buffer>,
    ) -> Result<(http::HeaderMap, Bytes), Failure> {
        let mut answer = self.send_once(request).await?;
        let headers = std::mem::take(answer.headers_mut());
        Ok((headers, whole_body(&mut answer).await?))
    }

    async fn send_retried(&self, request: Request<Buffer>) -> Result<reqwest::Response, Failure> {
        if is_write(&request) {
            for wait in RETRY_AFTER {
                match self.send_once(request.clone()).await {
                    Err(failure) if failure.is_worth_a_retry() => {
                        tracing::debug!(error = %failure, "sending a write to S3 again");
                    }
                    outcome => return outcome,
                }
                sleep(wait).await;
            }
        }
        self.send_once(request).await
    }
}

impl HttpTransport for Client {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let is_head = request.method() == Method::HEAD;
        let mut answer = self.send_retried(request).await?;
        let size_bytes = if is_head {
            None
        } else {
            answer.content_length()
        };
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = std::mem::take(answer.headers_mut());
        }
        let pieces = stream::try_unfold(answer, |mut answer| async move {
            let piece = next_piece(&mut answer).await?;
            Ok(piece.map(|piece| (Buffer::from(piece), answer)))
        });
        // An empty piece would be taken for the end.
        let pieces = pieces.filter(|piece| {
            let is_some = piece.as_ref().map_or(true, |piece| !piece.is_empty());
            async move { is_some }
        });
        response
            .body(HttpBody::new(
                Shared(Mutex::new(pieces.boxed())),
                size_bytes,
            ))
            .map_err(|_| Failure::local("the server's answer makes no sense").into())
    }
}

/// For asking for credentials, where the asker judges the answer.
impl reqsign_core::HttpSend for Client {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<Response<Bytes>> {
        let failed = |failure: Failure| {
            reqsign_core::Error::unexpected(failure.to_string())
                .set_retryable(failure.is_temporary())
        };
        let mut answer = self.send(request.map(Buffer::from)).await.map_err(failed)?;
        let body = whole_body(&mut answer).await.map_err(failed)?;
        let mut response = Response::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}
