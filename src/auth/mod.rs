//! Who somebody is, and what that person may do.
//!
//! Drivers authenticate (`driver.rs` is the trait; `static_users`, `keystone` and `oidc` are drivers);
//! `outbound.rs` calls addresses that come from outside; `issued_secret.rs` makes secrets for robots and people, `token.rs` signs and verifies our own tokens, `audit_head.rs` heads of the audit chain, with the keys of
//! `signing_key.rs`; `login_limit.rs` slows down those who guess; `authorize.rs` decides, purely; `scope.rs`,
//! `authorization.rs` and `challenge.rs` are the words of the protocol. A driver never sees a repository, and
//! nothing here reads the database: what a driver needs from it comes through a trait.

pub mod audit_head;
pub mod authorization;
pub mod authorize;
pub mod challenge;
pub mod driver;
pub mod issued_secret;
pub mod key_file;
pub mod keystone;
pub mod login_limit;
pub mod oidc;
pub mod outbound;
pub mod password;
pub mod scope;
pub mod signing_key;
pub mod static_users;
pub mod token;
