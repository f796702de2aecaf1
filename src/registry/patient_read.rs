//! Reading from a storage backend for a client that may be slow.
//!
//! A client that takes what comes has one stream from the backend. One that lets a stream wait loses it: what it has not
//! taken would lie in the kernel's buffers of that connection, megabytes for each such client. From then on it is
//! served from windows, which are fetched whole, so that nothing waits at the backend; when it is fast again, it gets
//! a stream again.
//!
//! What a newcomer will get wrong: nobody polls a stream for which there is no room, so the stream cannot notice
//! itself that it waits. A task beside it looks at the clock.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, future::BoxFuture, stream};
use storage_drivers::ByteStream;
use tokio::task::AbortHandle;

/// How long a stream may wait for its client. Pieces are of up to 400 KiB, so this is somewhat more than a MiB a second.
const PATIENCE: Duration = Duration::from_millis(250);

/// What is fetched for a slow client at once, in bytes.
const WINDOW_BYTES: u64 = 256 * 1024;

/// After how many windows in a row that were taken at once a client is fast again: 8 MiB, since the kernel's buffer of
/// the connection to a slow client takes some MiB at once when it has become empty.
const FAST_WINDOWS: u32 = 32;

/// A window is handed out in pieces of this size, of which the server keeps a copy until it is sent.
const PIECE_BYTES: usize = 32 * 1024;

/// And a stream in pieces of this size: a backend sends up to 400 KiB at once.
const STREAM_PIECE_BYTES: usize = 64 * 1024;

/// What is smaller fits into the buffers of any client.
const SMALL_BYTES: u64 = 1024 * 1024;

/// Opens a range of what is read.
pub(super) type Open = Box<dyn Fn(Range<u64>) -> BoxFuture<'static, io::Result<ByteStream>> + Send>;

/// A stream that nobody polls at the moment, and since when.
struct Waiting {
    stream: Option<ByteStream>,
    since: Instant,
}

type Shared = Arc<Mutex<Waiting>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Waiting> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a stream away that waits for too long. Ends with it.
async fn watch(shared: Shared, patience: Duration) {
    loop {
        tokio::time::sleep(patience).await;
        let mut waiting = lock(&shared);
        if waiting.stream.is_some() && waiting.since.elapsed() >= patience {
            waiting.stream = None;
            return;
        }
    }
}

/// Where the bytes come from.
enum Source {
    /// One answer of the backend.
    Stream {
        shared: Shared,
        watcher: AbortHandle,
    },
    /// What is left of a window, when it was fetched, and how many before it were taken at once.
    Window {
        pieces: VecDeque<Bytes>,
        fetched_at: Instant,
        fast_before: u32,
    },
}

struct Reader {
    open: Open,
    /// What has not been handed out yet.
    range: Range<u64>,
    /// What is left of the last piece of a stream.
    rest: Bytes,
    source: Source,
    patience: Duration,
}

/// The bytes of `range`, for which `opened` is the stream.
pub(super) fn patient(open: Open, range: Range<u64>, opened: ByteStream) -> ByteStream {
    if range.end - range.start <= SMALL_BYTES {
        return opened;
    }
    patient_for(open, range, opened, PATIENCE)
}

fn patient_for(
    open: Open,
    range: Range<u64>,
    opened: ByteStream,
    patience: Duration,
) -> ByteStream {
    let reader = Reader {
        open,
        range,
        rest: Bytes::new(),
        source: Source::streamed(opened, patience),
        patience,
    };
    stream::try_unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Ok(piece.map(|piece| (piece, reader)))
    })
    .boxed()
}

