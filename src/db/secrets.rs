//! Secrets of our making, found by their keyed hash.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;
use uuid::Uuid;

use super::{Conn, schema::secrets};
use crate::{
    error::{Error, Result},
    model::secret::{SecretKind, StoredSecret},
};

#[derive(Queryable)]
struct Row {
    id: String,
    kind: String,
    identity: String,
    description: String,
    audience: Option<String>,
    parent_id: Option<String>,
    created_at: NaiveDateTime,
    created_by: String,
    expires_at: Option<NaiveDateTime>,
    last_used_at: Option<NaiveDateTime>,
}

const COLUMNS: (
    secrets::id,
    secrets::kind,
    secrets::identity,
    secrets::description,
    secrets::audience,
    secrets::parent_id,
    secrets::created_at,
    secrets::created_by,
    secrets::expires_at,
    secrets::last_used_at,
) = (
    secrets::id,
    secrets::kind,
    secrets::identity,
    secrets::description,
    secrets::audience,
    secrets::parent_id,
    secrets::created_at,
    secrets::created_by,
    secrets::expires_at,
    secrets::last_used_at,
);

impl TryFrom<Row> for StoredSecret {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let parent_id = row.parent_id.map(|id| id.parse()).transpose();
        Ok(Self {
            id: row.id.parse().map_err(Error::internal)?,
            kind: row.kind.parse().map_err(|e: String| Error::internal(e))?,
            identity: serde_json::from_str(&row.identity).map_err(Error::internal)?,
            description: row.description,
            audience: row.audience,
            parent_id: parent_id.map_err(Error::internal)?,
            created_at: row.created_at.and_utc(),
            created_by: row.created_by,
            expires_at: row.expires_at.map(|at| at.and_utc()),
            last_used_at: row.last_used_at.map(|at| at.and_utc()),
        })
    }
}

/// The secret with that hash.
pub fn secret_find(conn: &mut Conn, hash: &str) -> Result<Option<StoredSecret>> {
    let row: Option<Row> = secrets::table
        .filter(secrets::hash.eq(hash))
        .select(COLUMNS)
        .first(conn)
        .optional()?;
    row.map(TryInto::try_into).transpose()
}

/// The secret of that name.
pub fn secret_get(conn: &mut Conn, id: Uuid) -> Result<Option<StoredSecret>> {
    let row: Option<Row> = secrets::table
        .find(id.to_string())
        .select(COLUMNS)
        .first(conn)
        .optional()?;
    row.map(TryInto::try_into).transpose()
}

/// The secrets of a kind that somebody logs in with, the oldest first.
pub fn secret_list(conn: &mut Conn, subject: &str, kind: SecretKind) -> Result<Vec<StoredSecret>> {
    let rows: Vec<Row> = secrets::table
        .filter(secrets::subject.eq(subject))
        .filter(secrets::kind.eq(kind.as_str()))
        .order((secrets::created_at, secrets::id))
        .select(COLUMNS)
        .load(conn)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Stores a new secret by its hash.
pub fn secret_insert(conn: &mut Conn, secret: &StoredSecret, hash: &str) -> Result<()> {
    let identity = serde_json::to_string(&secret.identity).map_err(Error::internal)?;
    diesel::insert_into(secrets::table)
        .values((
            secrets::id.eq(secret.id.to_string()),
            secrets::kind.eq(secret.kind.as_str()),
            secrets::hash.eq(hash),
            secrets::subject.eq(secret.identity.to_string()),
            secrets::identity.eq(identity),
            secrets::description.eq(&secret.description),
            secrets::audience.eq(&secret.audience),
            secrets::parent_id.eq(secret.parent_id.map(|id| id.to_string())),
            secrets::created_at.eq(secret.created_at.naive_utc()),
            secrets::created_by.eq(&secret.created_by),
            secrets::expires_at.eq(secret.expires_at.map(|at| at.naive_utc())),
        ))
        .execute(conn)?;
    Ok(())
}

/// Lets a secret end at a time, unless it ends earlier.
pub fn secret_end(conn: &mut Conn, id: Uuid, at: DateTime<Utc>) -> Result<()> {
    let later = secrets::expires_at
        .is_null()
        .or(secrets::expires_at.gt(at.naive_utc()));
    diesel::update(secrets::table.find(id.to_string()).filter(later))
        .set(secrets::expires_at.eq(at.naive_utc()))
        .execute(conn)?;
    Ok(())
}

/// Notes that a secret was used.
pub fn secret_used(conn: &mut Conn, id: Uuid, now: DateTime<Utc>) -> Result<()> {
    diesel::update(secrets::table.find(id.to_string()))
        .set(secrets::last_used_at.eq(now.naive_utc()))
        .execute(conn)?;
    Ok(())
}

/// Removes a secret and the refresh tokens that were got with it; `false` if it is gone already.
pub fn secret_delete(conn: &mut Conn, id: Uuid) -> Result<bool> {
    Ok(diesel::delete(secrets::table.find(id.to_string())).execute(conn)? == 1)
}

/// Removes all secrets that somebody logs in with.
pub fn secrets_delete(conn: &mut Conn, subject: &str) -> Result<()> {
    diesel::delete(secrets::table.filter(secrets::subject.eq(subject))).execute(conn)?;
    Ok(())
}

/// Removes secrets that ended before.
pub fn secrets_sweep(conn: &mut Conn, before: DateTime<Utc>) -> Result<usize> {
    let ended = secrets::expires_at.lt(before.naive_utc());
    Ok(diesel::delete(secrets::table.filter(ended)).execute(conn)?)
}

/// Removes the oldest secrets of a kind that somebody has beyond `keep`.
pub fn secrets_limit(conn: &mut Conn, subject: &str, kind: SecretKind, keep: i64) -> Result<()> {
    let beyond: Vec<String> = secrets::table
        .filter(secrets::subject.eq(subject))
        .filter(secrets::kind.eq(kind.as_str()))
        .order((secrets::created_at.desc(), secrets::id))
        .select(secrets::id)
        .offset(keep)
        .limit(1000)
        .load(conn)?;
    if !beyond.is_empty() {
        diesel::delete(secrets::table.filter(secrets::id.eq_any(beyond))).execute(conn)?;
    }
    Ok(())
}
