//! When the janitor has to look at something again.

use std::{sync::atomic::Ordering, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::Registry;
use crate::db::blob_put::PushTimes;

/// The last second that both databases keep and sort.
pub(super) const NEVER: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
    Some(at) => at,
    None => DateTime::UNIX_EPOCH,
};

/// How much longer than it works the janitor rests while requests come.
const RESTS_WHEN_BUSY: u32 = 16;

/// The longest rest between two deletions.
const LONGEST_REST: Duration = Duration::from_secs(1);

impl Registry {
    /// The times of a push of a blob.
    pub(super) fn blob_times(&self) -> PushTimes {
        self.push_times(self.settings.janitor.blob_validation)
    }

    /// The times of a push of a manifest.
    pub(super) fn manifest_times(&self) -> PushTimes {
        self.push_times(self.settings.janitor.manifest_validation)
    }

    fn push_times(&self, validation: Option<Duration>) -> PushTimes {
        let now = self.clock.now();
        PushTimes {
            now,
            keep_until: now + self.settings.janitor.unused_blobs,
            validate_at: self.next_validation(validation),
        }
    }

    /// When content is to be looked at again; far away if it is not.
    pub(super) fn next_validation(&self, every: Option<Duration>) -> DateTime<Utc> {
        every.map_or(NEVER, |every| self.after(every))
    }

    /// When to do something again that is done so often: a tenth of the time sooner or later, so that what began
    /// together does not stay together.
    pub(super) fn after(&self, every: Duration) -> DateTime<Utc> {
        self.clock.now() + self.jittered(every)
    }

    /// A time, or up to a tenth more or less of it.
    pub fn jittered(&self, time: Duration) -> Duration {
        self.ids.jittered(time)
    }

    /// Notes a request: the janitor makes way.
    pub(super) fn request_note(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Rests after a deletion for as long as it has taken; much longer if requests have come since the rest before, since
    /// who pulls and pushes comes first.
    pub(super) async fn rest_after(&self, begun: Instant) {
        let is_busy = self.requests.swap(0, Ordering::Relaxed) > 0;
        let times = if is_busy { RESTS_WHEN_BUSY } else { 1 };
        let rest = begun.elapsed() * times;
        tokio::time::sleep(rest.min(LONGEST_REST)).await;
    }
}
