//! How often somebody may do something: the generic cell rate algorithm, a leaky bucket whose state is one time.
//!
//! It keeps no buckets and asks no clock. What a newcomer gets wrong: nothing has to run to empty a bucket. Its state is
//! the time at which it will be empty; the distance of that time from now says how full it is.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::Deserialize;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The longest time that a full bucket may take to become empty.
const MAX_DRAIN_NANOS: i64 = 30 * 86_400 * NANOS_PER_SECOND;

/// The highest number of requests in a rate or a burst.
const MAX_COUNT: i64 = 1_000_000;

/// What is limited. The names are Keppel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateLimitKind {
    /// A blob is read: GET.
    BlobPull,
    /// A blob is sent or mounted: POST that begins it.
    BlobPush,
    /// A manifest is read: GET. HEAD is none.
    ManifestPull,
    /// A manifest is sent: PUT.
    ManifestPush,
}

impl RateLimitKind {
    /// The word in `X-RateLimit-Action`.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::BlobPull => "pullblob",
            Self::BlobPush => "pushblob",
            Self::ManifestPull => "pullmanifest",
            Self::ManifestPush => "pushmanifest",
        }
    }
}

/// So many requests in such a time, and how many of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    /// Between two requests that come evenly.
    interval_nanos: i64,
    burst: i64,
}

/// A text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// It has another form.
    #[error(
        "it must be a rate such as \"1000 per hour\" or \"10 per second, burst 100\"; the units are second, minute, hour and day"
    )]
    Form,
    /// A number is too small or too large.
    #[error("the rate and the burst must lie between 1 and 1000000")]
    Count,
    /// The burst is too large for so low a rate.
    #[error("a full burst must be forgotten within 30 days; lower the burst or raise the rate")]
    Drain,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (rate, burst) = match text.split_once(',') {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let [count, "per", unit] = rate.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(RateError::Form);
        };
        let count: i64 = count.parse().map_err(|_| RateError::Form)?;
        let seconds = match unit {
            "second" => 1,
            "minute" => 60,
            "hour" => 3600,
            "day" => 86_400,
            _ => return Err(RateError::Form),
        };
        let burst = match burst.map(|text| text.split_whitespace().collect::<Vec<_>>()) {
            None => count,
            Some(words) => match words[..] {
                ["burst", burst] => burst.parse().map_err(|_| RateError::Form)?,
                _ => return Err(RateError::Form),
            },
        };
        if !(1..=MAX_COUNT).contains(&count) || !(1..=MAX_COUNT).contains(&burst) {
            return Err(RateError::Count);
        }
        // Rounded up: never more than the rate.
        let interval_nanos = (seconds * NANOS_PER_SECOND + count - 1) / count;
        if interval_nanos.saturating_mul(burst) > MAX_DRAIN_NANOS {
            return Err(RateError::Drain);
        }
        Ok(Self {
            interval_nanos,
            burst,
        })
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

/// A time as the state of a bucket, in nanoseconds.
pub fn bucket_time(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros().saturating_mul(1000)
}

impl Rate {
    /// How much a request moves the time at which a bucket is empty.
    pub fn interval_nanos(&self) -> i64 {
        self.interval_nanos
    }

    /// How far that time may lie ahead.
    pub fn capacity_nanos(&self) -> i64 {
        self.interval_nanos * self.burst
    }

    /// A request at `now` comes to a bucket that is empty at `empty_at` (`None`: it has never been used).
    pub fn decide(&self, empty_at: Option<i64>, now: i64) -> RateLimitStatus {
        // A clock that was set back must not lock anybody out for longer than a full bucket takes.
        let before = empty_at
            .unwrap_or(now)
            .clamp(now, now.saturating_add(self.capacity_nanos()));
        let after = before.saturating_add(self.interval_nanos);
        if after - now <= self.capacity_nanos() {
            self.allowed(after, now)
        } else {
            self.refused(before, now)
        }
    }

    /// A request that was let in has made the bucket empty at `empty_at` only.
    pub fn allowed(&self, empty_at: i64, now: i64) -> RateLimitStatus {
        RateLimitStatus {
            is_allowed: true,
            empty_at,
            limit: self.burst,
            remaining: self.remaining(empty_at, now),
            reset_seconds: whole_seconds(empty_at - now),
            retry_after_seconds: 0,
        }
    }

    /// A request came to a bucket that was too full, and has left it so.
    pub fn refused(&self, empty_at: i64, now: i64) -> RateLimitStatus {
        let wait = empty_at + self.interval_nanos - self.capacity_nanos() - now;
        RateLimitStatus {
            is_allowed: false,
            empty_at,
            limit: self.burst,
            remaining: self.remaining(empty_at, now),
            reset_seconds: whole_seconds(empty_at - now),
            retry_after_seconds: whole_seconds(wait).max(1),
        }
    }

