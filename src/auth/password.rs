//! Passwords: argon2id hashes in PHC form, and random passwords.

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{PasswordHasher as _, phc::PasswordHash},
};
use aws_lc_rs::constant_time;

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

/// The memory of one computation, to be used again: an allocator that gets 19 MiB back keeps them for the
/// thread that had them, and each login may run on another thread.
#[derive(Debug, Default)]
pub struct Memory(Vec<Block>);

/// Whether the password belongs to the hash. As slow as [`hash`].
pub fn verify(password: &str, hash: &str, memory: &mut Memory) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else {
        return false;
    };
    compute(password, &hash, memory).is_some_and(|actual| {
        hash.hash.is_some_and(|expected| {
            constant_time::verify_slices_are_equal(&actual, expected.as_bytes()).is_ok()
        })
    })
}

/// What the password becomes under the parameters and salt of `hash`; `None` if they are not usable.
fn compute(password: &str, hash: &PasswordHash, memory: &mut Memory) -> Option<Vec<u8>> {
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = match hash.version {
        None => Version::default(),
        Some(version) => Version::try_from(version).ok()?,
    };
    let params = Params::try_from(hash).ok()?;
    let blocks = params.block_count();
    if memory.0.len() < blocks {
        memory.0.resize(blocks, Block::default());
    }
    let mut actual = vec![0; hash.hash?.len()];
    Argon2::new(algorithm, version, params)
        .hash_password_into_with_memory(
            password.as_bytes(),
            hash.salt.as_ref()?.as_ref(),
            &mut actual,
            memory.0.get_mut(..blocks)?,
        )
        .ok()?;
    Some(actual)
}

/// A random password of 130 bits.
pub fn random() -> Result<String, PasswordError> {
    let mut bytes = [0; RANDOM_PASSWORD_CHARS];
    getrandom::fill(&mut bytes).map_err(|error| PasswordError(error.to_string()))?;
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
        let mut memory = Memory::default();
        assert!(verify("hunter2", &stored, &mut memory));
        assert!(!verify("hunter3", &stored, &mut memory));
        assert!(!verify("hunter2", "no hash", &mut memory));
        // One made by the reference implementation, with less memory than the block above.
        let foreign = "$argon2id$v=19$m=8,t=1,p=1$iTyJ5Vz6ud3oqEClohm9Kg$CaAGb45Va7dPZKvcnsU55uOCytuyrbFkEGPNWPrSPys";
        assert!(verify("correct horse", foreign, &mut memory));
        assert!(!verify("correct horses", foreign, &mut memory));
    }

    #[test]
    fn random_passwords_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
        assert_eq!(random().unwrap().len(), RANDOM_PASSWORD_CHARS);
    }
}
