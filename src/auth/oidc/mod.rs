//! The driver `oidc`: people, and machines, who show a JWT of an identity provider that the operator trusts.
//!
//! `config.rs` are the settings, `jwt.rs` the rules of a token, `keys.rs` the issuer's keys, `provider.rs` the calls to
//! it, `mapping.rs` makes a person of claims, `device.rs` is the login of a command line. It must not let a
//! token say who checks it or how, and never logs one. A newcomer will mix up two questions: whether a token is good
//! (`verify`, for people and service identities alike) and whether it makes a person here (`person`).

mod config;
pub mod device;
mod jwt;
mod keys;
mod mapping;
mod provider;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use aws_lc_rs::digest;
use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;
use serde_json::{Map, Value as Json};
use tracing::info;

pub use config::{ProviderConfig, ProviderError};

use self::{
    device::DeviceMetadata,
    jwt::{Refusal, Unverified},
    mapping::NoPerson,
    provider::{Lookup, Provider},
};
use super::{
    driver::{AuthDriver, AuthError, Credentials, Facts, Identity},
    outbound::{Outbound, OutboundLimits},
};
use crate::{clock::Clock, model::permission::Permission};

/// The driver's name. Its identities have `oidc.<provider>`.
pub const NAME: &str = "oidc";

/// A name that goes with any token: who has only a token need not know what they are called here.
pub const ANY_USER: &str = "oidc";

/// How long a verified token is remembered, so that a key that was withdrawn counts soon.
const REMEMBERED_FOR: TimeDelta = TimeDelta::seconds(60);

/// How many verified tokens are remembered. Claims take some 10 KiB each.
const REMEMBERED: usize = 1024;

type Fingerprint = [u8; 32];

/// A JWT whose signature, issuer, audience and times were found right.
#[derive(Clone, PartialEq)]
pub struct VerifiedJwt {
    /// The name of the provider in the configuration.
    pub provider: String,
    /// The claim `sub`: one user or machine of this provider, for ever.
    pub subject: String,
    /// All claims.
    pub claims: Map<String, Json>,
    /// When the token expires, by its `exp`.
    pub expires_at: DateTime<Utc>,
}

/// Without the claims, which are personal.
impl fmt::Debug for VerifiedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedJwt")
            .field("provider", &self.provider)
            .field("subject", &self.subject)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The driver.
pub struct OidcDriver {
    providers: BTreeMap<String, Arc<Provider>>,
    clock: Arc<dyn Clock>,
    verified: Cache<Fingerprint, (Arc<VerifiedJwt>, DateTime<Utc>)>,
}

