//! What must hold between the tables, as queries that find the rows that break it.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use storage_drivers::ObjectKey;
use uuid::Uuid;

use super::{Conn, as_u64, schema::accounts, stored};
use crate::{
    error::Result,
    oci::{AccountName, Digest},
};

#[derive(Debug, QueryableByName)]
struct Finding {
    #[diesel(sql_type = Text)]
    what: String,
}

/// Each finds rows that must not exist, and names them.
const RULES: [(&str, &str); 8] = [
    (
        "the chunks of a blob add up to its size",
        "SELECT b.account_name || '/' || b.digest AS what FROM blobs b
         LEFT JOIN blob_chunks c ON c.blob_id = b.id GROUP BY b.id, b.account_name, b.digest, b.size_bytes
         HAVING COALESCE(SUM(c.size_bytes), 0) <> b.size_bytes",
    ),
    (
        "the chunks of a blob are numbered from 0 without a gap",
        "SELECT b.account_name || '/' || b.digest AS what FROM blobs b
         JOIN blob_chunks c ON c.blob_id = b.id GROUP BY b.id, b.account_name, b.digest
         HAVING MAX(c.number) <> COUNT(*) - 1",
    ),
    (
        "the chunks of an upload match its size and count",
        "SELECT u.id AS what FROM uploads u LEFT JOIN upload_chunks c ON c.upload_id = u.id
         GROUP BY u.id, u.size_bytes, u.chunk_count
         HAVING COALESCE(SUM(c.size_bytes), 0) <> u.size_bytes OR COUNT(c.number) <> u.chunk_count",
    ),
    (
        "a blob that a manifest needs can be reached through the manifest's repository",
        "SELECT r.account_name || '/' || r.name || '@' || m.digest AS what FROM manifest_blob_refs m
         JOIN repos r ON r.id = m.repo_id
         LEFT JOIN blob_mounts b ON b.repo_id = m.repo_id AND b.blob_id = m.blob_id
         WHERE b.blob_id IS NULL",
    ),
    (
        "a blob that a manifest of the trash needs can be reached through its repository",
        "SELECT r.account_name || '/' || r.name || '@' || m.digest AS what FROM trash_blob_refs m
         JOIN repos r ON r.id = m.repo_id
         LEFT JOIN blob_mounts b ON b.repo_id = m.repo_id AND b.blob_id = m.blob_id
         WHERE b.blob_id IS NULL",
    ),
    (
        "a manifest of a repository does not lie in its trash",
        "SELECT r.account_name || '/' || r.name || '@' || m.digest AS what FROM manifests m
         JOIN trash_manifests t ON t.repo_id = m.repo_id AND t.digest = m.digest
         JOIN repos r ON r.id = m.repo_id",
    ),
    (
        "a blob lies in the account of every repository that has it",
        "SELECT b.account_name || '/' || b.digest AS what FROM blob_mounts m
         JOIN blobs b ON b.id = m.blob_id JOIN repos r ON r.id = m.repo_id
         WHERE r.account_name <> b.account_name",
    ),
    (
        "an object belongs to one thing only, or to nothing",
        "SELECT l.object_id AS what FROM loose_objects l WHERE l.object_id IN
         (SELECT object_id FROM blob_chunks UNION SELECT object_id FROM upload_chunks
          UNION SELECT object_id FROM manifests)",
    ),
];

/// Every broken rule with the rows that break it.
pub fn findings(conn: &mut Conn) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (rule, query) in RULES {
        let rows: Vec<Finding> = diesel::sql_query(query).load(conn)?;
        found.extend(
            rows.into_iter()
                .map(|row| format!("broken rule: {rule}: {}", row.what)),
        );
    }
    if let Conn::Sqlite(sqlite) = conn {
        let rows: Vec<Finding> =
            diesel::sql_query("SELECT integrity_check AS what FROM pragma_integrity_check")
                .load(sqlite)?;
        let bad = rows.into_iter().filter(|row| row.what != "ok");
        found.extend(bad.map(|row| format!("SQLite integrity check: {}", row.what)));
        let rows: Vec<Finding> =
            diesel::sql_query("SELECT \"table\" AS what FROM pragma_foreign_key_check")
                .load(sqlite)?;
        found.extend(
            rows.into_iter()
                .map(|row| format!("broken foreign key in {}", row.what)),
        );
    }
    Ok(found)
}

