//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>`.
//!
//! The grammar is that of the OCI image specification, descriptor.md, section "Digests". It allows
//! more algorithms than we can compute, so "malformed" and "not supported" are different errors:
//! only the second one can be helped by another client setting.

use std::fmt;
use std::str::FromStr;

use sha2::{Sha256, Sha512};
use thiserror::Error;

use super::text::serde_as_text;

/// A hash algorithm that a digest can name (OCI image spec, descriptor.md, "Registered
/// algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `sha256`, which every implementation must support.
    Sha256,
    /// `sha512`, which an implementation may support.
    Sha512,
}

impl Algorithm {
    /// How many hex characters a digest of this algorithm has.
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// The name as it stands in a digest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An algorithm was named that this registry cannot compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[error("this digest algorithm is not supported: use sha256 or sha512")]
pub struct UnsupportedAlgorithm;

impl FromStr for Algorithm {
    type Err = UnsupportedAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(UnsupportedAlgorithm),
        }
    }
}

serde_as_text!(Algorithm);

/// Why a text is not a digest that we take.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
pub enum DigestError {
    /// It does not follow the grammar of any digest.
    #[error("a digest has the form <algorithm>:<hex>, for example sha256: and 64 hex characters")]
    Malformed,
    /// A well-formed digest, of an algorithm that we cannot compute.
    #[error(transparent)]
    UnsupportedAlgorithm(#[from] UnsupportedAlgorithm),
    /// The algorithm is known, and what follows it has the wrong length or is no lowercase hex.
    #[error("a {0} digest has exactly {len} lowercase hex characters", len = .0.hex_len())]
    WrongHex(Algorithm),
}

/// A digest of content. Its text is canonical: equal content has equal text under one algorithm.
// The text comes first: the derived order is that of the string.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    text: String,
    algorithm: Algorithm,
}

impl Digest {
    /// Computes the digest of bytes that are in memory. For a stream use [`super::Hasher`].
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        use sha2::Digest as _;
        match algorithm {
            Algorithm::Sha256 => Self::from_hash(algorithm, &Sha256::digest(content)),
            Algorithm::Sha512 => Self::from_hash(algorithm, &Sha512::digest(content)),
        }
    }

    /// Wraps a computed hash. Its length must fit the algorithm, which only the callers in this
    /// folder can get wrong.
    pub(super) fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        debug_assert_eq!(hash.len() * 2, algorithm.hex_len());
        let text = format!("{algorithm}:{}", hex::encode(hash));
        Self { text, algorithm }
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex characters after the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The whole digest, as it stands in URLs and manifests.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The tag under which clients list referrers of this digest where the registry has no
    /// referrers API (OCI distribution spec, "Referrers Tag Schema"): `<algorithm>-<hex>`, the
    /// algorithm cut to 32 and the hex to 64 characters, so that the tag of a sha512 digest fits
    /// into 128.
    pub fn fallback_tag(&self) -> String {
        format!("{:.32}-{:.64}", self.algorithm.as_str(), self.hex())
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, encoded) = text.split_once(':').ok_or(DigestError::Malformed)?;
        if !is_algorithm(algorithm) || !is_encoded(encoded) {
            return Err(DigestError::Malformed);
        }
        let algorithm: Algorithm = algorithm.parse()?;
        let is_lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if encoded.len() != algorithm.hex_len() || !encoded.bytes().all(is_lower_hex) {
            return Err(DigestError::WrongHex(algorithm));
        }
        Ok(Self {
            text: text.to_owned(),
            algorithm,
        })
    }
}

serde_as_text!(Digest);

/// `algorithm-component (algorithm-separator algorithm-component)*` of the OCI grammar.
fn is_algorithm(text: &str) -> bool {
    text.split(['+', '.', '_', '-']).all(|component| {
        !component.is_empty()
            && component
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
    })
}

