//! The files that hold the keys of this registry: made once, readable by their owner only.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("cannot use the key {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a signing key.
    #[error("{} is not an Ed25519 or P-256 private key in PEM form (PKCS #8): {reason}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The machine gives no random bytes.
    #[error("cannot make a key: the system gives no random bytes")]
    Random,
}

/// Makes a file if there is none, readable by its owner only; `true` if it was made.
pub fn ensure_private_file(
    path: &Path,
    content: impl FnOnce() -> Result<String, KeyError>,
) -> Result<bool, KeyError> {
    let failed = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    if path.try_exists().map_err(failed)? {
        return Ok(false);
    }
    let content = content()?;
    // Written under another name first: a crash must not leave half a key that stops the next start.
    // A name of its own: of two that start at once none may write into, or take away, the other's draft.
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| KeyError::Random)?;
    let draft = path.with_extension(format!("{}.new", hex::encode(random)));
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed)?;
    io::Write::write_all(&mut file, content.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    // Not a rename: two processes that start at once must end up with the same key.
    match fs::hard_link(&draft, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    fs::remove_file(&draft).map_err(failed)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_made_once() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(ensure_private_file(&path, || Ok("a".into())).unwrap());
        assert!(!ensure_private_file(&path, || Ok("b".into())).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"a");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
