//! LIQUID, by which Limes of OpenStack asks for usage and sets quotas; and the quotas of Keppel's API. Both answer errors
//! as plain text.
//!
//! The documents are those of the package `liquid` of `github.com/sapcc/go-api-declarations`. What a newcomer gets wrong:
//! nothing here may be 404 for want of permission, LIQUID asks for 403; every project answers alike, so nobody learns
//! which ones exist.

pub mod documents;
pub mod handlers;
pub mod keppel;
