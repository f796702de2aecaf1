//! The management API.

mod accounts;
mod openapi;
mod keppel;
mod repositories;
mod storage_migrate;
