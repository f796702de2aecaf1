//! Slows down those who guess passwords: per user and address, per user, and per address.
//!
//! Attempts that go on are counted too, up to ten times the limit, so that a thousand guesses at once are stopped
//! and a node that pulls twenty images at once is not. One that is broken off has failed. Names count whether or not
//! they exist: the limit must not say who does.
//! Everything is in the memory of this node; with `n` nodes somebody has `n` times as many guesses.
//!
//! What a newcomer gets wrong: many people share an address (a company's gateway), and one broken job there must not
//! lock the others out; and nobody must lock somebody else out from afar. Who has logged in from an address before is
//! stopped there by the limit of both together only.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::unsync::Cache;
use serde::Deserialize;

/// How many names and addresses are remembered; the least used are forgotten.
const REMEMBERED: usize = 64 * 1024;

/// The first failures that cost no delay: people mistype.
const FREE_FAILURES: u32 = 2;

/// The longest delay of an answer to a failed login.
const MAX_DELAY: Duration = Duration::from_millis(1600);

/// How many failed logins there may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginLimits {
    /// Of one user from one address.
    pub per_user_and_address: u32,
    /// Of one user from anywhere, at addresses where the user has not logged in.
    pub per_user: u32,
    /// From one address (IPv6: one /64), for users who have not logged in from there.
    pub per_address: u32,
    /// How long failures count, and how long somebody stays locked out, in seconds.
    pub window_seconds: u64,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self {
            per_user_and_address: 10,
            per_user: 50,
            per_address: 100,
            window_seconds: 300,
        }
    }
}

/// How many times the limit may go on at once.
const BURST: u32 = 10;

/// Failures since a time, and attempts that go on.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    going_on: u32,
    since: DateTime<Utc>,
}

/// What is counted.
#[derive(Hash)]
enum Who<'a> {
    UserAndAddress(&'a str, Option<IpAddr>),
    User(&'a str),
    Address(Option<IpAddr>),
    /// Has logged in from there.
    Known(&'a str, Option<IpAddr>),
}

#[derive(Debug)]
struct State {
    failures: Cache<u64, Failures>,
    known: Cache<u64, ()>,
}

/// The counters.
#[derive(Debug)]
pub struct LoginLimit {
    limits: LoginLimits,
    /// Keys are hashes with a random seed: nobody can make two names collide on purpose.
    seed: RandomState,
    state: Mutex<State>,
}

/// An attempt that goes on. It has failed if it is dropped.
#[derive(Debug)]
pub struct Attempt<'a> {
    limit: &'a LoginLimit,
    keys: [u64; 3],
    known: u64,
    /// What becomes of a failure counter when this ends.
    end: End,
    /// How long the answer should wait if the attempt fails.
    pub delay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Failed,
    Succeeded,
    Unknown,
}

impl Attempt<'_> {
    /// The credentials were right: what the user failed from this address is forgiven.
    pub fn succeeded(mut self) {
        self.end = End::Succeeded;
    }

    /// Nobody could tell whether the credentials were right.
    pub fn take_back(mut self) {
        self.end = End::Unknown;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = self.limit.state();
        for (number, key) in self.keys.into_iter().enumerate() {
            if let Some(mut failures) = state.failures.get_mut(&key) {
                failures.going_on = failures.going_on.saturating_sub(1);
                match self.end {
                    End::Failed => failures.count = failures.count.saturating_add(1),
                    End::Succeeded if number == 0 => failures.count = 0,
                    End::Succeeded | End::Unknown => {}
                }
            }
        }
        if self.end == End::Succeeded {
            state.known.insert(self.known, ());
        }
    }
}

