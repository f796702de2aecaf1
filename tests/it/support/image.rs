//! Blobs and manifests to push, and the shortest way to push them.

use kontor::oci::{Algorithm, Digest};
use reqwest::Method;
use serde_json::{Value, json};

use super::TestRegistry;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The SHA-256 digest of some bytes.
pub fn digest(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

/// Bytes that look random and are the same in every run.
pub fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// A descriptor of some bytes.
pub fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// An image manifest over a config and layers.
pub fn manifest(config: &[u8], layers: &[&[u8]]) -> Value {
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| descriptor(OCI_LAYER, layer))
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config),
        "layers": layers,
    })
}

impl TestRegistry {
    /// Pushes a blob as `admin` in one request.
    pub async fn push_blob(&self, repo: &str, content: &[u8]) -> Digest {
        let digest = digest(content);
        let path = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
        let answer = self
            .admin(Method::POST, &path)
            .body(content.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        digest
    }

    /// Pushes a manifest as `admin`.
    pub async fn push_manifest(&self, repo: &str, reference: &str, manifest: &Value) -> Digest {
        let content = serde_json::to_vec(manifest).unwrap();
        let media_type = manifest["mediaType"].as_str().unwrap_or(OCI_MANIFEST);
        let answer = self
            .admin(Method::PUT, &format!("/v2/{repo}/manifests/{reference}"))
            .header("Content-Type", media_type)
            .body(content.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        digest(&content)
    }

    /// Pushes an image of a config and one layer under a tag; gives the manifest.
    pub async fn push_image(&self, repo: &str, tag: &str, seed: u64) -> Value {
        let (config, layer) = (bytes(seed, 100), bytes(seed + 1, 1000));
        self.push_blob(repo, &config).await;
        self.push_blob(repo, &layer).await;
        let manifest = manifest(&config, &[&layer]);
        self.push_manifest(repo, tag, &manifest).await;
        manifest
    }
}
