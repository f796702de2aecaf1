//! Manifests. The first byte chooses the `Content-Type`, the rest is the body.
#![no_main]

use kontor_fuzz::oci::manifest::{MAX_DESCRIPTORS, Manifest, ManifestError, ManifestKind};
use kontor_fuzz::oci::{Descriptor, media_type};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else {
        return;
    };
    let content_type = media_type::MANIFESTS.get(usize::from(choice)).copied();
    match Manifest::parse(body, content_type) {
        Ok(manifest) => check(&manifest, body, content_type),
        Err(error) => assert!(error.to_string().len() < 2048),
    }
});

fn check(manifest: &Manifest, body: &[u8], content_type: Option<&str>) {
    assert!(media_type::is_manifest(&manifest.media_type));
    assert_eq!(ManifestKind::of(&manifest.media_type), Some(manifest.kind));
    if let Some(content_type) = content_type {
        assert_eq!(manifest.media_type, content_type);
    }
    // The same again, and also when the type is said that was found, as it is on a pull and a
    // replication.
    assert_eq!(Manifest::parse(body, content_type).as_ref(), Ok(manifest));
    assert_eq!(
        Manifest::parse(body, Some(&manifest.media_type)).as_ref(),
        Ok(manifest)
    );
    // It is of one kind only: no other kind takes these bytes, unless there is nothing in them.
    for other in media_type::MANIFESTS {
        let kind = ManifestKind::of(other);
        let is_empty = manifest.all_blobs().next().is_none() && manifest.manifests.is_empty();
        if kind != Some(manifest.kind) && !is_empty {
            assert!(matches!(
                Manifest::parse(body, Some(other)),
                Err(ManifestError::Ambiguous(..) | ManifestError::Mismatch { .. })
            ));
        }
    }
    match manifest.kind {
        ManifestKind::Image => assert!(manifest.config.is_some() && manifest.manifests.is_empty()),
        ManifestKind::Index => assert!(manifest.all_blobs().next().is_none()),
        ManifestKind::Artifact => {
            assert!(manifest.config.is_none() && manifest.manifests.is_empty())
        }
    }
    let descriptors = manifest
        .all_blobs()
        .chain(&manifest.manifests)
        .chain(&manifest.subject);
    let mut count = 0;
    for descriptor in descriptors {
        count += 1;
        assert!(i64::try_from(descriptor.size).is_ok());
        let json = serde_json::to_string(descriptor).expect("JSON");
        assert_eq!(
            &serde_json::from_str::<Descriptor>(&json).expect("the same JSON"),
            descriptor
        );
    }
    assert!(count <= MAX_DESCRIPTORS);
}
