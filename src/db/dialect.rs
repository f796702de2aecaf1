//! What differs between PostgreSQL and SQLite, in one place.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, PgConnection, SqliteConnection,
    connection::SimpleConnection as _,
    result::{DatabaseErrorKind, Error as DieselError},
};

use crate::error::{Code, Error, Result};

pub use connection::Conn;

mod connection {
    use diesel::{PgConnection, SqliteConnection};

    /// A connection to either database.
    #[derive(diesel::MultiConnection)]
    pub enum Conn {
        /// PostgreSQL 15 or newer.
        Postgres(PgConnection),
        /// SQLite, bundled.
        Sqlite(SqliteConnection),
    }
}

/// Instantiates one diesel expression for the backend that `$conn` is: ON CONFLICT and RETURNING do not
/// exist on the connection that is generic over both.
macro_rules! on_backend {
    ($conn:expr, |$c:ident| $body:expr) => {
        match $conn {
            $crate::db::Conn::Postgres($c) => $body,
            $crate::db::Conn::Sqlite($c) => $body,
        }
    };
}
pub(crate) use on_backend;

/// What every SQLite connection needs. `synchronous = FULL`: a push that was acknowledged survives a
/// power failure. `busy_timeout` is for other processes; inside this one writers queue.
const SQLITE_PRAGMAS: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; \
     PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -2000;";

/// Whether the address names a SQLite file.
pub(super) fn is_sqlite(url: &str) -> bool {
    sqlite_path(url).is_some()
}

fn sqlite_path(url: &str) -> Option<&str> {
    url.strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))
}

/// Opens a connection. The error says nothing of the address: it may hold a password.
pub(super) fn connect(url: &str) -> Result<Conn> {
    let Some(path) = sqlite_path(url) else {
        return PgConnection::establish(url)
            .map(Conn::Postgres)
            .map_err(|error| {
                unavailable(format!(
                    "cannot connect to PostgreSQL; check database.url and the server: {error}"
                ))
            });
    };
    make_private_file(path)?;
    let failed = |error: &dyn std::fmt::Display| {
        unavailable(format!(
            "cannot open the SQLite database {path}; check that its folder exists, is writable and has space: {error}"
        ))
    };
    let mut conn = SqliteConnection::establish(path).map_err(|error| failed(&error))?;
    prepare_sqlite(&mut conn).map_err(|error| failed(&error))?;
    Ok(Conn::Sqlite(conn))
}

/// Runs the pragmas. To turn a new file to WAL SQLite needs it for itself, and when another process is
/// there it fails at once, whatever `busy_timeout` says.
fn prepare_sqlite(conn: &mut SqliteConnection) -> diesel::QueryResult<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match conn.batch_execute(SQLITE_PRAGMAS) {
            Err(error)
                if error.to_string().contains("database is locked")
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// SQLite makes its files with the process's umask and copies the mode to its journals: password hashes
/// lie there, so the file is made for its owner only.
fn make_private_file(path: &str) -> Result<()> {
    use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _};
    if Path::new(path).exists() || path.starts_with(":memory:") || path.starts_with("file:") {
        return Ok(());
    }
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            let hint = "cannot create the SQLite database; check its folder and the free space";
            Err(unavailable(format!("{hint}: {path}: {error}")))
        }
    }
}

fn unavailable(cause: String) -> Error {
    Error::with_message(
        Code::Unavailable,
        "the database is not available; try again",
    )
    .caused_by(cause)
}

/// Whether the connection to the server is gone, so that another one may work.
pub(super) fn is_disconnect(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<DieselError>()) {
        Some(DieselError::DatabaseError(kind, _)) => is_lost(kind),
        Some(DieselError::BrokenTransactionManager) => true,
        _ => false,
    }
}

fn is_lost(kind: &DatabaseErrorKind) -> bool {
    matches!(
        kind,
        DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand
    )
}

/// Whether another transaction took away, or put there, what this one relied on.
pub(super) fn is_conflict(error: &DieselError) -> bool {
    use DatabaseErrorKind::{ForeignKeyViolation, UniqueViolation};
    matches!(
        error,
        DieselError::DatabaseError(ForeignKeyViolation | UniqueViolation, _)
    )
}

/// Whether the same statement may succeed later without anybody changing it.
pub(super) fn is_temporary(error: &DieselError) -> bool {
    // SQLite gives no codes through diesel; these are the texts of sqlite3_errstr.
    const SQLITE_OUTAGES: [&str; 6] = [
        "database is locked",
        "database or disk is full",
        "attempt to write a readonly database",
        "disk I/O error",
        "unable to open database file",
        "database table is locked",
    ];
    // A server that starts, stops, fails over or is out of space or memory says so in words.
    const POSTGRES_OUTAGES: [&str; 8] = [
        "the database system is",
        "terminating connection",
        "too many clients",
        "remaining connection slots",
        "No space left on device",
        "out of memory",
        "deadlock detected",
        "could not extend file",
    ];
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, _)
        | DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _)
        | DieselError::BrokenTransactionManager => true,
        DieselError::DatabaseError(kind, _) if is_lost(kind) => true,
        DieselError::DatabaseError(_, information) => {
            let text = information.message();
            SQLITE_OUTAGES
                .iter()
                .chain(&POSTGRES_OUTAGES)
                .any(|outage| text.contains(outage))
        }
        _ => false,
    }
}
