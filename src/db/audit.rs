//! The audit trail's rows: events, the end of their chain, signed heads, and how far the sinks have got.
//!
//! [`audit_append`] belongs into the transaction of the change. It does not touch the chain, so that changes do not
//! wait for one another; [`audit_seal`] links what was committed, a moment later. What a newcomer gets wrong: the
//! columns beside `event` are for filters only, `event` is what was hashed.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn,
    cached::execute_cached,
    dialect::on_backend,
    schema::{accounts, audit_chain, audit_events, audit_heads, audit_sinks},
};
use crate::{
    error::{Error, Result},
    model::{
        audit::{AuditEvent, AuditFilter, SealedEvent},
        audit_chain::hash_next,
    },
};

/// The only row of `audit_chain`.
const CHAIN: i64 = 1;

/// Writes an event, with the change that it is about.
pub fn audit_append(conn: &mut Conn, event: &AuditEvent) -> Result<()> {
    let row = (
        audit_events::id.eq(event.id.to_string()),
        audit_events::at.eq(event.at.naive_utc()),
        audit_events::action.eq(event.action.as_str()),
        audit_events::outcome.eq(event.outcome.as_str()),
        audit_events::user_name.eq(event.who.as_ref().map(|who| &who.name)),
        audit_events::account.eq(&event.account),
        audit_events::auth_tenant_id.eq(&event.auth_tenant_id),
        audit_events::event.eq(event.to_json()?),
    );
    // One that is there already was written by a transaction whose end nobody learnt.
    on_backend!(conn, |c| diesel::insert_into(audit_events::table)
        .values(row)
        .on_conflict(audit_events::id)
        .do_nothing()
        .execute(c))?;
    Ok(())
}

/// Writes events that no change belongs to. Those that know their account only by name learn whose it is.
pub fn audit_append_all(conn: &mut Conn, events: &[AuditEvent]) -> Result<()> {
    for event in events {
        let mut event = event.clone();
        if let (Some(name), None) = (&event.account, &event.auth_tenant_id) {
            event.auth_tenant_id = accounts::table
                .find(name)
                .select(accounts::auth_tenant_id)
                .first(conn)
                .optional()?;
        }
        audit_append(conn, &event)?;
    }
    Ok(())
}

/// Whether an event waits for its place in the chain.
pub fn audit_is_unsealed(conn: &mut Conn) -> Result<bool> {
    let waiting = audit_events::table.filter(audit_events::seq.is_null());
    Ok(diesel::select(diesel::dsl::exists(waiting)).get_result(conn)?)
}

/// Holds the chain until the transaction ends. Whoever seals or prunes it at the same time waits here, and sees then what
/// was done.
fn chain_hold(conn: &mut Conn) -> Result<()> {
    diesel::update(audit_chain::table.find(CHAIN))
        .set(audit_chain::seq.eq(audit_chain::seq))
        .execute(conn)?;
    Ok(())
}

/// Links up to `limit` waiting events to the chain, in the order of their times; gives the new end if there were any.
pub fn audit_seal(conn: &mut Conn, limit: i64) -> Result<Option<(i64, String)>> {
    chain_hold(conn)?;
    let (mut seq, mut hash): (i64, String) = audit_chain::table
        .find(CHAIN)
        .select((audit_chain::seq, audit_chain::hash))
        .first(conn)?;
    let waiting: Vec<(String, String)> = audit_events::table
        .filter(audit_events::seq.is_null())
        .order((audit_events::at, audit_events::id))
        .select((audit_events::id, audit_events::event))
        .limit(limit)
        .load(conn)?;
    if waiting.is_empty() {
        return Ok(None);
    }
    for (id, event) in waiting {
        seq += 1;
        hash = hash_next(&hash, seq, &event);
        execute_cached!(
            conn,
            diesel::update(audit_events::table.find(id))
                .set((audit_events::seq.eq(seq), audit_events::hash.eq(&hash))),
        )?;
    }
    execute_cached!(
        conn,
        diesel::update(audit_chain::table.find(CHAIN))
            .set((audit_chain::seq.eq(seq), audit_chain::hash.eq(&hash))),
    )?;
    Ok(Some((seq, hash)))
}

/// Stores a signed statement about the chain.
pub fn audit_head_insert(
    conn: &mut Conn,
    seq: i64,
    is_anchor: bool,
    statement: &str,
) -> Result<()> {
    diesel::insert_into(audit_heads::table)
        .values((
            audit_heads::seq.eq(seq),
            audit_heads::is_anchor.eq(is_anchor),
            audit_heads::statement.eq(statement),
        ))
        .execute(conn)?;
    Ok(())
}

