//! Reading manifests: what a manifest refers to, and what the referrers API shows of it.
//!
//! The bytes of a manifest are kept as they were pushed; this is the one reading of them that the
//! whole registry shares. Sources: OCI image spec v1.1 (manifest.md, image-index.md,
//! descriptor.md), Docker image manifest version 2 schema 2, and the OCI artifact manifest of image
//! spec v1.1.0-rc2.
//!
//! What a newcomer gets wrong: strictness is only for what we read. Unknown fields, unknown media
//! types of layers and configs, and index entries that are no manifests are legal, and clients
//! depend on them. But a body that can be read as two kinds of manifest is refused (CVE-2021-41190,
//! GHSA-77vh-xpmg-72qh), and so is JSON that is ambiguous in itself, see `json_shape`.
//!
//! The caller bounds the size of the body; time and memory here are linear in it.

use std::collections::BTreeMap;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::digest::Digest;
use super::json_shape;
use super::media_type::{self, MANIFESTS, without_parameters};
use super::text::excerpt;

/// The most descriptors that a manifest may have, each of which becomes a row and a look-up in the
/// database. Images have at most a few hundred.
pub const MAX_DESCRIPTORS: usize = 10_000;

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
pub enum ManifestError {
    /// The body is not text.
    #[error("the manifest is not valid UTF-8")]
    NotUtf8,
    /// Not JSON, ambiguous JSON, or a field of the wrong type.
    #[error("the manifest is not valid: {0}")]
    Malformed(String),
    /// `Content-Type` and `mediaType` disagree.
    #[error("the Content-Type is {header:?}, but the mediaType in the manifest is {body:?}")]
    Mismatch {
        /// The media type in the header.
        header: String,
        /// The media type in the body.
        body: String,
    },
    /// A Docker manifest of schema 1.
    #[error(
        "Docker image manifests of schema version 1 are not accepted: push the image again with a \
         client that writes schema version 2 or OCI (Docker 1.10 or later)"
    )]
    Schema1,
    /// `schemaVersion` is neither 1 nor 2.
    #[error("schemaVersion must be 2")]
    SchemaVersion,
    /// The media type is not one of a manifest.
    #[error(
        "{0:?} is not a supported manifest type; supported are: {types}",
        types = MANIFESTS.join(", ")
    )]
    Unsupported(String),
    /// Neither the header nor the body says what this is.
    #[error(
        "cannot tell what kind of manifest this is: send a Content-Type, or a mediaType \
         in the manifest"
    )]
    UnknownKind,
    /// A field that makes the manifest readable as another kind (CVE-2021-41190).
    #[error("{0:?} must not stand in a manifest of type {1}")]
    Ambiguous(&'static str, &'static str),
    /// An image manifest without `config`, which is required (OCI image spec, manifest.md).
    #[error("an image manifest must have a \"config\"")]
    NoConfig,
    /// More than [`MAX_DESCRIPTORS`].
    #[error("a manifest may have at most {MAX_DESCRIPTORS} descriptors")]
    TooManyDescriptors,
}

/// A reference to content (OCI image spec, descriptor.md). Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Any media type whatever. The spec requires it; not every client writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content, at most `i64::MAX`.
    #[serde(rename = "size", deserialize_with = "size")]
    pub size: u64,
    /// Where else the content can be fetched.
    #[serde(
        default,
        deserialize_with = "null_as_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
    /// Free key-value pairs.
    #[serde(
        default,
        deserialize_with = "null_as_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The type of the artifact that the content is the manifest of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// In an index: which platform the manifest is for. Nothing here looks into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<serde_json::Value>,
}

impl Descriptor {
    /// Whether the content may lie elsewhere, so that it must not be demanded here: it has URLs, or
    /// a media type that says so (OCI image spec, layer.md, "Non-Distributable Layers").
    pub fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
            || self
                .media_type
                .as_deref()
                .is_some_and(media_type::is_foreign_layer)
    }
}

/// Sizes go into signed 64-bit columns, and into the `int64` of other implementations.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if size > i64::MAX as u64 {
        return Err(D::Error::custom(
            "the size of a descriptor is at most 9223372036854775807",
        ));
    }
    Ok(size)
}

/// Go writes an empty slice or map as `null`.
fn null_as_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What a manifest is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestKind {
    /// A config and layers.
    Image,
    /// A list of manifests.
    Index,
    /// The OCI artifact manifest, which never was released: a list of blobs.
    Artifact,
}

impl ManifestKind {
    /// The kind of a manifest by its media type.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Some(Self::Image),
            media_type::OCI_INDEX | media_type::DOCKER_MANIFEST_LIST => Some(Self::Index),
            media_type::OCI_ARTIFACT => Some(Self::Artifact),
            _ => None,
        }
    }
}

