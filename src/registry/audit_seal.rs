//! Sealing: committed audit events get their place in the chain, and its end is signed. Pruning and verifying, too.
//!
//! Sealing apart from writing keeps changes from waiting for one another. Until it is sealed, about a second, an event
//! has no more protection than any other row.

use std::sync::Arc;

use chrono::TimeDelta;

use super::Registry;
use crate::{
    auth::audit_head::HeadKeys,
    db::audit::{
        audit_after, audit_column_faults, audit_head_insert, audit_head_list, audit_is_unsealed,
        audit_prunable, audit_prune, audit_seal,
    },
    error::{Error, Result},
    model::{
        audit::SealedEvent,
        audit_chain::{AuditHead, ChainCheck, ChainReport},
    },
};

/// How many events one transaction seals, and how many are read or removed at once.
const BATCH: i64 = 500;

/// Whether the chain in the database is in order, and if not, what is wrong first.
pub type Verdict = Result<ChainReport, String>;

impl Registry {
    /// Whether there is something to seal.
    pub async fn audit_is_waiting(&self) -> Result<bool> {
        self.audit_flush().await?;
        self.db.read(audit_is_unsealed).await
    }

    /// Seals what waits, and signs the end of the chain in the same transaction.
    pub async fn audit_seal(&self) -> Result<()> {
        let tokens = Arc::clone(&self.tokens);
        let now = self.clock.now();
        self.db
            .write(move |conn| {
                let Some((seq, hash)) = audit_seal(conn, BATCH)? else {
                    return Ok(());
                };
                let head = AuditHead {
                    seq,
                    hash,
                    iat: now.timestamp(),
                    is_anchor: false,
                };
                let statement = tokens.head_sign(&head).map_err(Error::internal)?;
                audit_head_insert(conn, seq, false, &statement)
            })
            .await
    }

    /// Removes events that are older than they have to be kept and were delivered to all sinks; `true` if there may
    /// be more. A signed anchor says where the rest begins.
    pub async fn audit_prune(&self) -> Result<bool> {
        let Some(keep) = self.settings.audit_keep else {
            return Ok(false);
        };
        let now = self.clock.now();
        let before = now - TimeDelta::from_std(keep).map_err(Error::internal)?;
        let sinks = self.sink_names();
        let tokens = Arc::clone(&self.tokens);
        self.db
            .write(move |conn| {
                let Some((seq, hash)) = audit_prunable(conn, before, (&sinks, BATCH))? else {
                    return Ok(false);
                };
                let anchor = AuditHead {
                    seq,
                    hash,
                    iat: now.timestamp(),
                    is_anchor: true,
                };
                let statement = tokens.head_sign(&anchor).map_err(Error::internal)?;
                audit_prune(conn, seq)?;
                audit_head_insert(conn, seq, true, &statement)?;
                Ok(true)
            })
            .await
    }

    /// The keys that sign heads now and signed them before.
    pub fn audit_keys(&self) -> HeadKeys {
        self.tokens.head_keys()
    }

    /// Everything that was signed about the chain, in its order.
    pub async fn audit_heads(&self) -> Result<Vec<String>> {
        self.db.read(audit_head_list).await
    }

    /// Sealed events after `after`, a page of them.
    pub async fn audit_page(&self, after: i64) -> Result<Vec<SealedEvent>> {
        self.db
            .read(move |conn| audit_after(conn, after, BATCH))
            .await
    }

    /// Checks the chain in the database against its signed heads, and against others that somebody has kept.
    pub async fn audit_verify(&self, kept: &[AuditHead]) -> Result<Verdict> {
        match self.verify_once(kept).await? {
            // The chain may have been pruned while it was read.
            Err(_) => self.verify_once(kept).await,
            in_order => Ok(in_order),
        }
    }

    async fn verify_once(&self, kept: &[AuditHead]) -> Result<Verdict> {
        let keys = self.audit_keys();
        let mut heads = Vec::new();
        for statement in self.audit_heads().await? {
            match keys.verify(&statement) {
                Ok(head) => heads.push(head),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        let end = heads.iter().map(|head| head.seq).max().unwrap_or(0);
        heads.extend_from_slice(kept);
        let mut check = match ChainCheck::new(heads) {
            Ok(check) => check,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut after = 0;
        loop {
            let page = self.audit_page(after).await?;
            let wrong = self
                .db
                .read(move |conn| audit_column_faults(conn, after, BATCH))
                .await?;
            let Some(last) = page.last() else { break };
            let next = last.seq;
            for event in page {
                // Sealed since the heads were read.
                if event.seq > end && self.audit_head_is_new(end).await? {
                    return Ok(check.finish().map_err(|error| error.to_string()));
                }
                if let Err(error) = check.add(&event) {
                    return Ok(Err(error.to_string()));
                }
            }
            if let Some(seq) = wrong.first().filter(|seq| **seq <= end) {
                return Ok(Err(format!(
                    "the columns of event {seq} were altered: filters do not find it as it is"
                )));
            }
            after = next;
        }
        Ok(check.finish().map_err(|error| error.to_string()))
    }

    /// Whether the chain was sealed further than `end` and the new end is signed.
    async fn audit_head_is_new(&self, end: i64) -> Result<bool> {
        let keys = self.audit_keys();
        let statements = self.audit_heads().await?;
        let newest = statements.last().map(|statement| keys.verify(statement));
        Ok(newest.is_some_and(|head| head.is_ok_and(|head| head.seq > end)))
    }
}
