//! The form of a JWT and the rules of its claims. Pure: no keys, no network, and the time is given.
//!
//! Nothing here is believed before the signature was checked, but the form, and the issuer to choose whose key to ask
//! for. A newcomer will want to use the header: its `jwk`, `jku`, `x5u` and `x5c` bring the sender's own key, and its `alg`
//! is the sender's wish. They are not even read, and `alg` is only compared with what the operator pinned (RFC 8725, 3.1).

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::config::ProviderConfig;

/// The longest token, in bytes. Issuers with hundreds of groups stay below.
pub(super) const MAX_TOKEN_BYTES: usize = 16 << 10;

/// How deep claims may be nested.
const MAX_DEPTH: usize = 16;

/// The longest list or map in the claims. Expressions loop over them.
const MAX_ITEMS: usize = 512;

/// 9999-12-31: later times are as good as never.
const END_OF_TIME: f64 = 253_402_300_799.0;

/// Why a token is not accepted, for the log only. It holds no value of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it is not well-formed: {0}")]
    Form(&'static str),
    #[error("it is too long")]
    TooLong,
    #[error("its algorithm is not accepted")]
    Algorithm,
    #[error("its type is not one of an identity or access token")]
    Type,
    #[error("it has a critical header, and none is known here")]
    Critical,
    #[error("no key of the issuer fits it")]
    Key,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is from another issuer")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("it was issued to an unknown party")]
    Party,
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("it is too old")]
    TooOld,
}

/// What of the header is read.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// A member counts as present even if it is null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A token that was taken apart and not verified.
pub(super) struct Unverified<'a> {
    pub(super) header: Header,
    /// Header and claims as they were signed.
    pub(super) message: &'a str,
    pub(super) signature: &'a str,
    pub(super) claims: Map<String, Json>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart (RFC 7519, 7.2); `None` if it is none: then it may be a password.
    pub(super) fn parse(token: &'a str) -> Option<Result<Self, Refusal>> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let is_base64 = |text: &str| {
            let is_of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            text.bytes().all(is_of_alphabet)
        };
        // Every JSON object begins with `{`, and all headers that were seen with `{"`.
        if !header.starts_with("ey") || ![header, claims, signature].into_iter().all(is_base64) {
            return None;
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Some(Err(Refusal::TooLong));
        }
        Some(Ok(Self {
            header: object(header)?,
            message,
            signature,
            claims: object(claims)?,
        }))
    }

    /// The issuer that it says it is from.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Checks the header but for the key (RFC 7515, 4.1; RFC 9068, 2.1).
    pub(super) fn check_header(&self) -> Result<(), Refusal> {
        if self.header.crit {
            return Err(Refusal::Critical);
        }
        let typ = self.header.typ.as_deref().map(str::to_ascii_lowercase);
        match typ.as_deref() {
            None | Some("jwt" | "at+jwt" | "application/at+jwt") => Ok(()),
            Some(_) => Err(Refusal::Type),
        }
    }

    fn is_access_token(&self) -> bool {
        let typ = self.header.typ.as_deref().unwrap_or_default();
        typ.to_ascii_lowercase().ends_with("at+jwt")
    }

    /// Checks the claims (RFC 7519, 4.1; OpenID Connect Core 3.1.3.7). Says when the token expires.
    pub(super) fn check_claims(
        &self,
        config: &ProviderConfig,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, Refusal> {
        if self.issuer() != Some(config.issuer.as_str()) {
            return Err(Refusal::Issuer);
        }
        if !self.is_for(&config.audiences) {
            return Err(Refusal::Audience);
        }
        if self.subject().is_none_or(str::is_empty) {
            return Err(Refusal::Missing("sub"));
        }
        // An access token's azp is whoever asked for it, which is what its audience is there to allow.
        match self.claims.get("azp") {
            None => {}
            Some(_) if self.is_access_token() => {}
            Some(Json::String(party)) if config.knows_party(party) => {}
            Some(_) => return Err(Refusal::Party),
        }
        let expires_at = self.check_times(config, now)?;
        check_bounds(&self.claims)?;
        Ok(expires_at)
    }

    fn check_times(
        &self,
        config: &ProviderConfig,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, Refusal> {
        let skew = config.clock_skew().as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact for the next 285 million years"
        )]
        let now = now.timestamp() as f64;
        let expires = self.time("exp")?.ok_or(Refusal::Missing("exp"))?;
        if now >= expires + skew {
            return Err(Refusal::Expired);
        }
        if self.time("nbf")?.is_some_and(|start| start > now + skew) {
            return Err(Refusal::NotYet);
        }
        let issued = self.time("iat")?;
        if issued.is_some_and(|issued| issued > now + skew) {
            return Err(Refusal::NotYet);
        }
        if let Some(age) = config.max_token_age_seconds {
            let issued = issued.ok_or(Refusal::Missing("iat"))?;
            let age = u32::try_from(age).map_or(f64::MAX, f64::from);
            if now - issued > age + skew {
                return Err(Refusal::TooOld);
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "between 1970 and 9999")]
        let seconds = expires.clamp(0.0, END_OF_TIME) as i64;
        DateTime::from_timestamp(seconds, 0).ok_or(Refusal::Form("exp"))
    }

    pub(super) fn subject(&self) -> Option<&str> {
        self.claims.get("sub")?.as_str()
    }

    /// Whether one of these audiences stands in `aud`, a text or a list of texts.
    pub(super) fn is_for(&self, audiences: &[String]) -> bool {
        let is_ours = |value: &Json| {
            let text = value.as_str();
            text.is_some_and(|text| audiences.iter().any(|known| known == text))
        };
        match self.claims.get("aud") {
            Some(Json::Array(items)) => items.iter().any(is_ours),
            Some(value) => is_ours(value),
            None => false,
        }
    }

    /// A NumericDate: seconds, with a fraction or without (RFC 7519, 2).
    fn time(&self, name: &'static str) -> Result<Option<f64>, Refusal> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(Refusal::Form(name)),
        }
    }
}

/// serde_json gives up at 128 levels by itself.
fn object<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn check_bounds(claims: &Map<String, Json>) -> Result<(), Refusal> {
    let mut open: Vec<(&Json, usize)> = claims.values().map(|value| (value, 1)).collect();
    let mut is_small = claims.len() <= MAX_ITEMS;
    while let Some((value, depth)) = open.pop() {
        is_small &= depth <= MAX_DEPTH;
        match value {
            Json::Array(items) => {
                is_small &= items.len() <= MAX_ITEMS;
                open.extend(items.iter().map(|item| (item, depth + 1)));
            }
            Json::Object(entries) => {
                is_small &= entries.len() <= MAX_ITEMS;
                open.extend(entries.values().map(|item| (item, depth + 1)));
            }
            _ => {}
        }
        if !is_small {
            return Err(Refusal::Form("claims that are too deep or too many"));
        }
    }
    Ok(())
}
