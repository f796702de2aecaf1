//! Our own tokens: signed JWTs in the form of Docker's token authentication.
//!
//! The algorithm is that of our key; nothing in a token's own header is believed but the key id, and that only
//! chooses among our keys. A token that was verified once is remembered by its hash, since checking a
//! signature costs more than all else that a small pull does.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use super::{
    driver::Identity,
    key_file::KeyError,
    scope::{Action, Scope},
    signing_key::{Jwk, SigningKey},
};
use crate::clock::Clock;

/// The `iss` of our tokens.
const ISSUER: &str = "kontor";

/// How many verified tokens are remembered.
const REMEMBERED: usize = 16 * 1024;

/// The longest token that is remembered.
const MAX_REMEMBERED_BYTES: usize = 4096;

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
    /// How many revocations there were when its login began: later ones can take it back.
    #[serde(default)]
    pub revocations: i64,
    /// Where the credentials came from that it was got with, for audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The user's identifier at the identity service, for audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The project that the user acts in, for audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
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

/// Issues and verifies tokens.
pub struct Tokens {
    pub(super) current: SigningKey,
    pub(super) accepted: HashMap<String, (Algorithm, DecodingKey)>,
    public: Vec<Jwk>,
    clock: Arc<dyn Clock>,
    verified: Cache<[u8; 32], Arc<Claims>>,
}

/// What a new token is to say.
#[derive(Debug)]
pub struct TokenRequest {
    /// `<driver>:<user>`, or empty for the anonymous.
    pub subject: String,
    /// How many revocations there were when the login began.
    pub revocations: i64,
    /// Where the credentials came from, for audit.
    pub origin: Option<String>,
    /// The user's identifier and project at the identity service, for audit.
    pub user_and_project: (Option<String>, Option<String>),
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
        let current = SigningKey::read(current)?;
        let mut public = vec![current.public.clone()];
        let known = (current.algorithm, current.decoding.clone());
        let mut accepted = HashMap::from([(current.id.clone(), known)]);
        for path in previous {
            let key = SigningKey::read(path)?;
            public.push(key.public);
            accepted.insert(key.id, (key.algorithm, key.decoding));
        }
        Ok(Self {
            current,
            accepted,
            public,
            clock,
            verified: Cache::new(REMEMBERED),
        })
    }

    /// The public keys, for others who want to check our tokens (RFC 7517).
    pub fn jwks(&self) -> &[Jwk] {
        &self.public
    }

    /// Signs a token.
    pub fn issue(&self, request: TokenRequest) -> Result<String, TokenError> {
        let now = self.clock.now();
        let (user_id, project_id) = request.user_and_project;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: request.subject,
            aud: request.audience,
            iat: now.timestamp(),
            revocations: request.revocations,
            nbf: now.timestamp(),
            exp: (now + request.lifetime).timestamp(),
            jti: request.jti,
            access: request.access,
            origin: request.origin,
            user_id,
            project_id,
            who: request.who,
        };
        let mut header = Header::new(self.current.algorithm);
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
                // Long ones are rare, and many of them would fill the memory.
                if token.len() <= MAX_REMEMBERED_BYTES {
                    self.verified.insert(fingerprint, Arc::clone(&claims));
                }
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
        let (algorithm, key) = key.ok_or_else(|| foreign(&"unknown key"))?;
        let mut validation = Validation::new(*algorithm);
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
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::super::signing_key::ensure_key_file;
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
            revocations: 0,
            origin: None,
            user_and_project: (None, None),
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

    /// A P-256 key, made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`.
    const P256: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVru24bRmQBh+LiaF\nJZiCmCLsG0JXdqJl894HFMDwE9GhRANCAATS0V8DOIkrJSud9w149iAzpoBMWhi+\n91RUXByDfaRJqA64Th+vTUc+zFlmPqMgklteEGA4u3BGEH8Sa7A4wxTa\n-----END PRIVATE KEY-----\n";

    #[test]
    fn es256_keys_sign_too_and_no_algorithm_passes_for_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p256");
        std::fs::write(&path, P256).unwrap();
        let old = open(folder.path(), "ed", &[]);
        let tokens =
            Tokens::open(&path, &[folder.path().join("ed")], Arc::new(SystemClock)).unwrap();
        let token = tokens.issue(request("host")).unwrap();
        assert_eq!(decode_header(&token).unwrap().alg, Algorithm::ES256);
        assert!(tokens.verify(&token, "host").is_ok());
        let before = old.issue(request("host")).unwrap();
        assert!(tokens.verify(&before, "host").is_ok());
        // The key id of the one and the signature of the other.
        let parts: Vec<&str> = before.split('.').collect();
        let header = format!(
            r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"}}"#,
            tokens.current.id
        );
        let header = BASE64_URL_SAFE_NO_PAD.encode(header);
        let mixed = format!("{header}.{}.{}", parts[1], parts[2]);
        assert!(tokens.verify(&mixed, "host").is_err());
        let kinds: Vec<String> = tokens
            .jwks()
            .iter()
            .map(|key| serde_json::to_value(key).unwrap()["kty"].to_string())
            .collect();
        assert_eq!(kinds, ["\"EC\"", "\"OKP\""]);
    }
}
