//! Delivering sealed audit events to the sinks, in the order of the chain and at least once.
//!
//! How far a sink has got is a row, which is put forward after the sink has confirmed. A node that dies in between
//! leaves its lease to run out, and the next one delivers the same events again.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;

use super::Registry;
use crate::{
    audit::Delivery,
    db::audit::{
        SinkClaim, audit_after, audit_backlog, audit_heads_between, audit_sink_advance,
        audit_sink_claim,
    },
    error::{Error, Result},
};

/// How long a node that delivers may be silent before another one does.
const LEASE: Duration = Duration::from_secs(30);

/// How long one delivery may take; shorter than the lease.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How many events go in one delivery.
const BATCH: i64 = 500;

/// The longest pause after failures.
const LONGEST_PAUSE: TimeDelta = TimeDelta::seconds(30);

/// How a sink stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkBacklog {
    /// The sink's name.
    pub name: String,
    /// Sealed events that it does not have yet.
    pub undelivered: i64,
    /// How often it failed since it last took some.
    pub failures: i32,
}

/// A delivery that a node has taken on.
#[derive(Debug)]
pub struct SinkTask {
    number: usize,
    claim: SinkClaim,
    delivery: Delivery,
}

impl Registry {
    /// The names of the sinks.
    pub(super) fn sink_names(&self) -> Vec<String> {
        let names = self.audit_sinks.iter().map(|sink| sink.name().to_owned());
        names.collect()
    }

    /// Takes on a delivery to the sink of that number, if one is due. Sinks do not wait for each other.
    pub async fn sink_claim(&self, number: usize) -> Result<Option<SinkTask>> {
        let Some(sink) = self.audit_sinks.get(number) else {
            return Ok(None);
        };
        let name = sink.name().to_owned();
        let wanted = name.clone();
        let (end, state) = self
            .db
            .read(move |conn| audit_backlog(conn, &wanted))
            .await?;
        if end <= state.delivered_seq {
            return Ok(None);
        }
        let now = self.clock.now();
        let lease = (now, now + LEASE);
        self.db
            .write(move |conn| {
                let Some(claim) = audit_sink_claim(conn, &name, lease)? else {
                    return Ok(None);
                };
                let after = claim.state.delivered_seq;
                let events = audit_after(conn, after, BATCH)?;
                let Some(last) = events.last().map(|event| event.seq) else {
                    audit_sink_advance(conn, &name, (&claim, &claim.state), now)?;
                    return Ok(None);
                };
                let heads = audit_heads_between(conn, after, last)?;
                let delivery = Delivery { events, heads };
                Ok(Some(SinkTask {
                    number,
                    claim,
                    delivery,
                }))
            })
            .await
    }

    /// Delivers, and notes how far the sink has got.
    pub async fn sink_deliver(&self, task: SinkTask) -> Result<()> {
        let SinkTask {
            number,
            claim,
            delivery,
        } = task;
        let mut state = claim.state.clone();
        let Some(sink) = self.audit_sinks.get(number).map(Arc::clone) else {
            return Ok(());
        };
        let delivered = tokio::time::timeout(TIMEOUT, sink.deliver(&delivery)).await;
        let delivered = delivered.unwrap_or_else(|late| Err(late.into()));
        let now = self.clock.now();
        let (next_at, outcome) = match delivered {
            Ok(()) => {
                let last = delivery.events.last().map(|event| event.seq);
                state.delivered_seq = last.unwrap_or(state.delivered_seq);
                state.failures = 0;
                (now, Ok(()))
            }
            Err(error) => {
                let doublings = state.failures.clamp(0, 5).unsigned_abs();
                state.failures = state.failures.saturating_add(1);
                let pause = TimeDelta::seconds(1 << doublings).min(LONGEST_PAUSE);
                (now + pause, Err(Error::unavailable(error)))
            }
        };
        let name = sink.name().to_owned();
        let is_noted = self
            .db
            .write(move |conn| audit_sink_advance(conn, &name, (&claim, &state), next_at))
            .await?;
        if !is_noted {
            tracing::warn!(
                sink = sink.name(),
                "a delivery of audit events took so long that another one began; some come twice"
            );
        }
        outcome
    }

    /// How many sinks there are.
    pub fn sink_count(&self) -> usize {
        self.audit_sinks.len()
    }

    /// How far behind the sinks are.
    pub async fn sink_backlogs(&self) -> Result<Vec<SinkBacklog>> {
        let mut backlogs = Vec::new();
        for name in self.sink_names() {
            let wanted = name.clone();
            let (end, state) = self
                .db
                .read(move |conn| audit_backlog(conn, &wanted))
                .await?;
            backlogs.push(SinkBacklog {
                name,
                undelivered: (end - state.delivered_seq).max(0),
                failures: state.failures,
            });
        }
        Ok(backlogs)
    }
}
