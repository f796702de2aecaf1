//! All integration tests in one binary: a second one would link everything again.

#[cfg(test)]
mod support;
mod v2;
