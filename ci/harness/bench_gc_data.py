"""The database of `ci/bench gc`: how it is filled, and what is asked of it while the cycle goes on.

Digests and object names are hashes of numbers, so that the indexes are as scattered as those of a real registry.
"""

import hashlib
import os
import sqlite3

from harness import postgres
from harness.processes import run

BASES = 100  # layers that many manifests share
OFFSET = 1_000_000  # of the numbers of what is made here: what was pushed has the small ones

# How each job looks for work (`Registry::job_due_at`), as the ORM writes it. `?` is bound there as well: SQLite must see
# without its value which index fits.
DUE_LOOKS = {
    "move_account": "SELECT m.next_step_at FROM storage_moves m WHERE m.next_step_at IS NOT NULL AND EXISTS (SELECT a.name"
                    " FROM accounts a WHERE a.name = m.account_name AND a.is_deleting = ?) ORDER BY m.next_step_at LIMIT 1",
    "delete_account": "SELECT next_deletion_at FROM accounts WHERE next_deletion_at IS NOT NULL ORDER BY next_deletion_at LIMIT 1",
    "abandon_uploads": "SELECT updated_at FROM uploads ORDER BY updated_at LIMIT 1",
    "sweep_blobs": "SELECT keep_until FROM blob_mounts WHERE NOT (is_used) ORDER BY keep_until LIMIT 1",
    "sweep_objects": "SELECT noted_at FROM loose_objects WHERE NOT (is_kept) ORDER BY noted_at LIMIT 1",
    "sweep_storage": "SELECT c.next_sweep_at FROM containers c JOIN accounts a ON c.account_name = a.name"
                     " WHERE a.is_deleting = ? AND c.is_releasing = ? ORDER BY c.next_sweep_at LIMIT 1",
    "merge_chunks": "SELECT b.next_merge_at FROM blobs b JOIN accounts a ON b.account_name = a.name"
                    " WHERE a.is_deleting = ? AND b.next_merge_at IS NOT NULL ORDER BY b.next_merge_at LIMIT 1",
    "validate_blobs": "SELECT b.next_validation_at FROM blobs b JOIN accounts a ON b.account_name = a.name"
                      " WHERE a.is_deleting = ? ORDER BY b.next_validation_at LIMIT 1",
    "validate_manifests": "SELECT next_validation_at FROM manifests ORDER BY next_validation_at LIMIT 1",
    "image_gc": "SELECT r.next_gc_at FROM repos r JOIN accounts a ON r.account_name = a.name"
                " WHERE a.is_deleting = ? AND r.next_gc_at IS NOT NULL ORDER BY r.next_gc_at LIMIT 1",
    "purge_trash": "SELECT t.purge_at FROM trash_manifests t JOIN repos r ON t.repo_id = r.id"
                   " JOIN accounts a ON r.account_name = a.name WHERE a.is_deleting = ? ORDER BY t.purge_at LIMIT 1",
    "prune_tag_history": "SELECT replaced_at FROM tag_history WHERE replaced_at IS NOT NULL ORDER BY replaced_at LIMIT 1",
    "seal_audit": "SELECT EXISTS (SELECT 1 FROM audit_events WHERE seq IS NULL)",
}