/// `[a-zA-Z0-9=_-]+` of the OCI grammar.
fn is_encoded(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_256: &str =
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_of_known_content() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").as_str(), EMPTY_256);
        let digest = Digest::of(Algorithm::Sha512, b"abc");
        assert!(digest.hex().starts_with("ddaf35a193617abacc417349ae204131"));
        assert_eq!(digest.hex().len(), 128);
        assert_eq!(digest.algorithm(), Algorithm::Sha512);
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn refusals_tell_malformed_from_unsupported() {
        let hex64 = "a".repeat(64);
        let hex128 = "a".repeat(128);
        let malformed = Err(DigestError::Malformed);
        let unsupported = Err(DigestError::UnsupportedAlgorithm(UnsupportedAlgorithm));
        let wrong256 = Err(DigestError::WrongHex(Algorithm::Sha256));
        let wrong512 = Err(DigestError::WrongHex(Algorithm::Sha512));
        let table: Vec<(String, Result<Digest, DigestError>)> = vec![
            (String::new(), malformed.clone()),
            (":".into(), malformed.clone()),
            ("sha256".into(), malformed.clone()),
            ("sha256:".into(), malformed.clone()),
            (format!(":{hex64}"), malformed.clone()),
            (format!("SHA256:{hex64}"), malformed.clone()),
            (format!("sha256:{hex64} "), malformed.clone()),
            (format!(" sha256:{hex64}"), malformed.clone()),
            (format!("sha256:sha256:{hex64}"), malformed.clone()),
            (format!("sha256+:{hex64}"), malformed.clone()),
            (format!("+sha256:{hex64}"), malformed.clone()),
            (format!("sha+-256:{hex64}"), malformed.clone()),
            ("sha256:../../etc/passwd".into(), malformed.clone()),
            (
                format!("sha256:{}\u{e9}", "a".repeat(62)),
                malformed.clone(),
            ),
            (format!("sha256:{}\0", "a".repeat(63)), malformed),
            (
                "md5:d41d8cd98f00b204e9800998ecf8427e".into(),
                unsupported.clone(),
            ),
            (format!("sha384:{hex64}"), unsupported.clone()),
            (format!("blake3:{hex64}"), unsupported.clone()),
            (
                "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564".into(),
                unsupported.clone(),
            ),
            (
                "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8".into(),
                unsupported,
            ),
            ("sha256:a".into(), wrong256.clone()),
            (format!("sha256:{}", "a".repeat(63)), wrong256.clone()),
            (format!("sha256:{}", "a".repeat(65)), wrong256.clone()),
            (format!("sha256:{}", "A".repeat(64)), wrong256.clone()),
            (format!("sha256:{}", "g".repeat(64)), wrong256.clone()),
            (format!("sha256:{hex128}"), wrong256),
            (format!("sha512:{hex64}"), wrong512.clone()),
            (format!("sha512:{}F", "a".repeat(127)), wrong512),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Digest>(), expected, "{text:?}");
        }
    }

    #[test]
    fn messages_are_fit_for_a_client() {
        assert_eq!(
            DigestError::WrongHex(Algorithm::Sha512).to_string(),
            "a sha512 digest has exactly 128 lowercase hex characters"
        );
    }

    #[test]
    fn the_fallback_tag_fits_a_tag() {
        let digest: Digest = EMPTY_256.parse().unwrap();
        assert_eq!(digest.fallback_tag(), EMPTY_256.replace(':', "-"));
        let long = Digest::of(Algorithm::Sha512, b"");
        assert_eq!(long.fallback_tag(), format!("sha512-{}", &long.hex()[..64]));
        assert!(long.fallback_tag().parse::<super::super::Tag>().is_ok());
    }

    #[test]
    fn order_is_that_of_the_string() {
        let mut digests: Vec<Digest> = [b"a", b"b", b"c", b"d"]
            .iter()
            .flat_map(|c| [Algorithm::Sha512, Algorithm::Sha256].map(|a| Digest::of(a, *c)))
            .collect();
        let mut texts: Vec<String> = digests.iter().map(Digest::to_string).collect();
        digests.sort();
        texts.sort();
        assert_eq!(
            digests.iter().map(Digest::as_str).collect::<Vec<_>>(),
            texts
        );
    }

    #[test]
    fn serde_goes_through_the_parser() {
        let digest: Digest = serde_json::from_str(&format!("\"{EMPTY_256}\"")).unwrap();
        assert_eq!(
            serde_json::to_string(&digest).unwrap(),
            format!("\"{EMPTY_256}\"")
        );
        assert!(serde_json::from_str::<Digest>("\"sha256:abc\"").is_err());
        assert!(serde_json::from_str::<Digest>("7").is_err());
        assert_eq!(
            serde_json::from_str::<Algorithm>("\"sha512\"").unwrap(),
            Algorithm::Sha512
        );
    }
}