impl Source {
    fn streamed(stream: ByteStream, patience: Duration) -> Self {
        let shared = Arc::new(Mutex::new(Waiting {
            stream: Some(stream),
            since: Instant::now(),
        }));
        let watcher = tokio::spawn(watch(Arc::clone(&shared), patience)).abort_handle();
        Self::Stream { shared, watcher }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Self::Stream { watcher, .. } = self {
            watcher.abort();
        }
    }
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let piece = if self.rest.is_empty() {
            self.next_whole().await?
        } else {
            Some(std::mem::take(&mut self.rest))
        };
        Ok(piece.map(|mut piece| {
            if piece.len() > STREAM_PIECE_BYTES {
                self.rest = piece.split_off(STREAM_PIECE_BYTES);
            }
            self.range.start += piece.len() as u64;
            piece
        }))
    }

    /// The next piece as it comes.
    async fn next_whole(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.source {
            Source::Stream { shared, .. } => {
                // Outside the lock while it is polled: then it waits for the backend, and not for the client.
                let taken = lock(shared).stream.take();
                let Some(mut stream) = taken else {
                    return self.next_window(0).await;
                };
                let piece = stream.next().await.transpose()?;
                let mut waiting = lock(shared);
                waiting.stream = Some(stream);
                waiting.since = Instant::now();
                Ok(piece)
            }
            Source::Window {
                pieces,
                fetched_at,
                fast_before,
            } => {
                if let Some(piece) = pieces.pop_front() {
                    return Ok(Some(piece));
                }
                let is_fast = fetched_at.elapsed() < self.patience;
                let fast = if is_fast { *fast_before + 1 } else { 0 };
                if fast >= FAST_WINDOWS {
                    self.next_stream().await
                } else {
                    self.next_window(fast).await
                }
            }
        }
    }

    /// The client is fast again.
    async fn next_stream(&mut self) -> io::Result<Option<Bytes>> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let mut stream = (self.open)(self.range.clone()).await?;
        let piece = stream.next().await.transpose()?;
        self.source = Source::streamed(stream, self.patience);
        Ok(piece)
    }

    /// Fetches a window whole, and leaves nothing at the backend.
    async fn next_window(&mut self, fast_before: u32) -> io::Result<Option<Bytes>> {
        let end = self.range.end.min(self.range.start + WINDOW_BYTES);
        let window = self.range.start..end;
        if window.is_empty() {
            return Ok(None);
        }
        let mut stream = (self.open)(window).await?;
        let mut pieces = VecDeque::new();
        while let Some(piece) = stream.next().await.transpose()? {
            for part in piece.chunks(PIECE_BYTES) {
                // Copied: a part would hold on to the whole buffer that it came in.
                pieces.push_back(BytesMut::from(part).freeze());
            }
        }
        let first = pieces.pop_front();
        self.source = Source::Window {
            pieces,
            fetched_at: Instant::now(),
            fast_before,
        };
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    const PIECE: u64 = 300_000;

    /// What was opened, and a message for each stream that was dropped.
    struct Backend {
        content: Arc<Vec<u8>>,
        opened: Arc<Mutex<Vec<Range<u64>>>>,
        dropped: mpsc::UnboundedSender<()>,
        alive: Arc<AtomicUsize>,
    }

    struct Alive(mpsc::UnboundedSender<()>, Arc<AtomicUsize>);

    impl Drop for Alive {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::SeqCst);
            let _ = self.0.send(());
        }
    }

    impl Backend {
        fn new(size: u64) -> (Arc<Self>, mpsc::UnboundedReceiver<()>) {
            let (dropped, drops) = mpsc::unbounded_channel();
            let content = (0..size).map(|n| (n % 251) as u8).collect();
            let backend = Self {
                content: Arc::new(content),
                opened: Arc::default(),
                dropped,
                alive: Arc::default(),
            };
            (Arc::new(backend), drops)
        }

        fn stream(&self, range: Range<u64>) -> ByteStream {
            self.opened.lock().unwrap().push(range.clone());
            self.alive.fetch_add(1, Ordering::SeqCst);
            let alive = Alive(self.dropped.clone(), Arc::clone(&self.alive));
            let content = Arc::clone(&self.content);
            stream::unfold((range, alive), move |(range, alive)| {
                let end = range.end.min(range.start + PIECE);
                let at = |n: u64| usize::try_from(n).unwrap();
                let piece = Bytes::copy_from_slice(&content[at(range.start)..at(end)]);
                async move { (!piece.is_empty()).then(|| (Ok(piece), (end..range.end, alive))) }
            })
            .boxed()
        }

        fn opened(&self) -> Vec<(u64, u64)> {
            let opened = self.opened.lock().unwrap();
            opened
                .iter()
                .map(|range| (range.start, range.end))
                .collect()
        }

        fn open(self: &Arc<Self>) -> Open {
            let backend = Arc::clone(self);
            Box::new(move |range| {
                let stream = backend.stream(range);
                Box::pin(async move { Ok(stream) })
            })
        }

        fn read(self: &Arc<Self>, range: Range<u64>, patience: Duration) -> ByteStream {
            let opened = self.stream(range.clone());
            patient_for(self.open(), range, opened, patience)
        }
    }

    async fn rest(mut stream: ByteStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        bytes
    }

    #[tokio::test]
    async fn who_takes_what_comes_has_one_stream() {
        let (backend, _drops) = Backend::new(1_000_000);
        let stream = backend.read(10..1_000_000, Duration::from_secs(60));
        assert_eq!(rest(stream).await, backend.content[10..]);
        assert_eq!(backend.opened(), vec![(10, 1_000_000)]);
    }

    #[tokio::test]
    async fn who_is_slow_gets_windows_and_the_same_bytes() {
        let (backend, mut drops) = Backend::new(1_000_000);
        let mut stream = backend.read(0..1_000_000, Duration::from_millis(2));
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < PIECE {
            bytes.extend_from_slice(&stream.next().await.unwrap().unwrap());
        }
        // The client does nothing until the stream is taken away.
        drops.recv().await.unwrap();
        assert_eq!(backend.alive.load(Ordering::SeqCst), 0);
        bytes.extend_from_slice(&stream.next().await.unwrap().unwrap());
        assert_eq!(backend.opened()[1], (PIECE, PIECE + WINDOW_BYTES));
        // A window leaves nothing at the backend.
        assert_eq!(backend.alive.load(Ordering::SeqCst), 0);
        bytes.extend(rest(stream).await);
        assert_eq!(bytes, *backend.content);
    }

    #[tokio::test]
    async fn who_is_fast_again_gets_a_stream_again() {
        let (backend, _drops) = Backend::new(1_000_000);
        let reader = Reader {
            open: backend.open(),
            range: 0..1_000_000,
            rest: Bytes::new(),
            source: Source::Window {
                pieces: VecDeque::new(),
                fetched_at: Instant::now(),
                fast_before: FAST_WINDOWS - 2,
            },
            patience: Duration::from_secs(60),
        };
        let stream = stream::try_unfold(reader, |mut reader| async move {
            let piece = reader.next().await?;
            Ok(piece.map(|piece| (piece, reader)))
        });
        assert_eq!(rest(stream.boxed()).await, *backend.content);
        let window = (0, WINDOW_BYTES);
        assert_eq!(backend.opened(), vec![window, (WINDOW_BYTES, 1_000_000)]);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_closes_the_stream() {
        let (backend, mut drops) = Backend::new(1_000_000);
        let mut stream = backend.read(0..1_000_000, Duration::from_secs(60));
        stream.next().await.unwrap().unwrap();
        drop(stream);
        drops.recv().await.unwrap();
        assert_eq!(backend.alive.load(Ordering::SeqCst), 0);
    }
}
