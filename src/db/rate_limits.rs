//! Buckets of rate limits that all nodes share. Nothing else is written for a pull, so this is used only where the
//! operator asks for it.

use diesel::{dsl::case_when, prelude::*};

use super::{Conn, dialect::on_backend, schema::rate_limit_buckets};
use crate::{
    error::Result,
    model::rate_limit::{Rate, RateLimitKind, RateLimitStatus},
    oci::AccountName,
};

/// Whose bucket.
#[derive(Debug, Clone)]
pub struct BucketKey {
    /// In which account.
    pub account: AccountName,
    /// For what.
    pub kind: RateLimitKind,
    /// An identity, or an address.
    pub who: String,
}

/// Lets a request in if the bucket has room for it. One statement decides and counts, so that no two requests take the
/// same place.
pub fn rate_limit_take(
    conn: &mut Conn,
    key: &BucketKey,
    rate: Rate,
    now: i64,
) -> Result<RateLimitStatus> {
    use rate_limit_buckets::{account_name, action, empty_at, table, who};
    if let Some(until) = bucket_fill(conn, key, rate, now)? {
        return Ok(rate.allowed(until, now));
    }
    let until: i64 = table
        .filter(account_name.eq(key.account.as_str()))
        .filter(action.eq(key.kind.wire_name()))
        .filter(who.eq(&key.who))
        .select(empty_at)
        .first(conn)?;
    Ok(rate.refused(until, now))
}

/// The new state of the bucket; `None` if it has no room.
fn bucket_fill(conn: &mut Conn, key: &BucketKey, rate: Rate, now: i64) -> Result<Option<i64>> {
    // The `filter` of an upsert is not that of a query.
    use diesel::query_dsl::methods::FilterDsl as _;
    use rate_limit_buckets::{account_name, action, empty_at, table, who};
    let step = rate.interval_nanos();
    let room_until = now.saturating_add(rate.capacity_nanos() - step);
    let row = (
        account_name.eq(key.account.as_str()),
        action.eq(key.kind.wire_name()),
        who.eq(&key.who),
        empty_at.eq(now.saturating_add(step)),
    );
    Ok(on_backend!(conn, |c| diesel::insert_into(table)
        .values(row)
        .on_conflict((account_name, action, who))
        .do_update()
        .set(empty_at.eq(case_when(empty_at.gt(now), empty_at).otherwise(now) + step))
        .filter(empty_at.le(room_until))
        .returning(empty_at)
        .get_result(c)
        .optional())?)
}

/// Forgets buckets that are empty.
pub fn rate_limits_sweep(conn: &mut Conn, now: i64) -> Result<usize> {
    let is_empty = rate_limit_buckets::empty_at.le(now);
    Ok(diesel::delete(rate_limit_buckets::table.filter(is_empty)).execute(conn)?)
}
