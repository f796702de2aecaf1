//! The management API.

mod accounts;
