//! What the bytes of an object pass through when it is copied.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use storage_drivers::ByteStream;
use tokio::time::Instant;

use crate::oci::Hasher;

/// Computes the digest of what passes.
pub(super) fn hashing(body: ByteStream, hasher: Arc<Mutex<Hasher>>) -> ByteStream {
    body.inspect_ok(move |piece| {
        hasher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .update(piece);
    })
    .boxed()
}

/// Lets a body through at no more than so many bytes a second; 0 means as fast as it comes.
pub(super) fn paced(body: ByteStream, bytes_per_second: u64) -> ByteStream {
    if bytes_per_second == 0 {
        return body;
    }
    let begun = Instant::now();
    let mut passed = 0_u64;
    body.and_then(move |piece| {
        passed += piece.len() as u64;
        let due = begun + Duration::from_secs_f64(passed as f64 / bytes_per_second as f64);
        async move {
            tokio::time::sleep_until(due).await;
            Ok(piece)
        }
    })
    .boxed()
}
