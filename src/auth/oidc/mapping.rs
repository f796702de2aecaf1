//! From claims to a person: the name, the groups, the grants.
//!
//! It must not believe more than the issuer says. Three things that a newcomer gets wrong. Only `sub` names one user for
//! ever (OpenID Connect Core 5.7), so it is the default name. An e-mail address that nobody verified is what its owner
//! typed, so expressions do not see it. And a claim may be whatever its owner likes, `*` too, which in a grant means every
//! auth tenant: if a claim has an asterisk anywhere, no grant may have that one.

use serde_json::{Map, Value as Json};

use super::config::ProviderConfig;
use crate::model::{
    expression::{Author, Expression},
    user::{ANY_AUTH_TENANT, Grant},
};

/// The longest user name, in bytes.
const MAX_USER_BYTES: usize = 128;

/// Groups and grants of one user.
const MAX_GROUPS: usize = 1024;
const MAX_GRANTS: usize = 256;

/// The longest auth tenant, in bytes.
const MAX_AUTH_TENANT_BYTES: usize = 255;

/// Which expression cannot be used.
#[derive(Debug)]
pub(super) struct MappingError {
    pub(super) key: &'static str,
    pub(super) reason: String,
}

/// Why the claims make no person. It holds no claim but the name that is not usable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPerson {
    /// An expression has no result, or not one of its kind.
    #[error("the expression {key}: {reason}")]
    Expression {
        /// Which expression.
        key: &'static str,
        /// Why.
        reason: String,
    },
    /// The name has characters that would not be safe in policies.
    #[error(
        "the identity provider calls this user {0:?}; a user name here has 1 to {MAX_USER_BYTES} letters, digits and \
         ._@+=-; the registry's administrator can map it"
    )]
    Name(String),
}

/// The expressions of one provider.
#[derive(Debug)]
pub(super) struct Mapping {
    user: Option<Expression>,
    groups: Option<Expression>,
    grants: Option<Expression>,
    trusts_email: bool,
}

/// A user name and what its bearer is granted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) user: String,
    pub(super) grants: Vec<Grant>,
}

impl Mapping {
    pub(super) fn compile(config: &ProviderConfig) -> Result<Self, MappingError> {
        let compile = |key, source: &Option<String>, variables: &[&str]| {
            let compiled = source
                .as_deref()
                .map(|source| Expression::compile(source, variables, Author::Operator));
            compiled.transpose().map_err(|error| MappingError {
                key,
                reason: error.to_string(),
            })
        };
        Ok(Self {
            user: compile("user", &config.user, &["claims"])?,
            groups: compile("groups", &config.groups, &["claims", "user"])?,
            grants: compile("grants", &config.grants, &["claims", "user", "groups"])?,
            trusts_email: config.trust_unverified_email,
        })
    }

    /// Who has these claims. Pure.
    pub(super) fn person(&self, claims: &Map<String, Json>) -> Result<Person, NoPerson> {
        let mut claims = claims.clone();
        // Some issuers write the boolean as a text.
        let is_verified = match claims.get("email_verified") {
            Some(Json::Bool(is_verified)) => *is_verified,
            Some(Json::String(text)) => text == "true",
            _ => false,
        };
        if !is_verified && !self.trusts_email {
            claims.remove("email");
        }
        let has_asterisk = claims.iter().any(|(_, value)| holds_asterisk(value))
            || claims.keys().any(|name| name.contains(ANY_AUTH_TENANT));
        let claims = Json::Object(claims);
        let user = self.user(&claims)?;
        let user_value = Json::String(user.clone());
        let groups = match &self.groups {
            None => Json::Array(Vec::new()),
            Some(groups) => {
                let known = [("claims", &claims), ("user", &user_value)];
                groups_of(groups, &known).map_err(|reason| failed("groups", reason))?
            }
        };
        let grants = match &self.grants {
            None => Vec::new(),
            Some(grants) => {
                let known = [
                    ("claims", &claims),
                    ("user", &user_value),
                    ("groups", &groups),
                ];
                grants_of(grants, &known).map_err(|reason| failed("grants", reason))?
            }
        };
        let is_any = |grant: &Grant| grant.auth_tenant_id.contains(ANY_AUTH_TENANT);
        if has_asterisk && grants.iter().any(is_any) {
            let reason = "a claim has an asterisk, so that no grant may be for every auth tenant";
            return Err(failed("grants", reason));
        }
        Ok(Person { user, grants })
    }

