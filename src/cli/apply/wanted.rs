//! What files say of accounts, robots and users. Pure: nothing is read, and no password is looked at.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use chrono::{DateTime, SubsecRound as _, Utc};
use serde_json::{Map, Value, json};

use super::{
    super::{document::Given, quota, user::parse_permissions},
    ApplyError,
};
use crate::model::{permission::Permission, robot, user};

/// The entry of an account's metadata that says which set it belongs to.
pub(super) const MANAGED_BY: &str = "kontor.io/managed-by";

/// The set of files that name none.
const DEFAULT_SET: &str = "default";

/// The longest name of a set, in characters.
const MAX_SET_CHARS: usize = 63;

/// The digits of a second that the registry keeps of a time.
const TIME_DIGITS: u16 = 6;

const ROBOT_MEMBERS: [&str; 5] = [
    "description",
    "permissions",
    "repositories",
    "is_disabled",
    "expires_at",
];
const USER_MEMBERS: [&str; 2] = ["grants", "is_disabled"];

/// What all files say together.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Who owns the accounts.
    pub set: String,
    /// Whether a file names the set.
    pub is_set_named: bool,
    pub accounts: Vec<WantedAccount>,
    pub users: Vec<WantedUser>,
}

/// What a file says of an account.
#[derive(Debug)]
pub(super) struct WantedAccount {
    pub name: String,
    /// Members of the account's document.
    pub members: Map<String, Value>,
    /// Limits by resource.
    pub quota: Option<Map<String, Value>>,
    /// All robots that the account should have; `None` if the file is silent about them.
    pub robots: Option<Vec<WantedRobot>>,
}

/// What a file says of a robot.
#[derive(Debug, Clone)]
pub(super) struct WantedRobot {
    pub name: String,
    /// Members of the robot's document.
    pub members: Map<String, Value>,
    /// Where the secret of a new robot goes.
    pub secret_file: Option<PathBuf>,
}

/// What a file says of a local user.
#[derive(Debug)]
pub(super) struct WantedUser {
    pub name: String,
    /// Members of the user's document.
    pub members: Map<String, Value>,
    /// Where the password of a new user is.
    pub password: Option<PasswordPlace>,
}

/// Where a password is.
#[derive(Debug, PartialEq)]
pub(super) enum PasswordPlace {
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

pub(super) fn malformed<T>(text: impl Into<String>) -> Result<T, ApplyError> {
    Err(ApplyError::Malformed(text.into()))
}

/// Reads all documents.
pub(super) fn wanted(documents: Vec<Given>) -> Result<Wanted, ApplyError> {
    let mut sets = BTreeSet::new();
    let (mut accounts, mut users) = (Vec::new(), Vec::new());
    for Given { folder, document } in documents {
        let Value::Object(members) = document else {
            return malformed("a document must have a list `accounts` or `users`");
        };
        for (name, value) in members {
            match (name.as_str(), value) {
                ("set", Value::String(set)) if is_set_name(&set) => _ = sets.insert(set),
                ("set", _) => {
                    return malformed(format!(
                        "`set` must be a name: 1 to {MAX_SET_CHARS} of a-z, A-Z, 0-9, '-', '.' and '_'"
                    ));
                }
                ("accounts", Value::Array(list)) => {
                    for entry in list {
                        accounts.push(account(entry, &folder)?);
                    }
                }
                ("users", Value::Array(list)) => {
                    for entry in list {
                        users.push(user(entry, &folder)?);
                    }
                }
                (list @ ("accounts" | "users"), _) => {
                    return malformed(format!("`{list}` must be a list"));
                }
                (other, _) => {
                    return malformed(format!(
                        "{other}: only `set`, `accounts` and `users` are known here"
                    ));
                }
            }
        }
    }
    once("account", accounts.iter().map(|account| &account.name))?;
    once("user", users.iter().map(|user| &user.name))?;
    if sets.len() > 1 {
        let names: Vec<String> = sets.into_iter().collect();
        let names = names.join(", ");
        return malformed(format!("the files are of several sets: {names}"));
    }
    let named = sets.pop_first();
    Ok(Wanted {
        is_set_named: named.is_some(),
        set: named.unwrap_or_else(|| DEFAULT_SET.to_owned()),
        accounts,
        users,
    })
}

fn is_set_name(text: &str) -> bool {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    (1..=MAX_SET_CHARS).contains(&text.len()) && text.bytes().all(is_good)
}

fn once<'a>(kind: &str, names: impl Iterator<Item = &'a String>) -> Result<(), ApplyError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return malformed(format!("{kind} {name} is there twice"));
        }
    }
    Ok(())
}

