//! What Keystone says of a token, and the identity that follows from it. Pure.
//!
//! What a newcomer gets wrong: the identity is made of what Keystone answered, never of what the client called itself.
//! And a token of Keystone may be good for much less than its user: for no project, for another one, for some requests
//! of some services only. What the registry cannot hold to is refused.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;

use super::login::{Login, ProjectLogin};
use crate::auth::driver::{AuthError, Facts, Identity, KEYSTONE};

/// The clocks of Keystone and of this node may differ by this much.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);

/// What would make a name ambiguous.
const SEPARATORS: &AsciiSet = &CONTROLS.add(b'%').add(b'@').add(b'/').add(b':');

#[derive(Debug, Deserialize)]
struct Answer {
    token: Token,
}

/// The parts of a token that matter here. Lists of roles and domains are absent where there is no project.
#[derive(Debug, Deserialize)]
pub(super) struct Token {
    user: Named,
    project: Option<Named>,
    #[serde(default)]
    roles: Vec<Role>,
    expires_at: DateTime<Utc>,
    is_admin_project: Option<bool>,
    application_credential: Option<Credential>,
}

#[derive(Debug, Deserialize)]
struct Named {
    id: String,
    name: String,
    domain: Option<Domain>,
}

/// A project that acts as a domain has nulls here.
#[derive(Debug, Deserialize)]
struct Domain {
    id: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Role {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Credential {
    id: String,
    access_rules: Option<serde_json::Value>,
}

impl Token {
    /// Reads the body of `/v3/auth/tokens`. Errors: it is not such a body; Keystone, or what stands in its place, is
    /// broken. The body does not get into the error.
    pub(super) fn parse(body: &[u8]) -> Result<Self, AuthError> {
        serde_json::from_slice::<Answer>(body)
            .map(|answer| answer.token)
            .map_err(|error| {
                let place = format!("line {} column {}", error.line(), error.column());
                AuthError::unavailable(format!("Keystone's answer is no token: {place}"))
            })
    }

    /// When Keystone no longer takes it.
    pub(super) fn expires_at(&self) -> DateTime<Utc> {
        self.expires_at
    }

    /// Whether it has expired, with a tolerance of 30 s for clocks that differ.
    pub(super) fn has_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at + LEEWAY <= now
    }

    /// Whether it is a token of that user for that project, letter by letter.
    pub(super) fn is_of(&self, login: &ProjectLogin) -> bool {
        let [user, user_domain] = [&login.user, &login.user_domain];
        let asked = [user, user_domain, &login.project, &login.project_domain];
        self.names() == Some(asked.map(String::as_str))
    }

    /// Whether it is what was asked for, but for the case of letters: there are databases that do not tell it apart. Of
    /// a credential that was named by its name, Keystone alone knows.
    pub(super) fn answers(&self, login: &Login) -> bool {
        let credential = self.application_credential.as_ref();
        match login {
            Login::Project(login) => {
                let [user, user_domain] = [&login.user, &login.user_domain];
                let asked = [user, user_domain, &login.project, &login.project_domain];
                self.names().is_some_and(|names| {
                    let mut pairs = names.into_iter().zip(asked);
                    pairs.all(|(name, asked)| name.to_lowercase() == asked.to_lowercase())
                })
            }
            Login::CredentialById(id) => credential.is_some_and(|credential| credential.id == *id),
            Login::CredentialByName { .. } => credential.is_some(),
        }
    }

    /// User, user's domain, project, project's domain.
    fn names(&self) -> Option<[&str; 4]> {
        let project = self.project.as_ref()?;
        Some([
            &self.user.name,
            self.user.domain.as_ref()?.name.as_deref()?,
            &project.name,
            project.domain.as_ref()?.name.as_deref()?,
        ])
    }

    /// Who it belongs to. Errors: [`AuthError::Misused`] if it is for no project, or bound to access rules. keystonemiddleware
    /// as well refuses access rules where a service does not hold to them.
    pub(super) fn identity(self) -> Result<Identity, AuthError> {
        let has_rules = self
            .application_credential
            .as_ref()
            .and_then(|credential| credential.access_rules.as_ref())
            .is_some_and(|rules| !rules.is_null());
        if has_rules {
            return Err(AuthError::Misused(
                "application credentials with access rules cannot be used here; make one without --access-rules"
                    .to_owned(),
            ));
        }
        let Some(names) = self.names() else {
            return Err(AuthError::Misused(
                "the token is not for a project; unscoped tokens and those for a domain or the system cannot be used"
                    .to_owned(),
            ));
        };
        let [user, user_domain, project, project_domain] =
            names.map(|name| utf8_percent_encode(name, SEPARATORS).to_string());
        let facts = Facts::Keystone {
            attributes: self.attributes(),
            roles: self.roles.into_iter().map(|role| role.name).collect(),
        };
        let user = format!("{user}@{user_domain}/{project}@{project_domain}");
        Ok(Identity::new(KEYSTONE, user, facts))
    }

    /// What the rules of a policy may look at.
    fn attributes(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut note = |name: String, value: Option<&str>| {
            if let Some(value) = value {
                found.insert(name, value.to_owned());
            }
        };
        for (kind, named) in [
            ("user", Some(&self.user)),
            ("project", self.project.as_ref()),
        ] {
            let domain = named.and_then(|named| named.domain.as_ref());
            note(format!("{kind}_id"), named.map(|named| named.id.as_str()));
            note(
                format!("{kind}_name"),
                named.map(|named| named.name.as_str()),
            );
            note(
                format!("{kind}_domain_id"),
                domain.and_then(|domain| domain.id.as_deref()),
            );
            note(
                format!("{kind}_domain_name"),
                domain.and_then(|domain| domain.name.as_deref()),
            );
        }
        // oslo.context takes a missing one for true, for the sake of old clouds. That would make the administrator of
        // any project one of the cloud.
        let is_admin_project = match self.is_admin_project {
            Some(true) => "True",
            _ => "False",
        };
        note("is_admin_project".to_owned(), Some(is_admin_project));
        let credential = self.application_credential.as_ref();
        note(
            "application_credential_id".to_owned(),
            credential.map(|credential| credential.id.as_str()),
        );
        found
    }
}
