//! Media types of manifests and layers, and how to read a `Content-Type`.
//!
//! Only the type of a *manifest* matters to a registry: it says how to find the references. Layers
//! and configs may have any media type whatever; that is what makes artifacts possible.

/// Docker image manifest, schema 1. Refused: it is not addressed by its content as pushed.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// Docker image manifest, schema 1, with signatures. Refused likewise.
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list: one image for several platforms.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker layer that is fetched from elsewhere, by the URLs in its descriptor.
pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// The same, not compressed.
pub const DOCKER_FOREIGN_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";

/// OCI image manifest (OCI image spec, manifest.md).
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index (OCI image spec, image-index.md).
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI artifact manifest, of a release candidate of OCI image spec 1.1. It never became part of a
/// release, but clients of that time pushed it.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// The empty descriptor's media type (OCI image spec, manifest.md, "Guidance for an Empty
/// Descriptor").
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// What all the OCI layer types that must not be distributed begin with (OCI image spec, layer.md,
/// "Non-Distributable Layers"); `+gzip` or `+zstd` may follow.
pub const OCI_NONDISTRIBUTABLE_LAYER: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// OCI image config (OCI image spec, config.md).
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Whether a config is that of an image, which has labels.
pub fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// Bytes of no known type: what blobs are served as.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// The manifest types that can be pushed.
pub const MANIFESTS: [&str; 5] = [
    OCI_MANIFEST,
    OCI_INDEX,
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    OCI_ARTIFACT,
];

/// The media type in a `Content-Type`, without `; charset=utf-8` and the like (RFC 9110, section
/// 8.3.1). Clients send parameters that mean nothing to JSON.
pub fn without_parameters(content_type: &str) -> &str {
    let end = content_type.find(';').unwrap_or(content_type.len());
    content_type[..end].trim_matches([' ', '\t'])
}

/// Whether this is a manifest type that can be pushed. Parameters are not expected here.
pub fn is_manifest(media_type: &str) -> bool {
    MANIFESTS.contains(&media_type)
}

/// Whether this is one of the two schema 1 types.
pub fn is_schema1(media_type: &str) -> bool {
    matches!(media_type, DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED)
}

/// Whether a layer of this type lies elsewhere, by licence or by size, and so is not expected here.
pub fn is_foreign_layer(media_type: &str) -> bool {
    matches!(media_type, DOCKER_FOREIGN_LAYER | DOCKER_FOREIGN_LAYER_TAR)
        || media_type
            .strip_prefix(OCI_NONDISTRIBUTABLE_LAYER)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_cut_off() {
        let table = [
            ("", ""),
            (";", ""),
            ("a/b", "a/b"),
            (" a/b\t", "a/b"),
            ("a/b;charset=utf-8", "a/b"),
            ("a/b ; charset=\"x;y\"; q=1", "a/b"),
        ];
        for (content_type, expected) in table {
            assert_eq!(
                without_parameters(content_type),
                expected,
                "{content_type:?}"
            );
        }
    }

    #[test]
    fn kinds_of_types() {
        assert!(
            MANIFESTS
                .iter()
                .all(|t| is_manifest(t) && !is_schema1(t) && !is_foreign_layer(t))
        );
        for other in [
            DOCKER_SCHEMA1,
            DOCKER_SCHEMA1_SIGNED,
            OCTET_STREAM,
            OCI_EMPTY,
            "",
        ] {
            assert!(!is_manifest(other));
        }
        assert!(is_schema1(DOCKER_SCHEMA1) && is_schema1(DOCKER_SCHEMA1_SIGNED));
        for foreign in ["", "+gzip", "+zstd"] {
            assert!(is_foreign_layer(&format!(
                "{OCI_NONDISTRIBUTABLE_LAYER}{foreign}"
            )));
        }
        assert!(is_foreign_layer(DOCKER_FOREIGN_LAYER));
        assert!(!is_foreign_layer(
            "application/vnd.oci.image.layer.v1.tar+gzip"
        ));
        assert!(!is_foreign_layer(&format!("{OCI_NONDISTRIBUTABLE_LAYER}x")));
    }
}
