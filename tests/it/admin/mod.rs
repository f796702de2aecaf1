//! The management API.

mod accounts;
mod keppel;
mod openapi;
mod peers;
mod preconditions;
mod puts;
mod repositories;
mod storage_migrate;