/// All signed statements, in the order of the chain.
pub fn audit_head_list(conn: &mut Conn) -> Result<Vec<String>> {
    Ok(audit_heads::table
        .order((audit_heads::seq, audit_heads::is_anchor))
        .select(audit_heads::statement)
        .load(conn)?)
}

/// The signed statements about events after `after`, up to `last`.
pub fn audit_heads_between(conn: &mut Conn, after: i64, last: i64) -> Result<Vec<String>> {
    Ok(audit_heads::table
        .filter(audit_heads::seq.gt(after).and(audit_heads::seq.le(last)))
        .order((audit_heads::seq, audit_heads::is_anchor))
        .select(audit_heads::statement)
        .load(conn)?)
}

type SealedRow = (Option<i64>, Option<String>, String);

fn sealed(rows: Vec<SealedRow>) -> Result<Vec<SealedEvent>> {
    let rows = rows.into_iter().map(|(seq, hash, event)| {
        let (seq, hash) = seq
            .zip(hash)
            .ok_or_else(|| Error::internal("an audit event has half a place in the chain"))?;
        Ok(SealedEvent { seq, hash, event })
    });
    rows.collect()
}

/// Sealed events after `after`, in the order of the chain.
pub fn audit_after(conn: &mut Conn, after: i64, limit: i64) -> Result<Vec<SealedEvent>> {
    let rows: Vec<SealedRow> = audit_events::table
        .filter(audit_events::seq.gt(after))
        .order(audit_events::seq)
        .select((audit_events::seq, audit_events::hash, audit_events::event))
        .limit(limit)
        .load(conn)?;
    sealed(rows)
}

/// The columns for filters of a sealed event that do not agree with the event itself.
pub fn audit_column_faults(conn: &mut Conn, after: i64, limit: i64) -> Result<Vec<i64>> {
    type Row = (
        Option<i64>,
        (String, NaiveDateTime, String, String),
        (Option<String>, Option<String>, Option<String>),
        String,
    );
    let rows: Vec<Row> = audit_events::table
        .filter(audit_events::seq.gt(after))
        .order(audit_events::seq)
        .select((
            audit_events::seq,
            (
                audit_events::id,
                audit_events::at,
                audit_events::action,
                audit_events::outcome,
            ),
            (
                audit_events::user_name,
                audit_events::account,
                audit_events::auth_tenant_id,
            ),
            audit_events::event,
        ))
        .limit(limit)
        .load(conn)?;
    let wrong = rows.into_iter().filter_map(|(seq, head, about, event)| {
        let agrees = serde_json::from_str::<AuditEvent>(&event).is_ok_and(|event| {
            let expected = (
                event.id.to_string(),
                event.at.naive_utc(),
                event.action.as_str().to_owned(),
                event.outcome.as_str().to_owned(),
            );
            let user = event.who.map(|who| who.name);
            head == expected && about == (user, event.account, event.auth_tenant_id)
        });
        seq.filter(|_| !agrees)
    });
    Ok(wrong.collect())
}

/// Sealed events that match, the newest first.
pub fn audit_find(conn: &mut Conn, filter: &AuditFilter) -> Result<Vec<SealedEvent>> {
    let mut query = audit_events::table
        .filter(audit_events::seq.is_not_null())
        .order(audit_events::seq.desc())
        .select((audit_events::seq, audit_events::hash, audit_events::event))
        .limit(filter.limit)
        .into_boxed();
    if let Some(account) = &filter.account {
        query = query.filter(audit_events::account.eq(account));
    }
    if let Some(tenant) = &filter.auth_tenant_id {
        query = query.filter(audit_events::auth_tenant_id.eq(tenant));
    }
    if let Some(user) = &filter.user {
        query = query.filter(audit_events::user_name.eq(user));
    }
    if let Some(action) = filter.action {
        query = query.filter(audit_events::action.eq(action.as_str()));
    }
    if let Some(outcome) = filter.outcome {
        query = query.filter(audit_events::outcome.eq(outcome.as_str()));
    }
    if let Some(since) = filter.since {
        query = query.filter(audit_events::at.ge(since.naive_utc()));
    }
    if let Some(until) = filter.until {
        query = query.filter(audit_events::at.lt(until.naive_utc()));
    }
    if let Some(before) = filter.before {
        query = query.filter(audit_events::seq.lt(before));
    }
    sealed(query.load(conn)?)
}

