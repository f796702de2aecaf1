//! Pure rules over accounts, users and policies: no I/O, no async, nothing of HTTP or SQL.

pub mod account;
pub mod account_rights;
pub mod audit;
pub mod audit_chain;
pub mod difference;
pub mod expression;
pub mod gc_policy;
pub mod identity;
pub mod invalid_field;
pub mod listing;
pub mod pattern;
pub mod permission;
pub mod policy_match;
pub mod precondition;
pub mod quota;
pub mod rbac_policy;
pub mod request_origin;
pub mod revocation;
pub mod robot;
pub mod secret;
pub mod service_identity;
mod settings_warnings;
pub mod storage_move;
pub mod tag_policy;
pub mod user;
pub mod validation_rule;
pub mod warning;
