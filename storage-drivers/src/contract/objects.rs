//! Rules on objects that are there: reading, listing and deleting them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};

use super::Verdict;
use super::support::{
    Fixture, assert_fails, body_of, content_of, fetch, fresh_chunk, fresh_id, pattern,
};
use crate::{ObjectKey, StorageDriver};

/// How many objects the listing rule makes. The variable asks for more, such as 10000, where a backend lists in
/// pages.
const LISTED_OBJECTS: usize = 1_500;
const LISTED_OBJECTS_VARIABLE: &str = "STORAGE_CONTRACT_OBJECTS";
/// How long the body of the rule on large streams is.
const LARGE_BYTES_VARIABLE: &str = "STORAGE_CONTRACT_LARGE_BYTES";

const MIB: usize = 1024 * 1024;

/// A body of any size comes back as it was, whether or not the size was announced.
pub async fn bodies_of_all_sizes_come_back(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    for len in [
        0,
        1,
        2,
        65_536,
        262_143,
        262_144,
        262_145,
        524_289,
        3 * MIB + 7,
    ] {
        let content = pattern(len);
        for is_announced in [true, false] {
            let key = ObjectKey::Manifest(fresh_id());
            let size = is_announced.then_some(len as u64);
            let body = body_of(content.clone(), 100_000);
            let written = fixture
                .driver
                .write(&fixture.tenant, &key, size, body)
                .await?;
            assert_eq!(written, len as u64);
            assert!(
                fixture.get(&key).await? == content,
                "{len} bytes, announced: {is_announced}"
            );
        }
    }
    fixture.finish().await
}

/// It does not matter how a body is cut, nor that some pieces are empty.
pub async fn odd_pieces_come_back(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let content = pattern(5 * MIB + 3);
    let mut rest = content.clone();
    let mut pieces = vec![Ok(Bytes::new())];
    for len in (0..).map(|i: usize| (i * 7_919) % 131_071) {
        if rest.is_empty() {
            break;
        }
        pieces.push(Ok(rest.split_to(len.min(rest.len()))));
        pieces.push(Ok(Bytes::new()));
    }
    let key = ObjectKey::Report(fresh_id());
    fixture
        .driver
        .write(&fixture.tenant, &key, None, stream::iter(pieces).boxed())
        .await?;
    assert!(fixture.get(&key).await? == content);

    let (content, key) = (pattern(5_000), fresh_chunk());
    let body = body_of(content.clone(), 1);
    fixture
        .driver
        .write(&fixture.tenant, &key, Some(5_000), body)
        .await?;
    assert!(fixture.get(&key).await? == content, "pieces of one byte");
    fixture.finish().await
}

/// Ranges are half open; an empty one yields nothing; one that does not lie within the object is refused.
pub async fn range_edges(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let len = 2 * MIB + 5;
    let content = pattern(len);
    let key = fixture.put(&content).await?;
    let whole = [0..len, 0..0, 7..7, len..len, 0..1, len - 1..len, 1..len - 1];
    let edges = [524_287..524_289, 524_288..1_048_576, 1_048_575..1_048_577];
    for range in whole.into_iter().chain(edges) {
        let asked = range.start as u64..range.end as u64;
        let body = fixture
            .driver
            .read(&fixture.tenant, &key, Some(asked))
            .await?;
        assert!(
            content_of(body).await? == content.slice(range.clone()),
            "{range:?}"
        );
    }
    let size = len as u64;
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "a reversed range is what is tested"
    )]
    for range in [
        0..size + 1,
        size + 1..size + 1,
        size..size + 1,
        5..4,
        u64::MAX - 1..u64::MAX,
        u64::MAX..0,
    ] {
        let result = fixture
            .driver
            .read(&fixture.tenant, &key, Some(range.clone()))
            .await;
        assert_fails(result.map(drop), "invalid_range");
    }
    let empty = fixture.put(&Bytes::new()).await?;
    let body = fixture
        .driver
        .read(&fixture.tenant, &empty, Some(0..0))
        .await?;
    assert!(content_of(body).await?.is_empty());
    assert_fails(
        fixture
            .driver
            .read(&fixture.tenant, &empty, Some(0..1))
            .await
            .map(drop),
        "invalid_range",
    );
    fixture.finish().await
}

/// Reading what is not there says so, with and without a range, and for every kind.
pub async fn missing_object_is_not_found(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let id = fresh_id();
    for key in [
        ObjectKey::Chunk(id),
        ObjectKey::Manifest(id),
        ObjectKey::Report(id),
    ] {
        for range in [None, Some(0..1)] {
            let result = fixture.driver.read(&fixture.tenant, &key, range).await;
            assert_fails(result.map(drop), "not_found");
        }
    }
    fixture.finish().await
}

/// Deleting twice, or what was never there, is no error; another kind with the same id stays.
pub async fn delete_is_idempotent(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let id = fresh_id();
    for key in [ObjectKey::Chunk(id), ObjectKey::Manifest(id)] {
        fixture
            .driver
            .write(&fixture.tenant, &key, Some(3), body_of(pattern(3), 3))
            .await?;
    }
    for _ in 0..2 {
        fixture
            .driver
            .delete(&fixture.tenant, &ObjectKey::Chunk(id))
            .await?;
    }
    fixture
        .driver
        .delete(&fixture.tenant, &fresh_chunk())
        .await?;
    let result = fixture
        .driver
        .read(&fixture.tenant, &ObjectKey::Chunk(id), None)
        .await;
    assert_fails(result.map(drop), "not_found");
    assert!(fixture.get(&ObjectKey::Manifest(id)).await? == pattern(3));
    fixture.finish().await
}

