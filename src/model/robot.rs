//! Robots: machines that log in with a secret of our making and have rights on one account.

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{
    account_rights::AccountRights,
    identity::{Facts, Identity},
    precondition::{EntityTag, Tagged},
    secret::StoredSecret,
};
use crate::oci::AccountName;

/// The driver's name in identities of robots.
pub const ROBOT: &str = "robot";

/// The longest name of a robot or service identity.
const MAX_NAME_CHARS: usize = 63;

/// A robot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Robot {
    /// Never used again, even if a robot of the same name is made later.
    pub id: Uuid,
    /// Its name within the account.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it may do, and in which account.
    pub rights: AccountRights,
    /// It cannot log in.
    pub is_disabled: bool,
    /// When it ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The person who answers for it, as `<driver>:<user>`.
    pub created_by: String,
    /// When it last logged in, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Robot {
    /// Whether it may log in.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        !self.is_disabled && self.expires_at.is_none_or(|at| now < at)
    }

    /// The robot as somebody who was authenticated.
    pub fn identity(&self) -> Identity {
        let login = login_name(&self.rights.account, &self.name);
        let mut identity = Identity::new(ROBOT, login, Facts::Account(self.rights.clone()));
        identity.origin = Some(format!("robot {} of {}", self.id, self.created_by));
        identity
    }
}

/// A robot and its secrets, without the secrets themselves.
#[derive(Debug, Clone)]
pub struct RobotShown {
    /// The robot.
    pub robot: Robot,
    /// The oldest first.
    pub secrets: Vec<StoredSecret>,
}

impl Tagged for RobotShown {
    /// Logins do not count: they are no change.
    fn tag(&self) -> EntityTag {
        let robot = &self.robot;
        let secrets = self.secrets.iter();
        let secrets = secrets.map(|secret| json!([secret.id, secret.expires_at]));
        EntityTag::of_document(&json!({
            "id": robot.id,
            "description": robot.description,
            "rights": robot.rights,
            "is_disabled": robot.is_disabled,
            "expires_at": robot.expires_at,
            "secrets": secrets.collect::<Vec<_>>(),
        }))
    }
}

/// The user name of a robot or service identity: `<account>+<name>`.
pub fn login_name(account: &AccountName, name: &str) -> String {
    format!("{account}+{name}")
}

/// The account and the name in a user name of that form.
pub fn login_parts(user: &str) -> Option<(AccountName, &str)> {
    let (account, name) = user.split_once('+')?;
    Some((account.parse().ok()?, name))
}

/// Says what is wrong with the name of a robot or service identity, if anything is.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_good = !name.is_empty()
        && name.len() <= MAX_NAME_CHARS
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b));
    if is_good {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name: 1 to {MAX_NAME_CHARS} of a-z, 0-9, '-', '.' and '_'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_names_have_two_parts() {
        let account: AccountName = "acme".parse().unwrap();
        let login = login_name(&account, "ci");
        assert_eq!(login, "acme+ci");
        assert_eq!(login_parts(&login), Some((account, "ci")));
        for other in ["acme", "", "+ci", "AC/ME+ci"] {
            assert_eq!(login_parts(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_robots() {
        assert_eq!(check_name("ci-1.x_y"), Ok(()));
        for bad in ["", "A", "a b", "a+b", "a/b", &"a".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
