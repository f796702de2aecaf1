//! Reads an object: one blocking hop opens it, checks the range and fetches the first piece, so that a small
//! object costs one hop; every further piece costs one.
//!
//! A file that turns out shorter than it was is an error, never a short success: the client has been told the
//! length by then.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use crate::{ByteStream, ObjectKey, StorageError, StorageResult};

/// The longest piece: long enough that the hop costs little, short enough for thousands of readers.
pub(super) const PIECE_BYTES: u64 = 512 * 1024;

/// What is left to read.
#[derive(Debug)]
pub(super) struct Rest {
    file: File,
    range: Range<u64>,
}

impl Rest {
    /// The next piece; empty at the end.
    fn piece(&mut self) -> io::Result<Bytes> {
        let len = PIECE_BYTES.min(self.range.end - self.range.start);
        let mut piece = vec![0; len as usize];
        self.file.read_exact_at(&mut piece, self.range.start)?;
        self.range.start += len;
        Ok(piece.into())
    }
}

/// Opens an object and reads its first piece. Errors: `NotFound`, `InvalidRange`.
pub(super) fn object_open(
    path: &Path,
    key: ObjectKey,
    range: Option<Range<u64>>,
) -> StorageResult<(Bytes, Rest)> {
    let placed = |e| StorageError::from_io(e, path);
    let file = File::open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => StorageError::NotFound(key),
        _ => placed(e),
    })?;
    let size_bytes = file.metadata().map_err(placed)?.len();
    let Range { start, end } = range.unwrap_or(0..size_bytes);
    if start > end || end > size_bytes {
        return Err(StorageError::InvalidRange {
            start,
            end,
            size_bytes,
        });
    }
    let mut rest = Rest {
        file,
        range: start..end,
    };
    let first = rest.piece().map_err(placed)?;
    Ok((first, rest))
}

/// The first piece and all that follow.
pub(super) fn object_stream(first: Bytes, rest: Rest) -> ByteStream {
    let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
    if rest.range.is_empty() {
        return first.boxed();
    }
    let others = stream::try_unfold(rest, |mut rest| async move {
        if rest.range.is_empty() {
            return Ok(None);
        }
        let (piece, rest) = spawn_blocking(move || rest.piece().map(|piece| (piece, rest)))
            .await
            .map_err(io::Error::other)??;
        Ok(Some((piece, rest)))
    });
    first.chain(others.into_stream()).boxed()
}
