//! The blobs and manifests of a case.

use kontor::oci::Digest;
use serde_json::{Value, json};

use super::{
    expected::Needs,
    plan::{BLOBS, Recipe},
};
use crate::support::image::{
    OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, bytes, descriptor, digest,
};

/// The content of a blob. The last one is empty.
pub fn blob_content(blob: usize) -> Vec<u8> {
    bytes(blob as u64 + 1, 300 * (BLOBS - 1 - blob))
}

/// Where the thirds of a blob begin and end.
pub fn third(content: &[u8], number: usize) -> &[u8] {
    &content[content.len() * number / 3..content.len() * (number + 1) / 3]
}

/// A manifest: its media type and its bytes, and what it needs.
pub struct Made {
    media_type: &'static str,
    pub content: Vec<u8>,
    pub digest: Digest,
    pub needs: Needs,
}

/// Makes the manifests of a case. `label` makes them others than those of another label.
pub fn manifests(recipes: &[Recipe], label: &str) -> Vec<Made> {
    let mut made: Vec<Made> = Vec::new();
    for (number, recipe) in recipes.iter().enumerate() {
        let has = |bits: u8, bit: &usize| bits & (1 << bit) != 0;
        let blobs: Vec<usize> = (0..BLOBS).filter(|blob| has(recipe.blobs, blob)).collect();
        let children: Vec<usize> = (0..number)
            .filter(|child| has(recipe.children, child))
            .collect();
        let of_blob = |blob: &usize| descriptor(OCI_LAYER, &blob_content(*blob));
        let of_manifest = |made: &Made| descriptor(made.media_type, &made.content);
        let mut document =
            json!({ "schemaVersion": 2, "annotations": { "name": format!("{label}{number}") } });
        let media_type = if children.is_empty() {
            document["config"] = descriptor(OCI_CONFIG, &blob_content(blobs[0]));
            document["layers"] = blobs[1..].iter().map(of_blob).collect();
            OCI_MANIFEST
        } else {
            let listed = children.iter().map(|child| of_manifest(&made[*child]));
            document["manifests"] = Value::Array(listed.chain(blobs.iter().map(of_blob)).collect());
            OCI_INDEX
        };
        document["mediaType"] = json!(media_type);
        if let Some(subject) = recipe.subject.filter(|subject| *subject < number) {
            document["subject"] = of_manifest(&made[subject]);
        }
        let content = serde_json::to_vec(&document).unwrap();
        made.push(Made {
            media_type,
            digest: digest(&content),
            content,
            needs: Needs {
                blobs: blobs.into_iter().collect(),
                children: children.into_iter().collect(),
                subject: recipe.subject.filter(|subject| *subject < number),
            },
        });
    }
    made
}
