//! The keys that sign our tokens: Ed25519 (`EdDSA`, RFC 8037) or P-256 (`ES256`, RFC 7518).
//!
//! A key knows its algorithm, and a token is checked with that one: what the token's own header says counts for
//! nothing.

use std::{fs, path::Path};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::Serialize;

use super::key_file::{KeyError, ensure_private_file};

/// A key pair.
pub(super) struct SigningKey {
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: Algorithm,
    pub(super) id: String,
    pub(super) public: Jwk,
}

/// A public key in a JWK set (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jwk {
    kid: String,
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    x: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

fn key_id(public: &[u8]) -> String {
    hex::encode(&digest::digest(&digest::SHA256, public).as_ref()[..8])
}

impl SigningKey {
    pub(super) fn read(path: &Path) -> Result<Self, KeyError> {
        let format = |reason: String| KeyError::Format {
            path: path.to_owned(),
            reason,
        };
        let pem = fs::read(path).map_err(|source| KeyError::File {
            path: path.to_owned(),
            source,
        })?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|e| format(format!("{e:?}")))?;
        let der = der.secret_pkcs8_der();
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Self::ed25519(der, &pair).map_err(|e| format(e.to_string()));
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|e| format(e.to_string()))?;
        Self::p256(der, &pair).map_err(|e| format(e.to_string()))
    }

    fn ed25519(der: &[u8], pair: &Ed25519KeyPair) -> jsonwebtoken::errors::Result<Self> {
        let public = pair.public_key().as_ref();
        let (id, x) = (key_id(public), BASE64_URL_SAFE_NO_PAD.encode(public));
        Ok(Self {
            encoding: EncodingKey::from_ed_der(der),
            decoding: DecodingKey::from_ed_components(&x)?,
            algorithm: Algorithm::EdDSA,
            public: Jwk {
                kid: id.clone(),
                kty: "OKP",
                crv: "Ed25519",
                alg: "EdDSA",
                usage: "sig",
                x,
                y: None,
            },
            id,
        })
    }

    fn p256(der: &[u8], pair: &EcdsaKeyPair) -> jsonwebtoken::errors::Result<Self> {
        // An uncompressed point: 4, then x and y of 32 bytes each (SEC 1, section 2.3.3).
        let public = pair.public_key().as_ref();
        let (x, y) = public
            .get(1..)
            .unwrap_or_default()
            .split_at_checked(32)
            .unwrap_or_default();
        let (x, y) = (
            BASE64_URL_SAFE_NO_PAD.encode(x),
            BASE64_URL_SAFE_NO_PAD.encode(y),
        );
        let id = key_id(public);
        Ok(Self {
            encoding: EncodingKey::from_ec_der(der),
            decoding: DecodingKey::from_ec_components(&x, &y)?,
            algorithm: Algorithm::ES256,
            public: Jwk {
                kid: id.clone(),
                kty: "EC",
                crv: "P-256",
                alg: "ES256",
                usage: "sig",
                x,
                y: Some(y),
            },
            id,
        })
    }
}

/// Makes an Ed25519 key if there is none, readable by its owner only; `true` if it was made.
pub fn ensure_key_file(path: &Path) -> Result<bool, KeyError> {
    ensure_private_file(path, || {
        let document =
            Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
        let body = BASE64_STANDARD.encode(document.as_ref());
        Ok(format!(
            "-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
        ))
    })
}