/// A mapping with its `name`.
fn named(kind: &str, value: Value) -> Result<(String, Map<String, Value>), ApplyError> {
    let Value::Object(members) = value else {
        return malformed(format!("{kind} must be a mapping with a `name`"));
    };
    match members.get("name") {
        Some(Value::String(name)) if !name.is_empty() => Ok((name.clone(), members)),
        _ => malformed(format!("{kind} has no `name`, or one that is no text")),
    }
}

fn account(value: Value, folder: &Path) -> Result<WantedAccount, ApplyError> {
    let (name, mut members) = named("an account", value)?;
    let place = format!("account {name}");
    match members.get("metadata") {
        None => {}
        Some(Value::Object(entries)) if !entries.contains_key(MANAGED_BY) => {}
        Some(Value::Object(_)) => {
            return malformed(format!(
                "{place}: metadata: {MANAGED_BY} is what `set` says"
            ));
        }
        Some(_) => return malformed(format!("{place}: `metadata` must be a mapping")),
    }
    let quota = match members.remove("quota") {
        None => None,
        Some(Value::Object(limits)) => Some(parsed_limits(&place, limits)?),
        Some(_) => return malformed(format!("{place}: `quota` must be a mapping")),
    };
    let robots = match members.remove("robots") {
        None => None,
        Some(Value::Array(list)) => {
            let robots = list.into_iter().map(|entry| robot(&place, entry, folder));
            let robots: Vec<WantedRobot> = robots.collect::<Result<_, _>>()?;
            once(
                &format!("{place}: robot"),
                robots.iter().map(|robot| &robot.name),
            )?;
            Some(robots)
        }
        Some(_) => return malformed(format!("{place}: `robots` must be a list")),
    };
    Ok(WantedAccount {
        name,
        members,
        quota,
        robots,
    })
}

fn parsed_limits(place: &str, given: Map<String, Value>) -> Result<Map<String, Value>, ApplyError> {
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
                "{place}: quota.{resource}: {value} is no limit of bytes, manifests or repositories"
            )),
        }
    });
    limits.collect()
}

fn robot(place: &str, value: Value, folder: &Path) -> Result<WantedRobot, ApplyError> {
    let (name, mut members) = named(&format!("{place}: a robot"), value)?;
    let place = format!("{place}: robot {name}");
    robot::check_name(&name).or_else(|reason| malformed(format!("{place}: {reason}")))?;
    let secret_file = text(&mut members, "secret_file", &place)?;
    known(&members, &ROBOT_MEMBERS, &place)?;
    normalize(&mut members).or_else(|reason| malformed(format!("{place}: {reason}")))?;
    Ok(WantedRobot {
        name,
        members,
        secret_file: secret_file.map(|file| folder.join(file)),
    })
}

fn user(value: Value, folder: &Path) -> Result<WantedUser, ApplyError> {
    let (name, mut members) = named("a user", value)?;
    let place = format!("user {name}");
    if !user::is_user_name(&name) {
        return malformed(format!("{place}: {}", user::USER_NAME_RULE));
    }
    if members.contains_key("password") {
        return malformed(format!(
            "{place}: a password has no place in a file that others read; name a password_file or password_env"
        ));
    }
    let file = text(&mut members, "password_file", &place)?;
    let variable = text(&mut members, "password_env", &place)?;
    let password = match (file, variable) {
        (Some(_), Some(_)) => {
            return malformed(format!("{place}: password_file or password_env, not both"));
        }
        (Some(file), None) => Some(PasswordPlace::File(folder.join(file))),
        (None, variable) => variable.map(PasswordPlace::Variable),
    };
    known(&members, &USER_MEMBERS, &place)?;
    normalize(&mut members).or_else(|reason| malformed(format!("{place}: {reason}")))?;
    Ok(WantedUser {
        name,
        members,
        password,
    })
}

