//! Access tokens that are not accepted any more though they have not expired.
//!
//! Revocations are counted by one row, which every revocation changes: no clock has to say whether a login or a
//! revocation was first.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn,
    dialect::on_backend,
    schema::{revocation_counter, revocations},
};
use crate::{
    error::Result,
    model::revocation::{Revocation, Revoked},
};

/// How many revocations there have been.
pub fn revocation_version(conn: &mut Conn) -> Result<i64> {
    Ok(revocation_counter::table
        .select(revocation_counter::version)
        .first(conn)?)
}

/// Stores a revocation in the transaction that makes it necessary; one of the same thing is replaced.
pub fn revocation_insert(
    conn: &mut Conn,
    revoked: Revoked,
    expires_at: DateTime<Utc>,
) -> Result<Revocation> {
    // First: whoever revokes at the same time waits here, and gets a later version.
    diesel::update(revocation_counter::table)
        .set(revocation_counter::version.eq(revocation_counter::version + 1))
        .execute(conn)?;
    let version = revocation_version(conn)?;
    let (kind, value) = revoked.parts();
    let ends = expires_at.naive_utc();
    on_backend!(conn, |c| diesel::insert_into(revocations::table)
        .values((
            revocations::kind.eq(kind),
            revocations::value.eq(value),
            revocations::version.eq(version),
            revocations::expires_at.eq(ends),
        ))
        .on_conflict((revocations::kind, revocations::value))
        .do_update()
        .set((
            revocations::version.eq(version),
            revocations::expires_at.eq(ends),
        ))
        .execute(c))?;
    Ok(Revocation { revoked, version })
}

/// What is revoked.
pub fn revocation_list(conn: &mut Conn) -> Result<Vec<Revocation>> {
    let rows: Vec<(String, String, i64, NaiveDateTime)> = revocations::table.load(conn)?;
    let revocations = rows.into_iter().filter_map(|(kind, value, version, _)| {
        let revoked = Revoked::from_parts(&kind, value)?;
        Some(Revocation { revoked, version })
    });
    Ok(revocations.collect())
}

/// Removes revocations of tokens that cannot be alive any more.
pub fn revocations_sweep(conn: &mut Conn, now: DateTime<Utc>) -> Result<usize> {
    let over = revocations::expires_at.lt(now.naive_utc());
    Ok(diesel::delete(revocations::table.filter(over)).execute(conn)?)
}
