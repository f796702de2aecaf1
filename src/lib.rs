//! kontor
#![allow(missing_docs)]
pub mod auth;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod ids;
pub mod model;
pub mod oci;
pub mod registry;
