//! Random names, behind one source so that tests can count instead.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use uuid::Uuid;

/// Where fresh identifiers come from.
#[derive(Debug, Default)]
pub enum Ids {
    /// Version 4 UUIDs: unguessable, never repeated.
    #[default]
    Random,
    /// 1, 2, 3, ... as UUIDs, for tests whose output is compared.
    Counting(AtomicU64),
}

impl Ids {
    /// A counting source.
    pub fn counting() -> Self {
        Self::Counting(AtomicU64::new(1))
    }

    /// A fresh identifier.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that draws identifiers"
    )]
    pub fn fresh(&self) -> Uuid {
        match self {
            Self::Random => Uuid::new_v4(),
            Self::Counting(next) => {
                Uuid::from_u128(u128::from(next.fetch_add(1, Ordering::Relaxed)))
            }
        }
    }

    /// The time, or up to a tenth more or less, in whole microseconds. A counting source gives the time itself.
    pub fn jittered(&self, time: Duration) -> Duration {
        let whole = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let fifth = whole / 5;
        let drawn = match self {
            Self::Random => self.fresh().as_u64_pair().0 % (fifth + 1),
            Self::Counting(_) => fifth / 2,
        };
        Duration::from_micros(whole - fifth / 2 + drawn)
    }
}

/// The identifier of a blob upload; it stands in the upload's URL, so it is unguessable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId(pub Uuid);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}
