//! Events of those who show no credentials that are good: bounded for each address, so that nobody fills the trail for
//! nothing. What is left out is counted, and told in one event when its time is over.
//!
//! What a newcomer gets wrong: nothing of somebody who is known ever comes here. An event that leads to a person is
//! written by itself.

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::Registry;
use crate::{
    auth::login_limit::network,
    model::{
        audit::{AuditAction, AuditEvent, AuditOutcome},
        request_origin::RequestOrigin,
    },
};

/// How many anonymous tokens, and refusals of the anonymous, are written one by one for an address and
/// [`ANONYMOUS_WINDOW`].
const ANONYMOUS_EVENTS: u32 = 60;

/// How long anonymous events of an address are counted together.
const ANONYMOUS_WINDOW: TimeDelta = TimeDelta::minutes(1);

/// How many addresses are told apart. The others are one.
const MAX_ADDRESSES: usize = 2048;

/// What strangers do that is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StrangerAct {
    /// A login that was not tried, since there were too many.
    LimitedLogin,
    /// A token for nobody.
    AnonymousToken,
    /// A request that was refused.
    Refusal,
}

impl StrangerAct {
    fn action_and_outcome(self) -> (AuditAction, AuditOutcome) {
        match self {
            Self::LimitedLogin => (AuditAction::Login, AuditOutcome::Denied),
            Self::AnonymousToken => (AuditAction::TokenIssue, AuditOutcome::Success),
            Self::Refusal => (AuditAction::Access, AuditOutcome::Denied),
        }
    }
}

/// An act and an address, or the network of one; `None` for those that are not told apart.
type Key = (StrangerAct, Option<IpAddr>);

#[derive(Debug, Clone, Copy)]
struct Counted {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    written: u32,
    left_out: u32,
}

/// Events that were not written, of one act from one address.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    key: Key,
    since: DateTime<Utc>,
    count: u32,
}

/// What strangers did lately.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<HashMap<Key, Counted>>);

impl Strangers {
    /// Whether another event is written by itself: up to `most` are, from the first one on for as long as `window`.
    fn admit(&self, key: Key, now: DateTime<Utc>, (most, window): (u32, TimeDelta)) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = key;
        if counted.len() >= MAX_ADDRESSES && !counted.contains_key(&key) {
            counted.retain(|_, counted| now < counted.until || counted.left_out > 0);
            if counted.len() >= MAX_ADDRESSES {
                key.1 = None;
            }
        }
        let fresh = Counted {
            since: now,
            until: now + window,
            written: 0,
            left_out: 0,
        };
        let counted = counted.entry(key).or_insert(fresh);
        // What was left out is told first.
        if counted.until <= now && counted.left_out == 0 {
            *counted = fresh;
        }
        let is_admitted = counted.written < most;
        if is_admitted {
            counted.written += 1;
        } else {
            counted.left_out = counted.left_out.saturating_add(1);
        }
        is_admitted
    }

    /// Takes what was left out in times that are over at `now`, or all of it.
    fn take_over(&self, now: Option<DateTime<Utc>>) -> Vec<LeftOut> {
        let is_over = |counted: &Counted| now.is_none_or(|now| counted.until <= now);
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (over, rest): (HashMap<_, _>, HashMap<_, _>) = mem::take(&mut *counted)
            .into_iter()
            .partition(|(_, counted)| is_over(counted));
        *counted = rest;
        let left_out = over.into_iter().map(|(key, counted)| LeftOut {
            key,
            since: counted.since,
            count: counted.left_out,
        });
        left_out.filter(|left_out| left_out.count > 0).collect()
    }
}

impl Registry {
    /// Whether an event of somebody without credentials is written by itself. If not, it is counted.
    pub(super) fn stranger_admit(&self, act: StrangerAct, origin: &RequestOrigin) -> bool {
        let bound = match act {
            StrangerAct::LimitedLogin => (1, self.login_limit.window()),
            StrangerAct::AnonymousToken | StrangerAct::Refusal => {
                (ANONYMOUS_EVENTS, ANONYMOUS_WINDOW)
            }
        };
        let key = (act, origin.client.map(network));
        self.strangers.admit(key, self.clock.now(), bound)
    }

    /// The events that say how much was left out, in times that are over or (`with_all`) so far.
    pub(super) fn strangers_told(&self, with_all: bool) -> Vec<AuditEvent> {
        let now = self.clock.now();
        let left_out = self.strangers.take_over((!with_all).then_some(now));
        let events = left_out.into_iter().map(|left_out| {
            let (act, client) = left_out.key;
            let (action, outcome) = act.action_and_outcome();
            let since = left_out.since.to_rfc3339_opts(SecondsFormat::Secs, true);
            let count = left_out.count;
            let reason = format!("{count} more since {since} from there, not told one by one");
            let mut event = AuditEvent::new(self.ids.fresh(), now, action).ended(outcome, reason);
            event.client = client;
            event.left_out = Some(count);
            event
        });
        events.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: (u32, TimeDelta) = (2, TimeDelta::seconds(60));

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn key(number: u32) -> Key {
        (StrangerAct::Refusal, Some(IpAddr::V4(number.into())))
    }

    #[test]
    fn what_is_too_much_is_counted_and_told_once() {
        let strangers = Strangers::default();
        let admit = |number, seconds| strangers.admit(key(number), at(seconds), BOUND);
        assert_eq!([admit(1, 0), admit(1, 1), admit(1, 2)], [true, true, false]);
        assert!(admit(2, 3), "another address");
        let other = (StrangerAct::AnonymousToken, key(1).1);
        assert!(strangers.admit(other, at(3), BOUND), "another act");
        assert_eq!(strangers.take_over(Some(at(59))), []);
        // Its time is over, and nobody has told it yet.
        assert!(!admit(1, 61));
        let told = LeftOut {
            key: key(1),
            since: at(0),
            count: 2,
        };
        assert_eq!(strangers.take_over(Some(at(61))), [told]);
        assert_eq!(strangers.take_over(Some(at(62))), []);
        assert!(admit(1, 62));
        // Over without anything left out.
        assert!(admit(2, 63) && admit(2, 64) && !admit(2, 65));
        assert_eq!(strangers.take_over(None).len(), 1);
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory() {
        let strangers = Strangers::default();
        let many = u32::try_from(MAX_ADDRESSES).unwrap();
        for number in 0..3 * many {
            strangers.admit(key(number), at(0), BOUND);
        }
        let counted = strangers.0.lock().unwrap().len();
        assert_eq!(counted, MAX_ADDRESSES + 1);
        // Those that were not told apart any more are one.
        let told = strangers.take_over(None);
        let nobody = (StrangerAct::Refusal, None);
        assert_eq!((told.len(), told[0].key), (1, nobody));
        assert_eq!(told[0].count, 2 * many - 2);
        for number in 0..many {
            strangers.admit(key(number), at(0), BOUND);
        }
        assert!(strangers.admit(key(many), at(60), BOUND));
        assert_eq!(strangers.0.lock().unwrap().len(), 1, "old ones are gone");
    }
}
