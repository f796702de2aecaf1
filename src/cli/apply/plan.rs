//! From what files say and what the registry says to what has to change. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{super::quota, ApplyError};
use crate::cli::document::Versioned;

/// What a file says of an account.
#[derive(Debug)]
pub(super) struct Wanted {
    pub account: String,
    /// Members of the account's document.
    members: Map<String, Value>,
    /// Limits by resource.
    pub quota: Option<Map<String, Value>>,
}

/// What has to be done for an account.
pub(super) struct Step {
    pub account: String,
    pub current: Option<Versioned>,
    /// The document to send, unless it is there already.
    pub document: Option<Map<String, Value>>,
    /// The limits to set, unless they are set already.
    pub quota: Option<Map<String, Value>>,
    pub differences: Vec<Difference>,
}

/// A member that changes.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    pub path: String,
    pub before: Option<Value>,
    pub after: Value,
}

impl Step {
    pub(super) fn is_new(&self) -> bool {
        self.current.is_none()
    }

    /// For programs.
    pub(super) fn shown(&self) -> Value {
        let differences: Vec<Value> = self
            .differences
            .iter()
            .map(|d| json!({ "path": d.path, "before": d.before, "after": d.after }))
            .collect();
        json!({
            "account": self.account,
            "action": if self.is_new() { "create" } else { "update" },
            "differences": differences,
        })
    }
}

fn malformed<T>(text: impl Into<String>) -> Result<T, ApplyError> {
    Err(ApplyError::Malformed(text.into()))
}

/// The accounts of all documents.
pub(super) fn wanted(documents: Vec<Value>) -> Result<Vec<Wanted>, ApplyError> {
    let mut accounts = Vec::new();
    for document in documents {
        let Value::Object(members) = document else {
            return malformed("a document must have a list `accounts`");
        };
        for (name, value) in members {
            match (name.as_str(), value) {
                ("accounts", Value::Array(list)) => accounts.extend(list),
                ("accounts", _) => return malformed("`accounts` must be a list"),
                (other, _) => return malformed(format!("{other}: only `accounts` is known here")),
            }
        }
    }
    let mut seen = BTreeSet::new();
    let accounts = accounts.into_iter().map(|account| {
        let wanted = one(account)?;
        if !seen.insert(wanted.account.clone()) {
            return malformed(format!("account {} is there twice", wanted.account));
        }
        Ok(wanted)
    });
    accounts.collect()
}

fn one(account: Value) -> Result<Wanted, ApplyError> {
    let Value::Object(mut members) = account else {
        return malformed("an account must be a mapping with a `name`");
    };
    let account = match members.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        _ => return malformed("an account has no `name`, or one that is no text"),
    };
    let quota = match members.remove("quota") {
        None => None,
        Some(Value::Object(limits)) => Some(parsed_limits(&account, limits)?),
        Some(_) => return malformed(format!("account {account}: `quota` must be a mapping")),
    };
    Ok(Wanted {
        account,
        members,
        quota,
    })
}

fn parsed_limits(
    account: &str,
    given: Map<String, Value>,
) -> Result<Map<String, Value>, ApplyError> {
    let limits = given.into_iter().map(|(resource, value)| {
        let limit = match &value {
            Value::Null => Some(Value::Null),
            Value::Number(number) if number.is_u64() => Some(value.clone()),
            Value::String(text) => quota::limit(text),
            _ => None,
        };
        let is_known = quota::RESOURCES.contains(&resource.as_str());
        match limit.filter(|_| is_known) {
            Some(limit) => Ok((resource, limit)),
            None => malformed(format!(
                "account {account}: quota.{resource}: {value} is no limit of bytes, manifests or repositories"
            )),
        }
    });
    limits.collect()
}

/// Compares; `None` if there is nothing to do.
pub(super) fn step(
    wanted: Wanted,
    current: Option<Versioned>,
    current_quota: Option<&Value>,
) -> Option<Step> {
    let none = Map::new();
    let before = current.as_ref().map_or(&none, |current| &current.document);
    let mut document = before.clone();
    let mut differences = Vec::new();
    for (name, value) in wanted.members {
        let old = before.get(&name);
        if is_same(&value, old.unwrap_or(&Value::Null)) {
            continue;
        }
        if current.is_some() || name != "name" {
            differences.push(Difference {
                path: name.clone(),
                before: old.cloned(),
                after: value.clone(),
            });
        }
        document.insert(name, value);
    }
    let is_document_new = current.is_none() || !differences.is_empty();
    let mut limits = wanted.quota.unwrap_or_default();
    limits.retain(|resource, limit| {
        let old = current_quota.map(|quota| quota[resource.as_str()]["limit"].clone());
        // An account that is made has no limits.
        let differs = *limit != *old.as_ref().unwrap_or(&Value::Null);
        if differs {
            differences.push(Difference {
                path: format!("quota.{resource}"),
                before: old,
                after: limit.clone(),
            });
        }
        differs
    });
    let has_limits = !limits.is_empty();
    (is_document_new || has_limits).then(|| Step {
        account: wanted.account,
        current,
        document: is_document_new.then_some(document),
        quota: has_limits.then_some(limits),
        differences,
    })
}