impl OidcDriver {
    /// A driver for these providers, by their names. It calls none of them yet: a provider that is down must not keep
    /// the registry from starting.
    ///
    /// # Errors
    /// If the settings of one cannot be used; two of the same issuer need audiences of their own.
    pub fn open(
        providers: BTreeMap<String, ProviderConfig>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ProviderError> {
        Self::with_limits(providers, clock, OutboundLimits::default())
    }

    /// The same with other bounds for calls, for tests.
    ///
    /// # Errors
    /// As for `open`.
    pub fn with_limits(
        providers: BTreeMap<String, ProviderConfig>,
        clock: Arc<dyn Clock>,
        limits: OutboundLimits,
    ) -> Result<Self, ProviderError> {
        let mut opened: BTreeMap<String, Arc<Provider>> = BTreeMap::new();
        for (name, config) in providers {
            let outbound = Outbound::open(config.policy(), limits);
            let outbound = outbound.map_err(|source| ProviderError::Outbound {
                provider: name.clone(),
                source,
            })?;
            let settings = config.settings(&name, &outbound)?;
            let is_twin = opened.values().any(|other| {
                let (ours, other) = (&settings.config, &other.settings.config);
                let shared = ours.audiences.iter().any(|it| other.audiences.contains(it));
                ours.issuer == other.issuer && shared
            });
            if is_twin {
                return Err(ProviderError::Invalid {
                    provider: name,
                    key: "audiences",
                    reason: "another provider has the same issuer and one of these audiences"
                        .to_owned(),
                });
            }
            let provider = Provider::new(settings, outbound, Arc::clone(&clock));
            opened.insert(name, Arc::new(provider));
        }
        Ok(Self {
            providers: opened,
            clock,
            verified: Cache::new(REMEMBERED),
        })
    }

    /// Whether the text looks like a JWT of one of the providers. Nothing is verified.
    pub fn recognizes(&self, token: &str) -> bool {
        let parsed = Unverified::parse(token).and_then(Result::ok);
        parsed.is_some_and(|jwt| self.provider_of(&jwt).is_ok_and(|found| found.is_some()))
    }

    /// What a JWT of one of the providers says; `None` if it is no JWT or from nobody that is known.
    ///
    /// # Errors
    /// `Rejected` if it is not good, `Unavailable` if that cannot be said at present.
    pub async fn verify(&self, token: &str) -> Result<Option<VerifiedJwt>, AuthError> {
        let now = self.clock.now();
        let fingerprint = fingerprint(token);
        if let Some((jwt, until)) = self.verified.get(&fingerprint) {
            if now < until {
                return Ok(Some(VerifiedJwt::clone(&jwt)));
            }
            self.verified.remove(&fingerprint);
        }
        let jwt = match Unverified::parse(token) {
            None => return Ok(None),
            Some(Err(refusal)) => return Err(refused(None, refusal)),
            Some(Ok(jwt)) => jwt,
        };
        let provider = match self.provider_of(&jwt) {
            Ok(Some(provider)) => provider,
            Ok(None) => return Ok(None),
            Err(refusal) => return Err(refused(None, refusal)),
        };
        let name = provider.settings.name.as_str();
        let expires_at = check(provider, &jwt, now)
            .await?
            .map_err(|refusal| refused(Some(name), refusal))?;
        let verified = Arc::new(VerifiedJwt {
            provider: name.to_owned(),
            subject: jwt.subject().unwrap_or_default().to_owned(),
            claims: jwt.claims,
            expires_at,
        });
        let until = expires_at.min(now + REMEMBERED_FOR);
        self.verified
            .insert(fingerprint, (Arc::clone(&verified), until));
        Ok(Some(VerifiedJwt::clone(&verified)))
    }

    /// The person whose token this is; `None` if the provider is for machines only.
    ///
    /// # Errors
    /// `Misused` if the name that the provider gives is not usable, `Rejected` if the claims do not fit the expressions.
    pub fn person(&self, jwt: &VerifiedJwt) -> Result<Option<Identity>, AuthError> {
        let provider = self.providers.get(&jwt.provider);
        let Some(provider) = provider.filter(|provider| provider.settings.config.people) else {
            return Ok(None);
        };
        match provider.settings.mapping.person(&jwt.claims) {
            Ok(person) => Ok(Some(Identity::new(
                format!("{NAME}.{}", jwt.provider),
                person.user,
                Facts::Granted {
                    grants: person.grants,
                },
            ))),
            Err(error @ NoPerson::Name(_)) => Err(AuthError::Misused(error.to_string())),
            Err(error) => {
                info!(provider = jwt.provider, reason = %error, "a token makes no person");
                Err(AuthError::Rejected)
            }
        }
    }

    /// What `kontor login` needs to log in at a provider; `None` if there is none of that name or it has no login for
    /// devices (RFC 8628), or the operator named no `client_id`.
    ///
    /// # Errors
    /// `Unavailable` if the provider cannot be asked.
    pub async fn device_metadata(
        &self,
        provider: &str,
    ) -> Result<Option<DeviceMetadata>, AuthError> {
        let Some(provider) = self.providers.get(provider) else {
            return Ok(None);
        };
        let config = &provider.settings.config;
        let Some(client_id) = &config.client_id else {
            return Ok(None);
        };
        let metadata = provider.metadata().await;
        let metadata = metadata.map_err(AuthError::unavailable)?;
        let endpoints = metadata.and_then(|it| {
            let device = it.device_authorization_endpoint.clone()?;
            Some((device, it.token_endpoint.clone()?))
        });
        Ok(endpoints.map(|(device, token)| DeviceMetadata {
            issuer: config.issuer.clone(),
            client_id: client_id.clone(),
            client_secret: config.client_secret.clone(),
            scopes: config.scopes.clone(),
            device_authorization_endpoint: device,
            token_endpoint: token,
        }))
    }

    /// Whether there is a provider of this name.
    pub fn knows(&self, provider: &str) -> bool {
        self.providers.contains_key(provider)
    }

    /// Whether identities of this name come from a provider that is there and has people.
    fn has_people(&self, driver: &str) -> bool {
        driver
            .strip_prefix(NAME)
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|name| self.providers.get(name))
            .is_some_and(|provider| provider.settings.config.people)
    }