fn text(
    members: &mut Map<String, Value>,
    member: &str,
    place: &str,
) -> Result<Option<String>, ApplyError> {
    match members.remove(member) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => malformed(format!("{place}: `{member}` must be a text")),
    }
}

fn known(members: &Map<String, Value>, all: &[&str], place: &str) -> Result<(), ApplyError> {
    let unknown = |name: &&String| *name != "name" && !all.contains(&name.as_str());
    match members.keys().find(unknown) {
        Some(name) => malformed(format!(
            "{place}: {name}: only {} are known",
            all.join(", ")
        )),
        None => Ok(()),
    }
}

/// Brings members that can be written in several ways into the form that the registry shows: permissions, grants in the
/// order of their auth tenants, times.
pub(super) fn normalize(members: &mut Map<String, Value>) -> Result<(), String> {
    if let Some(given) = members.get_mut("permissions") {
        *given = json!(permissions(given)?);
    }
    match members.get_mut("expires_at") {
        None | Some(Value::Null) => {}
        Some(given) => {
            let time: Option<DateTime<Utc>> = serde_json::from_value(given.clone()).ok();
            let time = time.ok_or_else(|| {
                format!("expires_at: {given} is no time such as 2027-01-31T00:00:00Z")
            })?;
            *given = json!(time.trunc_subsecs(TIME_DIGITS));
        }
    }
    let Some(given) = members.get_mut("grants") else {
        return Ok(());
    };
    let grants = given.as_array_mut().ok_or("`grants` must be a list")?;
    for grant in grants.iter_mut() {
        let given = grant.get("permissions").unwrap_or(&Value::Null);
        let permissions = permissions(given).map_err(|reason| format!("grants: {reason}"))?;
        match grant.as_object_mut() {
            Some(grant)
                if grant.len() == 2
                    && grant.get("auth_tenant_id").is_some_and(Value::is_string) =>
            {
                grant.insert("permissions".to_owned(), json!(permissions));
            }
            _ => return Err("grants: an `auth_tenant_id` and `permissions` are needed".to_owned()),
        }
    }
    grants.sort_by_key(|grant| grant["auth_tenant_id"].as_str().map(ToOwned::to_owned));
    Ok(())
}

