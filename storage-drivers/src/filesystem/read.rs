//! Reads an object: one blocking hop opens it, checks the range and fetches the first piece, so that a small
//! object costs one hop; every further piece costs one, and is fetched while the piece before it is on its way.
//!
//! A file that turns out shorter than it was is an error, never a short success: the client has been told the
//! length by then.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{ByteStream, ObjectKey, StorageError, StorageResult};

/// The longest piece: long enough that the hop costs little, short enough for thousands of readers, who each
/// hold two.
pub(super) const PIECE_BYTES: u64 = 256 * 1024;

/// What is left to read. The file stands at the start of the range.
#[derive(Debug)]
pub(super) struct Rest {
    file: File,
    range: Range<u64>,
}

impl Rest {
    /// The next piece; empty at the end.
    fn piece(&mut self) -> io::Result<Bytes> {
        let len = PIECE_BYTES.min(self.range.end - self.range.start);
        // Not `vec![0; len]`: filling with zeros what is overwritten next costs as much as the read.
        let mut piece = Vec::with_capacity(len as usize);
        (&self.file).take(len).read_to_end(&mut piece)?;
        if piece.len() as u64 != len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
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
    if start > 0 {
        rest.file.seek(SeekFrom::Start(start)).map_err(placed)?;
    }
    let first = rest.piece().map_err(placed)?;
    Ok((first, rest))
}

/// The first piece and all that follow.
pub(super) fn object_stream(first: Bytes, rest: Rest) -> ByteStream {
    let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
    if rest.range.is_empty() {
        return first.boxed();
    }
    let others = stream::try_unfold(next_piece(rest), |piece| async move {
        let Some(piece) = piece else {
            return Ok(None);
        };
        let (piece, rest) = piece.await.map_err(io::Error::other)??;
        Ok(Some((piece, next_piece(rest))))
    });
    first.chain(others.into_stream()).boxed()
}

type NextPiece = JoinHandle<io::Result<(Bytes, Rest)>>;

/// Begins to fetch the next piece; `None` at the end. Nobody need wait for it: a reader that goes away costs
/// one piece.
fn next_piece(mut rest: Rest) -> Option<NextPiece> {
    let is_left = !rest.range.is_empty();
    is_left.then(|| spawn_blocking(move || rest.piece().map(|piece| (piece, rest))))
}
