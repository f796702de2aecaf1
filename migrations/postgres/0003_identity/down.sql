DROP TABLE revocations;
DROP TABLE secrets;
DROP TABLE robots;
ALTER TABLE users DROP COLUMN is_disabled;
