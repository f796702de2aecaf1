//! The words of the OCI specifications as types: digest, name, reference, media type, range,
//! manifest.
//!
//! Everything here is pure: no I/O, no async, no clock, and nothing of ours is imported. What a
//! client sends is parsed once, at the border, into one of these types; below that nobody takes a
//! `&str` that means something. The parsers are written by hand (or by serde), run in linear time,
//! and are fuzzed by the crate in `tests/fuzz`.
//!
//! What a newcomer gets wrong: a message of an error in here is sent to the client as it stands, so
//! it must name no internals, and must not repeat unbounded input.

pub mod content_range;
pub mod digest;
pub mod hashing;
mod json_shape;
pub mod manifest;
pub mod media_type;
pub mod name;
pub mod reference;
pub(crate) mod text;

pub use content_range::{RequestedRange, UploadRange};
pub use digest::{Algorithm, Digest, DigestError, UnsupportedAlgorithm};
pub use hashing::Hasher;
pub use manifest::{Descriptor, Manifest, ManifestError, ManifestKind};
pub use name::{AccountName, FullRepoName, NameError, RepoName};
pub use reference::{Reference, ReferenceError, Tag, TagError};
