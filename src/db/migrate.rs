//! The schema's versions, embedded in the binary.

use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{Conn, dialect::on_backend};
use crate::error::{Error, Result};

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Any number, the same in all processes: whoever holds it migrates.
const POSTGRES_MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7265676973747279)";

fn migrations(conn: &Conn) -> EmbeddedMigrations {
    match conn {
        Conn::Postgres(_) => POSTGRES,
        Conn::Sqlite(_) => SQLITE,
    }
}

/// Runs what is still to be run, inside the caller's transaction; gives the names of the migrations.
pub(super) fn run(conn: &mut Conn) -> Result<Vec<String>> {
    if let Conn::Postgres(postgres) = conn {
        // SQLite's writer lock does the same.
        diesel::sql_query(POSTGRES_MIGRATION_LOCK).execute(postgres)?;
    }
    let source = migrations(conn);
    let versions = on_backend!(conn, |c| c
        .run_pending_migrations(source)
        .map(|versions| versions.iter().map(ToString::to_string).collect()));
    versions.map_err(Error::internal)
}

/// The versions that are still to be run.
pub(super) fn pending(conn: &mut Conn) -> Result<Vec<String>> {
    let source = migrations(conn);
    let names = on_backend!(conn, |c| c.pending_migrations(source).map(|pending| {
        pending
            .iter()
            .map(|m| m.name().version().to_string())
            .collect()
    }));
    names.map_err(Error::internal)
}
