//! The only home of diesel: connections, transactions, and one file of queries for each table family.
//!
//! A transaction is a synchronous closure, so no network call can sit inside one. It runs to its end
//! even when the request that asked for it is gone. A newcomer will want to open a transaction with
//! diesel's `transaction`: on SQLite that begins as a reader and fails when another writer was faster;
//! [`Db::write`] begins as a writer.

pub mod accounts;
pub mod audit;

pub mod blob_checks;
pub mod blob_delete;
pub mod blob_mounts;
pub mod blob_needs;
pub mod blob_put;
pub mod blobs;
mod cached;
pub mod consistency;
pub mod containers;
pub mod dialect;
pub mod image_gc;
pub mod legal_holds;
pub mod listings;
pub mod loose_objects;
pub mod manifest_checks;
pub mod manifest_delete;
pub mod manifests;
mod migrate;
mod pool;
pub mod quota_recount;
pub mod quotas;
pub mod rate_limits;
pub mod relocate;
pub mod repos;
pub mod revocations;
pub mod robots;
pub mod schema;
pub mod secrets;
pub mod storage_moves;
pub mod tag_history;
pub mod tags;
pub mod trash;
pub mod trash_list;
pub mod unknown_objects;
pub mod uploads;
pub mod users;

use std::{sync::Arc, time::Duration};

use diesel::connection::{AnsiTransactionManager, TransactionManager as _};

pub use dialect::Conn;
use dialect::on_backend;
use pool::{Lease, Pool};

use crate::error::{Code, Error, Result};

/// A handle on the database; cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    readers: Arc<Pool>,
    /// SQLite has one writer at a time: a queue of our own is fair, its busy loop is not.
    writers: Arc<Pool>,
}

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct DbConfig {
    /// `sqlite:<path>` or `postgres://...`; it may hold a password.
    pub url: String,
    /// Connections (PostgreSQL), or concurrent readers (SQLite).
    pub max_connections: u32,
    /// How long a caller waits for a connection.
    pub wait_timeout: Duration,
}

impl Db {
    /// Opens the database; a connection is made when it is first needed.
    pub fn new(config: &DbConfig) -> Self {
        let readers = Arc::new(Pool::new(config, config.max_connections));
        let writers = if dialect::is_sqlite(&config.url) {
            Arc::new(Pool::new(config, 1))
        } else {
            Arc::clone(&readers)
        };
        Self { readers, writers }
    }

    /// Runs queries that change nothing. The closure may run twice if a pooled connection turns out dead.
    pub async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Conn) -> Result<T> + Send + 'static,
    {
        self.readers
            .run(move |lease| match query(&mut lease.conn) {
                Err(error) if dialect::is_disconnect(&error) => {
                    lease.renew()?;
                    query(&mut lease.conn)
                }
                other => other,
            })
            .await
    }

    /// Runs one transaction: committed if the closure returns `Ok`, rolled back otherwise.
    pub async fn write<T, F>(&self, transaction: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    {
        self.writers
            .run(move |lease| write_transaction(lease, transaction))
            .await
    }

    /// Brings the schema up to date. Several processes may do it at once.
    pub async fn migrate(&self) -> Result<Vec<String>> {
        self.write(migrate::run).await
    }

    /// The migrations that are still to be run.
    pub async fn pending_migrations(&self) -> Result<Vec<String>> {
        self.writers
            .run(|lease| migrate::pending(&mut lease.conn))
            .await
    }

    /// Runs a statement as it is, for tests that prepare or break a database.
    #[doc(hidden)]
    pub async fn execute_for_tests(&self, statement: String) -> Result<usize> {
        self.write(move |conn| {
            use diesel::prelude::*;
            Ok(diesel::sql_query(statement).execute(conn)?)
        })
        .await
    }

    /// Tries the database.
    pub async fn ping(&self) -> Result<()> {
        self.read(|conn| {
            use diesel::prelude::*;
            diesel::sql_query("SELECT 1").execute(conn)?;
            Ok(())
        })
        .await
    }
}

/// Runs `transaction` between BEGIN and COMMIT, as a writer from the start.
fn write_transaction<T>(
    lease: &mut Lease,
    transaction: impl FnOnce(&mut Conn) -> Result<T>,
) -> Result<T> {
    if let Err(error) = begin(&mut lease.conn) {
        let error = Error::from(error);
        if !dialect::is_disconnect(&error) {
            return Err(error);
        }
        // The connection died in the pool; nothing was done on it yet.
        lease.renew()?;
        begin(&mut lease.conn)?;
    }
    let conn = &mut lease.conn;
    match transaction(conn) {
        Ok(value) => {
            on_backend!(conn, |c| AnsiTransactionManager::commit_transaction(c))?;
            Ok(value)
        }
        Err(error) => {
            // The first error is the one that matters; a connection that cannot roll back is
            // thrown away by the pool.
            let _ = on_backend!(conn, |c| AnsiTransactionManager::rollback_transaction(c));
            Err(error)
        }
    }
}

fn begin(conn: &mut Conn) -> diesel::QueryResult<()> {
    match conn {
        Conn::Postgres(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN"),
        Conn::Sqlite(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE"),
    }
}

/// A database failure is an outage or a bug, never a 404: only the use case knows what is missing.
impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        if dialect::is_conflict(&error) {
            let message = "somebody else changed this at the same time; try again";
            Error::with_message(Code::Conflict, message).caused_by(error)
        } else if dialect::is_temporary(&error) {
            Error::with_message(
                Code::Unavailable,
                "the database is not available; try again",
            )
            .caused_by(error)
        } else {
            Error::internal(error)
        }
    }
}

/// Reads a value that was checked before it was stored; failure means that the database was edited or
/// that this program is older than the data.
fn stored<T>(text: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| {
        Error::internal(format!(
            "the database holds {text:?}, which cannot be read: {error}"
        ))
    })
}

/// A size in bytes as the database keeps it. Sizes are bounded far below `i64::MAX` before they get here.
pub fn as_i64(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn as_u64(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}
