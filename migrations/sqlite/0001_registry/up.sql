-- What the registry knows. Objects in storage carry random names; these tables alone say what exists.

CREATE TABLE accounts (
    name TEXT NOT NULL PRIMARY KEY,
    auth_tenant_id TEXT NOT NULL,
    storage TEXT NOT NULL,
    -- AccountSettings as JSON.
    settings TEXT NOT NULL,
    -- Copied out of the settings, since a request looks an account up by it.
    serves_namespace TEXT UNIQUE,
    is_deleting BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE repos (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    account_name TEXT NOT NULL REFERENCES accounts (name),
    name TEXT NOT NULL,
    UNIQUE (account_name, name)
);

CREATE TABLE blobs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    account_name TEXT NOT NULL REFERENCES accounts (name),
    digest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    pushed_at TIMESTAMP NOT NULL,
    UNIQUE (account_name, digest)
);

-- The content of a blob: the chunks in the order of their numbers.
CREATE TABLE blob_chunks (
    blob_id BIGINT NOT NULL REFERENCES blobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    object_id TEXT NOT NULL UNIQUE,
    storage TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    PRIMARY KEY (blob_id, number)
);

-- The repositories through which a blob can be reached.
CREATE TABLE blob_mounts (
    repo_id BIGINT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    blob_id BIGINT NOT NULL REFERENCES blobs (id),
    PRIMARY KEY (repo_id, blob_id)
);
CREATE INDEX blob_mounts_by_blob ON blob_mounts (blob_id);

CREATE TABLE uploads (
    id TEXT NOT NULL PRIMARY KEY,
    repo_id BIGINT NOT NULL REFERENCES repos (id),
    size_bytes BIGINT NOT NULL,
    chunk_count INTEGER NOT NULL,
    -- The state of the digest over the bytes so far, in the form of oci::Hasher::save.
    hash_state BLOB NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
CREATE INDEX uploads_by_repo ON uploads (repo_id);

CREATE TABLE upload_chunks (
    upload_id TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    object_id TEXT NOT NULL UNIQUE,
    storage TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    PRIMARY KEY (upload_id, number)
);

-- Objects that may lie in storage but belong to nothing: about to be written, or about to be deleted.
-- A row is written before the object and goes in the transaction that makes it belong, so a crash
-- leaves no object that nobody knows.
CREATE TABLE loose_objects (
    object_id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    account_name TEXT NOT NULL REFERENCES accounts (name),
    storage TEXT NOT NULL,
    noted_at TIMESTAMP NOT NULL
);
CREATE INDEX loose_objects_by_account ON loose_objects (account_name);

CREATE TABLE manifests (
    repo_id BIGINT NOT NULL REFERENCES repos (id),
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    content BLOB NOT NULL,
    object_id TEXT NOT NULL UNIQUE,
    storage TEXT NOT NULL,
    subject_digest TEXT,
    pushed_at TIMESTAMP NOT NULL,
    last_pulled_at TIMESTAMP,
    PRIMARY KEY (repo_id, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repo_id, subject_digest);

CREATE TABLE manifest_blob_refs (
    repo_id BIGINT NOT NULL,
    digest TEXT NOT NULL,
    blob_id BIGINT NOT NULL REFERENCES blobs (id),
    PRIMARY KEY (repo_id, digest, blob_id),
    FOREIGN KEY (repo_id, digest) REFERENCES manifests (repo_id, digest) ON DELETE CASCADE
);
CREATE INDEX manifest_blob_refs_by_blob ON manifest_blob_refs (blob_id);

CREATE TABLE manifest_manifest_refs (
    repo_id BIGINT NOT NULL,
    parent_digest TEXT NOT NULL,
    child_digest TEXT NOT NULL,
    PRIMARY KEY (repo_id, parent_digest, child_digest),
    FOREIGN KEY (repo_id, parent_digest) REFERENCES manifests (repo_id, digest) ON DELETE CASCADE
);
CREATE INDEX manifest_manifest_refs_by_child ON manifest_manifest_refs (repo_id, child_digest);

CREATE TABLE tags (
    repo_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    pushed_at TIMESTAMP NOT NULL,
    last_pulled_at TIMESTAMP,
    PRIMARY KEY (repo_id, name),
    FOREIGN KEY (repo_id, digest) REFERENCES manifests (repo_id, digest) ON DELETE CASCADE
);
CREATE INDEX tags_by_digest ON tags (repo_id, digest);

CREATE TABLE users (
    name TEXT NOT NULL PRIMARY KEY,
    -- argon2id in PHC form; a password itself is kept nowhere.
    password_hash TEXT NOT NULL,
    -- The user's grants as JSON.
    grants TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL
);
