//! The chain of hashes that audit events are linked into, and how it is checked.
//!
//! `hash(n) = SHA-256(hash(n-1) || n as 8 bytes, the highest first || the event's JSON)`, `hash(0)` is 32 zero bytes.
//! A head is a signed statement that the chain up to `seq` has this hash; an anchor is one that was signed when what
//! was before was pruned. What a newcomer gets wrong: a chain that holds together proves nothing yet, since who can
//! write to the database can compute all hashes anew; only the signatures cannot be made without the key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::audit::{AuditEvent, SealedEvent};

/// The hash before the first event.
pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a signed head says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The last event that it is about.
    pub seq: i64,
    /// The hash of the chain up to there.
    pub hash: String,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// Whether the events up to there were pruned.
    #[serde(default)]
    pub is_anchor: bool,
}

/// The hash of the chain with one more event.
pub fn hash_next(previous: &str, seq: i64, event: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(hex::decode(previous).unwrap_or_default());
    hasher.update(seq.to_be_bytes());
    hasher.update(event.as_bytes());
    hex::encode(hasher.finalize())
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Events are not there.
    #[error("event {0} is missing")]
    Missing(i64),
    /// The event's hash is not that of the chain.
    #[error("event {0} was altered, or moved from another place")]
    Altered(i64),
    /// The event cannot be read.
    #[error("event {0} is not one: {1}")]
    Unreadable(i64, String),
    /// The same place twice, with different events.
    #[error("event {0} is there twice, and not the same")]
    Twice(i64),
    /// A head says something else than the events.
    #[error("the signed head of event {0} has another hash: events up to there were altered")]
    Head(i64),
    /// A head is about events that are not there.
    #[error("the end is missing: a signed head knows event {head}, the last one here is {last}")]
    Truncated {
        /// The head's event.
        head: i64,
        /// The last one.
        last: i64,
    },
    /// Nobody has signed the end.
    #[error("no signed head covers the events after {0}")]
    Unsigned(i64),
}

/// Checks a chain from its beginning, an event at a time.
#[derive(Debug)]
pub struct ChainCheck {
    start: i64,
    hashes: Vec<String>,
    heads: BTreeMap<i64, String>,
}

/// What was found to be in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// The first event.
    pub first: i64,
    /// The last event; one less than the first if there are none.
    pub last: i64,
    /// The hash of the chain.
    pub hash: String,
}

impl ChainCheck {
    /// Begins with the statements whose signatures were checked. Events before the last anchor need not be there.
    pub fn new(statements: impl IntoIterator<Item = AuditHead>) -> Result<Self, ChainError> {
        let mut heads: BTreeMap<i64, String> = BTreeMap::new();
        let mut start = (0, START.to_owned());
        for head in statements {
            if head.is_anchor && head.seq >= start.0 {
                start = (head.seq, head.hash.clone());
            }
            let before = heads.insert(head.seq, head.hash.clone());
            if before.is_some_and(|hash| hash != head.hash) {
                return Err(ChainError::Head(head.seq));
            }
        }
        Ok(Self {
            start: start.0,
            hashes: vec![start.1],
            heads: heads.split_off(&start.0),
        })
    }

    /// The last event so far.
    fn last(&self) -> i64 {
        self.start + i64::try_from(self.hashes.len()).unwrap_or(i64::MAX) - 1
    }

    fn hash_at(&self, seq: i64) -> Option<&String> {
        let place = usize::try_from(seq.checked_sub(self.start)?).ok()?;
        self.hashes.get(place)
    }

    /// Looks at the next event. One that was there already may come again: a file that was delivered to may hold it
    /// twice.
    pub fn add(&mut self, sealed: &SealedEvent) -> Result<(), ChainError> {
        let seq = sealed.seq;
        if seq <= self.start {
            return Ok(());
        }
        let Some(previous) = self.hash_at(seq - 1) else {
            return Err(ChainError::Missing(self.last() + 1));
        };
        let hash = hash_next(previous, seq, &sealed.event);
        if let Some(known) = self.hash_at(seq) {
            let is_same = *known == hash && hash == sealed.hash;
            return is_same.then_some(()).ok_or(ChainError::Twice(seq));
        }
        if hash != sealed.hash {
            return Err(ChainError::Altered(seq));
        }
        serde_json::from_str::<AuditEvent>(&sealed.event)
            .map_err(|error| ChainError::Unreadable(seq, error.to_string()))?;
        if self.heads.get(&seq).is_some_and(|head| *head != hash) {
            return Err(ChainError::Head(seq));
        }
        self.hashes.push(hash);
        Ok(())
    }