/// Whether the registry has what is wanted. It fills in members that say nothing; one that says something and is not
/// wanted is a difference: it may be what restricts a policy.
fn is_same(wanted: &Value, actual: &Value) -> bool {
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => {
            let has_all = wanted
                .iter()
                .all(|(name, value)| is_same(value, actual.get(name).unwrap_or(&Value::Null)));
            let more = actual
                .iter()
                .filter(|(name, _)| !wanted.contains_key(*name));
            has_all && more.into_iter().all(|(_, value)| says_nothing(value))
        }
        (Value::Array(wanted), Value::Array(actual)) => {
            wanted.len() == actual.len() && wanted.iter().zip(actual).all(|(w, a)| is_same(w, a))
        }
        (wanted, actual) => wanted == actual || says_nothing(wanted) && says_nothing(actual),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.values().all(says_nothing),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(document: Value) -> Option<Versioned> {
        Some(Versioned {
            document: document.as_object().unwrap().clone(),
            version: None,
        })
    }

    fn plan(account: Value, now: Option<Value>, quota: Option<Value>) -> Option<Step> {
        let wanted = wanted(vec![json!({ "accounts": [account] })]).unwrap();
        let wanted = wanted.into_iter().next().unwrap();
        step(wanted, now.and_then(current), quota.as_ref())
    }

    #[test]
    fn what_is_there_is_no_change_however_the_registry_writes_it() {
        let wanted = json!({ "name": "team", "rbac_policies": [{ "permissions": ["pull"] }] });
        let now = json!({
            "name": "team",
            "storage": "default",
            "rbac_policies": [{ "permissions": ["pull"], "match_username": "", "match_cidr": null }],
        });
        assert!(plan(wanted, Some(now), None).is_none());
    }

    #[test]
    fn a_restriction_that_is_not_wanted_any_more_is_a_change() {
        let wanted = json!({ "name": "team", "rbac_policies": [{ "permissions": ["pull"] }] });
        let restricted = json!([{ "permissions": ["pull"], "match_cidr": "10.0.0.0/8" }]);
        let now = json!({ "name": "team", "storage": "s", "rbac_policies": restricted });
        let step = plan(wanted.clone(), Some(now), None).unwrap();
        let expected = Difference {
            path: "rbac_policies".to_owned(),
            before: Some(restricted),
            after: wanted["rbac_policies"].clone(),
        };
        assert_eq!(step.differences, [expected]);
        let document = Value::Object(step.document.unwrap());
        assert_eq!(document["storage"], "s", "what is not named stays");
        assert!(step.quota.is_none());
    }

    #[test]
    fn limits_are_compared_with_those_that_are_set() {
        let wanted = json!({ "name": "team", "quota": { "bytes": "1KiB", "manifests": null } });
        let same = json!({ "bytes": { "limit": 1024 }, "manifests": { "limit": null } });
        let now = json!({ "name": "team" });
        assert!(plan(wanted.clone(), Some(now.clone()), Some(same)).is_none());
        let less = json!({ "bytes": { "limit": 5 }, "manifests": { "limit": null } });
        let step = plan(wanted.clone(), Some(now), Some(less)).unwrap();
        assert!(step.document.is_none());
        assert_eq!(json!(step.quota.unwrap()), json!({ "bytes": 1024 }));
        let new = plan(wanted, None, None).unwrap();
        assert!(new.is_new() && new.document.is_some());
        assert_eq!(json!(new.quota.unwrap()), json!({ "bytes": 1024 }));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (document, word) in [
            (json!([]), "accounts"),
            (json!({ "acounts": [] }), "acounts"),
            (json!({ "accounts": {} }), "list"),
            (json!({ "accounts": [{}] }), "name"),
            (json!({ "accounts": [{ "name": 5 }] }), "name"),
            (
                json!({ "accounts": [{ "name": "a" }, { "name": "a" }] }),
                "twice",
            ),
            (
                json!({ "accounts": [{ "name": "a", "quota": { "byte": 1 } }] }),
                "quota.byte",
            ),
            (
                json!({ "accounts": [{ "name": "a", "quota": { "bytes": -1 } }] }),
                "quota.bytes",
            ),
        ] {
            let error = wanted(vec![document]).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.is_usage());
        }
    }
}