/// What the registry knows of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Manifest {
    /// One of [`MANIFESTS`].
    pub media_type: String,
    /// What it is made of.
    pub kind: ManifestKind,
    /// The config of an image, which is a blob.
    pub config: Option<Descriptor>,
    /// The layers of an image, or the blobs of an artifact manifest.
    pub blobs: Vec<Descriptor>,
    /// The children of an index. They need not be manifests: BuildKit's cache exports list layers
    /// here.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one is about. It need not exist.
    pub subject: Option<Descriptor>,
    /// As the referrers API must show it: `artifactType`, else the media type of the config of an
    /// image (OCI distribution spec, "Listing Referrers").
    pub artifact_type: Option<String>,
    /// Free key-value pairs.
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads a manifest. `content_type` is the header as it came, with parameters or without;
    /// without a header the body decides.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        let text = str::from_utf8(bytes).map_err(|_| ManifestError::NotUtf8)?;
        let header = content_type
            .map(without_parameters)
            .filter(|value| !value.is_empty());
        let header = header.map(supported).transpose()?;
        json_shape::check(text).map_err(malformed)?;
        let body: Body = serde_json::from_str(text).map_err(malformed)?;
        let (media_type, kind) = body.resolve_type(header)?;
        body.refuse_other_kinds(media_type, kind)?;
        body.into_manifest(media_type, kind)
    }

    /// All the blobs of this manifest: the config first, then the layers.
    pub fn all_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.blobs)
    }
}

/// Looks a media type up among the supported ones. Case does not count (RFC 9110, section 8.3.1).
fn supported(media_type: &str) -> Result<(&'static str, ManifestKind), ManifestError> {
    let is_it = |known: &&&str| known.eq_ignore_ascii_case(media_type);
    if let Some(known) = MANIFESTS.iter().find(is_it)
        && let Some(kind) = ManifestKind::of(known)
    {
        return Ok((known, kind));
    }
    if media_type::is_schema1(&media_type.to_ascii_lowercase()) {
        return Err(ManifestError::Schema1);
    }
    Err(ManifestError::Unsupported(excerpt(media_type)))
}

/// Messages of serde repeat the value that they complain of, whatever its length.
fn malformed(error: serde_json::Error) -> ManifestError {
    ManifestError::Malformed(excerpt(&error.to_string()))
}

/// The fields of all kinds of manifest together. `null` counts as absent, as it does in Go.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Body {
    fn resolve_type(
        &self,
        header: Option<(&'static str, ManifestKind)>,
    ) -> Result<(&'static str, ManifestKind), ManifestError> {
        if self.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        let own = self.media_type.as_deref().filter(|value| !value.is_empty());
        let resolved = match (header, own) {
            // Readers of the body compare exactly, so here case counts.
            (Some((header, _)), Some(own)) if own != header => {
                return Err(ManifestError::Mismatch {
                    header: header.to_owned(),
                    body: excerpt(own),
                });
            }
            (Some(header), _) => header,
            (None, Some(own)) => match supported(own)? {
                (known, _) if known != own => return Err(ManifestError::Unsupported(excerpt(own))),
                known => known,
            },
            (None, None) => self.guessed_type()?,
        };
        // The artifact manifest has no schemaVersion, so it cannot have a wrong one.
        if resolved.1 != ManifestKind::Artifact
            && self.schema_version.is_some_and(|version| version != 2)
        {
            return Err(ManifestError::SchemaVersion);
        }
        Ok(resolved)
    }

    /// OCI manifests need no `mediaType` (OCI image spec, manifest.md: "SHOULD be used"). Artifact
    /// manifests had to have one, so they are not guessed.
    fn guessed_type(&self) -> Result<(&'static str, ManifestKind), ManifestError> {
        if self.config.is_some() || self.layers.is_some() {
            Ok((media_type::OCI_MANIFEST, ManifestKind::Image))
        } else if self.manifests.is_some() {
            Ok((media_type::OCI_INDEX, ManifestKind::Index))
        } else {
            Err(ManifestError::UnknownKind)
        }
    }

    /// A client that is told another media type would follow the other fields.
    fn refuse_other_kinds(
        &self,
        media_type: &'static str,
        kind: ManifestKind,
    ) -> Result<(), ManifestError> {
        use ManifestKind::{Artifact, Image, Index};
        let fields = [
            ("config", self.config.is_some(), kind == Image),
            ("layers", self.layers.is_some(), kind == Image),
            ("manifests", self.manifests.is_some(), kind == Index),
            ("blobs", self.blobs.is_some(), kind == Artifact),
            ("fsLayers", self.fs_layers.is_some(), false),
        ];
        match fields
            .into_iter()
            .find(|(_, is_present, belongs)| *is_present && !belongs)
        {
            Some((field, ..)) => Err(ManifestError::Ambiguous(field, media_type)),
            None => Ok(()),
        }
    }

    fn into_manifest(
        self,
        media_type: &str,
        kind: ManifestKind,
    ) -> Result<Manifest, ManifestError> {
        if kind == ManifestKind::Image && self.config.is_none() {
            return Err(ManifestError::NoConfig);
        }
        // At most one of the two is there.
        let blobs = self.layers.or(self.blobs).unwrap_or_default();
        let manifests = self.manifests.unwrap_or_default();
        let singles = usize::from(self.config.is_some()) + usize::from(self.subject.is_some());
        if blobs.len() + manifests.len() + singles > MAX_DESCRIPTORS {
            return Err(ManifestError::TooManyDescriptors);
        }
        let config_type = || {
            self.config
                .as_ref()
                .and_then(|config| config.media_type.clone())
        };
        let artifact_type = self
            .artifact_type
            .filter(|value| !value.is_empty())
            .or_else(config_type);
        Ok(Manifest {
            media_type: media_type.to_owned(),
            kind,
            blobs,
            manifests,
            artifact_type,
            config: self.config,
            subject: self.subject,
            annotations: self.annotations.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests;