    fn user(&self, claims: &Json) -> Result<String, NoPerson> {
        let user = match &self.user {
            None => claims.get("sub").cloned().unwrap_or_default(),
            Some(user) => {
                let result = user.evaluate(&[("claims", claims)]);
                result.map_err(|error| failed("user", error))?
            }
        };
        let Json::String(user) = user else {
            return Err(failed("user", "the result is no text"));
        };
        // No slash: RBAC policies know users of Keystone by it. No colon: it ends the driver's name.
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+=-".contains(&byte);
        if user.is_empty() || user.len() > MAX_USER_BYTES || !user.bytes().all(is_safe) {
            let shown: String = user.chars().take(MAX_USER_BYTES).collect();
            return Err(NoPerson::Name(shown));
        }
        Ok(user)
    }
}

fn failed(key: &'static str, reason: impl std::fmt::Display) -> NoPerson {
    NoPerson::Expression {
        key,
        reason: reason.to_string(),
    }
}

fn holds_asterisk(value: &Json) -> bool {
    match value {
        Json::String(text) => text.contains(ANY_AUTH_TENANT),
        Json::Array(items) => items.iter().any(holds_asterisk),
        Json::Object(entries) => entries
            .iter()
            .any(|(name, value)| name.contains(ANY_AUTH_TENANT) || holds_asterisk(value)),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

fn groups_of(groups: &Expression, known: &[(&str, &Json)]) -> Result<Json, String> {
    let result = groups.evaluate(known).map_err(|error| error.to_string())?;
    match result.as_array() {
        Some(items) if items.len() > MAX_GROUPS => {
            Err(format!("the result has more than {MAX_GROUPS} groups"))
        }
        Some(items) if items.iter().all(Json::is_string) => Ok(result),
        _ => Err("the result is no list of texts".to_owned()),
    }
}

fn grants_of(grants: &Expression, known: &[(&str, &Json)]) -> Result<Vec<Grant>, String> {
    let result = grants.evaluate(known).map_err(|error| error.to_string())?;
    // The error of serde would hold values.
    let grants: Vec<Grant> = serde_json::from_value(result).map_err(|_| {
        "the result is no list of {\"auth_tenant_id\": text, \"permissions\": list of permissions}"
    })?;
    if grants.len() > MAX_GRANTS {
        return Err(format!("the result has more than {MAX_GRANTS} grants"));
    }
    let is_usable =
        |grant: &Grant| (1..=MAX_AUTH_TENANT_BYTES).contains(&grant.auth_tenant_id.len());
    if !grants.iter().all(is_usable) {
        return Err("an auth tenant in the result is empty or too long".to_owned());
    }
    Ok(grants)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn person(config: &Json, claims: &Json) -> Result<Person, String> {
        let mut all = json!({"issuer": "https://issuer.example", "audiences": ["kontor"]});
        for (key, value) in config.as_object().unwrap() {
            all[key] = value.clone();
        }
        let config: ProviderConfig = serde_json::from_value(all).unwrap();
        let mapping = Mapping::compile(&config).map_err(|error| error.reason)?;
        let person = mapping.person(claims.as_object().unwrap());
        person.map_err(|error| error.to_string())
    }

    #[test]
    fn the_name_is_safe_and_no_unverified_address() {
        let unverified =
            json!({"sub": "u1", "email": "ann@example.org", "preferred_username": "ann"});
        let mut verified = unverified.clone();
        verified["email_verified"] = json!(true);
        let mut as_text = unverified.clone();
        as_text["email_verified"] = json!("true");
        let mut denied = unverified.clone();
        denied["email_verified"] = json!(false);
        let by_email = json!({"user": "claims.email"});
        let trusting = json!({"user": "claims.email", "trust_unverified_email": true});
        for (config, claims, expected) in [
            (&json!({}), &unverified, Some("u1")),
            (
                &json!({"user": "claims.preferred_username"}),
                &unverified,
                Some("ann"),
            ),
            (&by_email, &unverified, None),
            (&by_email, &denied, None),
            (&by_email, &verified, Some("ann@example.org")),
            (&by_email, &as_text, Some("ann@example.org")),
            (&trusting, &unverified, Some("ann@example.org")),
            (
                &json!({"user": "has(claims.email) ? claims.email : claims.sub"}),
                &unverified,
                Some("u1"),
            ),
            (&json!({"user": "claims.sub.size()"}), &unverified, None),
            (&json!({"user": "claims.nobody"}), &unverified, None),
            (&json!({}), &json!({"sub": "domain/ann"}), None),
            (&json!({}), &json!({"sub": "auth0|1"}), None),
            (&json!({}), &json!({"sub": "a:b"}), None),
            (&json!({}), &json!({"sub": "ann\n"}), None),
            (&json!({}), &json!({"sub": "änn"}), None),
            (&json!({}), &json!({"sub": ""}), None),
            (
                &json!({}),
                &json!({"sub": "x".repeat(128)}),
                Some("x".repeat(128).as_str()),
            ),
            (&json!({}), &json!({"sub": "x".repeat(129)}), None),
        ] {
            let user = person(config, claims).ok().map(|person| person.user);
            assert_eq!(user.as_deref(), expected, "{config} {claims}");
        }
    }

    #[test]
    fn grants_are_what_the_expression_says_and_no_more() {
        let claims = json!({
            "sub": "u1", "groups": ["registry:t1:push", "registry:t2:pull", "office"], "tenant": "t3", "admin": true,
        });
        let by_groups = json!({
            "groups": "claims.groups.filter(g, g.startsWith('registry:')).map(g, g.substring(9))",
            "grants": "groups.map(g, {'auth_tenant_id': g.split(':')[0], 'permissions': ['view', g.split(':')[1]]})",
        });
        let found = person(&by_groups, &claims).unwrap().grants;
        let expected = json!([
            {"auth_tenant_id": "t1", "permissions": ["view", "push"]},
            {"auth_tenant_id": "t2", "permissions": ["view", "pull"]},
        ]);
        assert_eq!(
            found,
            serde_json::from_value::<Vec<Grant>>(expected).unwrap()
        );

        let one = |source: &str, claims: &Json| {
            person(&json!({"grants": source}), claims).map(|person| person.grants.len())
        };
        let all = "claims.admin ? [{'auth_tenant_id': '*', 'permissions': ['pull']}] : []";
        let tenant = "[{'auth_tenant_id': claims.tenant, 'permissions': ['pull']}]";
        let own = "[{'auth_tenant_id': user, 'permissions': ['pull']}]";
        assert_eq!(one(all, &claims), Ok(1));
        assert_eq!(one(tenant, &claims), Ok(1));
        assert_eq!(one(own, &claims), Ok(1));
        assert_eq!(one(all, &json!({"sub": "u", "admin": false})), Ok(0));
        // Who may choose a claim must not choose all tenants by it.
        assert!(one(tenant, &json!({"sub": "u", "tenant": "*"})).is_err());
        assert!(one(all, &json!({"sub": "u", "admin": true, "x": {"a": ["*"]}})).is_err());
        assert_eq!(
            one(tenant, &json!({"sub": "u", "tenant": "t", "x": "*"})),
            Ok(1)
        );
        for wrong in [
            "[{'auth_tenant_id': 't', 'permissions': ['rule_the_world']}]",
            "[{'auth_tenant_id': 't', 'permissions': 'pull'}]",
            "[{'auth_tenant_id': 't', 'permissions': [], 'more': 1}]",
            "[{'auth_tenant_id': '', 'permissions': []}]",
            "[{'auth_tenant_id': 1, 'permissions': []}]",
            "{'auth_tenant_id': 't', 'permissions': []}",
            "'t'",
            "null",
            "claims.tenants.map(t, {'auth_tenant_id': t, 'permissions': []})",
        ] {
            assert!(one(wrong, &claims).is_err(), "{wrong}");
        }
    }

    #[test]
    fn groups_are_a_list_of_texts() {
        for (source, is_good) in [
            ("claims.groups", true),
            ("[user]", true),
            ("claims.sub", false),
            ("[1]", false),
            ("claims.missing", false),
        ] {
            let claims = json!({"sub": "u", "groups": ["a"]});
            let found = person(&json!({"groups": source}), &claims);
            assert_eq!(found.is_ok(), is_good, "{source}");
        }
    }
}
