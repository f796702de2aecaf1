//! From what files say and what the registry says to what has to change. Pure.

use std::{fmt, path::PathBuf};

use reqwest::header::HeaderValue;
use serde_json::{Map, Value, json};

use super::wanted::{MANAGED_BY, PasswordPlace};
use crate::cli::output::harmless;

/// Something that `apply` brings to what a file says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    Account(String),
    Robot { account: String, robot: String },
    User(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(name) => write!(f, "account {}", harmless(name)),
            Self::Robot { account, robot } => {
                write!(f, "robot {}+{}", harmless(account), harmless(robot))
            }
            Self::User(name) => write!(f, "user {}", harmless(name)),
        }
    }
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Action {
    Create,
    Update,
    Delete,
}

impl Action {
    pub(super) fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Delete => '-',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What has to be done.
pub(super) struct Step {
    pub target: Target,
    pub action: Action,
    pub differences: Vec<Difference>,
    /// What is sent, unless that is there already.
    pub document: Option<Map<String, Value>>,
    /// What the plan was made from, if the registry tells versions.
    pub version: Option<HeaderValue>,
    /// The limits of an account that have to be set.
    pub quota: Map<String, Value>,
    pub secret: Secret,
}

/// What a step reads or writes that no plan shows.
pub(super) enum Secret {
    None,
    /// The password of a new user is there.
    ComesFrom(PasswordPlace),
    /// The secret of a new robot goes there.
    GoesTo(PathBuf),
}

impl Step {
    pub(super) fn deletion(target: Target, version: Option<HeaderValue>) -> Self {
        Self {
            target,
            action: Action::Delete,
            differences: Vec::new(),
            document: None,
            version,
            quota: Map::new(),
            secret: Secret::None,
        }
    }

    /// For programs.
    pub(super) fn shown(&self) -> Value {
        let differences: Vec<Value> = self
            .differences
            .iter()
            .map(|d| json!({ "path": d.path, "before": d.before, "after": d.after }))
            .collect();
        let mut shown = match &self.target {
            Target::Account(account) => json!({ "account": account }),
            Target::Robot { account, robot } => json!({ "account": account, "robot": robot }),
            Target::User(user) => json!({ "user": user }),
        };
        shown["action"] = json!(self.action.word());
        shown["differences"] = json!(differences);
        shown
    }
}

/// A member that changes.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    pub path: String,
    pub before: Option<Value>,
    pub after: Value,
}

/// A document with what is wanted of it, and what differs then. Members that are not wanted stay.
pub(super) fn merged(
    wanted: Map<String, Value>,
    current: Option<&Map<String, Value>>,
) -> (Map<String, Value>, Vec<Difference>) {
    let mut document = current.cloned().unwrap_or_default();
    let mut differences = Vec::new();
    for (name, value) in wanted {
        let old = document.get(&name).cloned();
        if is_same(&value, old.as_ref().unwrap_or(&Value::Null)) {
            continue;
        }
        // The name of what is new stands in the line above.
        if name != "name" {
            differences.push(Difference {
                path: name.clone(),
                before: old,
                after: value.clone(),
            });
        }
        document.insert(name, value);
    }
    (document, differences)
}

