//! Objects that may lie in storage but belong to nothing: noted before they are written and when they
//! stop belonging, so that a crash leaves no object that nobody knows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use storage_drivers::ObjectKey;
use uuid::Uuid;

use super::{
    Conn,
    cached::execute_cached,
    dialect::on_backend,
    quotas::{quota_settle, quota_take},
    schema::loose_objects,
    stored,
};
use crate::{
    error::{Error, Result},
    model::quota::{Amounts, Limits},
    oci::AccountName,
};

/// An object and the backend that it lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LooseObject {
    /// The object's name.
    pub key: ObjectKey,
    /// The backend's name.
    pub storage: String,
}

/// Notes an object that belongs to nothing.
pub fn loose_object_note(
    conn: &mut Conn,
    account: &AccountName,
    object: &LooseObject,
    now: DateTime<Utc>,
) -> Result<()> {
    diesel::insert_into(loose_objects::table)
        .values((
            loose_objects::object_id.eq(object.key.id().to_string()),
            loose_objects::kind.eq(object.key.folder()),
            loose_objects::account_name.eq(account.as_str()),
            loose_objects::storage.eq(&object.storage),
            loose_objects::noted_at.eq(now.naive_utc()),
            loose_objects::is_kept.eq(false),
            loose_objects::is_swept.eq(false),
            loose_objects::reserved_bytes.eq(0_i64),
        ))
        .execute(conn)?;
    Ok(())
}

/// Keeps `to` bytes of the account's quota for an object that is being written, where `from` were kept; `false` if its
/// note is gone or others are kept. They stay kept until the object is adopted, forgotten, or given up.
pub fn loose_object_reserve(
    conn: &mut Conn,
    (account, id): (&AccountName, Uuid),
    (from, to): (i64, i64),
    defaults: &Limits,
) -> Result<bool> {
    let note = loose_objects::table
        .find(id.to_string())
        .filter(loose_objects::reserved_bytes.eq(from));
    let count = execute_cached!(
        conn,
        diesel::update(note).set(loose_objects::reserved_bytes.eq(to)),
    )?;
    if count == 0 {
        return Ok(false);
    }
    quota_take(conn, account, &Amounts::reserved(to - from), defaults)?;
    Ok(true)
}

/// Gives up what is kept for objects that will not be needed, and says how much; the caller changes the books.
pub fn loose_objects_unreserve(conn: &mut Conn, ids: &[Uuid]) -> Result<i64> {
    let mut released = 0;
    for id in ids {
        let note = || loose_objects::table.find(id.to_string());
        let query = note().select(loose_objects::reserved_bytes);
        let reserved: Option<i64> = match conn {
            Conn::Postgres(c) => query.for_update().first(c).optional()?,
            Conn::Sqlite(c) => query.first(c).optional()?,
        };
        released += reserved.unwrap_or(0);
        diesel::update(note())
            .set(loose_objects::reserved_bytes.eq(0_i64))
            .execute(conn)?;
    }
    Ok(released)
}

/// Takes the note away, since the object belongs to something now, and gives the bytes that were kept for it; `None` if
/// somebody took the object for rubbish and has deleted it, or is about to. The caller changes the books.
pub fn loose_object_adopt(conn: &mut Conn, id: Uuid) -> Result<Option<i64>> {
    let note = loose_objects::table
        .find(id.to_string())
        .filter(loose_objects::is_swept.eq(false));
    Ok(on_backend!(conn, |c| diesel::delete(note)
        .returning(loose_objects::reserved_bytes)
        .get_result(c)
        .optional())?)
}

/// Says that objects are still being written: notes of old age are taken for rubbish.
pub fn loose_objects_refresh(conn: &mut Conn, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    diesel::update(loose_objects::table.filter(loose_objects::object_id.eq_any(ids)))
        .set(loose_objects::noted_at.eq(now.naive_utc()))
        .execute(conn)?;
    Ok(())
}

/// Takes up to `limit` objects of an account on a backend for rubbish that were noted before `before` and are not
/// kept: from now on nobody can adopt them.
pub fn loose_objects_sweep(
    conn: &mut Conn,
    account: &AccountName,
    (storage, before): (&str, DateTime<Utc>),
    limit: i64,
) -> Result<Vec<LooseObject>> {
    let rows: Vec<(String, String)> = loose_objects::table
        .filter(loose_objects::account_name.eq(account.as_str()))
        .filter(loose_objects::storage.eq(storage))
        .filter(diesel::dsl::not(loose_objects::is_kept))
        .filter(loose_objects::noted_at.le(before.naive_utc()))
        .order(loose_objects::noted_at)
        .limit(limit)
        .select((loose_objects::kind, loose_objects::object_id))
        .load(conn)?;
    let mut swept = Vec::with_capacity(rows.len());
    for (kind, id) in rows {
        let note = loose_objects::table
            .find(&id)
            .filter(loose_objects::noted_at.le(before.naive_utc()));
        // It may have been adopted, or refreshed, since it was read.
        let count = diesel::update(note)
            .set(loose_objects::is_swept.eq(true))
            .execute(conn)?;
        if count == 1 {
            swept.push(LooseObject {
                key: key_of(&kind, &id)?,
                storage: storage.to_owned(),
            });
        }
    }
    Ok(swept)
}

