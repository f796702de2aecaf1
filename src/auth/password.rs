//! Passwords: argon2id hashes in PHC form, and random passwords.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use aws_lc_rs::rand;

/// Letters and digits that are not mistaken for one another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Characters of a random password: five bits each.
const RANDOM_PASSWORD_CHARS: usize = 26;

/// The machine cannot give random bytes or the hash parameters are not usable.
#[derive(Debug, thiserror::Error)]
#[error("cannot hash a password: {0}")]
pub struct PasswordError(String);

/// Hashes a password with argon2id and the parameters that OWASP recommends (19 MiB, 2 passes).
/// It takes tens of milliseconds: call it on the blocking pool.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| PasswordError(error.to_string()))
}

/// Whether the password belongs to the hash. As slow as [`hash`].
pub fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

/// A random password of 130 bits.
pub fn random() -> Result<String, PasswordError> {
    let mut bytes = [0; RANDOM_PASSWORD_CHARS];
    rand::fill(&mut bytes).map_err(|error| PasswordError(error.to_string()))?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_only() {
        let stored = hash("hunter2").unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify("hunter2", &stored));
        assert!(!verify("hunter3", &stored));
        assert!(!verify("hunter2", "no hash"));
    }

    #[test]
    fn random_passwords_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
        assert_eq!(random().unwrap().len(), RANDOM_PASSWORD_CHARS);
    }
}
