//! A pool of blocking connections for async callers.
//!
//! A caller waits for a permit without holding a thread, then works on the blocking pool. A connection
//! that lost its server, or whose transaction could not be ended, is thrown away. r2d2 would do neither:
//! it blocks a thread for each waiter, and cannot be told that a connection is dead without a query of
//! its own before each use, which costs a third of the requests per second of a pull.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use diesel::connection::{AnsiTransactionManager, TransactionManager as _};
use tokio::sync::Semaphore;

use super::{
    Conn, DbConfig,
    dialect::{connect, is_disconnect, on_backend},
};
use crate::error::{Code, Error, Result};

pub(super) struct Pool {
    url: Arc<str>,
    permits: Arc<Semaphore>,
    wait_timeout: Duration,
    idle: Arc<Mutex<Vec<Conn>>>,
}

/// A connection in use.
pub(super) struct Lease {
    pub(super) conn: Conn,
    url: Arc<str>,
}

impl Lease {
    /// Replaces a dead connection.
    pub(super) fn renew(&mut self) -> Result<()> {
        self.conn = connect(&self.url)?;
        Ok(())
    }

    fn is_usable(&mut self) -> bool {
        on_backend!(&mut self.conn, |c| {
            !AnsiTransactionManager::is_broken_transaction_manager(c)
                && matches!(
                    AnsiTransactionManager::transaction_manager_status_mut(c).transaction_depth(),
                    Ok(None)
                )
        })
    }
}

impl Pool {
    pub(super) fn new(config: &DbConfig, size: u32) -> Self {
        Self {
            url: config.url.as_str().into(),
            permits: Arc::new(Semaphore::new(size as usize)),
            wait_timeout: config.wait_timeout,
            idle: Arc::default(),
        }
    }

    /// Runs `work` on the blocking pool with a connection of its own. It runs to its end even if the
    /// caller is dropped.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Lease) -> Result<T> + Send + 'static,
    {
        let permit =
            tokio::time::timeout(self.wait_timeout, Arc::clone(&self.permits).acquire_owned());
        let permit = permit
            .await
            .map_err(|_| {
                Error::with_message(Code::Unavailable, "the database is busy; try again").caused_by(
                    "no database connection became free in time; raise database.max_connections \
                     or look for slow statements",
                )
            })?
            .map_err(Error::internal)?;
        let (url, idle) = (Arc::clone(&self.url), Arc::clone(&self.idle));
        let work = move || {
            let _permit = permit;
            let pooled = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let conn = match pooled {
                Some(conn) => conn,
                None => connect(&url)?,
            };
            let mut lease = Lease { conn, url };
            let result = work(&mut lease);
            let is_lost = result.as_ref().is_err_and(is_disconnect);
            if !is_lost && lease.is_usable() {
                idle.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(lease.conn);
            }
            result
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(Error::internal)?
    }
}

/// Without the address: it may hold a password.
impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("free", &self.permits.available_permits())
            .finish_non_exhaustive()
    }
}
