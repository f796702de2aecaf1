-- Robots, tokens of our own making, and what was revoked.

-- A disabled user cannot log in, and what was issued to it has been revoked.
ALTER TABLE users ADD COLUMN is_disabled BOOLEAN NOT NULL DEFAULT 0;

CREATE TABLE robots (
    id TEXT NOT NULL PRIMARY KEY,
    account_name TEXT NOT NULL REFERENCES accounts (name),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- What it may do and where, as JSON lists.
    permissions TEXT NOT NULL,
    repositories TEXT NOT NULL,
    is_disabled BOOLEAN NOT NULL,
    expires_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL,
    -- `<driver>:<user>` of the person who answers for it.
    created_by TEXT NOT NULL,
    last_used_at TIMESTAMP,
    UNIQUE (account_name, name)
);

-- Secrets that we have made: of robots, personal tokens, refresh tokens. Only a keyed hash is kept.
CREATE TABLE secrets (
    id TEXT NOT NULL PRIMARY KEY,
    -- robot, personal or refresh.
    kind TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    -- `<driver>:<user>` of the one who logs in with it.
    subject TEXT NOT NULL,
    -- The identity as JSON.
    identity TEXT NOT NULL,
    description TEXT NOT NULL,
    -- The registry's name that a refresh token is good for.
    audience TEXT,
    -- The secret that a refresh token was got with: it ends with it.
    parent_id TEXT REFERENCES secrets (id) ON DELETE CASCADE,
    created_at TIMESTAMP NOT NULL,
    created_by TEXT NOT NULL,
    expires_at TIMESTAMP,
    last_used_at TIMESTAMP
);
CREATE INDEX secrets_by_subject ON secrets (subject);
CREATE INDEX secrets_by_parent ON secrets (parent_id);
CREATE INDEX secrets_by_expiry ON secrets (expires_at);

-- Counts revocations, so that no clock has to say what was first. One row.
CREATE TABLE revocation_counter (
    id BIGINT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO revocation_counter (id, version) VALUES (1, 0);

-- Access tokens that are not accepted any more though they have not expired.
CREATE TABLE revocations (
    -- jti, subject or account.
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    -- Tokens whose login began before this version.
    version BIGINT NOT NULL,
    -- When no such token can be alive any more, and the row may go.
    expires_at TIMESTAMP NOT NULL,
    PRIMARY KEY (kind, value)
);
