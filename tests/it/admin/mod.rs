//! The management API.

mod accounts;
mod openapi;
mod storage_migrate;
