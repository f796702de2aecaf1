//! Pulling a blob: by redirect to the object store, or as a stream of its chunks.

use std::{io, net::IpAddr, ops::Range, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use storage_drivers::{ByteStream, ObjectKey, StorageError, Tenant};
use url::Url;

use super::{
    Backends, Registry,
    access::{Pull, RepoAccess},
    patient_read::patient,
};
use crate::{
    db::{
        Db,
        blobs::{Blob, Chunk, blob_find},
        consistency::blob_chunks_of,
    },
    error::{Code, Error, Result},
    model::audit::AuditAction,
    oci::{Digest, FullRepoName, RequestedRange, content_range::requested_range},
};

/// How long a redirect's address is good: long enough for a client that retries.
const REDIRECT_VALID_FOR: Duration = Duration::from_secs(20 * 60);

/// However short the grace of moves is, a client must be able to follow.
const SHORTEST_REDIRECT: Duration = Duration::from_secs(60);

/// What a client wants of a blob.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlobRequest<'a> {
    /// The `Range` header.
    pub range: Option<&'a str>,
    /// Where the client is: some networks cannot reach the object store.
    pub client: Option<IpAddr>,
}

/// A blob on its way to a client.
pub enum BlobContent {
    /// Fetch it there.
    Redirect(Url),
    /// All of it.
    Whole {
        /// Its length.
        size_bytes: u64,
        /// Its bytes.
        body: ByteStream,
    },
    /// A part of it.
    Partial {
        /// Which part.
        range: Range<u64>,
        /// The length of the whole.
        size_bytes: u64,
        /// The part's bytes.
        body: ByteStream,
    },
    /// The part that was asked for does not exist.
    Unsatisfiable {
        /// The length of the whole.
        size_bytes: u64,
    },
}

impl Registry {
    /// The length of a blob. Who may be about to push is told that a broken one is not there, and sends it again; and
    /// one that is there is kept for the manifest that is to come.
    pub async fn blob_size(&self, access: &RepoAccess<Pull>, digest: &Digest) -> Result<u64> {
        let blob = self.blob_get(access, digest).await?;
        if self.may_be_pushing(access).await? {
            if blob.is_broken {
                return Err(Error::new(Code::BlobUnknown));
            }
            self.wanted.note(access.name(), digest);
        }
        Ok(blob.size_bytes)
    }

    /// Opens a blob, or the part that is asked for.
    pub async fn blob_pull(
        &self,
        access: &RepoAccess<Pull>,
        digest: &Digest,
        wanted: &BlobRequest<'_>,
    ) -> Result<BlobContent> {
        match self.blob_content(access, digest, wanted).await {
            // The account moves, and the chunk has another place since we looked.
            Err(Opened::Gone) => match self.blob_content(access, digest, wanted).await {
                Err(Opened::Gone) => Err(Error::internal(format!(
                    "an object of blob {digest} is missing; `kontor check` tells which"
                ))),
                Err(Opened::Failed(error)) => Err(error),
                Ok(content) => Ok(content),
            },
            Err(Opened::Failed(error)) => Err(error),
            Ok(content) => Ok(content),
        }
    }

    /// The bytes of a blob of a repository, which is refused if it has more than `limit_bytes`.
    pub(super) async fn blob_read(
        &self,
        name: &FullRepoName,
        digest: &Digest,
        limit_bytes: u64,
    ) -> Result<Option<Vec<u8>>> {
        for _ in 0..2 {
            let (wanted, name) = (digest.clone(), name.clone());
            let blob = self.db.read(move |conn| blob_find(conn, &name, &wanted));
            let Some(blob) = blob.await? else {
                return Ok(None);
            };
            let size_bytes = blob.size_bytes;
            if size_bytes > limit_bytes {
                let message = format!(
                    "blob {digest} cannot be looked into: it has more than {limit_bytes} bytes"
                );
                return Err(Error::with_message(Code::Denied, message));
            }
            match self.open(blob, 0..size_bytes).await {
                // The account moves, and the chunk has another place since we looked.
                Err(Opened::Gone) => {}
                Err(Opened::Failed(error)) => return Err(error),
                Ok(mut body) => {
                    let mut content = Vec::new();
                    while let Some(piece) = body.try_next().await.map_err(Error::unavailable)? {
                        content.extend_from_slice(&piece);
                    }
                    return Ok(Some(content));
                }
            }
        }
        Err(Error::internal(format!(
            "an object of blob {digest} is missing; `kontor check` tells which"
        )))
    }

