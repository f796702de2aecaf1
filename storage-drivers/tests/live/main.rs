//! The storage contract on real servers, and what only a real server shows.
//!
//! The servers' addresses come from `KONTOR_TEST_*`; `ci/cloud run cargo test --test live` starts them. Without the
//! variables the tests say so and pass, unless `KONTOR_TEST_LIVE=required`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says what it did not run"
)]

mod s3;
mod support;
mod swift;
