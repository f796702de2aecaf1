//! Reads an object: one GET, whose answer says how large the object is, and whose body is handed on piece by
//! piece. Nothing is read ahead, so a slow client slows the server down, and one that goes away closes the
//! connection.
//!
//! What a newcomer will get wrong: S3 cuts a range that reaches beyond the object off, and so it looks like a
//! success; and a range of no bytes cannot be asked for at all.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use opendal::{BufferStream, BytesRange, Operator};

use super::failure::Failure;
use crate::{ByteStream, ObjectKey, StorageError, StorageResult};

/// What is read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) operator: Operator,
    pub(super) bucket: String,
    pub(super) key: ObjectKey,
}

/// The bytes that are still to come.
struct Rest {
    pieces: BoxStream<'static, io::Result<Bytes>>,
    left_bytes: u64,
}

fn invalid(range: &Range<u64>, size_bytes: u64) -> StorageError {
    StorageError::InvalidRange {
        start: range.start,
        end: range.end,
        size_bytes,
    }
}

impl Source {
    fn missing_or(&self, failure: Failure) -> StorageError {
        if failure.is_missing() {
            StorageError::NotFound(self.key)
        } else {
            failure.at(&self.bucket)
        }
    }

    async fn size_bytes(&self) -> StorageResult<u64> {
        match self.operator.stat(&self.key.to_string()).await {
            Ok(metadata) => Ok(metadata.content_length()),
            Err(e) => Err(self.missing_or(e.into())),
        }
    }

    /// Opens the stream. Errors: `NotFound`, `InvalidRange`.
    pub(super) async fn open(self, range: Option<Range<u64>>) -> StorageResult<ByteStream> {
        let Some(range) = range else {
            let (size_bytes, stream) = match self.get(BytesRange::from(..)).await {
                Ok(opened) => opened,
                Err(failure) => return Err(self.missing_or(failure)),
            };
            return Ok(exactly(size_bytes, stream));
        };
        // Servers differ in what they make of numbers that do not fit into 63 bits.
        if range.is_empty() || i64::try_from(range.end).is_err() {
            let size_bytes = self.size_bytes().await?;
            if range.start > range.end || range.end > size_bytes {
                return Err(invalid(&range, size_bytes));
            }
            return Ok(stream::empty().boxed());
        }
        match self.get(BytesRange::from(range.clone())).await {
            Ok((size_bytes, _)) if range.end > size_bytes => Err(invalid(&range, size_bytes)),
            Ok((_, stream)) => Ok(exactly(range.end - range.start, stream)),
            Err(failure) if failure.is_range() => Err(invalid(&range, self.size_bytes().await?)),
            Err(failure) => Err(self.missing_or(failure)),
        }
    }

    /// Sends the request; returns the size of the whole object.
    async fn get(&self, range: BytesRange) -> Result<(u64, BufferStream), Failure> {
        let reader = self.operator.reader(&self.key.to_string()).await?;
        let mut stream = reader.into_stream(range).await?;
        let size_bytes = stream.metadata().await?.content_length();
        Ok((size_bytes, stream))
    }
}

/// The bytes of a stream, which must be as many as announced.
fn exactly(size_bytes: u64, stream: BufferStream) -> ByteStream {
    // The failure, and not OpenDAL's error, which holds the address.
    let pieces = stream
        .map_err(|e| io::Error::other(Failure::from(e)))
        .map_ok(|buffer| stream::iter(Iterator::map(buffer, Ok)))
        .try_flatten();
    let rest = Rest {
        pieces: pieces.boxed(),
        left_bytes: size_bytes,
    };
    stream::try_unfold(rest, |mut rest| async move {
        let piece = rest.pieces.try_next().await?;
        let piece_bytes = piece.as_ref().map_or(0, Bytes::len) as u64;
        let is_wrong = match &piece {
            Some(_) => piece_bytes > rest.left_bytes,
            None => rest.left_bytes > 0,
        };
        if is_wrong {
            let message = "the server sent more or fewer bytes than it had announced";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        rest.left_bytes -= piece_bytes;
        Ok(piece.map(|piece| (piece, rest)))
    })
    .boxed()
}
