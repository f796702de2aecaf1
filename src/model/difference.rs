//! What differs between two JSON documents: what a dry run shows.
//!
//! Objects are compared member by member and lists entry by entry, so a list that got an entry in the middle differs
//! from there on. It is for people; nothing is applied from it.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

/// A place where two documents differ.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// Where, as a JSONPath (RFC 9535).
    pub path: String,
    /// What is there; null if nothing is.
    pub before: Value,
    /// What would be there; null if nothing would.
    pub after: Value,
}

/// Where the documents differ, in the order of the paths.
pub fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("$".to_owned(), before, after, &mut found);
    found
}

fn compare(path: String, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(old), Value::Object(new)) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            let mut keys: Vec<&String> = old.keys().chain(added).collect();
            keys.sort();
            for key in keys {
                let (old, new) = (old.get(key), new.get(key));
                let path = format!("{path}{}", member(key));
                compare(path, or_null(old), or_null(new), found);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for index in 0..old.len().max(new.len()) {
                let path = format!("{path}[{index}]");
                compare(
                    path,
                    or_null(old.get(index)),
                    or_null(new.get(index)),
                    found,
                );
            }
        }
        _ => found.push(Difference {
            path,
            before: before.clone(),
            after: after.clone(),
        }),
    }
}

fn or_null(value: Option<&Value>) -> &Value {
    value.unwrap_or(&Value::Null)
}

/// A member in a JSONPath: by a dot where the grammar has it, in brackets otherwise.
fn member(key: &str) -> String {
    let is_plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !key.starts_with(|c: char| c.is_ascii_digit())
        && !key.is_empty();
    if is_plain {
        return format!(".{key}");
    }
    format!("[{}]", Value::from(key))
}

/// The members of a document that a change has changed, for a reason. What they hold is not told: it may be long.
pub fn changed_members(before: &impl Serialize, after: &impl Serialize) -> String {
    let members = |document: serde_json::Result<Value>| match document {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let before = members(serde_json::to_value(before));
    let after = members(serde_json::to_value(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key));
    let changed: Vec<&str> = changed.map(String::as_str).collect();
    match changed.as_slice() {
        [] => "nothing changed".to_owned(),
        changed => format!("changed: {}", changed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_have_their_paths() {
        let before = json!({"a": 1, "b": [{"x": 1}, 2], "c": null, "gone": true});
        let after = json!({"a": 1, "b": [{"x": 2}, 2, 3], "c": null, "new key": "v"});
        let found = differences(&before, &after);
        let shown: Vec<(&str, &Value, &Value)> = found
            .iter()
            .map(|d| (d.path.as_str(), &d.before, &d.after))
            .collect();
        assert_eq!(
            shown,
            [
                ("$.b[0].x", &json!(1), &json!(2)),
                ("$.b[2]", &Value::Null, &json!(3)),
                ("$.gone", &json!(true), &Value::Null),
                ("$[\"new key\"]", &Value::Null, &json!("v")),
            ]
        );
        assert_eq!(differences(&before, &before), []);
    }

    #[test]
    fn a_change_tells_which_members_and_not_what_they_hold() {
        let before = serde_json::json!({ "a": 1, "b": "secret", "c": 3 });
        let after = serde_json::json!({ "a": 1, "b": "other", "d": 4 });
        assert_eq!(changed_members(&before, &after), "changed: b, c, d");
        assert_eq!(changed_members(&before, &before), "nothing changed");
    }
}
