//! Pulling a blob: by redirect to the object store, or as a stream of its chunks.

use std::{io, ops::Range, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use storage_drivers::{ByteStream, ObjectKey};
use url::Url;

use super::{
    Registry,
    access::{Pull, RepoAccess},
};
use crate::{
    db::blobs::{Blob, Chunk, blob_find},
    error::{Code, Error, Result},
    oci::{Digest, RequestedRange, content_range::requested_range},
};

/// How long a redirect's address is good: long enough for a client that retries.
const REDIRECT_VALID_FOR: Duration = Duration::from_secs(20 * 60);

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
    /// The length of a blob.
    pub async fn blob_size(&self, access: &RepoAccess<Pull>, digest: &Digest) -> Result<u64> {
        Ok(self.blob_get(access, digest).await?.size_bytes)
    }

    /// Opens a blob, or the part that the `Range` header asks for.
    pub async fn blob_pull(
        &self,
        access: &RepoAccess<Pull>,
        digest: &Digest,
        range: Option<&str>,
    ) -> Result<BlobContent> {
        let blob = self.blob_get(access, digest).await?;
        if let Some(url) = self.redirect(&blob).await? {
            return Ok(BlobContent::Redirect(url));
        }
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
    async fn redirect(&self, blob: &Blob) -> Result<Option<Url>> {
        let [chunk] = blob.chunks.as_slice() else {
            return Ok(None);
        };
        if blob.account.settings.proxy_downloads {
            return Ok(None);
        }
        let driver = self.backends.get(&chunk.storage)?;
        let key = ObjectKey::Chunk(chunk.object_id);
        Ok(driver
            .download_url(&blob.account.tenant(), &key, REDIRECT_VALID_FOR)
            .await?)
    }

    /// Streams a range of a blob. The first object is opened at once, so that an outage is still an
    /// answer and not a broken stream; the others when their turn comes.
    async fn open(&self, blob: Blob, range: Range<u64>) -> Result<ByteStream> {
        let tenant = blob.account.tenant();
        let mut parts = Vec::new();
        for (chunk, part) in parts_of(&blob.chunks, &range) {
            parts.push((
                std::sync::Arc::clone(self.backends.get(&chunk.storage)?),
                chunk,
                part,
            ));
        }
        let mut parts = parts.into_iter();
        let Some((driver, chunk, part)) = parts.next() else {
            return Ok(stream::empty().boxed());
        };
        let first = driver
            .read(&tenant, &ObjectKey::Chunk(chunk.object_id), Some(part))
            .await?;
        let rest = stream::iter(parts)
            .then(move |(driver, chunk, part)| {
                let tenant = tenant.clone();
                async move {
                    let key = ObjectKey::Chunk(chunk.object_id);
                    driver
                        .read(&tenant, &key, Some(part))
                        .await
                        .map_err(io::Error::other)
                }
            })
            .try_flatten();
        Ok(first.chain(rest).boxed())
    }
}

/// The chunks that a range of the blob touches, each with the part of it.
fn parts_of(chunks: &[Chunk], range: &Range<u64>) -> Vec<(Chunk, Range<u64>)> {
    let mut start = 0;
    let mut parts = Vec::new();
    for chunk in chunks {
        let end = start + chunk.size_bytes;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            parts.push((chunk.clone(), from - start..to - start));
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
                .map(|(c, r)| (c.size_bytes, r))
                .collect()
        };
        assert_eq!(parts(0..16), [(10, 0..10), (1, 0..1), (5, 0..5)]);
        assert_eq!(parts(9..12), [(10, 9..10), (1, 0..1), (5, 0..1)]);
        assert_eq!(parts(11..12), [(5, 0..1)]);
        assert_eq!(parts(0..10), [(10, 0..10)]);
    }
}
