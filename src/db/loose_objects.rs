//! Objects that may lie in storage but belong to nothing: noted before they are written and when they
//! stop belonging, so that a crash leaves no object that nobody knows.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use storage_drivers::ObjectKey;
use uuid::Uuid;

use super::{Conn, schema::loose_objects};
use crate::{
    error::{Error, Result},
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
        ))
        .execute(conn)?;
    Ok(())
}

/// Takes the note away, since the object belongs to something now or is gone; `false` if there was none,
/// which means that somebody else took the object for rubbish.
pub fn loose_object_forget(conn: &mut Conn, id: Uuid) -> Result<bool> {
    Ok(diesel::delete(loose_objects::table.find(id.to_string())).execute(conn)? == 1)
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
            let key = ObjectKey::from_parts(&kind, &id).ok_or_else(|| {
                Error::internal(format!("the database holds an unknown object {kind}/{id}"))
            })?;
            Ok(LooseObject { key, storage })
        })
        .collect()
}
