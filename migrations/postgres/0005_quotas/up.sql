-- What each account and each auth tenant uses, and how much of it it may use. A book is written in the transaction that
-- makes or removes the content, last of all rows, the account's before the auth tenant's.

CREATE TABLE quota_books (
    -- account or auth_tenant.
    kind TEXT NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    -- Of blobs and manifests.
    bytes BIGINT NOT NULL,
    -- Of uploads that go on.
    reserved_bytes BIGINT NOT NULL,
    manifests BIGINT NOT NULL,
    -- Those that hold manifests.
    repositories BIGINT NOT NULL,
    -- Whether the limits below count; an auth tenant without limits of its own has those of the configuration.
    has_own_limits BOOLEAN NOT NULL,
    -- NULL is no limit.
    bytes_limit BIGINT,
    manifests_limit BIGINT,
    repositories_limit BIGINT,
    PRIMARY KEY (kind, owner)
);

-- Bytes of an account that are kept for an object that is being written.
ALTER TABLE loose_objects ADD COLUMN reserved_bytes BIGINT NOT NULL DEFAULT 0;

INSERT INTO quota_books (kind, owner, bytes, reserved_bytes, manifests, repositories, has_own_limits)
SELECT 'account', a.name,
    (SELECT CAST(COALESCE(SUM(b.size_bytes), 0) AS BIGINT) FROM blobs b WHERE b.account_name = a.name)
    + (SELECT CAST(COALESCE(SUM(LENGTH(m.content)), 0) AS BIGINT) FROM manifests m
       JOIN repos r ON r.id = m.repo_id WHERE r.account_name = a.name),
    (SELECT CAST(COALESCE(SUM(u.size_bytes), 0) AS BIGINT) FROM uploads u
     JOIN repos r ON r.id = u.repo_id WHERE r.account_name = a.name),
    (SELECT COUNT(*) FROM manifests m JOIN repos r ON r.id = m.repo_id WHERE r.account_name = a.name),
    (SELECT COUNT(DISTINCT m.repo_id) FROM manifests m JOIN repos r ON r.id = m.repo_id
     WHERE r.account_name = a.name),
    FALSE
FROM accounts a;

INSERT INTO quota_books (kind, owner, bytes, reserved_bytes, manifests, repositories, has_own_limits)
SELECT 'auth_tenant', a.auth_tenant_id, CAST(SUM(q.bytes) AS BIGINT), CAST(SUM(q.reserved_bytes) AS BIGINT),
    CAST(SUM(q.manifests) AS BIGINT), CAST(SUM(q.repositories) AS BIGINT), FALSE
FROM accounts a JOIN quota_books q ON q.kind = 'account' AND q.owner = a.name
GROUP BY a.auth_tenant_id;
