//! The management API.

mod accounts;
mod storage_migrate;
