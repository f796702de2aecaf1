"""The janitor at full speed in a crash test, and the look for rubbish at the end of it.

What nobody needs may stay for minutes at least, however short the times in the configuration. A test does not wait: at
the end it makes what the database holds older, by hours and the trash by days, with the server down, and then looks whether it goes.
"""

import contextlib
import sqlite3
import time

from harness.processes import run

# The shortest times that the configuration takes; see `[janitor]` in the documentation of the configuration.
SETTINGS = {
    "KONTOR__JANITOR__GRACE_SECONDS": "0",
    "KONTOR__JANITOR__UNUSED_BLOBS_SECONDS": "60",
    "KONTOR__JANITOR__ABANDONED_UPLOADS_SECONDS": "60",
    "KONTOR__JANITOR__LOOSE_OBJECTS_SECONDS": "300",
    "KONTOR__JANITOR__GC_INTERVAL_SECONDS": "1",
    "KONTOR__JANITOR__BLOB_VALIDATION_SECONDS": "5",
    "KONTOR__JANITOR__VALIDATION_BYTES_PER_SECOND": "0",
    "KONTOR__JANITOR__MANIFEST_VALIDATION_SECONDS": "5",
    "KONTOR__JANITOR__STORAGE_SWEEP_SECONDS": "5",
}

AGED = (("loose_objects", "noted_at", 1), ("uploads", "updated_at", 1), ("blob_mounts", "keep_until", 1),
        ("trash_manifests", "purge_at", 10 * 24))

RUBBISH = {
    "uploads": "SELECT COUNT(*) FROM uploads",
    "objects that belong to nothing": "SELECT COUNT(*) FROM loose_objects",
    "blobs that no manifest needs":
        "SELECT COUNT(*) FROM blobs WHERE id NOT IN (SELECT blob_id FROM manifest_blob_refs)",
    "reserved bytes": "SELECT CAST(COALESCE(SUM(reserved_bytes), 0) AS BIGINT) FROM quota_books",
    "broken blobs": "SELECT COUNT(*) FROM blobs WHERE validation_error IS NOT NULL",
    "broken manifests": "SELECT COUNT(*) FROM manifests WHERE validation_error IS NOT NULL",
}


class Database:
    """The registry's database behind its back."""

    def __init__(self, server, postgres):
        self.server, self.postgres = server, postgres

    def ask(self, statement):
        """The first field of the first row, if there is one."""
        if self.postgres:
            done = run([self.postgres.bin / "psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", statement,
                        self.postgres.url("kontor")])
            if done.returncode:
                raise RuntimeError(f"psql: {done.stderr}")
            return done.stdout.strip()
        with contextlib.closing(sqlite3.connect(self.server.data / "kontor.db", timeout=30)) as connection, connection:
            row = connection.execute(statement).fetchone()
            return row and row[0]

    def age(self):
        """Makes what is there an hour older."""
        for table, column, hours in AGED:
            older = (f"{column} - INTERVAL '{hours} hours'" if self.postgres
                     else f"strftime('%Y-%m-%d %H:%M:%f', {column}, '-{hours} hours')")
            self.ask(f"UPDATE {table} SET {column} = {older}")

    def rubbish(self):
        """What should not be there, with how much of it there is."""
        found = {what: int(self.ask(query)) for what, query in RUBBISH.items()}
        return {what: count for what, count in found.items() if count}


def rubbish_goes(database, seconds=60):
    """Waits until the running server has removed all rubbish; gives what stays."""
    end = time.monotonic() + seconds
    while (found := database.rubbish()) and time.monotonic() < end:
        time.sleep(0.5)
    return found
