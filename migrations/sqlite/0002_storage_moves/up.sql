-- Moving an account to another storage backend.

-- What a move left behind on purpose: it is not rubbish.
ALTER TABLE loose_objects ADD COLUMN is_kept BOOLEAN NOT NULL DEFAULT 0;
-- Somebody deletes the object: it must not become part of anything any more.
ALTER TABLE loose_objects ADD COLUMN is_swept BOOLEAN NOT NULL DEFAULT 0;

-- The last move of an account. While it goes on, next_step_at is when somebody should take the next step; whoever
-- takes it puts it off, and so holds the lease.
CREATE TABLE storage_moves (
    account_name TEXT NOT NULL PRIMARY KEY REFERENCES accounts (name),
    target TEXT NOT NULL,
    keeps_old BOOLEAN NOT NULL,
    -- copying, waiting, removing or done.
    state TEXT NOT NULL,
    started_at TIMESTAMP NOT NULL,
    -- When the last object was copied: those who read its old place have that long to end.
    copied_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    moved_objects BIGINT NOT NULL,
    moved_bytes BIGINT NOT NULL,
    -- Passes in a row that ended in a failure, and the last failure, for the owner to read.
    failures INTEGER NOT NULL,
    error TEXT,
    next_step_at TIMESTAMP
);
CREATE INDEX storage_moves_by_next_step ON storage_moves (next_step_at);

-- Where an account has a container, or may have one: on its own backend, and on those it is moving away from.
CREATE TABLE containers (
    account_name TEXT NOT NULL REFERENCES accounts (name),
    storage TEXT NOT NULL,
    -- Somebody removes it: nothing may move there until that is over.
    is_releasing BOOLEAN NOT NULL,
    PRIMARY KEY (account_name, storage)
);
INSERT INTO containers (account_name, storage, is_releasing) SELECT name, storage, 0 FROM accounts;
