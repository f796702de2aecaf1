//! Signed heads of the audit chain: JWS with the key that signs tokens.
//!
//! They have a type of their own and none of the claims that a token needs, so that neither is ever taken for the
//! other.

use std::collections::HashMap;

use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, JwkSet},
};

use super::token::Tokens;
use crate::model::audit_chain::AuditHead;

/// The `typ` of the statement's header.
const TYPE: &str = "kontor-audit-head+jwt";

/// A signed head cannot be made or believed.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The signature is not one of ours, or the statement is something else.
    #[error("the signature of a head is not good: {0}")]
    Signature(String),
    /// The keys cannot be read.
    #[error("the JWK set cannot be read: {0}")]
    Keys(String),
}

/// The public keys that heads are checked with.
pub struct HeadKeys(HashMap<String, (Algorithm, DecodingKey)>);

impl HeadKeys {
    /// The keys of a JWK set as `/.well-known/jwks.json` gives it.
    pub fn from_jwks(json: &str) -> Result<Self, HeadError> {
        let keys = |reason: String| HeadError::Keys(reason);
        let set: JwkSet = serde_json::from_str(json).map_err(|e| keys(e.to_string()))?;
        let mut found = HashMap::new();
        for jwk in &set.keys {
            let algorithm = match &jwk.algorithm {
                AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => {
                    Algorithm::EdDSA
                }
                AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => {
                    Algorithm::ES256
                }
                _ => continue,
            };
            let Some(id) = jwk.common.key_id.clone() else {
                continue;
            };
            let key = DecodingKey::from_jwk(jwk).map_err(|e| keys(e.to_string()))?;
            found.insert(id, (algorithm, key));
        }
        if found.is_empty() {
            return Err(keys("it has no Ed25519 or P-256 key with a kid".into()));
        }
        Ok(Self(found))
    }

    /// What a statement says, if its signature is good.
    pub fn verify(&self, statement: &str) -> Result<AuditHead, HeadError> {
        let bad = |reason: String| HeadError::Signature(reason);
        let statement = statement.trim();
        let header = decode_header(statement).map_err(|e| bad(e.to_string()))?;
        if header.typ.as_deref() != Some(TYPE) {
            return Err(bad("it is no head of an audit chain".into()));
        }
        let key = header.kid.as_ref().and_then(|id| self.0.get(id));
        let (algorithm, key) = key.ok_or_else(|| bad("it is signed with an unknown key".into()))?;
        let mut validation = Validation::new(*algorithm);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = decode::<AuditHead>(statement, key, &validation);
        Ok(decoded.map_err(|e| bad(e.to_string()))?.claims)
    }
}

impl Tokens {
    /// Signs a head.
    pub fn head_sign(&self, head: &AuditHead) -> Result<String, HeadError> {
        let mut header = Header::new(self.current.algorithm);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(self.current.id.clone());
        jsonwebtoken::encode(&header, head, &self.current.encoding)
            .map_err(|error| HeadError::Signature(error.to_string()))
    }

    /// The keys that sign now and signed before.
    pub fn head_keys(&self) -> HeadKeys {
        HeadKeys(self.accepted.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        auth::{signing_key::ensure_key_file, token::TokenRequest},
        clock::SystemClock,
    };

    fn tokens() -> Tokens {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        ensure_key_file(&key).unwrap();
        Tokens::open(&key, &[], Arc::new(SystemClock)).unwrap()
    }

    fn head() -> AuditHead {
        AuditHead {
            seq: 7,
            hash: "ab".repeat(32),
            iat: 1,
            is_anchor: false,
        }
    }

    #[test]
    fn a_head_is_believed_with_the_published_keys_and_with_no_other() {
        let (tokens, stranger) = (tokens(), tokens());
        let signed = tokens.head_sign(&head()).unwrap();
        assert_eq!(tokens.head_keys().verify(&signed).unwrap(), head());
        let jwks = serde_json::json!({ "keys": tokens.jwks() }).to_string();
        let keys = HeadKeys::from_jwks(&jwks).unwrap();
        assert_eq!(keys.verify(&format!("{signed}\n")).unwrap(), head());
        assert!(stranger.head_keys().verify(&signed).is_err());
        let (start, signature) = signed.rsplit_once('.').unwrap();
        let other = tokens.head_sign(&AuditHead { seq: 8, ..head() }).unwrap();
        let (_, other) = other.rsplit_once('.').unwrap();
        assert_ne!(other, signature);
        assert!(keys.verify(&format!("{start}.{other}")).is_err());
    }

    #[test]
    fn neither_a_head_nor_a_token_is_taken_for_the_other() {
        let tokens = tokens();
        let signed = tokens.head_sign(&head()).unwrap();
        assert!(tokens.verify(&signed, "").is_err());
        let token = tokens.issue(TokenRequest {
            subject: "static:ann".into(),
            revocations: 0,
            origin: None,
            user_and_project: (None, None),
            who: None,
            audience: "host".into(),
            access: vec![],
            lifetime: chrono::TimeDelta::minutes(5),
            jti: "x".into(),
        });
        assert!(tokens.head_keys().verify(&token.unwrap()).is_err());
        assert!(HeadKeys::from_jwks("{\"keys\":[]}").is_err());
    }
}
