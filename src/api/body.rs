//! Request bodies: as a stream for storage, or whole up to a limit.
//!
//! actix's payload cannot leave its thread. It is pumped through a bounded channel that carries an
//! explicit end: without that, a pump that dies would make half a body look complete.

use std::{io, time::Duration};

use actix_web::{error::PayloadError, rt, web};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use storage_drivers::ByteStream;
use tokio::{sync::mpsc, time::timeout};

use crate::error::{Code, Error, Result};

/// Pieces in flight between the connection and storage. A piece is what one read of a socket gave.
const PIECES_IN_FLIGHT: usize = 4;

enum Part {
    Data(Bytes),
    End,
}

/// Makes the payload a stream that can go to another thread. A client that sends nothing for
/// `idle_timeout` ends it with [`io::ErrorKind::TimedOut`].
pub fn stream(mut payload: web::Payload, idle_timeout: Duration) -> ByteStream {
    let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
    rt::spawn(async move {
        loop {
            // While nobody takes pieces the client is not to blame, so the wait begins with a free place.
            let Ok(place) = sender.reserve().await else {
                return;
            };
            match next(&mut payload, idle_timeout).await {
                Some(Ok(piece)) => place.send(Ok(Part::Data(piece))),
                Some(Err(error)) => return place.send(Err(error)),
                None => return place.send(Ok(Part::End)),
            }
        }
    });
    stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver: mpsc::Receiver<io::Result<Part>> = receiver?;
        match receiver.recv().await {
            Some(Ok(Part::Data(piece))) => Some((Ok(piece), Some(receiver))),
            Some(Ok(Part::End)) => None,
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    })
    .boxed()
}

async fn next(payload: &mut web::Payload, idle_timeout: Duration) -> Option<io::Result<Bytes>> {
    match timeout(idle_timeout, payload.next()).await {
        Ok(item) => item.map(|piece| piece.map_err(as_io)),
        Err(_) => Some(Err(io::ErrorKind::TimedOut.into())),
    }
}

fn as_io(error: PayloadError) -> io::Error {
    match error {
        PayloadError::Io(error) => error,
        PayloadError::Incomplete(_) => io::ErrorKind::UnexpectedEof.into(),
        other => io::Error::other(other.to_string()),
    }
}

/// Reads a body into memory; `too_large` is the answer to one of more than `limit` bytes.
pub async fn whole(
    mut payload: web::Payload,
    idle_timeout: Duration,
    (limit, too_large): (usize, Code),
) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(piece) = next(&mut payload, idle_timeout).await {
        let piece = piece.map_err(storage_error)?;
        if body.len() + piece.len() > limit {
            let message = format!("the body may have at most {limit} bytes");
            return Err(Error::with_message(too_large, message));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

fn storage_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut => Error::new(Code::RequestTimeout),
        _ => Error::with_message(Code::SizeInvalid, "the request body broke off").caused_by(error),
    }
}
