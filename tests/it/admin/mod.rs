//! The management API.

mod accounts;
mod keppel;
mod openapi;
mod preconditions;
mod repositories;
mod storage_migrate;
