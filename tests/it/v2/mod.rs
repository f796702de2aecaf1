//! The OCI Distribution API, a file for each resource and verb.

#![cfg(test)]

mod access;
mod base_get;
mod blobs_delete;
mod blobs_get;
mod blobs_redirect;
mod catalog_list;
mod domain_remapping;
mod every_answer;
pub mod helpers;
mod manifests_delete;
mod manifests_get;
mod manifests_kinds;
mod manifests_put;
mod manifests_refused;
mod manifests_tags;
mod mount;
mod names;
mod namespace;
mod rate_limits;
mod referrers_list;
mod tags_list;
mod token;
mod token_scopes;
mod token_use;
mod uploads_append;
mod uploads_cancel;
mod uploads_expiry;
mod uploads_finish;
mod uploads_nodes;
mod uploads_split;
mod uploads_start;
