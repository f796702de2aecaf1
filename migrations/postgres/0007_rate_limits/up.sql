-- Buckets of rate limits, for `rate_limits.backend = "database"`.
CREATE TABLE rate_limit_buckets (
    account_name TEXT NOT NULL,
    action TEXT NOT NULL,
    -- `<driver>:<user>`, or the address of somebody anonymous.
    who TEXT NOT NULL,
    -- Nanoseconds since 1970: when the bucket will be empty.
    empty_at BIGINT NOT NULL,
    PRIMARY KEY (account_name, action, who)
);
CREATE INDEX rate_limit_buckets_empty_at ON rate_limit_buckets (empty_at);
