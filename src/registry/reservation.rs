//! Keeps bytes of the quota for an object while it is written.
//!
//! What is kept stands in the object's note (`db/loose_objects.rs`), so it ends with the note, whatever becomes of the
//! write. A body of unknown length gets more as it goes on: a little at first, then twice as much, and near the limit
//! only what is needed. What a newcomer gets wrong: the client may hang up at any time, and then nobody is left to
//! give back what was kept but the guard.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use storage_drivers::ByteStream;
use tracing::warn;
use uuid::Uuid;

use super::{Registry, trash_room::TrashRoom};
use crate::{
    db::{
        Db,
        loose_objects::{
            LooseObject, loose_object_note, loose_object_reserve, loose_objects_unreserve,
        },
        quotas::quota_settle,
    },
    error::{Code, Error, Result},
    model::{
        account::Account,
        quota::{Amounts, Limits},
    },
    oci::AccountName,
};

/// What is kept for a body of unknown length at first.
const FIRST_BYTES: u64 = 1 << 20;

/// The most that is kept for it beyond what has come.
const MAX_STEP_BYTES: u64 = 64 << 20;

/// The size of an object that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Announced {
    /// The client has said it, and so much is here.
    Exactly(u64, u64),
    /// At least so much, for it is here.
    AtLeast(u64),
}

/// Bytes that are kept for one object. Dropped before [`Reservation::written`], it gives them back.
#[derive(Debug)]
pub(super) struct Reservation {
    kept: Kept,
    bytes: u64,
    refusal: Arc<Mutex<Option<Error>>>,
    is_over: bool,
}

#[derive(Debug, Clone)]
struct Kept {
    db: Db,
    account: AccountName,
    object: Uuid,
    defaults: Limits,
    room: TrashRoom,
}

impl Registry {
    /// Notes an object that is about to be written, and keeps bytes for it; refused if the quota has none left.
    pub(super) async fn object_reserve(
        &self,
        account: &Account,
        object: &LooseObject,
        size: Announced,
    ) -> Result<Reservation> {
        let (first, least) = match size {
            Announced::Exactly(size, here) => (size, here),
            Announced::AtLeast(here) => (here.max(FIRST_BYTES), here),
        };
        let is_exact = matches!(size, Announced::Exactly(..));
        let kept = Kept {
            db: self.db.clone(),
            account: account.name.clone(),
            object: object.key.id(),
            defaults: self.settings.quota_defaults,
            room: self.trash_room(account),
        };
        let (object, now) = (object.clone(), self.clock.now());
        // In a task of its own: if the caller is dropped, the reservation is made all the same, and given back.
        tokio::spawn(kept.reserve(object, now, (first, least), is_exact))
            .await
            .map_err(Error::internal)?
    }
}

impl Kept {
    /// Keeps `first` bytes, or `least` if there are not so many; if exactly the first will come, only when the trash can
    /// make room for them.
    async fn reserve(
        self,
        object: LooseObject,
        now: DateTime<Utc>,
        (first, least): (u64, u64),
        is_exact: bool,
    ) -> Result<Reservation> {
        let note = |bytes: u64| {
            let (kept, object) = (self.clone(), object.clone());
            self.db.write(move |conn| {
                loose_object_note(conn, &kept.account, &object, now)?;
                let id = (&kept.account, kept.object);
                loose_object_reserve(conn, id, (0, signed(bytes)), &kept.defaults)
            })
        };
        let bytes = match note(first).await {
            Err(error) if error.code() == Code::Denied => {
                if is_exact && !self.room.is_enough(&error).await? {
                    return Err(error);
                }
                // What the trash holds is given up only for what is here.
                self.room.taken(|| note(least)).await?;
                least
            }
            other => {
                other?;
                first
            }
        };
        Ok(Reservation {
            kept: self,
            bytes,
            refusal: Arc::default(),
            is_over: false,
        })
    }

    /// Keeps so many bytes where others were kept.
    async fn grown(&self, (from, to): (u64, u64)) -> Result<u64> {
        let (kept, step) = (self.clone(), (signed(from), signed(to)));
        let grown = self.db.write(move |conn| {
            loose_object_reserve(conn, (&kept.account, kept.object), step, &kept.defaults)
        });
        // Whoever took the object for rubbish, or gave up what was kept for it, does not want it any more.
        if !grown.await? {
            return Err(Error::from(Code::Swept));
        }
        Ok(to)
    }

    async fn release(self) {
        reservations_release(&self.db, self.account.clone(), vec![self.object]).await;
    }
}

impl Reservation {
    /// Passes a body on, and keeps more before more of it passes.
    pub(super) fn growing(&self, body: ByteStream) -> ByteStream {
        let growth = Growth {
            kept: self.kept.clone(),
            reserved: self.bytes,
            passed: 0,
            body,
            refusal: Arc::clone(&self.refusal),
        };
        stream::try_unfold(growth, |mut growth| async move {
            let Some(piece) = growth.body.try_next().await? else {
                return Ok(None);
            };
            growth.passed += piece.len() as u64;
            if growth.passed > growth.reserved
                && let Err(error) = growth.grow().await
            {
                *growth
                    .refusal
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(error);
                return Err(std::io::Error::other("no more bytes could be kept for it"));
            }
            Ok(Some((piece, growth)))
        })
        .boxed()
    }

    /// Why the body was broken off, if that was for the quota.
    pub(super) fn refusal(&self) -> Option<Error> {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        refusal.take()
    }

    /// The object is written: what is kept goes on with its note.
    pub(super) fn written(mut self) {
        self.is_over = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_over && tokio::runtime::Handle::try_current().is_ok() {
            tokio::spawn(self.kept.clone().release());
        }
    }
}

/// Gives back what is kept for objects that nobody will need but that may lie in storage still.
pub(super) async fn reservations_release(db: &Db, account: AccountName, objects: Vec<Uuid>) {
    let released = db
        .write(move |conn| {
            let released = loose_objects_unreserve(conn, &objects)?;
            quota_settle(conn, &account, &Amounts::reserved(-released))
        })
        .await;
    if let Err(error) = released {
        warn!(error = ?error, "bytes stay reserved until the quota is counted again");
    }
}

struct Growth {
    kept: Kept,
    reserved: u64,
    passed: u64,
    body: ByteStream,
    refusal: Arc<Mutex<Option<Error>>>,
}

impl Growth {
    async fn grow(&mut self) -> Result<()> {
        let wanted = self
            .reserved
            .saturating_add(self.reserved.min(MAX_STEP_BYTES));
        let wanted = wanted.max(self.passed);
        let (kept, from, least) = (&self.kept, self.reserved, self.passed);
        self.reserved = match kept.grown((from, wanted)).await {
            Err(error) if error.code() == Code::Denied => {
                let room = &kept.room;
                room.taken(|| kept.grown((from, least))).await?
            }
            other => other?,
        };
        Ok(())
    }
}

/// Sizes are bounded far below the largest number, or refused for it.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