    /// The names of the providers whose tokens are people's.
    pub fn people_providers(&self) -> impl Iterator<Item = &str> {
        let providers = self.providers.values();
        let people = providers.filter(|provider| provider.settings.config.people);
        people.map(|provider| provider.settings.name.as_str())
    }

    /// Whose token it says it is: by the issuer, and by the audience if several providers share it.
    fn provider_of(&self, jwt: &Unverified<'_>) -> Result<Option<&Arc<Provider>>, Refusal> {
        let Some(issuer) = jwt.issuer() else {
            return Ok(None);
        };
        let providers = self.providers.values();
        let candidates: Vec<_> = providers
            .filter(|provider| provider.settings.config.issuer == issuer)
            .collect();
        if let [] | [_] = candidates.as_slice() {
            return Ok(candidates.first().copied());
        }
        let addressed = candidates
            .iter()
            .filter(|provider| jwt.is_for(&provider.settings.config.audiences));
        match addressed.collect::<Vec<_>>().as_slice() {
            [provider] => Ok(Some(provider)),
            _ => Err(Refusal::Audience),
        }
    }

    async fn person_of(&self, token: &str) -> Result<Option<Identity>, AuthError> {
        match self.verify(token).await? {
            None => Ok(None),
            Some(jwt) => self.person(&jwt),
        }
    }
}

/// Everything about one token, in the order that costs the least. The inner error is the token's fault.
async fn check(
    provider: &Arc<Provider>,
    jwt: &Unverified<'_>,
    now: DateTime<Utc>,
) -> Result<Result<DateTime<Utc>, Refusal>, AuthError> {
    let settings = &provider.settings;
    let is_accepted = |algorithm| format!("{algorithm:?}") == jwt.header.alg;
    if !settings.algorithms.iter().any(is_accepted) {
        return Ok(Err(Refusal::Algorithm));
    }
    // The claims come first: a token that is no good anyway must not make us call the issuer.
    let checked = jwt
        .check_header()
        .and_then(|()| jwt.check_claims(&settings.config, now));
    let expires_at = match checked {
        Ok(expires_at) => expires_at,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let message = jwt.message.as_bytes();
    let lookup = provider.with_key(&jwt.header, |key, algorithm| {
        jsonwebtoken::crypto::verify(jwt.signature, message, key, algorithm).unwrap_or(false)
    });
    Ok(match lookup.await.map_err(AuthError::unavailable)? {
        Lookup::Found(true) => Ok(expires_at),
        Lookup::Found(false) => Err(Refusal::Signature),
        Lookup::Unknown => Err(Refusal::Key),
    })
}

fn refused(provider: Option<&str>, refusal: Refusal) -> AuthError {
    info!(provider, reason = %refusal, "a token of an identity provider was refused");
    AuthError::Rejected
}

fn fingerprint(token: &str) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    fingerprint
}

/// Without the tokens.
impl fmt::Debug for OidcDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcDriver")
            .field("providers", &self.providers.keys())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl AuthDriver for OidcDriver {
    fn name(&self) -> &str {
        NAME
    }

    async fn authenticate(&self, offered: Credentials<'_>) -> Result<Option<Identity>, AuthError> {
        match offered {
            Credentials::Jwt(token) => self.person_of(token).await,
            Credentials::Password { user, secret } => {
                let Some(person) = self.person_of(secret).await? else {
                    return Ok(None);
                };
                if user != ANY_USER && user != person.user {
                    return Err(AuthError::Misused(format!(
                        "this token is not {user:?}'s; log in with the name {ANY_USER:?} to take the token's own"
                    )));
                }
                Ok(Some(person))
            }
            Credentials::KeystoneToken(_) => Ok(None),
        }
    }

    async fn permits(
        &self,
        who: &Identity,
        permission: Permission,
        auth_tenant_id: &str,
    ) -> Result<bool, AuthError> {
        let Facts::Granted { grants } = &who.facts else {
            return Ok(false);
        };
        Ok(self.has_people(&who.driver)
            && grants
                .iter()
                .any(|grant| grant.gives(permission, auth_tenant_id)))
    }

    /// Only as long as the operator trusts the provider with people; whether it still knows this one cannot be asked.
    async fn still_knows(&self, who: &Identity) -> Result<bool, AuthError> {
        Ok(self.has_people(&who.driver))
    }
}
