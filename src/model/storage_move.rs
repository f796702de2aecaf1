//! How far the move of an account to another storage backend has come.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};

use crate::oci::AccountName;

/// The longest wait after a pass that failed.
const MAX_BACKOFF: Duration = Duration::from_secs(600);

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveState {
    /// Objects are copied; new ones go to the new backend already.
    Copying,
    /// All is copied; those who still read the old objects may end.
    Waiting,
    /// The old objects and containers are removed.
    Removing,
    /// It is over.
    Done,
}

impl MoveState {
    const NAMES: [(Self, &'static str); 4] = [
        (Self::Copying, "copying"),
        (Self::Waiting, "waiting"),
        (Self::Removing, "removing"),
        (Self::Done, "done"),
    ];
}

impl fmt::Display for MoveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(state, _)| state == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// The text is none of the states.
#[derive(Debug, thiserror::Error)]
#[error("there is no such state of a move")]
pub struct UnknownMoveState;

impl FromStr for MoveState {
    type Err = UnknownMoveState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(state, _)| *state).ok_or(UnknownMoveState)
    }
}

/// A move as it is stored.
#[derive(Debug, Clone)]
pub struct StorageMove {
    /// Whose objects move.
    pub account: AccountName,
    /// The backend they move to.
    pub target: String,
    /// Whether what was copied stays where it was, too.
    pub keeps_old: bool,
    /// What is being done.
    pub state: MoveState,
    /// When it was asked for.
    pub started_at: DateTime<Utc>,
    /// When the last object was copied.
    pub copied_at: DateTime<Utc>,
    /// When it was over.
    pub finished_at: Option<DateTime<Utc>>,
    /// Objects that were copied.
    pub moved_objects: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Passes in a row that ended in a failure.
    pub failures: u32,
    /// The last failure.
    pub error: Option<String>,
    /// When the next step is due; a lease while somebody takes it.
    pub next_step_at: Option<DateTime<Utc>>,
}

impl StorageMove {
    /// How long to wait after one more failure: ten seconds, doubled each time.
    pub fn backoff(&self) -> Duration {
        let doubled = 10_u64.saturating_mul(1 << self.failures.min(10));
        Duration::from_secs(doubled).min(MAX_BACKOFF)
    }
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// How large together.
    pub bytes: u64,
}

/// A move with what is left of it.
#[derive(Debug, Clone)]
pub struct MoveProgress {
    /// The move.
    pub storage_move: StorageMove,
    /// What is not on the new backend yet.
    pub remaining: Amount,
}

impl MoveProgress {
    /// The share that is copied, from 0 to 1: by bytes, with 4 KiB for each object so that small ones count.
    pub fn share(&self) -> f64 {
        let weight = |objects: u64, bytes: u64| bytes as f64 + 4096.0 * objects as f64;
        let moved = weight(
            self.storage_move.moved_objects,
            self.storage_move.moved_bytes,
        );
        let left = weight(self.remaining.objects, self.remaining.bytes);
        if left == 0.0 {
            1.0
        } else {
            moved / (moved + left)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(moved: (u64, u64), left: (u64, u64)) -> MoveProgress {
        let at = DateTime::UNIX_EPOCH;
        MoveProgress {
            storage_move: StorageMove {
                account: "a".parse().unwrap(),
                target: "b".to_owned(),
                keeps_old: false,
                state: MoveState::Copying,
                started_at: at,
                copied_at: at,
                finished_at: None,
                moved_objects: moved.0,
                moved_bytes: moved.1,
                failures: 0,
                error: None,
                next_step_at: None,
            },
            remaining: Amount {
                objects: left.0,
                bytes: left.1,
            },
        }
    }

    #[test]
    fn the_share_goes_from_nothing_to_all() {
        assert_eq!(progress((0, 0), (5, 100)).share(), 0.0);
        assert_eq!(progress((5, 100), (5, 100)).share(), 0.5);
        assert_eq!(progress((5, 100), (0, 0)).share(), 1.0);
        assert_eq!(progress((0, 0), (0, 0)).share(), 1.0);
        // Objects without bytes are work as well.
        assert!(progress((1, 0), (1, 0)).share() > 0.4);
    }

    #[test]
    fn a_failing_move_is_tried_less_and_less_often() {
        let mut failing = progress((0, 0), (0, 0)).storage_move;
        assert_eq!(failing.backoff(), Duration::from_secs(10));
        failing.failures = 3;
        assert_eq!(failing.backoff(), Duration::from_secs(80));
        failing.failures = u32::MAX;
        assert_eq!(failing.backoff(), MAX_BACKOFF);
    }

    #[test]
    fn states_have_names() {
        for (state, name) in MoveState::NAMES {
            assert_eq!(state.to_string(), name);
            assert_eq!(name.parse::<MoveState>().unwrap(), state);
        }
        assert!("lost".parse::<MoveState>().is_err());
    }
}
