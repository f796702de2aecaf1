-- Grows with every change of an account: what If-Match compares.
ALTER TABLE accounts ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- Accounts are listed by the auth tenants that somebody may see.
CREATE INDEX accounts_by_auth_tenant ON accounts (auth_tenant_id, name);

-- The tags of a page of manifests are read in the order of the index.
DROP INDEX tags_by_digest;
CREATE INDEX tags_by_digest ON tags (repo_id, digest, name);

-- Whether an index lists a manifest is answered by the index alone.
DROP INDEX manifest_manifest_refs_by_child;
CREATE INDEX manifest_manifest_refs_by_child ON manifest_manifest_refs (repo_id, child_digest, parent_digest);
