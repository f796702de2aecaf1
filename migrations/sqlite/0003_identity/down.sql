DROP TABLE revocations;
DROP TABLE revocation_counter;
DROP TABLE secrets;
DROP TABLE robots;
ALTER TABLE users DROP COLUMN is_disabled;
