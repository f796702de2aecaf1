DROP INDEX manifest_manifest_refs_by_child;
CREATE INDEX manifest_manifest_refs_by_child ON manifest_manifest_refs (repo_id, child_digest);
DROP INDEX tags_by_digest;
CREATE INDEX tags_by_digest ON tags (repo_id, digest);
DROP INDEX accounts_by_auth_tenant;
ALTER TABLE accounts DROP COLUMN version;
