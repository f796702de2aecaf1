//! Updates that are prepared once for each connection.
//!
//! Diesel prepares every `UPDATE` and `ON CONFLICT DO UPDATE` anew, since the text of one type can differ where a
//! changeset leaves columns out. Preparing costs SQLite more than running, and PostgreSQL a round trip.

use diesel::{
    PgConnection, SqliteConnection,
    backend::Backend,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    query_dsl::RunQueryDsl,
    result::QueryResult,
};

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

/// Runs a statement that is kept, and says how many rows it has changed. It returns something for each, since Diesel asks
/// a statement that returns nothing through a reference, which does not say that it can be kept.
macro_rules! execute_cached {
    ($conn:expr, $statement:expr $(,)?) => {
        $crate::db::dialect::on_backend!($conn, |c| {
            let one = diesel::dsl::sql::<diesel::sql_types::Integer>("1");
            let statement = $crate::db::cached::Cache::cached($statement.returning(one));
            diesel::prelude::RunQueryDsl::load::<i32>(statement, c).map(|rows| rows.len())
        })
    };
}
pub(super) use execute_cached;

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

// Not on the connection that is either, which asks a reference.
impl<T> RunQueryDsl<PgConnection> for Cached<T> {}
impl<T> RunQueryDsl<SqliteConnection> for Cached<T> {}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use diesel::{
        Connection as _, ExpressionMethods as _, connection::InstrumentationEvent, prelude::*,
    };

    use crate::db::Conn;

    diesel::table! { notes (id) { id -> BigInt, text -> Text, } }

    fn kept_after(run: impl FnOnce(&mut Conn)) -> Vec<String> {
        let mut sqlite = SqliteConnection::establish(":memory:").unwrap();
        diesel::sql_query("CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT NOT NULL)")
            .execute(&mut sqlite)
            .unwrap();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let noting = Arc::clone(&kept);
        sqlite.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::CacheQuery { sql, .. } = event {
                noting.lock().unwrap().push(sql.to_owned());
            }
        });
        run(&mut Conn::Sqlite(sqlite));
        kept.lock().unwrap().clone()
    }

    #[test]
    fn an_update_is_prepared_once() {
        let update = |id: i64| diesel::update(notes::table.find(id)).set(notes::text.eq("new"));
        let kept = kept_after(|conn| {
            for id in 0..3 {
                execute_cached!(conn, update(id)).unwrap();
            }
        });
        assert_eq!(kept.len(), 1, "{kept:?}");
        // What this is for: Diesel alone keeps none.
        let kept = kept_after(|conn| {
            for id in 0..3 {
                update(id).execute(conn).unwrap();
            }
        });
        assert_eq!(kept, Vec::<String>::new());
    }

    #[test]
    fn sqlite_does_not_plan_by_values() {
        let mut sqlite = SqliteConnection::establish(":memory:").unwrap();
        let used = diesel::dsl::sql::<diesel::sql_types::Bool>(
            "SELECT sqlite_compileoption_used('ENABLE_QPSG')",
        );
        let used: bool = used.get_result(&mut sqlite).unwrap();
        assert!(used, "LIBSQLITE3_FLAGS of .cargo/config.toml was not seen");
    }
}