    /// The content of a blob, from its first byte to its last.
    pub(super) async fn blob_open(&self, blob: Blob) -> Result<ByteStream> {
        let (number, size_bytes) = (blob.id, blob.size_bytes);
        match self.open(blob, 0..size_bytes).await {
            Ok(body) => Ok(body),
            Err(Opened::Failed(error)) => Err(error),
            Err(Opened::Gone) => Err(Error::unavailable(format!(
                "an object of blob number {number} is missing"
            ))),
        }
    }

    async fn blob_content(
        &self,
        access: &RepoAccess<Pull>,
        digest: &Digest,
        wanted: &BlobRequest<'_>,
    ) -> Result<BlobContent, Opened> {
        let blob = self.blob_get(access, digest).await?;
        let event = blob.account.settings.audit_pulls.then(|| {
            let event = self.repo_event(access, AuditAction::BlobPull);
            event.of(digest).on(&blob.account)
        });
        let content = match self.redirect(&blob, wanted.client).await? {
            Some(url) => BlobContent::Redirect(url),
            None => self.blob_stream(blob, wanted.range).await?,
        };
        if let Some(event) = event {
            self.audit_note(event).await?;
        }
        Ok(content)
    }

    async fn blob_stream(&self, blob: Blob, range: Option<&str>) -> Result<BlobContent, Opened> {
        let size_bytes = blob.size_bytes;
        Ok(match requested_range(range, size_bytes) {
            RequestedRange::Whole => BlobContent::Whole {
                size_bytes,
                body: self.open(blob, 0..size_bytes).await?,
            },
            RequestedRange::Partial(range) => {
                let body = self.open(blob, range.clone()).await?;
                BlobContent::Partial {
                    range,
                    size_bytes,
                    body,
                }
            }
            RequestedRange::Unsatisfiable => BlobContent::Unsatisfiable { size_bytes },
        })
    }

    async fn blob_get(&self, access: &RepoAccess<Pull>, digest: &Digest) -> Result<Blob> {
        let (name, digest) = (access.name().clone(), digest.clone());
        let blob = self
            .db
            .read(move |conn| blob_find(conn, &name, &digest))
            .await?;
        blob.ok_or_else(|| Error::new(Code::BlobUnknown))
    }

    /// Only a blob of one chunk is one object; the client sends its own `Range` there.
    async fn redirect(&self, blob: &Blob, client: Option<IpAddr>) -> Result<Option<Url>> {
        let [chunk] = blob.chunks.as_slice() else {
            return Ok(None);
        };
        let (settings, downloads) = (&blob.account.settings, &self.settings.downloads);
        if settings.proxy_downloads || downloads.proxy_all {
            return Ok(None);
        }
        let mut networks = settings
            .proxy_networks
            .iter()
            .chain(&downloads.proxy_networks);
        if networks.any(|network| client.is_some_and(|ip| network.contains(&ip.to_canonical()))) {
            return Ok(None);
        }
        let driver = self.backends.get(&chunk.storage)?;
        let key = ObjectKey::Chunk(chunk.object_id);
        // What moves away stays where it was for the time of grace, and so must the address not outlive it.
        let grace = self.settings.moves.grace.max(SHORTEST_REDIRECT);
        let valid_for = REDIRECT_VALID_FOR.min(grace);
        // What may be swept before is read here, where the reader is there first.
        let until = self.clock.now() + valid_for;
        if blob.unused_until.is_some_and(|swept_at| swept_at < until) {
            return Ok(None);
        }
        Ok(driver
            .download_url(&blob.account.tenant(), &key, valid_for)
            .await?)
    }

    /// Streams a range of a blob. The first object is opened at once, so that an outage is still an
    /// answer and not a broken stream; the others when their turn comes.
    async fn open(&self, blob: Blob, range: Range<u64>) -> Result<ByteStream, Opened> {
        let mut parts = parts_of(&blob.chunks, &range).into_iter();
        let Some(part) = parts.next() else {
            return Ok(stream::empty().boxed());
        };
        let reader = Reader {
            db: self.db.clone(),
            backends: Arc::clone(&self.backends),
            tenant: blob.account.tenant(),
            blob_id: blob.id,
        };
        let first = reader.read(&part).await?;
        let first = reader.patient(part, first);
        let rest = stream::iter(parts)
            .then(move |part| {
                let reader = reader.clone();
                async move {
                    let opened = reader.read_wherever(part.clone()).await;
                    let opened = opened.map_err(io::Error::other)?;
                    Ok::<_, io::Error>(reader.patient(part, opened))
                }
            })
            .try_flatten();
        Ok(first.chain(rest).boxed())
    }
}