/// A listing holds every object once, with its size and, if any, its time.
#[expect(
    clippy::disallowed_methods,
    reason = "a knob of the suite, not of the registry"
)]
pub async fn list_shows_every_object_once(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let wanted = std::env::var(LISTED_OBJECTS_VARIABLE).ok();
    let objects = wanted.map_or(Ok(LISTED_OBJECTS), |n| n.parse())?;
    let keys: HashSet<_> = (0..objects)
        .map(|i| match i % 3 {
            0 => ObjectKey::Chunk(fresh_id()),
            1 => ObjectKey::Manifest(fresh_id()),
            _ => ObjectKey::Report(fresh_id()),
        })
        .collect();
    stream::iter(&keys)
        .map(|key| {
            fixture
                .driver
                .write(&fixture.tenant, key, Some(2), body_of(pattern(2), 2))
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    let found = fixture.list().await?;
    assert_eq!(found.len(), objects);
    assert_eq!(
        found
            .iter()
            .map(|object| object.key)
            .collect::<HashSet<_>>(),
        keys
    );
    let is_plausible = |at: chrono::DateTime<chrono::Utc>| at.timestamp() > 1_000_000_000;
    assert!(
        found
            .iter()
            .all(|object| object.size_bytes == 2 && object.modified_at.is_none_or(is_plausible))
    );
    assert_eq!(
        fixture.driver.used_bytes(&fixture.tenant).await?,
        2 * objects as u64
    );
    fixture.finish().await
}

/// A hundred writes at once do not disturb each other.
pub async fn hundred_writers_at_once(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let contents: Vec<_> = (0..100)
        .map(|i| Bytes::from(vec![i as u8; 10_000 * i]))
        .collect();
    let keys = join_all(contents.iter().map(|content| fixture.put(content))).await;
    for (key, content) in keys.into_iter().zip(&contents) {
        assert!(fixture.get(&key?).await? == content);
    }
    fixture.finish().await
}

/// A stream of many gigabytes and of unknown length passes in both directions; it is made up on the way. Only if the
/// variable says how long it is, such as 6442450944, or 4294967296 where an object may not be larger.
#[expect(
    clippy::disallowed_methods,
    reason = "a knob of the suite, not of the registry"
)]
pub async fn large_stream_comes_back(driver: Arc<dyn StorageDriver>) -> Verdict {
    let Ok(wanted) = std::env::var(LARGE_BYTES_VARIABLE) else {
        return Ok(());
    };
    let len: u64 = wanted.parse()?;
    let fixture = Fixture::new(driver).await?;
    let key = fresh_chunk();
    let pieces = (0..len.div_ceil(MIB as u64)).map(move |number| {
        let left = len - number * MIB as u64;
        let size = usize::try_from(left).unwrap_or(MIB).min(MIB);
        Ok(Bytes::from(vec![number as u8; size]))
    });
    let body = stream::iter(pieces).boxed();
    let written = fixture
        .driver
        .write(&fixture.tenant, &key, None, body)
        .await?;
    assert_eq!(written, len);
    let mut stream = fixture.driver.read(&fixture.tenant, &key, None).await?;
    let mut seen = 0_u64;
    while let Some(piece) = stream.try_next().await? {
        for part in piece.chunks(4096) {
            let (first, last) = (seen, seen + part.len() as u64 - 1);
            assert_eq!(part[0], (first / MIB as u64) as u8, "at {first}");
            assert_eq!(part[part.len() - 1], (last / MIB as u64) as u8, "at {last}");
            seen += part.len() as u64;
        }
    }
    assert_eq!(seen, len);
    assert_eq!(fixture.driver.used_bytes(&fixture.tenant).await?, len);
    fixture.finish().await?;
    Ok(())
}

/// There is no address, or it is one a client can use.
pub async fn download_url_is_none_or_valid(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let key = fixture.put(&pattern(10)).await?;
    let ask = |seconds| {
        let valid_for = Duration::from_secs(seconds);
        fixture
            .driver
            .download_url(&fixture.tenant, &key, valid_for)
    };
    if let Some(url) = ask(60).await? {
        let whole = fetch(&url, None).await?;
        assert_eq!((whole.0, &whole.1), (200, &pattern(10)));
        let part = fetch(&url, Some("bytes=2-4")).await?;
        assert_eq!((part.0, &part.1), (206, &pattern(10).slice(2..5)));
        let brief = ask(1).await?.ok_or("an address once, then none")?;
        let mut status = 200;
        // Backends count in whole seconds, and clocks differ a little.
        for _ in 0..100 {
            status = fetch(&brief, None).await?.0;
            if status != 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(
            matches!(status, 400..500),
            "the address does not expire: {status}"
        );
        let stranger = Fixture::new(Arc::clone(&fixture.driver)).await?;
        assert!(stranger.list().await?.is_empty());
        stranger.finish().await?;
    }
    fixture.finish().await
}
