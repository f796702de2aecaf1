//! Updates that are prepared once for each connection.
//!
//! Diesel prepares every `UPDATE` and `ON CONFLICT DO UPDATE` anew, since the text of one type can differ where a
//! changeset leaves columns out. Preparing costs SQLite more than running, and PostgreSQL a round trip.

use diesel::{
    PgConnection, SqliteConnection,
    backend::Backend,
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    query_dsl::RunQueryDsl,
    result::QueryResult,
    sqlite::Sqlite,
};

use super::Conn;

/// A statement that is kept by its text, so there must be few texts that it can have: no lists of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cached<T>(T);

/// Statements that can be kept.
pub(super) trait Cache: Sized {
    /// Keeps the statement when it was prepared.
    fn cached(self) -> Cached<Self> {
        Cached(self)
    }
}

impl<T: QueryId> Cache for T {}

/// Runs a statement that is kept, and says how many rows it has changed.
pub(super) fn execute_cached<T>(conn: &mut Conn, statement: T) -> QueryResult<usize>
where
    T: QueryFragment<Pg> + QueryFragment<Sqlite>,
{
    match conn {
        Conn::Postgres(c) => Cached(statement).execute(c),
        Conn::Sqlite(c) => Cached(statement).execute(c),
    }
}

impl<T: QueryFragment<DB>, DB: Backend> QueryFragment<DB> for Cached<T> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    fn is_safe_to_cache_prepared(&self, _backend: &DB) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<T> QueryId for Cached<T> {
    type QueryId = ();
    // By the text, never by the type.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<T: Query> Query for Cached<T> {
    type SqlType = T::SqlType;
}

// Not on the connection that is either: it asks a reference to the statement, which does not say that it can be kept.
impl<T> RunQueryDsl<PgConnection> for Cached<T> {}
impl<T> RunQueryDsl<SqliteConnection> for Cached<T> {}