    fn remaining(&self, empty_at: i64, now: i64) -> i64 {
        ((self.capacity_nanos() - (empty_at - now)) / self.interval_nanos).max(0)
    }
}

/// Rounded up: who waits so long has waited long enough.
fn whole_seconds(nanos: i64) -> i64 {
    (nanos.max(0) + NANOS_PER_SECOND - 1) / NANOS_PER_SECOND
}

/// What became of a request, and what the client is told of its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// Whether the request may go on.
    pub is_allowed: bool,
    /// The new state of the bucket.
    pub empty_at: i64,
    /// How many requests may come at once.
    pub limit: i64,
    /// How many may come now.
    pub remaining: i64,
    /// Until `limit` may come at once again.
    pub reset_seconds: i64,
    /// Until the next may come, if this one may not.
    pub retry_after_seconds: i64,
}

impl fmt::Display for RateLimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wire_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    /// Numbers that look random and are the same in every run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: i64) -> i64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            i64::try_from(self.0 >> 33).unwrap() % bound
        }
    }

    #[test]
    fn a_rate_is_read_and_a_wrong_one_is_explained() {
        assert_eq!(rate("1000 per hour").interval_nanos, 3_600_000_000);
        assert_eq!(rate("1000 per hour").burst, 1000);
        assert_eq!(rate(" 10  per second , burst 100 ").burst, 100);
        for (text, error) in [
            ("", RateError::Form),
            ("10", RateError::Form),
            ("10 per week", RateError::Form),
            ("10/s", RateError::Form),
            ("10 per second, 5", RateError::Form),
            ("-1 per second", RateError::Count),
            ("0 per second", RateError::Count),
            ("1 per second, burst 0", RateError::Count),
            ("1000001 per second", RateError::Count),
            ("1 per day, burst 31", RateError::Drain),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
        }
    }

    #[test]
    fn never_more_than_the_burst_and_the_rate_in_any_stretch_of_time() {
        let mut numbers = Numbers(7);
        for text in [
            "1 per second, burst 1",
            "3 per second, burst 7",
            "7 per minute",
            "1000 per hour, burst 20",
            "1000000 per second, burst 3",
        ] {
            let rate = rate(text);
            let (mut state, mut now) = (None, 1_000_000_000);
            let mut let_in = Vec::new();
            for _ in 0..3000 {
                now += numbers.below(rate.interval_nanos * 2);
                let status = rate.decide(state, now);
                assert!(status.remaining < status.limit);
                assert!(status.empty_at - now <= rate.capacity_nanos());
                if status.is_allowed {
                    let_in.push(now);
                }
                state = Some(status.empty_at);
            }
            for (first, from) in let_in.iter().enumerate().step_by(37) {
                for (last, to) in let_in.iter().enumerate().skip(first) {
                    let count = i64::try_from(last - first + 1).unwrap();
                    let allowed = rate.burst + (to - from) / rate.interval_nanos;
                    assert!(count <= allowed, "{text}: {count} in {} ns", to - from);
                }
            }
        }
    }

    #[test]
    fn who_keeps_to_the_rate_or_waits_as_told_is_never_refused() {
        let mut numbers = Numbers(11);
        for text in [
            "1 per second, burst 1",
            "7 per minute",
            "999 per hour, burst 5",
        ] {
            let rate = rate(text);
            let (mut state, mut now) = (None, 5_000_000_000);
            for _ in 0..2000 {
                let status = rate.decide(state, now);
                state = Some(status.empty_at);
                now += if status.is_allowed && numbers.below(3) > 0 {
                    numbers.below(rate.interval_nanos)
                } else {
                    let again = now + status.retry_after_seconds * NANOS_PER_SECOND;
                    if !status.is_allowed {
                        assert!(rate.decide(state, again).is_allowed, "{text}");
                    }
                    again - now
                };
            }
            let mut state = None;
            for step in 0..1000 {
                let status = rate.decide(state, step * rate.interval_nanos);
                assert!(status.is_allowed, "{text}");
                state = Some(status.empty_at);
            }
        }
    }

    #[test]
    fn what_remains_can_be_used_and_no_more() {
        let rate = rate("1 per minute, burst 4");
        let mut state = None;
        for left in [3, 2, 1, 0] {
            let status = rate.decide(state, 0);
            assert_eq!((status.is_allowed, status.remaining), (true, left));
            state = Some(status.empty_at);
        }
        let status = rate.decide(state, 0);
        assert!(!status.is_allowed);
        assert_eq!(
            (status.retry_after_seconds, status.reset_seconds),
            (60, 240)
        );
        assert_eq!(Some(status.empty_at), state, "a refusal costs nothing");
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let rate = rate("1 per second, burst 2");
        let status = rate.decide(Some(1_000_000 * NANOS_PER_SECOND), 0);
        assert!(!status.is_allowed);
        assert_eq!(status.retry_after_seconds, 1);
    }
}
