//! The management API.

pub mod accounts;