/// Limits that have to be set, and what differs then. An account that is made has none.
pub(super) fn limits(
    wanted: Map<String, Value>,
    current: Option<&Value>,
) -> (Map<String, Value>, Vec<Difference>) {
    let mut differences = Vec::new();
    let mut limits = wanted;
    limits.retain(|resource, limit| {
        let old = current.map(|quota| quota[resource.as_str()]["limit"].clone());
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
    (limits, differences)
}

/// The set that an account belongs to, if it belongs to one.
pub(super) fn owner(account: &Value) -> Option<&str> {
    account["metadata"][MANAGED_BY].as_str()
}

/// Marks an account as one of the set. A file that names no metadata leaves it as it is, but for that.
pub(super) fn mark(
    members: &mut Map<String, Value>,
    current: Option<&Map<String, Value>>,
    set: &str,
) {
    let kept = current.and_then(|current| current.get("metadata")).cloned();
    let metadata = members
        .entry("metadata")
        .or_insert_with(|| kept.unwrap_or_else(|| json!({})));
    metadata[MANAGED_BY] = json!(set);
}

/// Leaves out differences of members that the registry would not change: it writes some values in another way than a
/// file. `changes` is what its dry run says.
pub(super) fn confirmed(differences: Vec<Difference>, changes: &Value) -> Vec<Difference> {
    let changes = changes.as_array().map(Vec::as_slice).unwrap_or_default();
    let members: Vec<&str> = changes
        .iter()
        .filter_map(|change| change["path"].as_str()?.strip_prefix("$."))
        .filter_map(|path| path.split(['.', '[']).next())
        .collect();
    let mut differences = differences;
    differences.retain(|difference| members.contains(&difference.path.as_str()));
    differences
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

    fn members(document: &Value) -> Map<String, Value> {
        document.as_object().unwrap().clone()
    }

    fn merge(wanted: &Value, now: Option<&Value>) -> (Value, Vec<Difference>) {
        let (document, differences) = merged(members(wanted), now.map(members).as_ref());
        (Value::Object(document), differences)
    }

    #[test]
    fn what_is_there_is_no_change_however_the_registry_writes_it() {
        let wanted = json!({ "name": "team", "rbac_policies": [{ "permissions": ["pull"] }] });
        let now = json!({
            "name": "team",
            "storage": "default",
            "rbac_policies": [{ "permissions": ["pull"], "match_username": "", "match_cidr": null }],
        });
        assert_eq!(merge(&wanted, Some(&now)), (now, Vec::new()));
    }

    #[test]
    fn a_restriction_that_is_not_wanted_any_more_is_a_change() {
        let wanted = json!({ "name": "team", "rbac_policies": [{ "permissions": ["pull"] }] });
        let restricted = json!([{ "permissions": ["pull"], "match_cidr": "10.0.0.0/8" }]);
        let now = json!({ "name": "team", "storage": "s", "rbac_policies": restricted });
        let (document, differences) = merge(&wanted, Some(&now));
        let expected = Difference {
            path: "rbac_policies".to_owned(),
            before: Some(restricted),
            after: wanted["rbac_policies"].clone(),
        };
        assert_eq!(differences, [expected]);
        assert_eq!(document["storage"], "s", "what is not named stays");
    }

    #[test]
    fn limits_are_compared_with_those_that_are_set() {
        let wanted = members(&json!({ "bytes": 1024, "manifests": null }));
        let same = json!({ "bytes": { "limit": 1024 }, "manifests": { "limit": null } });
        assert_eq!(
            limits(wanted.clone(), Some(&same)),
            (Map::new(), Vec::new())
        );
        let less = json!({ "bytes": { "limit": 5 }, "manifests": { "limit": null } });
        for current in [Some(&less), None] {
            let (set, differences) = limits(wanted.clone(), current);
            assert_eq!(json!(set), json!({ "bytes": 1024 }));
            assert_eq!(differences.len(), 1);
            assert_eq!(differences[0].path, "quota.bytes");
        }
    }

    #[test]
    fn the_mark_is_set_and_nothing_else_of_the_metadata_changes() {
        let now = members(&json!({ "metadata": { "contact": "ann" } }));
        let mut silent = members(&json!({ "name": "team" }));
        mark(&mut silent, Some(&now), "platform");
        let expected = json!({ "contact": "ann", "kontor.io/managed-by": "platform" });
        assert_eq!(silent["metadata"], expected);
        let mut named = members(&json!({ "name": "team", "metadata": { "x": "y" } }));
        mark(&mut named, Some(&now), "platform");
        assert_eq!(
            named["metadata"],
            json!({ "x": "y", "kontor.io/managed-by": "platform" })
        );
        assert_eq!(owner(&Value::Object(named)), Some("platform"));
        assert_eq!(owner(&Value::Object(now)), None);
    }

    #[test]
    fn the_registry_has_the_last_word_on_what_changes() {
        let difference = |path: &str| Difference {
            path: path.to_owned(),
            before: None,
            after: json!(1),
        };
        let changes =
            json!([{ "path": "$.rbac_policies[0].match_cidr" }, { "path": "$.metadata[\"a/b\"]" }]);
        let all = ["proxy_networks", "rbac_policies", "metadata", "rbac"].map(difference);
        let left = confirmed(all.into(), &changes);
        assert_eq!(left, ["rbac_policies", "metadata"].map(difference));
        assert!(confirmed(vec![difference("x")], &json!([])).is_empty());
    }
}
