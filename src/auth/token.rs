//! Our own tokens: EdDSA-signed JWTs in the form of Docker's token authentication.
//!
//! The algorithm is pinned; nothing in a token's own header is believed but the key id, and that only
//! chooses among our keys. A token that was verified once is remembered by its hash, since checking a
//! signature costs more than all else that a small pull does.

use std::{
    collections::HashMap,
    fmt, fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header,
};
use quick_cache::sync::Cache;
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use super::{
    driver::Identity,
    scope::{Action, Scope},
};
use crate::clock::Clock;

/// The `iss` of our tokens.
const ISSUER: &str = "kontor";

/// How many verified tokens are remembered.
const REMEMBERED: usize = 16 * 1024;

/// Clocks of two nodes may differ by this much.
const LEEWAY_SECONDS: i64 = 30;

/// The longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    /// `<driver>:<user>`, or empty for the anonymous.
    pub sub: String,
    /// The registry that the token is for, as the client named it.
    pub aud: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    /// The token's own name, for logs and revocation.
    pub jti: String,
    /// What it allows, by names as the client asked for them.
    pub access: Vec<Scope>,
    /// Who it is for, if the catalog may be listed: what is in it depends on the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Identity>,
}

impl Claims {
    /// When the token expires.
    pub fn expires_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.exp, 0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Whether the token allows `action` on the repository that the client calls `name`.
    pub fn allows(&self, name: &str, action: Action) -> bool {
        self.access.iter().any(|scope| {
            scope.resource == super::scope::ResourceType::Repository
                && scope.name == name
                && scope.actions.contains(&action)
        })
    }

    /// Whether the token allows to list the catalog.
    pub fn allows_catalog(&self) -> bool {
        let catalog = Scope::catalog();
        self.access.iter().any(|scope| {
            scope.resource == catalog.resource
                && scope.name == catalog.name
                && scope.actions.contains(&Action::Catalog)
        })
    }
}

/// The signing keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("cannot use the signing key {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not an Ed25519 key.
    #[error("{} is not an Ed25519 private key in PEM form (PKCS #8): {reason}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The machine gives no random bytes.
    #[error("cannot make a signing key")]
    Random,
}

/// Why a token is not accepted; which of these it is, is for the log only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not one of ours: wrong key, algorithm, issuer or form.
    #[error("the token was not issued by this registry: {0}")]
    Foreign(String),
    /// Issued for another host name of this registry.
    #[error("the token was issued for {0}")]
    WrongAudience(String),
}

struct Key {
    encoding: EncodingKey,
    decoding: DecodingKey,
    id: String,
}

impl Key {
    fn read(path: &Path) -> Result<Self, KeyError> {
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
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|e| format(e.to_string()))?;
        let public = pair.public_key().as_ref();
        let id = hex::encode(&digest::digest(&digest::SHA256, public).as_ref()[..8]);
        let decoding = DecodingKey::from_ed_components(&BASE64_URL_SAFE_NO_PAD.encode(public))
            .map_err(|e| format(e.to_string()))?;
        Ok(Self {
            encoding: EncodingKey::from_ed_der(der),
            decoding,
            id,
        })
    }
}

/// Makes a key if there is none, readable by its owner only; `true` if it was made.
pub fn ensure_key_file(path: &Path) -> Result<bool, KeyError> {
    let failed = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    if path.try_exists().map_err(failed)? {
        return Ok(false);
    }
    let document =
        Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
    let body = BASE64_STANDARD.encode(document.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    // Written under another name first: a crash must not leave half a key that stops the next start.
    // A name of its own: of two that start at once none may write into, or take away, the other's draft.
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| KeyError::Random)?;
    let draft = path.with_extension(format!("{}.new", hex::encode(random)));
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed)?;
    io::Write::write_all(&mut file, pem.as_bytes()).map_err(failed)?;
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

/// Issues and verifies tokens.
pub struct Tokens {
    current: Key,
    accepted: HashMap<String, DecodingKey>,
    clock: Arc<dyn Clock>,
    verified: Cache<[u8; 32], Arc<Claims>>,
}

/// What a new token is to say.
#[derive(Debug)]
pub struct TokenRequest {
    /// `<driver>:<user>`, or empty for the anonymous.
    pub subject: String,
    /// The user, if the token can list the catalog.
    pub who: Option<Identity>,
    /// The registry's name as the client knows it.
    pub audience: String,
    /// What it allows.
    pub access: Vec<Scope>,
    /// For how long.
    pub lifetime: TimeDelta,
    /// The token's own name.
    pub jti: String,
}

