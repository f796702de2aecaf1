//! All integration tests in one binary: a second one would link everything again.

// Helper functions of tests may unwrap as the tests do; clippy knows them by this attribute.
#![cfg(test)]

mod admin;
mod audit;
mod disk;
mod faults;
mod identity;
mod isolation;
mod janitor;
mod migrations;
mod policies;
mod process;
mod quotas;
mod rules;
mod support;
mod trash;
mod v2;
