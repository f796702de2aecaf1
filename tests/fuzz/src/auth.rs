//! The part of `auth` that is pure.

#[path = "../../../src/auth/authorization.rs"]
pub mod authorization;
#[path = "../../../src/auth/scope.rs"]
pub mod scope;
