-- The audit trail: who decided what, linked into a chain of hashes.

-- Whether pulls from the account are in the audit trail, for the pull's own query.
ALTER TABLE accounts ADD COLUMN audit_pulls BOOLEAN NOT NULL DEFAULT FALSE;

-- One event for each decision. An event is written with the change; its place in the chain comes a moment later.
CREATE TABLE audit_events (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    at TIMESTAMP NOT NULL,
    -- Of the event, for filters; what counts is `event`.
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    user_name TEXT,
    account TEXT,
    auth_tenant_id TEXT,
    -- The event as JSON: these bytes are hashed.
    event TEXT NOT NULL,
    -- Its place in the chain, and the hash of all events so far; without them it is not sealed yet.
    seq BIGINT UNIQUE,
    hash TEXT
);
CREATE INDEX audit_events_unsealed ON audit_events (at, id) WHERE seq IS NULL;
CREATE INDEX audit_events_by_tenant ON audit_events (auth_tenant_id, seq);
CREATE INDEX audit_events_by_account ON audit_events (account, seq);
CREATE INDEX audit_events_by_user ON audit_events (user_name, seq);
CREATE INDEX audit_events_by_action ON audit_events (action, seq);
CREATE INDEX audit_events_by_time ON audit_events (at);

-- The end of the chain. One row, which whoever seals holds.
CREATE TABLE audit_chain (
    id BIGINT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO audit_chain (id, seq, hash) VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Signed statements: up to this event, the hash is this. An anchor says that what was before was pruned.
CREATE TABLE audit_heads (
    seq BIGINT NOT NULL,
    is_anchor BOOLEAN NOT NULL,
    statement TEXT NOT NULL,
    PRIMARY KEY (seq, is_anchor)
);

-- How far each sink has got.
CREATE TABLE audit_sinks (
    name TEXT NOT NULL PRIMARY KEY,
    delivered_seq BIGINT NOT NULL,
    failures INTEGER NOT NULL,
    -- When the next delivery is due; a node that delivers puts it off, which is its lease.
    next_delivery_at TIMESTAMP NOT NULL
);
