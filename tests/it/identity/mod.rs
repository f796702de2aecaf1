//! Who logs in, with what, and what becomes of it.

mod keystone_live;
mod oidc_live;
