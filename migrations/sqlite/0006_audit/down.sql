DROP TABLE audit_sinks;
DROP TABLE audit_heads;
DROP TABLE audit_chain;
DROP TABLE audit_events;
ALTER TABLE accounts DROP COLUMN audit_pulls;
