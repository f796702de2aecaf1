//! Access tokens that are not accepted any more though they have not expired.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use super::{Conn, dialect::on_backend, schema::revocations};
use crate::{
    error::Result,
    model::revocation::{Revocation, Revoked},
};

/// Stores a revocation; one of the same thing is replaced.
pub fn revocation_insert(conn: &mut Conn, revocation: &Revocation) -> Result<()> {
    let (kind, value) = revocation.revoked.parts();
    let issued_until = revocation.issued_until.naive_utc();
    let expires_at = revocation.expires_at.naive_utc();
    on_backend!(conn, |c| diesel::insert_into(revocations::table)
        .values((
            revocations::kind.eq(kind),
            revocations::value.eq(value),
            revocations::issued_until.eq(issued_until),
            revocations::expires_at.eq(expires_at),
        ))
        .on_conflict((revocations::kind, revocations::value))
        .do_update()
        .set((
            revocations::issued_until.eq(issued_until),
            revocations::expires_at.eq(expires_at),
        ))
        .execute(c))?;
    Ok(())
}

/// What is revoked.
pub fn revocation_list(conn: &mut Conn) -> Result<Vec<Revocation>> {
    let rows: Vec<(String, String, NaiveDateTime, NaiveDateTime)> =
        revocations::table.load(conn)?;
    let revocations = rows
        .into_iter()
        .filter_map(|(kind, value, issued_until, expires_at)| {
            Some(Revocation {
                revoked: Revoked::from_parts(&kind, value)?,
                issued_until: issued_until.and_utc(),
                expires_at: expires_at.and_utc(),
            })
        });
    Ok(revocations.collect())
}

/// Removes revocations of tokens that cannot be alive any more.
pub fn revocations_sweep(conn: &mut Conn, now: DateTime<Utc>) -> Result<usize> {
    let over = revocations::expires_at.lt(now.naive_utc());
    Ok(diesel::delete(revocations::table.filter(over)).execute(conn)?)
}
