//! Hashing that can stop, be stored, and go on in another process.
//!
//! An upload comes in several requests that may reach several nodes. Reading the blob again to
//! learn its digest would double the work, so the state of the hash is saved in the upload's row
//! after each request.
//!
//! What a newcomer gets wrong: a saved state is no secret key, but it is trusted. It lies in our
//! database and must never go through the client's hands, who could otherwise give a digest to
//! content that does not have it. And its format belongs to the minor version of `sha2`: the
//! version is pinned in `Cargo.toml`, and `FORMAT` must be raised with it.

use ::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

use super::digest::{Algorithm, Digest};

/// The first byte of a saved state: 1 is what sha2 0.11 serializes.
const FORMAT: u8 = 1;

const SHA256_BYTE: u8 = 1;
const SHA512_BYTE: u8 = 2;

/// A digest in the making.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Which digest [`Self::finish`] will give.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hash) => hash.update(bytes),
            State::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all the bytes so far.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        match self.0 {
            State::Sha256(hash) => Digest::from_hash(algorithm, &hash.finalize()),
            State::Sha512(hash) => Digest::from_hash(algorithm, &hash.finalize()),
        }
    }

    /// The state as bytes for the database: format, algorithm, then what `sha2` serializes.
    pub fn save(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(hash) => saved(SHA256_BYTE, hash),
            State::Sha512(hash) => saved(SHA512_BYTE, hash),
        }
    }

    /// Goes on from a saved state. `None` means that the bytes are of another format or damaged:
    /// the upload cannot be continued, and the client must start it anew.
    pub fn restore(saved: &[u8]) -> Option<Self> {
        let (&[format, algorithm], state) = saved.split_first_chunk::<2>()?;
        match (format, algorithm) {
            (FORMAT, SHA256_BYTE) => restored(state).map(|hash| Self(State::Sha256(hash))),
            (FORMAT, SHA512_BYTE) => restored(state).map(|hash| Self(State::Sha512(hash))),
            _ => None,
        }
    }
}

fn saved(algorithm: u8, hash: &impl SerializableState) -> Vec<u8> {
    let mut bytes = vec![FORMAT, algorithm];
    bytes.extend_from_slice(&hash.serialize());
    bytes
}

fn restored<H: SerializableState>(state: &[u8]) -> Option<H> {
    let state: &SerializedState<H> = state.try_into().ok()?;
    H::deserialize(state).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_hasher_goes_on_where_it_was_at_every_split() {
        let content: Vec<u8> = (0..=255u8).chain(0..=99).collect();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let direct = Digest::of(algorithm, &content);
            for split in 0..=content.len() {
                let mut first = Hasher::new(algorithm);
                first.update(&content[..split]);
                let mut second = Hasher::restore(&first.save()).unwrap();
                assert_eq!(second.algorithm(), algorithm);
                second.update(&content[split..]);
                assert_eq!(second.finish(), direct, "split at {split}");
            }
        }
    }

    #[test]
    fn saving_changes_nothing() {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"a");
        assert_eq!(hasher.save(), hasher.save());
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), Digest::of(Algorithm::Sha256, b"abc"));
    }

    #[test]
    fn what_was_not_saved_by_us_is_refused() {
        let good = Hasher::new(Algorithm::Sha256).save();
        assert_eq!(good.len(), 2 + 104);
        assert!(Hasher::restore(&good).is_some());
        let with = |index: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[index] = byte;
            bytes
        };
        let longer = [good.as_slice(), &[0]].concat();
        let other = Hasher::new(Algorithm::Sha512).save();
        let table: Vec<(&str, Vec<u8>)> = vec![
            ("empty", vec![]),
            ("one byte", vec![FORMAT]),
            ("no state", vec![FORMAT, SHA256_BYTE]),
            ("other format", with(0, FORMAT + 1)),
            ("unknown algorithm", with(1, 9)),
            ("algorithm of another state", with(1, SHA512_BYTE)),
            ("too short", good[..good.len() - 1].to_vec()),
            ("too long", longer),
            (
                "state of sha512 as sha256",
                [&[FORMAT, SHA256_BYTE], &other[2..]].concat(),
            ),
            ("buffer position beyond the block", with(2 + 40, 255)),
        ];
        for (what, bytes) in table {
            assert!(Hasher::restore(&bytes).is_none(), "{what}");
        }
    }
}