def statements(options, pushed_at, later, dialect):
    """Each manifest `k` has a config, a layer of its own, and a layer that it shares; every fifth has no tag."""
    count, repositories = options.manifests, options.repositories
    each, many = count // repositories, dialect.series
    manifest, config, layer = "bench_digest('m' || k)", "bench_digest('c' || k)", "bench_digest('l' || k)"
    repo, base = f"{OFFSET} + 1 + (k - 1) / {each}", f"((k - 1) / {each} % {BASES})"
    config_id, layer_id = f"{OFFSET + BASES} + 2 * k", f"{OFFSET + BASES} + 2 * k + 1"
    base_id = f"{OFFSET} + {base}"
    content = (f"""'{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"""
               f""""application/vnd.oci.image.config.v1+json","digest":"' || {config} || '","size":256}},"layers":["""
               f"""{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"' || bench_digest('b' || {base}) || '","""
               f""""size":4096}},{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"' || {layer} || '","size":4096}}]}}'""")
    blobs = "INSERT INTO blobs (id, account_name, digest, size_bytes, pushed_at, next_validation_at) "
    chunks = "INSERT INTO blob_chunks (blob_id, number, object_id, storage, size_bytes) "
    mounts = f"INSERT INTO blob_mounts (repo_id, blob_id, is_used, keep_until) {many(count)} SELECT"
    refs = f"INSERT INTO manifest_blob_refs (repo_id, digest, blob_id) {many(count)} SELECT {repo}, {manifest}"
    yield (f"INSERT INTO repos (id, account_name, name, next_gc_at) {many(repositories)} "
           f"SELECT {OFFSET} + k, 'demo', 'generated/r' || k, {dialect.time(later)} FROM g")
    for number, size, numbers, text in ((f"{OFFSET} - 1 + k", 4096, BASES, "'b' || (k - 1)"),
                                        (config_id, 256, count, "'c' || k"), (layer_id, 4096, count, "'l' || k")):
        yield (f"{blobs} {many(numbers)} SELECT {number}, 'demo', bench_digest({text}), {size}, "
               f"{dialect.time(pushed_at)}, {dialect.time(later)} FROM g")
        yield f"{chunks} {many(numbers)} SELECT {number}, 0, bench_uuid({text}), 'default', {size} FROM g"
    yield ("INSERT INTO manifests (repo_id, digest, media_type, content, object_id, storage, pushed_at, next_validation_at) "
           f"{many(count)} SELECT {repo}, {manifest}, 'application/vnd.oci.image.manifest.v1+json', {dialect.bytes(content)}, "
           f"bench_uuid('m' || k), 'default', {dialect.time(pushed_at)}, {dialect.time(later)} FROM g")
    yield (f"INSERT INTO blob_mounts (repo_id, blob_id, is_used, keep_until) {many(repositories)} SELECT {OFFSET} + k, "
           f"{OFFSET} + (k - 1) % {BASES}, TRUE, {dialect.time(pushed_at)} FROM g")
    for number in (config_id, layer_id):
        yield f"{mounts} {repo}, {number}, TRUE, {dialect.time(pushed_at)} FROM g"
    for number in (config_id, layer_id, base_id):
        yield f"{refs}, {number} FROM g"
    yield (f"INSERT INTO tags (repo_id, name, digest, pushed_at) {many(count)} SELECT {repo}, 'v' || k, {manifest}, "
           f"{dialect.time(pushed_at)} FROM g WHERE k % 5 <> 0")
    yield ("UPDATE quota_books SET manifests = (SELECT COUNT(*) FROM manifests), repositories = (SELECT COUNT(*) FROM repos), "
           "bytes = (SELECT CAST(SUM(size_bytes) AS BIGINT) FROM blobs) + (SELECT CAST(SUM(LENGTH(content)) AS BIGINT) FROM manifests)")


class Database:
    """What both have in common: `execute` gives rows."""

    url = None

    def make_due(self, first, last, now):
        self.execute(f"UPDATE repos SET next_gc_at = '{now}' WHERE id BETWEEN {OFFSET + first} AND {OFFSET + last}")

    def count_at(self, moment):
        """Repositories that are due since that moment and not taken on."""
        return int(self.execute(f"SELECT COUNT(*) FROM repos WHERE next_gc_at = '{moment}'")[0][0])

    def count_due(self, horizon):
        """Repositories that are due or taken on, mounts and objects that are to go."""
        ((count,),) = self.execute(
            f"SELECT (SELECT COUNT(*) FROM repos WHERE next_gc_at < '{horizon}') + "
            "(SELECT COUNT(*) FROM blob_mounts WHERE NOT is_used) + (SELECT COUNT(*) FROM loose_objects WHERE NOT is_kept)")
        return int(count)

    def counts(self):
        return [int(self.execute(f"SELECT COUNT(*) FROM {table}")[0][0]) for table in ("manifests", "blobs")]

    def scans(self):
        return None

    def stop(self):
        pass


