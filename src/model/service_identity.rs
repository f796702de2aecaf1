//! Service identities: machines that log in to an account with a token that they already hold, of an issuer that the
//! operator trusts: a Kubernetes service account, a CI job.
//!
//! What a newcomer gets wrong: an issuer such as GitHub's signs tokens for everybody in the world. Only the
//! claims say whose job it is, so an identity without conditions on them is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    account_rights::AccountRights,
    identity::{Facts, Identity},
    invalid_field::InvalidField,
    pattern::{self, Pattern},
    permission::Permission,
    robot::{check_name, login_name},
};
use crate::oci::AccountName;

/// The driver's name in identities of services.
pub const SERVICE: &str = "service";

/// How many claims one identity may look at.
const MAX_CLAIMS: usize = 16;

/// Claims that say nothing of whose token it is: all tokens have them (RFC 7519, section 4.1).
const COMMON: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

/// No issuer says this of anybody, so a pattern that matches it matches everything.
const NOBODY: &str = "\u{1}nobody/\u{1}:nobody";

/// A machine that may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceIdentity {
    /// Its name within the account: it logs in as `<account>+<name>`.
    pub name: String,
    /// The name of the operator's `[auth.oidc.<name>]` section whose tokens are taken.
    pub issuer: String,
    /// Regular expressions that must match the whole of a claim, all of them. A name that begins with `/` is a
    /// JSON pointer (RFC 6901) to a claim inside another. Of a list one entry has to match.
    pub match_claims: BTreeMap<String, String>,
    /// What it may do: any of view, pull, push and delete.
    #[schema(value_type = Vec<Permission>)]
    pub permissions: BTreeSet<Permission>,
    /// Where, as regular expressions over repositories of the account; everywhere if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
}

impl ServiceIdentity {
    /// Its rights on the account that has it.
    pub fn rights(&self, account: &AccountName) -> AccountRights {
        AccountRights {
            account: account.clone(),
            permissions: self.permissions.clone(),
            repositories: self.repositories.clone(),
        }
    }

    /// Says what is wrong, if anything is.
    pub fn validate(&self) -> Result<(), InvalidField> {
        check_name(&self.name).map_err(|reason| InvalidField::new("name", reason))?;
        let wrong = |reason: String| InvalidField::new("match_claims", reason);
        if self.match_claims.len() > MAX_CLAIMS {
            return Err(wrong(format!("it has more than {MAX_CLAIMS} claims")));
        }
        for (claim, pattern) in &self.match_claims {
            pattern::check(pattern).map_err(|reason| wrong(format!("{claim}: {reason}")))?;
        }
        let narrows = |(claim, pattern): (&String, &String)| {
            !COMMON.contains(&first_name(claim).as_str()) && !Pattern::new(pattern).matches(NOBODY)
        };
        if !self.match_claims.iter().any(narrows) {
            let reason = "it must say whose tokens are meant, such as {\"sub\": \"repo:acme/app:.*\"}: the issuer signs \
                          for others too";
            return Err(wrong(reason.to_owned()));
        }
        let anywhere = "any".parse::<AccountName>();
        let anywhere = anywhere.map_err(|error| InvalidField::new("", error.to_string()))?;
        self.rights(&anywhere).validate()
    }

    /// Whether a token with these claims, of an issuer of this name, is meant by the auth tenant that has the account.
    pub fn matches(&self, owner: &str, issuer: &str, claims: &Map<String, Value>) -> bool {
        self.issuer == issuer
            && self.match_claims.iter().all(|(name, pattern)| {
                let pattern = Pattern::of(owner, pattern);
                claim(claims, name).is_some_and(|value| value_matches(value, &pattern))
            })
    }

    /// The machine as somebody who was authenticated by a token for `subject`.
    pub fn identity(&self, account: &AccountName, subject: &str) -> Identity {
        let login = login_name(account, &self.name);
        let mut identity = Identity::new(SERVICE, login, Facts::Account(self.rights(account)));
        identity.origin = Some(format!("oidc.{} {subject}", self.issuer));
        identity
    }
}

fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let first = claims.get(&first_name(name))?;
    match name
        .strip_prefix('/')
        .map(|pointer| pointer.split_once('/'))
    {
        Some(Some((_, rest))) => first.pointer(&format!("/{rest}")),
        Some(None) | None => Some(first),
    }
}

/// The claim that is looked at, or into.
fn first_name(name: &str) -> String {
    match name.strip_prefix('/') {
        None => name.to_owned(),
        Some(pointer) => {
            let first = pointer.split('/').next().unwrap_or_default();
            first.replace("~1", "/").replace("~0", "~")
        }
    }
}

fn value_matches(value: &Value, pattern: &Pattern) -> bool {
    match value {
        Value::String(text) => pattern.matches(text),
        Value::Number(_) | Value::Bool(_) => pattern.matches(&value.to_string()),
        Value::Array(values) => values
            .iter()
            .any(|value| !value.is_array() && value_matches(value, pattern)),
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(match_claims: &[(&str, &str)]) -> ServiceIdentity {
        ServiceIdentity {
            name: "ci".into(),
            issuer: "github".into(),
            match_claims: match_claims
                .iter()
                .map(|(name, pattern)| ((*name).to_owned(), (*pattern).to_owned()))
                .collect(),
            permissions: BTreeSet::from([Permission::Push]),
            repositories: vec!["app/.*".into()],
        }
    }

    #[test]
    fn all_claims_must_match() {
        let claims = json!({
            "sub": "repo:acme/app:ref:refs/heads/main",
            "run": 7,
            "groups": ["a", "b", ["c"]],
            "kubernetes.io": { "namespace": "prod", "serviceaccount": { "name": "puller" } },
            "a/b": { "~": "tilde" },
            "nothing": null,
        });
        let claims = claims.as_object().unwrap();
        for (wanted, expected) in [
            (&[("sub", "repo:acme/.*")][..], true),
            (&[("sub", "repo:acme")], false),
            (&[("sub", "repo:acme/.*"), ("run", "7")], true),
            (&[("sub", "repo:acme/.*"), ("run", "8")], false),
            (&[("groups", "b")], true),
            (&[("groups", "c")], false),
            (&[("/kubernetes.io/namespace", "prod")], true),
            (&[("/kubernetes.io/serviceaccount/name", "puller")], true),
            (&[("/kubernetes.io", "prod")], false),
            (&[("/a~1b/~0", "tilde")], true),
            (&[("missing", ".*")], false),
            (&[("nothing", ".*")], false),
        ] {
            let identity = identity(wanted);
            assert_eq!(
                identity.matches("tests", "github", claims),
                expected,
                "{wanted:?}"
            );
            assert!(!identity.matches("tests", "gitlab", claims), "{wanted:?}");
        }
    }

    #[test]
    fn an_identity_for_everybody_is_refused() {
        assert_eq!(identity(&[("sub", "repo:acme/.*")]).validate(), Ok(()));
        for bad in [
            &[][..],
            &[("sub", ".*")],
            &[("sub", "(?s).+")],
            &[("iss", "https://x"), ("aud", "y")],
            &[("/iss", "https://x"), ("/aud/0", "y")],
            &[("exp", "[0-9]+"), ("iat", "[0-9]+"), ("jti", "[a-z]+")],
            &[("sub", "(")],
        ] {
            assert!(identity(bad).validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn it_is_traceable_to_the_token() {
        let account: AccountName = "acme".parse().unwrap();
        let identity = identity(&[("sub", "x")]).identity(&account, "repo:acme/app");
        assert_eq!(identity.to_string(), "service:acme+ci");
        assert_eq!(
            identity.origin.as_deref(),
            Some("oidc.github repo:acme/app")
        );
    }
}
