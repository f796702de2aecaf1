//! Who somebody is, and what that person may do.
//!
//! Drivers authenticate (`driver.rs` is the trait, `static_users.rs` the first of them); `token.rs`
//! signs and verifies our own tokens; `authorize.rs` decides, purely; `scope.rs`, `authorization.rs`
//! and `challenge.rs` are the words of the protocol. A driver never sees a repository, and nothing here
//! reads the database: what a driver needs from it comes through a trait.

pub mod authorization;
pub mod authorize;
pub mod challenge;
pub mod driver;
pub mod password;
pub mod scope;
pub mod static_users;
pub mod token;