class Sqlite(Database):
    def __init__(self, directory):
        self.path = None

    def found(self, data):
        self.path = data / "kontor.db"

    @staticmethod
    def series(count):
        return f"WITH RECURSIVE g(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM g WHERE k < {count})"

    @staticmethod
    def time(text):
        return f"'{text}'"

    @staticmethod
    def bytes(text):
        return f"CAST({text} AS BLOB)"

    def fill(self, options, pushed_at, later):
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.create_function("bench_digest", 1, digest, deterministic=True)
        connection.create_function("bench_uuid", 1, uuid, deterministic=True)
        # Nobody else is there, and what a crash leaves is thrown away.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -2000000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("BEGIN")
        for statement in statements(options, pushed_at, later, self):
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.close()

    def execute(self, statement):
        connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def size_mib(self):
        return os.path.getsize(self.path) / 2**20

    def plans(self, looks):
        connection = sqlite3.connect(self.path)
        found = {}
        for name, look in looks.items():
            rows = connection.execute(f"EXPLAIN QUERY PLAN {look}", [0] * look.count("?"))
            found[name] = "; ".join(row[3] for row in rows)
        connection.close()
        return found

    @staticmethod
    def scanned(plans):
        """A scan along an index ends at the first row; one that sorts, or has no index, reads all."""
        return [name for name, plan in plans.items() if "TEMP B-TREE" in plan or any(
            step.startswith("SCAN ") and "INDEX" not in step and "CONSTANT" not in step for step in plan.split("; "))]


class Postgres(Database):
    LARGE = ("manifests", "blobs", "blob_mounts", "tags")

    def __init__(self, directory):
        self.server = postgres.Postgres(directory / "postgres")
        self.server.start()
        self.url = self.server.create_database("kontor")

    def found(self, data):
        pass

    @staticmethod
    def series(count):
        return f"WITH g(k) AS (SELECT generate_series(1, {count}))"

    @staticmethod
    def time(text):
        return f"TIMESTAMP '{text}'"

    @staticmethod
    def bytes(text):
        return f"convert_to({text}, 'UTF8')"

    def execute(self, statement):
        done = run([self.server.bin / "psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-c",
                    statement], 3600)
        if done.returncode:
            raise RuntimeError(f"{statement[:200]}: {done.stderr}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def fill(self, options, pushed_at, later):
        self.execute("CREATE FUNCTION bench_digest(t text) RETURNS text LANGUAGE sql IMMUTABLE AS "
                     "$$ SELECT 'sha256:' || encode(sha256(convert_to(t, 'UTF8')), 'hex') $$")
        self.execute("CREATE FUNCTION bench_uuid(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT md5(t)::uuid::text $$")
        for statement in statements(options, pushed_at, later, self):
            self.execute(f"SET synchronous_commit = off; {statement}")
        self.execute("ANALYZE")

    def size_mib(self):
        return int(self.execute("SELECT pg_database_size('kontor')")[0][0]) / 2**20

    def plans(self, looks):
        # The server plans with the values, so they stand in the text here.
        return {name: "; ".join(row[0].strip() for row in self.execute(f"EXPLAIN (COSTS OFF) {look.replace('?', 'FALSE')}"))
                for name, look in looks.items()}

    def scanned(self, plans):
        return [name for name, plan in plans.items() if any(f"Seq Scan on {table} " in f"{plan} " for table in self.LARGE)]

    def scans(self):
        return int(self.execute("SELECT COALESCE(SUM(seq_tup_read), 0) FROM pg_stat_user_tables")[0][0])

    def stop(self):
        self.server.stop()


def digest(text):
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def uuid(text):
    name = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:]}"
