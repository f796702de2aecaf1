-- What the janitor needs to know: what nobody uses, what is due, what was deleted and can come back.

-- Whether a manifest of the repository needs the blob, deleted ones that can come back included. A hint that finds
-- work: who takes a mount away looks for himself. Nodes of an older version leave the far end of time.
ALTER TABLE blob_mounts ADD COLUMN is_used BOOLEAN NOT NULL DEFAULT FALSE;
-- Unused mounts stay until then: somebody is about to push a manifest, or to pull the blob.
ALTER TABLE blob_mounts ADD COLUMN keep_until TIMESTAMP NOT NULL DEFAULT '9999-12-31 00:00:00';
UPDATE blob_mounts SET keep_until = now() AT TIME ZONE 'UTC' + INTERVAL '1 day', is_used = EXISTS (
    SELECT 1 FROM manifest_blob_refs r WHERE r.repo_id = blob_mounts.repo_id AND r.blob_id = blob_mounts.blob_id);
CREATE INDEX blob_mounts_unused ON blob_mounts (keep_until) WHERE NOT is_used;
-- With the digest, or SQLite would rather read all references of the repository from the primary key, which has it.
CREATE INDEX manifest_blob_refs_by_mount ON manifest_blob_refs (repo_id, blob_id, digest);
CREATE INDEX uploads_by_age ON uploads (updated_at);
CREATE INDEX loose_objects_by_age ON loose_objects (noted_at) WHERE NOT is_kept;

-- When the content is read again, and what was wrong with it the last time. The time is put off by whoever does it,
-- which is the lease.
ALTER TABLE blobs ADD COLUMN next_validation_at TIMESTAMP NOT NULL DEFAULT '1970-01-01 00:00:00';
ALTER TABLE blobs ADD COLUMN validation_error TEXT;
-- What is there already is not read all at once.
UPDATE blobs SET next_validation_at = (now() AT TIME ZONE 'UTC') + random() * INTERVAL '7 days';
CREATE INDEX blobs_by_next_validation ON blobs (next_validation_at);
-- When a blob of several chunks is made one of one chunk, if it is to be.
ALTER TABLE blobs ADD COLUMN next_merge_at TIMESTAMP;
CREATE INDEX blobs_by_next_merge ON blobs (next_merge_at) WHERE next_merge_at IS NOT NULL;
ALTER TABLE manifests ADD COLUMN next_validation_at TIMESTAMP NOT NULL DEFAULT '1970-01-01 00:00:00';
ALTER TABLE manifests ADD COLUMN validation_error TEXT;
UPDATE manifests SET next_validation_at = (now() AT TIME ZONE 'UTC') + random() * INTERVAL '1 day';
CREATE INDEX manifests_by_next_validation ON manifests (next_validation_at);
-- What the GC policies make of the manifest, as JSON, since the last run.
ALTER TABLE manifests ADD COLUMN gc_status TEXT;
-- When the account's GC policies are carried out in the repository; NULL if it has none.
ALTER TABLE repos ADD COLUMN next_gc_at TIMESTAMP;
CREATE INDEX repos_by_next_gc ON repos (next_gc_at) WHERE next_gc_at IS NOT NULL;
UPDATE repos SET next_gc_at = now() AT TIME ZONE 'UTC' + INTERVAL '1 hour' WHERE account_name IN (
    SELECT name FROM accounts WHERE settings LIKE '%"gc_policies":[{%');
-- When the deletion of the account goes on.
ALTER TABLE accounts ADD COLUMN next_deletion_at TIMESTAMP;
CREATE INDEX accounts_by_next_deletion ON accounts (next_deletion_at) WHERE next_deletion_at IS NOT NULL;
UPDATE accounts SET next_deletion_at = now() AT TIME ZONE 'UTC' + INTERVAL '1 hour' WHERE is_deleting;
-- When the container is compared with the database.
ALTER TABLE containers ADD COLUMN next_sweep_at TIMESTAMP NOT NULL DEFAULT '1970-01-01 00:00:00';
CREATE INDEX containers_by_next_sweep ON containers (next_sweep_at);

-- Objects that a sweep found in storage and nowhere else. What the next sweep finds again is deleted.
CREATE TABLE unknown_objects (
    account_name TEXT COLLATE "C" NOT NULL REFERENCES accounts (name) ON DELETE CASCADE,
    storage TEXT NOT NULL,
    object_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    found_at TIMESTAMP NOT NULL,
    PRIMARY KEY (account_name, storage, object_id)
);

-- Manifests that were deleted and can come back. Their blobs stay; their objects are gone, and written anew then.
CREATE TABLE trash_manifests (
    repo_id BIGINT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    digest TEXT COLLATE "C" NOT NULL,
    media_type TEXT NOT NULL,
    content BYTEA NOT NULL,
    subject_digest TEXT,
    pushed_at TIMESTAMP NOT NULL,
    last_pulled_at TIMESTAMP,
    -- The tags that pointed at it, as a JSON list.
    tags TEXT NOT NULL,
    deleted_at TIMESTAMP NOT NULL,
    deleted_by TEXT NOT NULL,
    -- The manifest whose deletion took this one with it.
    deleted_with TEXT COLLATE "C",
    purge_at TIMESTAMP NOT NULL,
    PRIMARY KEY (repo_id, digest)
);
CREATE INDEX trash_manifests_by_purge ON trash_manifests (purge_at);
CREATE INDEX trash_manifests_with ON trash_manifests (repo_id, deleted_with) WHERE deleted_with IS NOT NULL;
CREATE TABLE trash_blob_refs (
    repo_id BIGINT NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    blob_id BIGINT NOT NULL REFERENCES blobs (id),
    PRIMARY KEY (repo_id, digest, blob_id),
    FOREIGN KEY (repo_id, digest) REFERENCES trash_manifests (repo_id, digest) ON DELETE CASCADE
);
CREATE INDEX trash_blob_refs_by_blob ON trash_blob_refs (blob_id);
CREATE INDEX trash_blob_refs_by_mount ON trash_blob_refs (repo_id, blob_id, digest);

-- What each tag has pointed at, and since when; no digest: the tag was deleted.
CREATE TABLE tag_history (
    id BIGINT NOT NULL GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    repo_id BIGINT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    tag TEXT COLLATE "C" NOT NULL,
    digest TEXT,
    changed_at TIMESTAMP NOT NULL,
    changed_by TEXT NOT NULL,
    -- When the next change came; of a deletion, its own time. From then on the entry is history, and is kept for a while.
    replaced_at TIMESTAMP
);
CREATE INDEX tag_history_by_tag ON tag_history (repo_id, tag, changed_at, id);
CREATE INDEX tag_history_replaced ON tag_history (replaced_at) WHERE replaced_at IS NOT NULL;
INSERT INTO tag_history (repo_id, tag, digest, changed_at, changed_by)
SELECT repo_id, name, digest, pushed_at, '' FROM tags;

-- What must not be deleted or changed until a date: one tag, or with an empty tag the whole repository.
CREATE TABLE legal_holds (
    repo_id BIGINT NOT NULL REFERENCES repos (id),
    tag TEXT COLLATE "C" NOT NULL,
    hold_until TIMESTAMP NOT NULL,
    reason TEXT NOT NULL,
    placed_by TEXT NOT NULL,
    placed_at TIMESTAMP NOT NULL,
    PRIMARY KEY (repo_id, tag)
);