/// A list of permissions, or a text as `kontor user grant` takes it.
fn permissions(value: &Value) -> Result<BTreeSet<Permission>, String> {
    match value {
        Value::String(text) => {
            let all = parse_permissions(text).map_err(|error| error.to_string())?;
            Ok(all.into_iter().collect())
        }
        list => {
            serde_json::from_value(list.clone()).map_err(|error| format!("permissions: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: Value) -> Result<Wanted, ApplyError> {
        let folder = PathBuf::from("/files");
        wanted(vec![Given { folder, document }])
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let account = |more: Value| {
            let mut account = json!({ "name": "a" });
            for (name, value) in more.as_object().unwrap() {
                account[name] = value.clone();
            }
            json!({ "accounts": [account] })
        };
        let robot = |robot: Value| account(json!({ "robots": [robot] }));
        let user = |user: Value| json!({ "users": [user] });
        for (document, word) in [
            (json!([]), "accounts"),
            (json!({ "acounts": [] }), "acounts"),
            (json!({ "accounts": {} }), "list"),
            (json!({ "set": "" }), "set"),
            (json!({ "set": "a b" }), "set"),
            (json!({ "set": "a".repeat(64) }), "set"),
            (json!({ "set": 5 }), "set"),
            (json!({ "accounts": [{}] }), "name"),
            (json!({ "accounts": [{ "name": 5 }] }), "name"),
            (
                json!({ "accounts": [{ "name": "a" }, { "name": "a" }] }),
                "twice",
            ),
            (account(json!({ "quota": { "byte": 1 } })), "quota.byte"),
            (account(json!({ "quota": { "bytes": -1 } })), "quota.bytes"),
            (account(json!({ "metadata": null })), "metadata"),
            (
                account(json!({ "metadata": { MANAGED_BY: "other" } })),
                "set",
            ),
            (account(json!({ "robots": {} })), "robots"),
            (robot(json!("ci")), "name"),
            (robot(json!({ "name": "C I" })), "C I"),
            (robot(json!({ "name": "ci", "secret": "x" })), "secret"),
            (
                robot(json!({ "name": "ci", "permissions": ["fly"] })),
                "fly",
            ),
            (robot(json!({ "name": "ci", "expires_at": "soon" })), "soon"),
            (
                account(json!({ "robots": [{ "name": "ci" }, { "name": "ci" }] })),
                "robot ci is there twice",
            ),
            (user(json!({ "name": "a:b" })), "colon"),
            (user(json!({ "name": "ann", "operator": true })), "operator"),
            (
                user(json!({ "name": "ann", "password_file": "x", "password_env": "X" })),
                "not both",
            ),
            (
                user(json!({ "name": "ann", "grants": [{ "permissions": [] }] })),
                "auth_tenant_id",
            ),
            (
                json!({ "users": [{ "name": "ann" }, { "name": "ann" }] }),
                "twice",
            ),
        ] {
            let error = read(document.clone()).unwrap_err();
            assert!(error.to_string().contains(word), "{document}: {error}");
            assert!(error.is_usage());
        }
    }

    #[test]
    fn a_password_in_a_file_is_refused_and_not_repeated() {
        let document = json!({ "users": [{ "name": "ann", "password": "correct horse" }] });
        let error = read(document).unwrap_err().to_string();
        assert!(error.contains("password_file"), "{error}");
        assert!(!error.contains("correct horse"), "{error}");
    }

    #[test]
    fn all_files_of_a_run_are_of_one_set() {
        let given = |documents: &[Value]| {
            let given = documents.iter().map(|document| Given {
                folder: PathBuf::new(),
                document: document.clone(),
            });
            wanted(given.collect())
        };
        let silent = json!({ "accounts": [{ "name": "a" }] });
        let [one, other] = ["one", "other"].map(|set| json!({ "set": set }));
        let read = given(std::slice::from_ref(&silent)).unwrap();
        assert_eq!((read.set.as_str(), read.is_set_named), ("default", false));
        let read = given(&[silent, one.clone(), one.clone()]).unwrap();
        assert_eq!((read.set.as_str(), read.is_set_named), ("one", true));
        let error = given(&[one, other]).unwrap_err().to_string();
        assert!(error.contains("one, other"), "{error}");
    }

    #[test]
    fn members_come_into_the_form_of_the_registry() {
        let document = json!({
            "accounts": [{ "name": "a", "robots": [{
                "name": "ci",
                "permissions": ["push", "pull", "push"],
                "expires_at": "2031-01-31T01:00:00+01:00",
                "secret_file": "ci.secret",
            }] }],
            "users": [{
                "name": "ann",
                "grants": [
                    { "auth_tenant_id": "t2", "permissions": "view,pull" },
                    { "auth_tenant_id": "t1", "permissions": ["push", "view"] },
                ],
                "password_file": "/run/ann",
            }],
        });
        let read = read(document).unwrap();
        let robot = &read.accounts[0].robots.as_ref().unwrap()[0];
        assert_eq!(robot.members["permissions"], json!(["pull", "push"]));
        assert_eq!(robot.members["expires_at"], "2031-01-31T00:00:00Z");
        let secret_file = robot.secret_file.as_deref();
        assert_eq!(secret_file, Some(Path::new("/files/ci.secret")));
        let user = &read.users[0];
        let grants = json!([
            { "auth_tenant_id": "t1", "permissions": ["view", "push"] },
            { "auth_tenant_id": "t2", "permissions": ["view", "pull"] },
        ]);
        assert_eq!(user.members["grants"], grants);
        let password = PasswordPlace::File(PathBuf::from("/run/ann"));
        assert_eq!(user.password, Some(password));
    }
}
