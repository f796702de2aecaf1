//! The settings of one identity provider, `[auth.oidc.<name>]`, and what a type cannot say about them.
//!
//! All is checked at start, the expressions included. A newcomer will want to keep the issuer as a URL: it is compared
//! with tokens letter by letter (OpenID Connect Core 3.1.3.7), and a URL type would add a slash.

use std::{path::PathBuf, time::Duration};

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use storage_drivers::Secret;
use url::Url;

use super::mapping::{Mapping, MappingError};
use crate::auth::outbound::{Outbound, OutboundError, OutboundPolicy};

/// How much two clocks may differ at most, in seconds.
const MAX_CLOCK_SKEW_SECONDS: u64 = 300;

/// One identity provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// The issuer, exactly as it stands in `iss`.
    pub issuer: String,
    /// The audiences whose tokens are for this registry; one of them must stand in `aud`.
    pub audiences: Vec<String>,
    /// The signature algorithms that are accepted, asymmetric ones only.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// How much the issuer's clock may differ from ours, in seconds.
    #[serde(default = "default_clock_skew_seconds")]
    pub clock_skew_seconds: u64,
    /// How old a token may be by its `iat`, in seconds; then `iat` is needed.
    #[serde(default)]
    pub max_token_age_seconds: Option<u64>,
    /// What may stand in `azp` besides `client_id` and the audiences.
    #[serde(default)]
    pub authorized_parties: Vec<String>,
    /// The client that `kontor login` uses at the issuer.
    #[serde(default)]
    pub client_id: Option<String>,
    /// What `kontor login` asks for.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// The secret of `client_id`, for issuers that want one from a command line (Google). It is told to everybody who
    /// logs in, so it must not be worth anything.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// The user's name, in CEL; `claims.sub` by default.
    #[serde(default)]
    pub user: Option<String>,
    /// The user's groups, in CEL, for `grants`.
    #[serde(default)]
    pub groups: Option<String>,
    /// What the user is granted, in CEL.
    #[serde(default)]
    pub grants: Option<String>,
    /// Whether tokens are people's. Otherwise they are only for service identities.
    #[serde(default = "default_people")]
    pub people: bool,
    /// Whether `claims.email` can be used although the issuer does not say that it was verified.
    #[serde(default)]
    pub trust_unverified_email: bool,
    /// Whether the issuer may be called without TLS.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the issuer may lie in a private network.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// More certificates to trust, PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Where the keys are, for issuers without discovery.
    #[serde(default)]
    pub jwks_uri: Option<Url>,
}

fn default_algorithms() -> Vec<String> {
    ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec()
}

fn default_clock_skew_seconds() -> u64 {
    30
}

fn default_scopes() -> Vec<String> {
    ["openid", "profile", "email"].map(str::to_owned).to_vec()
}

fn default_people() -> bool {
    true
}

/// Why a provider cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A key has a value that is no use.
    #[error("auth.oidc.{provider}.{key}: {reason}")]
    Invalid {
        /// The name of the provider.
        provider: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client cannot be made for it.
    #[error("auth.oidc.{provider}: {source}")]
    Outbound {
        /// The name of the provider.
        provider: String,
        /// Why.
        source: OutboundError,
    },
}

/// Settings that were checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) config: ProviderConfig,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) discovery_url: Url,
    pub(super) mapping: Mapping,
}

impl ProviderConfig {
    pub(super) fn policy(&self) -> OutboundPolicy {
        OutboundPolicy {
            allow_http: self.allow_http,
            allow_private_addresses: self.allow_private_addresses,
            ca_file: self.ca_file.clone(),
        }
    }

    /// Whether the party in `azp` may have asked for the token.
    pub(super) fn knows_party(&self, party: &str) -> bool {
        self.client_id.as_deref() == Some(party)
            || self.audiences.iter().any(|known| known == party)
            || self.authorized_parties.iter().any(|known| known == party)
    }

    pub(super) fn clock_skew(&self) -> Duration {
        Duration::from_secs(self.clock_skew_seconds)
    }

    /// Checks everything, and that `outbound` would call what the configuration names.
    pub(super) fn settings(
        self,
        name: &str,
        outbound: &Outbound,
    ) -> Result<Settings, ProviderError> {
        let fault = |key, reason: &dyn std::fmt::Display| ProviderError::Invalid {
            provider: name.to_owned(),
            key,
            reason: reason.to_string(),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) {
            return Err(fault("(name)", &"up to 64 letters, digits, _ and -"));
        }
        let discovery_url =
            discovery_url(&self.issuer).map_err(|reason| fault("issuer", &reason))?;
        let urls = [
            ("issuer", Some(&discovery_url)),
            ("jwks_uri", self.jwks_uri.as_ref()),
        ];
        for (key, url) in urls {
            if let Some(url) = url {
                outbound.check(url).map_err(|error| fault(key, &error))?;
            }
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err(fault("audiences", &"at least one, and none empty"));
        }
        if self.clock_skew_seconds > MAX_CLOCK_SKEW_SECONDS {
            let reason = format!("at most {MAX_CLOCK_SKEW_SECONDS}");
            return Err(fault("clock_skew_seconds", &reason));
        }
        if self.max_token_age_seconds == Some(0) {
            return Err(fault("max_token_age_seconds", &"at least 1"));
        }
        let algorithms =
            algorithms(&self.algorithms).map_err(|reason| fault("algorithms", &reason))?;
        let mapping =
            Mapping::compile(&self).map_err(|MappingError { key, reason }| fault(key, &reason))?;
        Ok(Settings {
            name: name.to_owned(),
            config: self,
            algorithms,
            discovery_url,
            mapping,
        })
    }
}

/// OpenID Connect Discovery 4.1: a path of the issuer stays before `.well-known`.
fn discovery_url(issuer: &str) -> Result<Url, String> {
    let parsed = Url::parse(issuer).map_err(|error| error.to_string())?;
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err("an issuer has no query and no fragment".to_owned());
    }
    let text = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    Url::parse(&text).map_err(|error| error.to_string())
}

/// Never a symmetric algorithm: its key would be the public one, which everybody has (RFC 8725, 2.1).
fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, String> {
    const KNOWN: [(&str, Algorithm); 9] = [
        ("RS256", Algorithm::RS256),
        ("RS384", Algorithm::RS384),
        ("RS512", Algorithm::RS512),
        ("PS256", Algorithm::PS256),
        ("PS384", Algorithm::PS384),
        ("PS512", Algorithm::PS512),
        ("ES256", Algorithm::ES256),
        ("ES384", Algorithm::ES384),
        ("EdDSA", Algorithm::EdDSA),
    ];
    if names.is_empty() {
        return Err("at least one".to_owned());
    }
    let known = names.iter().map(|name| {
        let found = KNOWN.iter().find(|(known, _)| known == name);
        found.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
            let all = KNOWN.map(|(known, _)| known).join(", ");
            format!("{name:?} is none of {all}")
        })
    });
    known.collect()
}
