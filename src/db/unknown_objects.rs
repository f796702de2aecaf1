//! What lies in storage and that nobody knows: when containers are compared with the database, and what was found.
//!
//! What is found once may be an error of the one who looks; what a later sweep finds again is rubbish. Objects have
//! fresh names and are noted before they are written, so what is unknown stays so.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;
use storage_drivers::ObjectKey;

use super::{
    Conn,
    dialect::on_backend,
    loose_objects::{LooseObject, loose_object_note},
    schema::{
        accounts, blob_chunks, containers, loose_objects, manifests, unknown_objects, upload_chunks,
    },
    stored,
};
use crate::{error::Result, oci::AccountName};

/// A container that somebody has taken on.
#[derive(Debug, Clone)]
pub struct ContainerTask {
    /// Whose it is.
    pub account: AccountName,
    /// The backend that it lies on.
    pub storage: String,
    /// What its time must still be when the task ends.
    pub lease: DateTime<Utc>,
}

/// Since when the container that is due for longest has been due.
pub fn container_due_since(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let at: Option<NaiveDateTime> = containers::table
        .inner_join(accounts::table)
        .filter(accounts::is_deleting.eq(false))
        .filter(containers::is_releasing.eq(false))
        .order(containers::next_sweep_at)
        .select(containers::next_sweep_at)
        .first(conn)
        .optional()?;
    Ok(at.map(|at| at.and_utc()))
}

/// Takes on the container that is due for longest.
pub fn container_sweep_claim(
    conn: &mut Conn,
    now: DateTime<Utc>,
    lease: DateTime<Utc>,
) -> Result<Option<ContainerTask>> {
    let due: Option<(String, String)> = containers::table
        .inner_join(accounts::table)
        .filter(accounts::is_deleting.eq(false))
        .filter(containers::is_releasing.eq(false))
        .filter(containers::next_sweep_at.le(now.naive_utc()))
        .order(containers::next_sweep_at)
        .select((containers::account_name, containers::storage))
        .first(conn)
        .optional()?;
    let Some((account, storage)) = due else {
        return Ok(None);
    };
    let count = diesel::update(containers::table.find((&account, &storage)))
        .filter(containers::next_sweep_at.le(now.naive_utc()))
        .set(containers::next_sweep_at.eq(lease.naive_utc()))
        .execute(conn)?;
    if count == 0 {
        return Ok(None);
    }
    Ok(Some(ContainerTask {
        account: stored(&account)?,
        storage,
        lease,
    }))
}

/// Ends a sweep, or puts it off; `false` if the lease is lost.
pub fn container_sweep_next(
    conn: &mut Conn,
    task: &ContainerTask,
    at: DateTime<Utc>,
) -> Result<bool> {
    let held = containers::table
        .find((task.account.as_str(), &task.storage))
        .filter(containers::next_sweep_at.eq(task.lease.naive_utc()));
    let count = diesel::update(held)
        .set(containers::next_sweep_at.eq(at.naive_utc()))
        .execute(conn)?;
    Ok(count == 1)
}

/// Makes every container due.
pub fn containers_sweep_now(conn: &mut Conn, now: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::update(containers::table)
        .filter(containers::next_sweep_at.gt(now.naive_utc()))
        .set(containers::next_sweep_at.eq(now.naive_utc()))
        .execute(conn)?)
}

/// Those of the objects that the database does not know.
pub fn unknown_of(conn: &mut Conn, keys: &[ObjectKey]) -> Result<Vec<ObjectKey>> {
    let ids: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
    // Notes first: an object that is adopted in between is then found where it belongs.
    let mut known: Vec<String> = loose_objects::table
        .filter(loose_objects::object_id.eq_any(&ids))
        .select(loose_objects::object_id)
        .load(conn)?;
    known.extend(
        upload_chunks::table
            .filter(upload_chunks::object_id.eq_any(&ids))
            .select(upload_chunks::object_id)
            .load::<String>(conn)?,
    );
    known.extend(
        blob_chunks::table
            .filter(blob_chunks::object_id.eq_any(&ids))
            .select(blob_chunks::object_id)
            .load::<String>(conn)?,
    );
    known.extend(
        manifests::table
            .filter(manifests::object_id.eq_any(&ids))
            .select(manifests::object_id)
            .load::<String>(conn)?,
    );
    let known: std::collections::HashSet<String> = known.into_iter().collect();
    let unknown = keys.iter().zip(&ids).filter(|(_, id)| !known.contains(*id));
    Ok(unknown.map(|(key, _)| *key).collect())
}

/// Notes objects that nobody knows. Gives those that an earlier sweep has found as well, before `before`: they are noted
/// as loose now, and to be deleted.
pub fn unknown_objects_note(
    conn: &mut Conn,
    task: &ContainerTask,
    keys: &[ObjectKey],
    (now, before): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<LooseObject>> {
    let mut rubbish = Vec::new();
    for key in unknown_of(conn, keys)? {
        let id = key.id().to_string();
        let row = || unknown_objects::table.find((task.account.as_str(), &task.storage, &id));
        let found_at: Option<NaiveDateTime> = row()
            .select(unknown_objects::found_at)
            .first(conn)
            .optional()?;
        match found_at {
            Some(at) if at.and_utc() <= before => {
                diesel::delete(row()).execute(conn)?;
                let object = LooseObject {
                    key,
                    storage: task.storage.clone(),
                };
                loose_object_note(conn, &task.account, &object, now)?;
                rubbish.push(object);
            }
            Some(_) => {}
            None => {
                on_backend!(conn, |c| diesel::insert_into(unknown_objects::table)
                    .values((
                        unknown_objects::account_name.eq(task.account.as_str()),
                        unknown_objects::storage.eq(&task.storage),
                        unknown_objects::object_id.eq(&id),
                        unknown_objects::kind.eq(key.folder()),
                        unknown_objects::found_at.eq(now.naive_utc()),
                    ))
                    .on_conflict((
                        unknown_objects::account_name,
                        unknown_objects::storage,
                        unknown_objects::object_id,
                    ))
                    .do_nothing()
                    .execute(c))?;
            }
        }
    }
    Ok(rubbish)
}

/// Forgets what was found before a sweep that has ended: it did not find it again.
pub fn unknown_objects_forget(
    conn: &mut Conn,
    task: &ContainerTask,
    before: DateTime<Utc>,
) -> Result<()> {
    let stale = unknown_objects::table
        .filter(unknown_objects::account_name.eq(task.account.as_str()))
        .filter(unknown_objects::storage.eq(&task.storage))
        .filter(unknown_objects::found_at.lt(before.naive_utc()));
    diesel::delete(stale).execute(conn)?;
    Ok(())
}
