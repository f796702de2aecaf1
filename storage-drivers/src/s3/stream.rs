//! Writes an object whose length is known with one PUT, whose body goes out as it comes in.
//!
//! The body cannot be sent twice, so nothing is sent again here. The last piece must not go out before it is known to
//! be the last: short of it the server has no whole object and stores nothing, however the body ends. And the first
//! must be here before the request begins: of a body of which nothing comes SeaweedFS makes an empty object.
//!
//! What a newcomer will get wrong: the server may answer before it has the body, and then what it says counts, not
//! that the connection broke. But where it closes the connection at once, its answer can be lost.

use std::pin::pin;

use bytes::Bytes;
use futures::future::{Either, select};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::client::{IDLE_LIMIT, PIECE_BYTES, STORE_LIMIT};
use super::failure::Failure;
use super::write::{Parts, Target, caller_gone};
use crate::detached::Caller;
use crate::{StorageError, StorageResult};

/// Pieces in flight between the body and the connection, so that neither waits for each piece of the other.
const PIECES_IN_FLIGHT: usize = 8;

/// Why a body was not sent to its end.
enum Broken {
    /// It is not what was announced, or nobody waits any more.
    Body(StorageError),
    Server(Failure),
}

impl Target {
    /// Writes a body of `size` bytes. After an error nothing is there, unless somebody else has written it.
    pub(super) async fn stream(
        &self,
        size: u64,
        parts: &mut Parts,
        caller: &mut Caller,
    ) -> StorageResult<()> {
        if !self.server.config.conditional_writes {
            self.free_check().await?;
        }
        let mut body = Body { parts, caller };
        let first = body.piece().await?;
        let error = match self.sent(size, first, body).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => return self.failed(failure).await,
            Err(Broken::Server(failure)) if failure.is_conflict() => {
                return Err(StorageError::AlreadyExists(self.key));
            }
            Err(Broken::Server(failure)) => failure.at(&self.container.bucket),
            Err(Broken::Body(error)) => error,
        };
        Err(self.cleared(error).await)
    }

    /// Removes what the server may have made of a body that was not whole. What the look says is better than that
    /// the connection broke: a server that closes it at once takes its own answer back.
    async fn cleared(&self, error: StorageError) -> StorageError {
        let is_broken = matches!(error, StorageError::Backend { temporary, .. } if temporary);
        match self.note().await {
            Ok(Some(note)) if note == self.note => {
                self.remove().await;
                error
            }
            Ok(Some(_)) if is_broken => StorageError::AlreadyExists(self.key),
            Ok(_) => error,
            Err(reason) if is_broken => reason,
            Err(reason) => {
                tracing::warn!(bucket = self.container.bucket, key = %self.key, error = %reason, "could not look for an unfinished object; the sweep will");
                error
            }
        }
    }

    /// What the server says to a body that was sent to its end. One that was not is cut off.
    async fn sent(
        &self,
        size: u64,
        first: Bytes,
        body: Body<'_>,
    ) -> Result<Result<(), Failure>, Broken> {
        let (sender, pieces) = mpsc::channel(PIECES_IN_FLIGHT);
        let object = (&self.container, &self.key);
        let answer = pin!(self.server.object_put(object, &self.note, size, pieces));
        // The body is asked first, so that its beginning goes out with the head of the request.
        let answer = match select(pin!(body.send(first, sender)), answer).await {
            Either::Left((sent, answer)) => {
                sent?;
                answer
            }
            Either::Right((Err(failure), _)) => return Err(Broken::Server(failure)),
            Either::Right((Ok(()), _)) => {
                let message = "the server took an object before it had all of it";
                return Err(Broken::Server(Failure::local(message)));
            }
        };
        let answer = timeout(STORE_LIMIT, answer).await;
        Ok(answer.unwrap_or_else(|_| Err(Failure::timeout())))
    }
}

/// A body and who waits for its end.
struct Body<'a> {
    parts: &'a mut Parts,
    caller: &'a mut Caller,
}

impl Body<'_> {
    /// The next piece, the last one only when it is known to be the last.
    async fn piece(&mut self) -> StorageResult<Bytes> {
        let next = async {
            let piece = self.parts.piece().await?;
            if self.parts.is_complete() {
                self.parts.piece().await?;
            }
            Ok(piece.unwrap_or_default())
        };
        tokio::select! {
            piece = next => piece,
            () = self.caller.gone() => Err(caller_gone()),
        }
    }

    /// Hands all pieces to the connection.
    async fn send(mut self, first: Bytes, sender: mpsc::Sender<Bytes>) -> Result<(), Broken> {
        let mut piece = first;
        loop {
            while !piece.is_empty() {
                let small = piece.split_to(piece.len().min(PIECE_BYTES));
                match timeout(IDLE_LIMIT, sender.send(small)).await {
                    Ok(Ok(())) => {}
                    // The connection is gone, and the answer says why.
                    Ok(Err(_)) => {
                        sleep(IDLE_LIMIT).await;
                        return Err(Broken::Server(Failure::timeout()));
                    }
                    Err(_) => return Err(Broken::Server(Failure::timeout())),
                }
            }
            if self.parts.is_complete() {
                return Ok(());
            }
            piece = self.piece().await.map_err(Broken::Body)?;
        }
    }
}
