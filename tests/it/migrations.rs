//! The schema's way up, down and up again.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};
use diesel_migrations::{FileBasedMigrations, MigrationHarness as _};
use kontor::{
    app::{App, AppError},
    db::{Db, DbConfig},
};

use crate::support::{Setup, TestRegistry};

fn db(url: &str) -> Db {
    Db::new(&DbConfig {
        url: url.to_owned(),
        max_connections: 2,
        wait_timeout: std::time::Duration::from_secs(30),
    })
}

/// The tables of `src/db/schema.rs` with their columns.
fn schema() -> BTreeMap<String, Vec<String>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = None;
    for line in include_str!("../../src/db/schema.rs")
        .lines()
        .map(str::trim)
    {
        if let Some((column, _)) = line.split_once(" -> ")
            && line.ends_with(',')
        {
            let table: &String = current.as_ref().unwrap();
            tables.get_mut(table).unwrap().push(column.to_owned());
        } else if let Some((name, key)) = line.split_once(" (")
            && key.ends_with(") {")
        {
            current = Some(name.to_owned());
            tables.insert(name.to_owned(), Vec::new());
        }
    }
    assert!(
        tables.len() > 10 && tables.values().all(|columns| !columns.is_empty()),
        "{tables:?}"
    );
    tables
}

fn selects() -> Vec<String> {
    let select = |(table, columns): (String, Vec<String>)| {
        format!("SELECT {} FROM {table} LIMIT 0", columns.join(", "))
    };
    schema().into_iter().map(select).collect()
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    assert_eq!(
        registry.db.pending_migrations().await.unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(registry.db.migrate().await.unwrap(), Vec::<String>::new());
    let answer = registry
        .admin(reqwest::Method::GET, "/v2/demo/app/manifests/v1")
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn several_that_migrate_at_once_all_succeed_and_one_does_it() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("kontor.db").display());
        let (a, b, c) = (db(&url), db(&url), db(&url));
        let (a, b, c) = tokio::join!(a.migrate(), b.migrate(), c.migrate());
        let mut counts = [a.unwrap().len(), b.unwrap().len(), c.unwrap().len()];
        counts.sort_unstable();
        assert_eq!(counts[..2], [0, 0]);
        assert!(counts[2] > 0);
    }
}

#[tokio::test]
async fn every_table_and_column_of_the_code_exists() {
    let registry = TestRegistry::start().await;
    for select in selects() {
        registry.db.execute_for_tests(select.clone()).await.unwrap();
    }
    // The test can fail.
    let wrong = "SELECT no_such_column FROM accounts LIMIT 0";
    assert!(registry.db.execute_for_tests(wrong.into()).await.is_err());
}

#[test]
fn every_table_of_the_migrations_is_in_the_code_and_goes_away_again() {
    let known: BTreeSet<String> = schema().into_keys().collect();
    for kind in ["postgres", "sqlite"] {
        let (mut made, mut dropped) = (BTreeSet::new(), BTreeSet::new());
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("migrations")
            .join(kind);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let names = |file: &str, before: &str| -> BTreeSet<String> {
                let text = std::fs::read_to_string(path.join(file)).unwrap();
                let lines = text.lines().filter_map(|line| line.strip_prefix(before));
                lines
                    .map(|line| line.trim_end_matches([' ', '(', ';']).to_owned())
                    .collect()
            };
            made.extend(names("up.sql", "CREATE TABLE "));
            dropped.extend(names("down.sql", "DROP TABLE "));
        }
        assert_eq!(made, known, "{kind}");
        assert_eq!(dropped, known, "{kind}");
    }
}

#[test]
fn down_leaves_nothing_and_up_again_gives_the_whole_schema() {
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        n: i64,
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kontor.db");
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let migrations = || {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        FileBasedMigrations::from_path(root.join("migrations/sqlite")).unwrap()
    };
    let tables = |conn: &mut SqliteConnection| {
        let query = "SELECT count(*) AS n FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' \
                     AND tbl_name <> '__diesel_schema_migrations'";
        diesel::sql_query(query)
            .get_result::<Count>(conn)
            .unwrap()
            .n
    };
    conn.run_pending_migrations(migrations()).unwrap();
    let whole = tables(&mut conn);
    assert!(whole >= schema().len() as i64);
    conn.revert_all_migrations(migrations()).unwrap();
    assert_eq!(tables(&mut conn), 0);
    conn.run_pending_migrations(migrations()).unwrap();
    assert_eq!(tables(&mut conn), whole);
    for select in selects() {
        diesel::sql_query(select).execute(&mut conn).unwrap();
    }
}

#[tokio::test]
async fn an_old_schema_is_an_error_that_names_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut config = kontor::config::Config {
        data_dir,
        ..Default::default()
    };
    config.database.migrate_at_start = false;
    let app = App::build(config.clone()).unwrap();
    let error = app.prepare().await.unwrap_err();
    assert!(
        matches!(&error, AppError::Unmigrated(missing) if !missing.is_empty()),
        "{error:?}"
    );
    assert!(error.to_string().contains("`kontor migrate`"), "{error}");
    // Nothing was made.
    assert!(!app.db().pending_migrations().await.unwrap().is_empty());
    assert!(!app.db().migrate().await.unwrap().is_empty());
    assert!(app.prepare().await.unwrap().is_some());
}

#[tokio::test]
async fn a_second_node_starts_on_a_database_that_is_in_use() {
    let first = Setup::default().start().await;
    first.push_image("demo/app", "v1", 1).await;
    let second = first.second_node().await;
    let answer = second
        .admin(reqwest::Method::GET, "/v2/demo/app/manifests/v1")
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 200);
}