impl LoginLimit {
    /// Nobody has failed yet.
    pub fn new(limits: LoginLimits) -> Self {
        Self {
            limits,
            seed: RandomState::new(),
            state: Mutex::new(State {
                failures: Cache::new(REMEMBERED),
                known: Cache::new(REMEMBERED),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long failures count.
    pub fn window(&self) -> TimeDelta {
        TimeDelta::seconds(i64::try_from(self.limits.window_seconds).unwrap_or(i64::MAX / 1000))
    }

    /// Begins an attempt.
    ///
    /// Errors: how long to wait if there were too many.
    pub fn begin(
        &self,
        user: &str,
        address: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Attempt<'_>, Duration> {
        let address = address.map(network);
        let hash = |who: Who<'_>| self.seed.hash_one(who);
        let keys = [
            hash(Who::UserAndAddress(user, address)),
            hash(Who::User(user)),
            hash(Who::Address(address)),
        ];
        let known = hash(Who::Known(user, address));
        let limits = [
            self.limits.per_user_and_address,
            self.limits.per_user,
            self.limits.per_address,
        ];
        let mut state = self.state();
        let is_known = state.known.get(&known).is_some();
        let counted = keys.map(|key| {
            let failures = state.failures.get(&key).copied();
            match failures {
                Some(failures) if now < failures.since + self.window() => failures,
                old => Failures {
                    count: 0,
                    going_on: old.map_or(0, |old| old.going_on),
                    since: now,
                },
            }
        });
        for (number, (failures, limit)) in counted.iter().zip(limits).enumerate() {
            let is_of_both = number == 0;
            let is_burst = failures.count + failures.going_on >= limit.saturating_mul(BURST);
            if (failures.count >= limit || is_burst) && (is_of_both || !is_known) {
                let wait = failures.since + self.window() - now;
                return Err(wait.to_std().unwrap_or_default());
            }
        }
        for (key, failures) in keys.into_iter().zip(counted) {
            let going_on = failures.going_on + 1;
            state.failures.insert(
                key,
                Failures {
                    going_on,
                    ..failures
                },
            );
        }
        Ok(Attempt {
            limit: self,
            keys,
            known,
            end: End::Failed,
            delay: delay(counted[0].count),
        })
    }
}

/// Who has a network of IPv6 has 2^64 addresses.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Doubles from 100 ms with each failure before.
fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(steps) => (Duration::from_millis(100) * 2_u32.pow(steps.min(10))).min(MAX_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn fail(limit: &LoginLimit, user: &str, address: Option<IpAddr>, seconds: i64) {
        drop(limit.begin(user, address, at(seconds)).unwrap());
    }

    fn limit() -> LoginLimit {
        LoginLimit::new(LoginLimits {
            per_user_and_address: 3,
            per_user: 5,
            per_address: 6,
            window_seconds: 60,
        })
    }

    #[test]
    fn a_user_is_stopped_at_one_address_and_not_at_another() {
        let limit = limit();
        for _ in 0..3 {
            fail(&limit, "ann", ip("1.1.1.1"), 0);
        }
        let wait = limit.begin("ann", ip("1.1.1.1"), at(20)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(40));
        assert!(limit.begin("ann", ip("1.1.1.2"), at(20)).is_ok());
        assert!(limit.begin("ann", ip("1.1.1.1"), at(60)).is_ok());
    }

    #[test]
    fn a_user_is_stopped_when_many_addresses_guess_but_not_at_home() {
        let limit = limit();
        limit
            .begin("ann", ip("3.3.3.3"), at(0))
            .unwrap()
            .succeeded();
        for n in 0..5 {
            fail(&limit, "ann", ip(&format!("1.1.1.{n}")), 0);
        }
        assert!(limit.begin("ann", ip("2.2.2.2"), at(1)).is_err());
        assert!(limit.begin("ann", ip("3.3.3.3"), at(1)).is_ok());
        assert!(limit.begin("bob", ip("2.2.2.2"), at(1)).is_ok());
    }

    #[test]
    fn an_address_is_stopped_but_not_those_who_have_logged_in_from_it() {
        let limit = limit();
        limit
            .begin("known", ip("1.1.1.1"), at(0))
            .unwrap()
            .succeeded();
        for n in 0..6 {
            fail(&limit, &format!("u{n}"), ip("1.1.1.1"), 0);
        }
        assert!(limit.begin("other", ip("1.1.1.1"), at(1)).is_err());
        assert!(limit.begin("known", ip("1.1.1.1"), at(1)).is_ok());
        assert!(limit.begin("other", ip("1.1.1.2"), at(1)).is_ok());
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let limit = limit();
        for n in 0..3 {
            let address = ip(&format!("2001:db8::{n}"));
            fail(&limit, "ann", address, 0);
        }
        assert!(limit.begin("ann", ip("2001:db8::99"), at(0)).is_err());
        assert!(limit.begin("ann", ip("2001:db8:0:1::99"), at(0)).is_ok());
        assert!(limit.begin("bob", ip("::ffff:1.2.3.4"), at(0)).is_ok());
    }

    #[test]
    fn success_forgives_and_an_outage_does_not_count() {
        let limit = limit();
        for _ in 0..2 {
            fail(&limit, "ann", None, 0);
        }
        limit.begin("ann", None, at(0)).unwrap().succeeded();
        for _ in 0..10 {
            limit.begin("ann", None, at(0)).unwrap().take_back();
        }
    }

    #[test]
    fn guesses_at_once_are_stopped_at_ten_times_the_limit() {
        let limit = limit();
        let begun: Vec<_> = (0..100)
            .map_while(|_| limit.begin("ann", None, at(0)).ok())
            .collect();
        assert_eq!(begun.len(), 30);
        // Broken off, they have failed.
        drop(begun);
        assert!(limit.begin("ann", None, at(59)).is_err());
        assert!(limit.begin("ann", None, at(60)).is_ok());
    }

    #[test]
    fn the_answer_to_a_guess_comes_later_and_later() {
        let delays: Vec<u128> = (0..9).map(|n| delay(n).as_millis()).collect();
        assert_eq!(delays, [0, 0, 100, 200, 400, 800, 1600, 1600, 1600]);
        assert_eq!(delay(u32::MAX), MAX_DELAY);
    }
}
