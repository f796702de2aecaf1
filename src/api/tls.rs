//! TLS from files that are read again when they change, so that a renewed certificate needs no restart.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tracing::{info, warn};

use super::server::TlsFiles;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// They do not fit together or are of an unknown kind.
    #[error("the TLS certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The configuration of a server that speaks HTTP/2 and HTTP/1.1 with the certificate in `files`.
pub fn server_config(files: TlsFiles) -> Result<ServerConfig, TlsError> {
    let resolver = Arc::new(Resolver {
        current: RwLock::new(load(&files)?),
    });
    watch(files, Arc::downgrade(&resolver));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Resolver {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self.current.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

fn load(files: &TlsFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let unreadable = |path: &Path, error: rustls::pki_types::pem::Error| TlsError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(&files.certificate, error))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unreadable(&files.key, error))?;
    Ok(Arc::new(CertifiedKey::from_der(
        chain,
        key,
        &aws_lc_rs::default_provider(),
    )?))
}

fn modified_at(files: &TlsFiles) -> io::Result<(SystemTime, SystemTime)> {
    let modified = |path: &Path| fs::metadata(path)?.modified();
    Ok((modified(&files.certificate)?, modified(&files.key)?))
}

/// Looks at the files until the server is gone. A pair that cannot be used is logged and the one in use
/// kept: the two files are rarely replaced at the same moment.
fn watch(files: TlsFiles, resolver: std::sync::Weak<Resolver>) {
    let mut seen = modified_at(&files).ok();
    thread::spawn(move || {
        loop {
            thread::sleep(LOOK_EVERY);
            let Some(resolver) = resolver.upgrade() else {
                return;
            };
            let now = modified_at(&files).ok();
            if now.is_none() || now == seen {
                continue;
            }
            match load(&files) {
                Ok(key) => {
                    *resolver
                        .current
                        .write()
                        .unwrap_or_else(PoisonError::into_inner) = key;
                    info!(certificate = %files.certificate.display(), "the TLS certificate was read again");
                    seen = now;
                }
                Err(error) => warn!(%error, "the changed TLS certificate is not used"),
            }
        }
    });
}
