//! Digests as text, and hashes that are saved and restored. The input is read both as the text of a
//! digest and as content.
#![no_main]

use kontor_fuzz::assert_canonical;
use kontor_fuzz::oci::{Algorithm, Digest, Hasher, Tag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = str::from_utf8(data) {
        assert_canonical::<Algorithm>(text);
        if let Some(digest) = assert_canonical::<Digest>(text) {
            assert_eq!(text, format!("{}:{}", digest.algorithm(), digest.hex()));
            assert_eq!(digest.hex().len(), digest.algorithm().hex_len());
            assert!(digest.fallback_tag().parse::<Tag>().is_ok());
        }
    }

    // Whatever stands in the database, restoring it does not panic; and what can be restored is saved
    // as the same bytes.
    if let Some(hasher) = Hasher::restore(data) {
        assert_eq!(hasher.save(), data);
    }

    // The first two bytes tell where the content is split, the rest is the content.
    let Some((split, content)) = data.split_first_chunk::<2>() else {
        return;
    };
    let split = usize::from(u16::from_le_bytes(*split)) % (content.len() + 1);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let mut first = Hasher::new(algorithm);
        first.update(&content[..split]);
        let mut second = Hasher::restore(&first.save()).expect("a state that was just saved");
        second.update(&content[split..]);
        let digest = second.finish();
        assert_eq!(digest, Digest::of(algorithm, content));
        assert_eq!(digest.as_str().parse(), Ok(digest));
    }
});
