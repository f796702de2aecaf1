//! All integration tests in one binary: a second one would link everything again.

mod admin;
mod faults;
mod process;
mod rules;
#[cfg(test)]
mod support;
mod v2;
