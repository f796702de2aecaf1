//! Secrets of our making: how they look, and the keyed hash under which they are stored.
//!
//! `kontor_<kind>_<43 letters>`: scanners of source code find them, and a login knows from the look which
//! kind it has. They are 256 random bits, so a plain hash would do against guessing; with the key,
//! a stolen database does not even say whether a secret is one of ours.

use std::{fmt, fs, io, path::Path};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::key_file::{KeyError, ensure_private_file};
use crate::model::secret::SecretKind;

/// Bytes of a secret, and of the key.
const RANDOM_BYTES: usize = 32;

/// What all secrets begin with.
const PREFIX: &str = "kontor_";

/// What a secret of that kind begins with.
fn prefix(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::Robot => "kontor_robot_",
        SecretKind::Personal => "kontor_pat_",
        SecretKind::Refresh => "kontor_refresh_",
    }
}

/// The kind of secret that a text looks like.
pub fn kind_of(text: &str) -> Option<SecretKind> {
    if !text.starts_with(PREFIX) {
        return None;
    }
    SecretKind::ALL
        .into_iter()
        .find(|kind| text.starts_with(prefix(*kind)))
}

/// The machine gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct RandomError(String);

fn random() -> Result<[u8; RANDOM_BYTES], RandomError> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| RandomError(error.to_string()))?;
    Ok(bytes)
}

/// A fresh secret. It is shown to its owner once and never stored.
pub fn generate(kind: SecretKind) -> Result<String, RandomError> {
    Ok(format!(
        "{}{}",
        prefix(kind),
        BASE64_URL_SAFE_NO_PAD.encode(random()?)
    ))
}

/// The key of the stored hashes.
pub struct SecretHasher {
    key: hmac::Key,
}

impl SecretHasher {
    /// Reads the key, which is made if there is none. All nodes need the same.
    ///
    /// Errors: a file that cannot be read or made, or is no key.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        ensure_private_file(path, || {
            let random = random().map_err(|_| KeyError::Random)?;
            Ok(format!("{}\n", hex::encode(random)))
        })?;
        let failed = |source: io::Error| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let text = fs::read_to_string(path).map_err(failed)?;
        let bytes = hex::decode(text.trim()).unwrap_or_default();
        if bytes.len() != RANDOM_BYTES {
            return Err(failed(io::Error::other(
                "it must hold 64 hexadecimal digits; `openssl rand -hex 32` makes them",
            )));
        }
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
        })
    }

    /// What is stored of a secret: its HMAC-SHA256 (RFC 2104) in hexadecimal.
    pub fn hash(&self, secret: &str) -> String {
        hex::encode(hmac::sign(&self.key, secret.as_bytes()).as_ref())
    }
}

/// Without the key.
impl fmt::Debug for SecretHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHasher(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_its_kind_and_nothing_else_does() {
        for kind in SecretKind::ALL {
            let secret = generate(kind).unwrap();
            assert_eq!(kind_of(&secret), Some(kind));
            assert_ne!(secret, generate(kind).unwrap());
            assert!(secret.len() > 43, "{}", secret.len());
        }
        for other in ["", "kontor_", "kontor_x_abc", "hunter2", "xkontor_pat_a"] {
            assert_eq!(kind_of(other), None, "{other}");
        }
    }

    #[test]
    fn hashes_depend_on_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let first = SecretHasher::open(&a).unwrap();
        assert_eq!(first.hash("x"), SecretHasher::open(&a).unwrap().hash("x"));
        assert_ne!(first.hash("x"), first.hash("y"));
        assert_ne!(first.hash("x"), SecretHasher::open(&b).unwrap().hash("x"));
        fs::write(&b, "short").unwrap();
        let error = SecretHasher::open(&b).unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
    }
}
