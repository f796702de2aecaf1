//! The OCI Distribution API, a file for each resource and verb.

mod base_get;
