DROP INDEX tags_by_digest;
CREATE INDEX tags_by_digest ON tags (repo_id, digest);
DROP INDEX accounts_by_auth_tenant;
ALTER TABLE accounts DROP COLUMN version;
