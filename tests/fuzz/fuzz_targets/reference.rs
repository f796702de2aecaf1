//! Tags and references.
#![no_main]

use kontor_fuzz::assert_canonical;
use kontor_fuzz::oci::{Digest, Reference, Tag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let tag = assert_canonical::<Tag>(text);
    let digest = text.parse::<Digest>().ok();
    // Nothing is both, and a reference is exactly one of the two.
    match assert_canonical::<Reference>(text) {
        Some(Reference::Tag(found)) => {
            assert!(text.len() <= 128 && text.is_ascii() && text != "." && text != "..");
            assert_eq!((Some(found), None), (tag, digest));
        }
        Some(Reference::Digest(found)) => assert_eq!((None, Some(found)), (tag, digest)),
        None => assert_eq!((None, None), (tag, digest)),
    }
});
