//! kontor: a multi-tenant OCI registry that puts tenancy into the storage layer.
//!
//! Every request takes three hops: `api` (HTTP in and out), `registry` (one file per use case), `db` and
//! the crate `storage-drivers`. Who may import whom:
//!
//! | module | may import |
//! | --- | --- |
//! | `oci` | nothing of ours |
//! | `error`, `clock`, `ids` | `oci` (and `error` the storage crate's error) |
//! | `model` | `oci`, `error`, `ids` (and `account` the storage crate's tenant) |
//! | `config` | `model`, `auth` (their settings) (and the storage crate's configuration) |
//! | `telemetry` | `config` (and the storage crate's observer) |
//! | `storage-drivers` (crate) | nothing of ours |
//! | `db` | `oci`, `model`, `error`, `ids` |
//! | `audit` | `model` |
//! | `auth` | `oci`, `model`, `error`, `clock`, `ids` (and the storage crate's OpenStack session) |
//! | `registry` | the above except `config` and `telemetry` |
//! | `api` | `registry`, `auth`'s words of the protocol, `model`, `oci`, `error`, `ids`, `telemetry` |
//! | `janitor` | `registry`, `model`, `error`, `telemetry` |
//! | `app`, `cli` | everything below them; `main` imports `cli` only |
//!
//! `tests/it/rules.rs` holds the table against the code.

pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod ids;
mod janitor;
pub mod model;
pub mod oci;
pub mod registry;
pub mod telemetry;