impl Tokens {
    /// Signs with the key in `current` and accepts those in `previous` as well.
    pub fn open(
        current: &Path,
        previous: &[PathBuf],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyError> {
        let current = Key::read(current)?;
        let mut accepted = HashMap::from([(current.id.clone(), current.decoding.clone())]);
        for path in previous {
            let key = Key::read(path)?;
            accepted.insert(key.id, key.decoding);
        }
        Ok(Self {
            current,
            accepted,
            clock,
            verified: Cache::new(REMEMBERED),
        })
    }

    /// Signs a token.
    pub fn issue(&self, request: TokenRequest) -> Result<String, TokenError> {
        let now = self.clock.now();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: request.subject,
            aud: request.audience,
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: (now + request.lifetime).timestamp(),
            jti: request.jti,
            access: request.access,
            who: request.who,
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.current.id.clone());
        jsonwebtoken::encode(&header, &claims, &self.current.encoding)
            .map_err(|error| TokenError::Foreign(error.to_string()))
    }

    /// What a token of ours for `audience` says. It may have expired: the caller decides what that means.
    pub fn verify(&self, token: &str, audience: &str) -> Result<Arc<Claims>, TokenError> {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let claims = match self.verified.get(&fingerprint) {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(self.check(token)?);
                self.verified.insert(fingerprint, Arc::clone(&claims));
                claims
            }
        };
        if claims.aud != audience {
            return Err(TokenError::WrongAudience(claims.aud.clone()));
        }
        Ok(claims)
    }

    fn check(&self, token: &str) -> Result<Claims, TokenError> {
        let foreign = |reason: &dyn fmt::Display| TokenError::Foreign(reason.to_string());
        if token.len() > MAX_TOKEN_BYTES {
            return Err(foreign(&"too long"));
        }
        let header = decode_header(token).map_err(|e| foreign(&e))?;
        let key = header.kid.as_ref().and_then(|id| self.accepted.get(id));
        let key = key.ok_or_else(|| foreign(&"unknown key"))?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        // Times are checked against our own clock, the audience against the request.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims: Claims = decode(token, key, &validation)
            .map_err(|e| foreign(&e))?
            .claims;
        if claims.nbf > self.clock.now().timestamp() + LEEWAY_SECONDS {
            return Err(foreign(&"not valid yet"));
        }
        Ok(claims)
    }
}

/// Without the keys.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("key", &self.current.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn open(folder: &Path, name: &str, previous: &[PathBuf]) -> Tokens {
        let path = folder.join(name);
        ensure_key_file(&path).unwrap();
        Tokens::open(&path, previous, Arc::new(SystemClock)).unwrap()
    }

    fn request(audience: &str) -> TokenRequest {
        TokenRequest {
            subject: "static:ann".into(),
            who: None,
            audience: audience.into(),
            access: vec![Scope::repository("a/b", [Action::Pull])],
            lifetime: TimeDelta::seconds(60),
            jti: "1".into(),
        }
    }

    #[test]
    fn a_token_says_what_it_was_made_to_say() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = open(folder.path(), "key", &[]);
        let token = tokens.issue(request("host")).unwrap();
        for _ in 0..2 {
            let claims = tokens.verify(&token, "host").unwrap();
            assert!(claims.allows("a/b", Action::Pull));
            assert!(!claims.allows("a/b", Action::Push));
            assert!(!claims.allows("a/bc", Action::Pull));
            assert!(!claims.allows_catalog());
        }
        assert!(matches!(
            tokens.verify(&token, "other"),
            Err(TokenError::WrongAudience(_))
        ));
    }

    #[test]
    fn a_previous_key_stays_accepted_and_a_foreign_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let old = open(folder.path(), "old", &[]);
        let token = old.issue(request("host")).unwrap();
        let rotated = open(folder.path(), "new", &[folder.path().join("old")]);
        assert!(rotated.verify(&token, "host").is_ok());
        let foreign = open(folder.path(), "foreign", &[]);
        assert!(matches!(
            foreign.verify(&token, "host"),
            Err(TokenError::Foreign(_))
        ));
    }

    #[test]
    fn forged_tokens_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = open(folder.path(), "key", &[]);
        let token = tokens.issue(request("host")).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let id = &tokens.current.id;
        let hmac =
            BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{id}"}}"#));
        let more = BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let more = String::from_utf8(more)
            .unwrap()
            .replace("[\"pull\"]", "[\"pull\",\"push\"]");
        let more = BASE64_URL_SAFE_NO_PAD.encode(more);
        for forged in [
            format!("{none}.{}.", parts[1]),
            format!("{hmac}.{}.{}", parts[1], parts[2]),
            format!("{}.{more}.{}", parts[0], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            "x".repeat(MAX_TOKEN_BYTES + 1),
            String::new(),
        ] {
            assert!(tokens.verify(&forged, "host").is_err(), "{forged}");
        }
    }

    #[test]
    fn the_key_file_is_private_and_made_once() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(ensure_key_file(&path).unwrap());
        let first = fs::read(&path).unwrap();
        assert!(!ensure_key_file(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