/// Up to where the chain may be pruned: to the last event before the first one that is young or not delivered, at
/// most `limit` events; with the hash there. It holds the chain: two nodes that prune must not both leave an anchor.
pub fn audit_prunable(
    conn: &mut Conn,
    before: DateTime<Utc>,
    (sinks, limit): (&[String], i64),
) -> Result<Option<(i64, String)>> {
    chain_hold(conn)?;
    let young: Option<Option<i64>> = audit_events::table
        .filter(audit_events::seq.is_not_null())
        .filter(audit_events::at.ge(before.naive_utc()))
        .order(audit_events::seq)
        .select(audit_events::seq)
        .first(conn)
        .optional()?;
    let delivered: Vec<i64> = audit_sinks::table
        .filter(audit_sinks::name.eq_any(sinks))
        .select(audit_sinks::delivered_seq)
        .load(conn)?;
    if delivered.len() < sinks.len() {
        return Ok(None);
    }
    let mut end = young.flatten().map_or(i64::MAX, |seq| seq - 1);
    end = delivered.into_iter().fold(end, i64::min);
    let old: Vec<(Option<i64>, Option<String>)> = audit_events::table
        .filter(audit_events::seq.le(end))
        .order(audit_events::seq)
        .select((audit_events::seq, audit_events::hash))
        .limit(limit)
        .load(conn)?;
    Ok(old
        .into_iter()
        .next_back()
        .and_then(|(seq, hash)| seq.zip(hash)))
}

/// Removes the events up to `seq` and what was signed about them; an anchor must say so.
pub fn audit_prune(conn: &mut Conn, seq: i64) -> Result<usize> {
    diesel::delete(audit_heads::table.filter(audit_heads::seq.le(seq))).execute(conn)?;
    Ok(diesel::delete(audit_events::table.filter(audit_events::seq.le(seq))).execute(conn)?)
}

/// How far a sink has got, and how often it failed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkState {
    /// The last event that it has.
    pub delivered_seq: i64,
    /// How often it failed since then.
    pub failures: i32,
}

/// A sink's next delivery, which one node has taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkClaim {
    /// How the sink stood then.
    pub state: SinkState,
    /// The end of the lease as the database keeps it, which tells this claim from those before and after.
    lease_until: NaiveDateTime,
}

/// Takes a delivery on if it is due: nobody else does before `lease_until`.
pub fn audit_sink_claim(
    conn: &mut Conn,
    name: &str,
    (now, lease_until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Option<SinkClaim>> {
    on_backend!(conn, |c| diesel::insert_into(audit_sinks::table)
        .values((
            audit_sinks::name.eq(name),
            audit_sinks::delivered_seq.eq(0_i64),
            audit_sinks::failures.eq(0),
            audit_sinks::next_delivery_at.eq(now.naive_utc()),
        ))
        .on_conflict(audit_sinks::name)
        .do_nothing()
        .execute(c))?;
    let due = audit_sinks::next_delivery_at.le(now.naive_utc());
    let claimed = diesel::update(audit_sinks::table.find(name).filter(due))
        .set(audit_sinks::next_delivery_at.eq(lease_until.naive_utc()))
        .execute(conn)?;
    if claimed == 0 {
        return Ok(None);
    }
    let (delivered_seq, failures, lease_until) = audit_sinks::table
        .find(name)
        .select((
            audit_sinks::delivered_seq,
            audit_sinks::failures,
            audit_sinks::next_delivery_at,
        ))
        .first(conn)?;
    let state = SinkState {
        delivered_seq,
        failures,
    };
    Ok(Some(SinkClaim { state, lease_until }))
}

/// Notes how far a sink has got, and when it is due again. `false` if somebody else has taken the delivery on since, or
/// if the sink would go back: then nothing is noted.
pub fn audit_sink_advance(
    conn: &mut Conn,
    name: &str,
    (claim, state): (&SinkClaim, &SinkState),
    next_delivery_at: DateTime<Utc>,
) -> Result<bool> {
    if state.delivered_seq < claim.state.delivered_seq {
        return Ok(false);
    }
    let is_ours = audit_sinks::delivered_seq
        .eq(claim.state.delivered_seq)
        .and(audit_sinks::next_delivery_at.eq(claim.lease_until));
    let advanced = diesel::update(audit_sinks::table.find(name).filter(is_ours))
        .set((
            audit_sinks::delivered_seq.eq(state.delivered_seq),
            audit_sinks::failures.eq(state.failures),
            audit_sinks::next_delivery_at.eq(next_delivery_at.naive_utc()),
        ))
        .execute(conn)?;
    Ok(advanced > 0)
}

/// The last event of the chain, and how far a sink has got.
pub fn audit_backlog(conn: &mut Conn, name: &str) -> Result<(i64, SinkState)> {
    let end: i64 = audit_chain::table
        .find(CHAIN)
        .select(audit_chain::seq)
        .first(conn)?;
    let found: Option<(i64, i32)> = audit_sinks::table
        .find(name)
        .select((audit_sinks::delivered_seq, audit_sinks::failures))
        .first(conn)
        .optional()?;
    let (delivered_seq, failures) = found.unwrap_or_default();
    let state = SinkState {
        delivered_seq,
        failures,
    };
    Ok((end, state))
}
