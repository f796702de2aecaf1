//! Moves of accounts between storage backends: when the next step is due, who takes it, how far it is.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use super::{
    Conn, as_i64, as_u64,
    containers::container_hold,
    schema::{accounts, loose_objects, storage_moves},
    stored,
};
use crate::{
    error::Result,
    model::storage_move::{Amount, MoveState, StorageMove},
    oci::AccountName,
};

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = storage_moves)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct MoveRow {
    account_name: String,
    target: String,
    keeps_old: bool,
    state: String,
    started_at: NaiveDateTime,
    copied_at: NaiveDateTime,
    finished_at: Option<NaiveDateTime>,
    moved_objects: i64,
    moved_bytes: i64,
    failures: i32,
    error: Option<String>,
    next_step_at: Option<NaiveDateTime>,
}

impl MoveRow {
    fn into_move(self) -> Result<StorageMove> {
        Ok(StorageMove {
            account: stored(&self.account_name)?,
            target: self.target,
            keeps_old: self.keeps_old,
            state: stored(&self.state)?,
            started_at: self.started_at.and_utc(),
            copied_at: self.copied_at.and_utc(),
            finished_at: self.finished_at.map(|at| at.and_utc()),
            moved_objects: as_u64(self.moved_objects),
            moved_bytes: as_u64(self.moved_bytes),
            failures: u32::try_from(self.failures).unwrap_or(0),
            error: self.error,
            next_step_at: self.next_step_at.map(|at| at.and_utc()),
        })
    }
}

/// The last move of an account.
pub fn move_find(conn: &mut Conn, account: &AccountName) -> Result<Option<StorageMove>> {
    let row: Option<MoveRow> = storage_moves::table
        .find(account.as_str())
        .select(MoveRow::as_select())
        .first(conn)
        .optional()?;
    row.map(MoveRow::into_move).transpose()
}

/// Begins a move: from now on, new objects go to `target`. A move that goes on already is turned to the new target.
/// What earlier moves kept is kept no longer, unless `keeps_old`.
pub fn move_start(
    conn: &mut Conn,
    account: &AccountName,
    (target, keeps_old): (&str, bool),
    now: DateTime<Utc>,
) -> Result<()> {
    let at = now.naive_utc();
    // First the account, as `relocate` does: in another order the two could wait for each other for ever.
    diesel::update(accounts::table.find(account.as_str()))
        .set((
            accounts::storage.eq(target),
            accounts::version.eq(accounts::version + 1),
        ))
        .execute(conn)?;
    container_hold(conn, account, target)?;
    diesel::delete(storage_moves::table.find(account.as_str())).execute(conn)?;
    diesel::insert_into(storage_moves::table)
        .values((
            storage_moves::account_name.eq(account.as_str()),
            storage_moves::target.eq(target),
            storage_moves::keeps_old.eq(keeps_old),
            storage_moves::state.eq(MoveState::Copying.to_string()),
            storage_moves::started_at.eq(at),
            storage_moves::copied_at.eq(at),
            storage_moves::moved_objects.eq(0_i64),
            storage_moves::moved_bytes.eq(0_i64),
            storage_moves::failures.eq(0),
            storage_moves::next_step_at.eq(Some(at)),
        ))
        .execute(conn)?;
    if !keeps_old {
        let kept = loose_objects::table.filter(loose_objects::account_name.eq(account.as_str()));
        diesel::update(kept)
            .set(loose_objects::is_kept.eq(false))
            .execute(conn)?;
    }
    Ok(())
}

/// Forgets the moves of an account that is deleted.
pub fn move_forget(conn: &mut Conn, account: &AccountName) -> Result<()> {
    diesel::delete(storage_moves::table.find(account.as_str())).execute(conn)?;
    Ok(())
}

/// Takes the step that is due for longest, until `lease_until`; nobody else takes it before.
pub fn move_claim(
    conn: &mut Conn,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Option<StorageMove>> {
    let due: Option<MoveRow> = storage_moves::table
        .inner_join(accounts::table)
        .filter(accounts::is_deleting.eq(false))
        .filter(storage_moves::next_step_at.le(now.naive_utc()))
        .order(storage_moves::next_step_at)
        .select(MoveRow::as_select())
        .first(conn)
        .optional()?;
    let Some(due) = due else { return Ok(None) };
    let mut due = due.into_move()?;
    let Some(held) = due.next_step_at else {
        return Ok(None);
    };
    if !move_renew(conn, &due.account, held, lease_until)? {
        return Ok(None);
    }
    due.next_step_at = Some(lease_until);
    Ok(Some(due))
}

/// Puts a lease off that is `held`; `false` if somebody else has it.
pub fn move_renew(
    conn: &mut Conn,
    account: &AccountName,
    held: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<bool> {
    let row = storage_moves::table
        .find(account.as_str())
        .filter(storage_moves::next_step_at.eq(held.naive_utc()));
    let count = diesel::update(row)
        .set(storage_moves::next_step_at.eq(Some(until.naive_utc())))
        .execute(conn)?;
    Ok(count == 1)
}

/// Ends a step whose lease is `held`: stores the state, the failures and when the next step is due, as they are in
/// `after`; `false` if the lease is lost.
pub fn move_advance(conn: &mut Conn, held: DateTime<Utc>, after: &StorageMove) -> Result<bool> {
    let row = storage_moves::table
        .find(after.account.as_str())
        .filter(storage_moves::next_step_at.eq(held.naive_utc()));
    let count = diesel::update(row)
        .set((
            storage_moves::state.eq(after.state.to_string()),
            storage_moves::finished_at.eq(after.finished_at.map(|at| at.naive_utc())),
            storage_moves::failures.eq(i32::try_from(after.failures).unwrap_or(i32::MAX)),
            storage_moves::error.eq(after.error.as_deref()),
            storage_moves::next_step_at.eq(after.next_step_at.map(|at| at.naive_utc())),
        ))
        .execute(conn)?;
    Ok(count == 1)
}

/// Counts what was copied.
pub(super) fn move_count(
    conn: &mut Conn,
    account: &AccountName,
    moved: Amount,
    now: DateTime<Utc>,
) -> Result<()> {
    diesel::update(storage_moves::table.find(account.as_str()))
        .set((
            storage_moves::moved_objects.eq(storage_moves::moved_objects + as_i64(moved.objects)),
            storage_moves::moved_bytes.eq(storage_moves::moved_bytes + as_i64(moved.bytes)),
            storage_moves::copied_at.eq(now.naive_utc()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Since when the step that is due for longest has been due.
pub fn move_due_since(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    // Not a join: SQLite would begin with all accounts.
    let stays = accounts::table
        .filter(accounts::name.eq(storage_moves::account_name))
        .filter(accounts::is_deleting.eq(false));
    let at: Option<Option<NaiveDateTime>> = storage_moves::table
        .filter(diesel::dsl::exists(stays))
        .filter(storage_moves::next_step_at.is_not_null())
        .order(storage_moves::next_step_at)
        .select(storage_moves::next_step_at)
        .first(conn)
        .optional()?;
    Ok(at.flatten().map(|at| at.and_utc()))
}