/// An object that must lie in storage.
#[derive(Debug, Clone)]
pub struct ExpectedObject {
    /// Its name.
    pub key: ObjectKey,
    /// The backend that it lies on.
    pub storage: String,
    /// Its length.
    pub size_bytes: u64,
}

#[derive(Debug, QueryableByName)]
struct ObjectRow {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    object_id: String,
    #[diesel(sql_type = Text)]
    storage: String,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
}

/// Up to `limit` objects that must lie in an account's storage, after `after`.
pub fn expected_objects(
    conn: &mut Conn,
    account: &AccountName,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ExpectedObject>> {
    const OBJECTS: &str = "SELECT * FROM (
        SELECT 'chunk' AS kind, c.object_id, c.storage, c.size_bytes, b.account_name
          FROM blob_chunks c JOIN blobs b ON b.id = c.blob_id
        UNION ALL SELECT 'chunk', c.object_id, c.storage, c.size_bytes, r.account_name
          FROM upload_chunks c JOIN uploads u ON u.id = c.upload_id JOIN repos r ON r.id = u.repo_id
        UNION ALL SELECT 'manifest', m.object_id, m.storage, CAST(LENGTH(m.content) AS BIGINT),
          r.account_name FROM manifests m JOIN repos r ON r.id = m.repo_id) o";
    // The names are checked types, and nothing else goes into the text.
    let after = after.map_or_else(String::new, |id| id.to_string());
    let query = format!(
        "{OBJECTS} WHERE o.account_name = '{account}' AND o.object_id > '{after}'
         ORDER BY o.object_id LIMIT {limit}"
    );
    let rows: Vec<ObjectRow> = diesel::sql_query(query).load(conn)?;
    rows.into_iter()
        .map(|row| {
            let id: Uuid = stored(&row.object_id)?;
            let key = match row.kind.as_str() {
                "manifest" => ObjectKey::Manifest(id),
                _ => ObjectKey::Chunk(id),
            };
            Ok(ExpectedObject {
                key,
                storage: row.storage,
                size_bytes: as_u64(row.size_bytes),
            })
        })
        .collect()
}

/// The names of all accounts.
pub fn account_names(conn: &mut Conn) -> Result<Vec<AccountName>> {
    let names: Vec<String> = accounts::table
        .order(accounts::name)
        .select(accounts::name)
        .load(conn)?;
    names.iter().map(|name| stored(name)).collect()
}

/// Up to `limit` blobs of an account by number, after `after`.
pub fn blob_page(
    conn: &mut Conn,
    account: &AccountName,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, Digest)>> {
    use super::schema::blobs;
    let rows: Vec<(i64, String)> = blobs::table
        .filter(blobs::account_name.eq(account.as_str()))
        .filter(blobs::id.gt(after))
        .order(blobs::id)
        .limit(limit)
        .select((blobs::id, blobs::digest))
        .load(conn)?;
    rows.into_iter()
        .map(|(id, digest)| Ok((id, stored(&digest)?)))
        .collect()
}

/// The chunks of a blob by its number, in order.
pub fn blob_chunks_of(conn: &mut Conn, blob_id: i64) -> Result<Vec<super::blobs::Chunk>> {
    use super::schema::blob_chunks;
    let rows: Vec<(String, String, i64)> = blob_chunks::table
        .filter(blob_chunks::blob_id.eq(blob_id))
        .order(blob_chunks::number)
        .select((
            blob_chunks::object_id,
            blob_chunks::storage,
            blob_chunks::size_bytes,
        ))
        .load(conn)?;
    rows.into_iter()
        .map(super::blobs::Chunk::from_row)
        .collect()
}
