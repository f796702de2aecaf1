//! The public keys of an issuer, and which of them may check a token. Pure.
//!
//! A key is fixed to its algorithms here, by its type and the operator's list, before any token is seen. So a token can
//! choose among keys and never what a key is used for. A newcomer will be tempted to fail on a key that is not usable: sets
//! hold keys for other uses, and new kinds of keys; those are left out, not complained about.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value as Json;

use super::jwt::Header;

/// The most keys of a set that are looked at.
const MAX_KEYS: usize = 64;

/// RSA keys, by their modulus; NIST SP 800-131A allows none below. The upper bound is aws-lc's.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A JWK (RFC 7517, 4), as far as it is used.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    // Each is read for itself: one strange key must not make the others useless.
    keys: Vec<Json>,
}

struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// The usable keys of a set.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Reads a set (RFC 7517, 5). `pinned` are the algorithms that the operator accepts.
    ///
    /// # Errors
    /// If it is no set. A set without a usable key is fine: it may get one later.
    pub(super) fn parse(set: &[u8], pinned: &[Algorithm]) -> Result<Self, serde_json::Error> {
        let set: JwkSet = serde_json::from_slice(set)?;
        let keys = set.keys.into_iter().take(MAX_KEYS);
        let keys = keys.filter_map(|key| usable(serde_json::from_value(key).ok()?, pinned));
        Ok(Self(keys.collect()))
    }

    /// The one key that may check a token with this header.
    ///
    /// A token that names a key is checked with that key; one that names none, or a set that names none, only if a single
    /// key can be meant (OpenID Connect Core 10.1).
    pub(super) fn find(&self, header: &Header) -> Option<(&DecodingKey, Algorithm)> {
        let fitting = self.0.iter().filter_map(|key| {
            let mut algorithms = key.algorithms.iter();
            let algorithm = algorithms.find(|algorithm| format!("{algorithm:?}") == header.alg)?;
            Some((key, *algorithm))
        });
        let fitting: Vec<_> = fitting.collect();
        let named: Vec<_> = match &header.kid {
            None => fitting,
            Some(kid) => {
                let named = fitting
                    .iter()
                    .filter(|(key, _)| key.kid.as_ref() == Some(kid));
                let named: Vec<_> = named.copied().collect();
                if named.is_empty() && fitting.iter().all(|(key, _)| key.kid.is_none()) {
                    fitting
                } else {
                    named
                }
            }
        };
        match named.as_slice() {
            [(key, algorithm)] => Some((&key.decoding, *algorithm)),
            _ => None,
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.0.len()).finish()
    }
}

fn usable(jwk: Jwk, pinned: &[Algorithm]) -> Option<Key> {
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    let may_verify = |uses: &Vec<String>| uses.iter().any(|usage| usage == "verify");
    if jwk.key_ops.as_ref().is_some_and(|uses| !may_verify(uses)) {
        return None;
    }
    let (decoding, by_type) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => (rsa(&jwk)?, RSA_ALGORITHMS.as_slice()),
        ("EC", Some("P-256")) => (ec(&jwk)?, [Algorithm::ES256].as_slice()),
        ("EC", Some("P-384")) => (ec(&jwk)?, [Algorithm::ES384].as_slice()),
        ("OKP", Some("Ed25519")) => {
            let key = DecodingKey::from_ed_components(jwk.x.as_deref()?).ok()?;
            (key, [Algorithm::EdDSA].as_slice())
        }
        _ => return None,
    };
    let is_named = |algorithm: &Algorithm| {
        let named = jwk.alg.as_deref();
        named.is_none_or(|named| named == format!("{algorithm:?}"))
    };
    let algorithms: Vec<_> = pinned
        .iter()
        .copied()
        .filter(|algorithm| by_type.contains(algorithm) && is_named(algorithm))
        .collect();
    (!algorithms.is_empty()).then_some(Key {
        kid: jwk.kid,
        algorithms,
        decoding,
    })
}

const RSA_ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

fn rsa(jwk: &Jwk) -> Option<DecodingKey> {
    let (modulus, exponent) = (jwk.n.as_deref()?, jwk.e.as_deref()?);
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(modulus).ok()?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    let leading = usize::try_from(bytes.get(first)?.leading_zeros()).ok()?;
    let bits = (bytes.len() - first) * 8 - leading;
    if !RSA_BITS.contains(&bits) {
        return None;
    }
    DecodingKey::from_rsa_components(modulus, exponent).ok()
}

fn ec(jwk: &Jwk) -> Option<DecodingKey> {
    DecodingKey::from_ec_components(jwk.x.as_deref()?, jwk.y.as_deref()?).ok()
}