    /// After the last event: whether it is the end, and signed.
    pub fn finish(self) -> Result<ChainReport, ChainError> {
        let last = self.last();
        let signed = self.heads.last_key_value().map_or(0, |(seq, _)| *seq);
        if signed > last {
            return Err(ChainError::Truncated { head: signed, last });
        }
        if signed < last {
            return Err(ChainError::Unsigned(signed));
        }
        Ok(ChainReport {
            first: self.start + 1,
            last,
            hash: self.hashes.last().cloned().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::model::audit::AuditAction;

    fn chain(count: i64) -> Vec<SealedEvent> {
        let mut hash = START.to_owned();
        let event = |seq: i64| {
            let id = Uuid::from_u128(seq.unsigned_abs().into());
            let event = AuditEvent::new(id, DateTime::UNIX_EPOCH, AuditAction::Login);
            let event = event.named(format!("event {seq}")).to_json().unwrap();
            hash = hash_next(&hash, seq, &event);
            SealedEvent {
                seq,
                hash: hash.clone(),
                event,
            }
        };
        (1..=count).map(event).collect()
    }

    fn head(of: &SealedEvent, is_anchor: bool) -> AuditHead {
        AuditHead {
            seq: of.seq,
            hash: of.hash.clone(),
            iat: 0,
            is_anchor,
        }
    }

    fn check(events: &[SealedEvent], heads: Vec<AuditHead>) -> Result<ChainReport, ChainError> {
        let mut check = ChainCheck::new(heads)?;
        for event in events {
            check.add(event)?;
        }
        check.finish()
    }

    #[test]
    fn a_chain_that_is_whole_is_in_order() {
        let events = chain(5);
        let report = check(
            &events,
            vec![head(&events[2], false), head(&events[4], false)],
        );
        let report = report.unwrap();
        assert_eq!((report.first, report.last), (1, 5));
        assert_eq!(report.hash, events[4].hash);
        let again = [&events[..], &events[2..]].concat();
        assert!(check(&again, vec![head(&events[4], false)]).is_ok());
        assert_eq!(check(&[], vec![]).unwrap().last, 0);
    }

    #[test]
    fn every_manipulation_is_found_and_named() {
        let events = chain(5);
        let heads = || vec![head(&events[2], false), head(&events[4], false)];
        let mut altered = events.clone();
        altered[1].event = altered[1].event.replace("event 2", "event X");
        assert_eq!(check(&altered, heads()), Err(ChainError::Altered(2)));
        let mut removed = events.clone();
        removed.remove(1);
        assert_eq!(check(&removed, heads()), Err(ChainError::Missing(2)));
        let mut swapped = events.clone();
        let (a, b) = (swapped[1].event.clone(), swapped[2].event.clone());
        (swapped[1].event, swapped[2].event) = (b, a);
        assert_eq!(check(&swapped, heads()), Err(ChainError::Altered(2)));
        assert_eq!(
            check(&events[..3], heads()),
            Err(ChainError::Truncated { head: 5, last: 3 })
        );
        assert_eq!(
            check(&events, vec![head(&events[2], false)]),
            Err(ChainError::Unsigned(3))
        );
        let mut twice = events.clone();
        twice.push(SealedEvent {
            event: "{}".into(),
            ..events[3].clone()
        });
        assert_eq!(check(&twice, heads()), Err(ChainError::Twice(4)));
    }

    #[test]
    fn a_chain_that_was_computed_anew_is_not_what_was_signed() {
        let events = chain(5);
        let heads = vec![head(&events[2], false), head(&events[4], false)];
        let (mut forged, mut hash) = (events.clone(), START.to_owned());
        forged[0].event = forged[0].event.replace("event 1", "event X");
        for event in &mut forged {
            event.hash = hash_next(&hash, event.seq, &event.event);
            hash = event.hash.clone();
        }
        assert_eq!(check(&forged, heads), Err(ChainError::Head(3)));
    }

    #[test]
    fn what_an_anchor_says_may_be_gone_and_nothing_else() {
        let events = chain(5);
        let heads = || vec![head(&events[1], true), head(&events[4], false)];
        assert_eq!(check(&events[2..], heads()).unwrap().first, 3);
        assert_eq!(check(&events, heads()).unwrap().first, 3);
        assert_eq!(check(&events[3..], heads()), Err(ChainError::Missing(3)));
        assert_eq!(
            check(&events[2..], vec![head(&events[4], false)]),
            Err(ChainError::Missing(1))
        );
    }
}