/// Why a chunk could not be opened.
enum Opened {
    /// It is not where it was said to be.
    Gone,
    Failed(Error),
}

impl From<Error> for Opened {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Opens the chunks of a blob.
#[derive(Clone)]
struct Reader {
    db: Db,
    backends: Arc<Backends>,
    tenant: Tenant,
    blob_id: i64,
}

impl Reader {
    async fn read(&self, part: &Part) -> Result<ByteStream, Opened> {
        let driver = self.backends.get(&part.chunk.storage)?;
        let key = ObjectKey::Chunk(part.chunk.object_id);
        let opened = driver.read(&self.tenant, &key, Some(part.range.clone()));
        opened.await.map_err(|error| match error {
            StorageError::NotFound(_) => Opened::Gone,
            other => Opened::Failed(other.into()),
        })
    }

    /// The stream of a part, which need not wait for a slow client.
    fn patient(&self, part: Part, opened: ByteStream) -> ByteStream {
        let (reader, range) = (self.clone(), part.range.clone());
        let open = move |range| -> BoxFuture<'static, io::Result<ByteStream>> {
            let reader = reader.clone();
            let part = Part {
                range,
                ..part.clone()
            };
            Box::pin(async move { reader.read_wherever(part).await.map_err(io::Error::other) })
        };
        patient(Box::new(open), range, opened)
    }

    /// Reads a part whose turn comes later, when the chunk may have moved.
    async fn read_wherever(&self, mut part: Part) -> Result<ByteStream> {
        let missing = || Error::internal("an object of the blob is missing");
        match self.read(&part).await {
            Ok(body) => return Ok(body),
            Err(Opened::Failed(error)) => return Err(error),
            Err(Opened::Gone) => {}
        }
        let id = self.blob_id;
        let chunks = self.db.read(move |conn| blob_chunks_of(conn, id)).await?;
        // The chunk may have been moved, or merged with others: what counts is the place in the blob.
        let place = part.start + part.range.start..part.start + part.range.end;
        let parts = parts_of(&chunks, &place);
        let [now] = parts.as_slice() else {
            return Err(missing());
        };
        part = now.clone();
        match self.read(&part).await {
            Ok(body) => Ok(body),
            Err(Opened::Failed(error)) => Err(error),
            Err(Opened::Gone) => Err(missing()),
        }
    }
}

/// A part of a chunk.
#[derive(Clone)]
struct Part {
    /// Where the chunk begins in the blob.
    start: u64,
    chunk: Chunk,
    range: Range<u64>,
}

/// The parts of the chunks that a range of the blob touches.
fn parts_of(chunks: &[Chunk], range: &Range<u64>) -> Vec<Part> {
    let mut start = 0;
    let mut parts = Vec::new();
    for chunk in chunks {
        let end = start + chunk.size_bytes;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            parts.push(Part {
                start,
                chunk: chunk.clone(),
                range: from - start..to - start,
            });
        }
        start = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_touches_the_chunks_that_it_overlaps() {
        let sizes = [10, 1, 5];
        let chunks: Vec<Chunk> = sizes
            .iter()
            .map(|size_bytes| Chunk {
                object_id: uuid::Uuid::nil(),
                storage: String::new(),
                size_bytes: *size_bytes,
            })
            .collect();
        let parts = |range: Range<u64>| -> Vec<(u64, Range<u64>)> {
            parts_of(&chunks, &range)
                .into_iter()
                .map(|part| (part.chunk.size_bytes, part.range))
                .collect()
        };
        assert_eq!(parts(0..16), [(10, 0..10), (1, 0..1), (5, 0..5)]);
        assert_eq!(parts(9..12), [(10, 9..10), (1, 0..1), (5, 0..1)]);
        assert_eq!(parts(11..12), [(5, 0..1)]);
        assert_eq!(parts(0..10), [(10, 0..10)]);
    }
}