/// How many loose objects of an account there are on a backend, without those that are kept, and how many of those.
pub fn loose_object_counts(
    conn: &mut Conn,
    account: &AccountName,
    storage: &str,
) -> Result<(i64, i64)> {
    let of = |is_kept: bool| {
        loose_objects::table
            .filter(loose_objects::account_name.eq(account.as_str()))
            .filter(loose_objects::storage.eq(storage))
            .filter(loose_objects::is_kept.eq(is_kept))
            .count()
    };
    Ok((of(false).get_result(conn)?, of(true).get_result(conn)?))
}

fn key_of(kind: &str, id: &str) -> Result<ObjectKey> {
    ObjectKey::from_parts(kind, id)
        .ok_or_else(|| Error::internal(format!("the database holds an unknown object {kind}/{id}")))
}

/// Takes notes away, since the objects are gone, and gives back what was kept for them.
pub fn loose_objects_forget(conn: &mut Conn, ids: &[Uuid]) -> Result<()> {
    let mut released: BTreeMap<String, i64> = BTreeMap::new();
    for id in ids {
        let note = loose_objects::table.find(id.to_string());
        let row: Option<(String, i64)> = on_backend!(conn, |c| diesel::delete(note)
            .returning((loose_objects::account_name, loose_objects::reserved_bytes))
            .get_result(c)
            .optional())?;
        if let Some((account, reserved)) = row {
            *released.entry(account).or_default() -= reserved;
        }
    }
    for (account, change) in released {
        quota_settle(conn, &stored(&account)?, &Amounts::reserved(change))?;
    }
    Ok(())
}

/// All loose objects of an account.
pub fn loose_object_list(conn: &mut Conn, account: &AccountName) -> Result<Vec<LooseObject>> {
    let rows: Vec<(String, String, String)> = loose_objects::table
        .filter(loose_objects::account_name.eq(account.as_str()))
        .order(loose_objects::noted_at)
        .select((
            loose_objects::kind,
            loose_objects::object_id,
            loose_objects::storage,
        ))
        .load(conn)?;
    rows.into_iter()
        .map(|(kind, id, storage)| {
            let key = key_of(&kind, &id)?;
            Ok(LooseObject { key, storage })
        })
        .collect()
}

/// Takes up to `limit` objects for rubbish that were noted before `before` and are not kept, of any account: from now on
/// nobody can adopt them. Their age begins anew, so that what cannot be deleted is not tried again at once.
pub fn loose_objects_sweep_due(
    conn: &mut Conn,
    (now, before): (DateTime<Utc>, DateTime<Utc>),
    limit: i64,
) -> Result<BTreeMap<AccountName, Vec<LooseObject>>> {
    let due = loose_objects::table
        .filter(diesel::dsl::not(loose_objects::is_kept))
        .filter(loose_objects::noted_at.le(before.naive_utc()))
        .order(loose_objects::noted_at)
        .limit(limit)
        .select((
            loose_objects::account_name,
            loose_objects::kind,
            loose_objects::object_id,
            loose_objects::storage,
        ));
    let rows: Vec<(String, String, String, String)> = match conn {
        Conn::Postgres(c) => due.for_update().skip_locked().load(c)?,
        Conn::Sqlite(c) => due.load(c)?,
    };
    let mut swept: BTreeMap<AccountName, Vec<LooseObject>> = BTreeMap::new();
    for (account, kind, id, storage) in rows {
        diesel::update(loose_objects::table.find(&id))
            .set((
                loose_objects::is_swept.eq(true),
                loose_objects::noted_at.eq(now.naive_utc()),
            ))
            .execute(conn)?;
        let key = key_of(&kind, &id)?;
        let objects = swept.entry(stored(&account)?).or_default();
        objects.push(LooseObject { key, storage });
    }
    Ok(swept)
}

/// When the oldest loose object that is not kept was noted.
pub fn loose_objects_since(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let at: Option<chrono::NaiveDateTime> = loose_objects::table
        .filter(diesel::dsl::not(loose_objects::is_kept))
        .order(loose_objects::noted_at)
        .select(loose_objects::noted_at)
        .first(conn)
        .optional()?;
    Ok(at.map(|at| at.and_utc()))
}
