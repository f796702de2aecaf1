//! Conditions on a change: what `If-Match` and `If-None-Match` ask (RFC 9110, section 13.1).
//!
//! A version is compared in the transaction that makes the change, so of two clients who read the same, one is
//! refused. What a newcomer gets wrong: an account can be deleted and made again, so versions begin at the time of
//! creation and never at 1 again.

use chrono::{DateTime, Utc};

use crate::error::{Code, Error, Result};

/// What must be true before something is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Precondition {
    /// Its version must be one of these.
    pub versions: Option<Vec<i64>>,
    /// It must be there, whatever its version.
    pub must_exist: bool,
    /// It must not be there.
    pub must_be_new: bool,
}

impl Precondition {
    /// Only this version may be changed.
    pub fn version(version: i64) -> Self {
        Self {
            versions: Some(vec![version]),
            ..Self::default()
        }
    }

    /// Reads the two headers. A weak tag, or one that is not ours, matches nothing.
    pub fn parse(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Self> {
        let must_be_new = match if_none_match.map(str::trim) {
            None => false,
            Some("*") => true,
            Some(_) => {
                let message = "If-None-Match can only be *: create, do not change";
                return Err(Error::with_message(Code::BadRequest, message));
            }
        };
        let must_exist = if_match.is_some_and(|tags| tags.trim() == "*");
        let tags = if_match.filter(|_| !must_exist);
        Ok(Self {
            versions: tags.map(|tags| tags.split(',').filter_map(version_of).collect()),
            must_exist,
            must_be_new,
        })
    }

    /// Refuses the change of something of this version; `None` if it is not there.
    pub fn check(&self, version: Option<i64>) -> Result<()> {
        let message = match version {
            Some(_) if self.must_be_new => "it exists already",
            None if self.must_exist || self.versions.is_some() => "it does not exist",
            Some(version)
                if self
                    .versions
                    .as_ref()
                    .is_some_and(|v| !v.contains(&version)) =>
            {
                "somebody has changed it meanwhile; read it again"
            }
            _ => return Ok(()),
        };
        Err(Error::with_message(Code::PreconditionFailed, message))
    }
}

/// The version of something new.
pub fn first_version(created_at: DateTime<Utc>) -> i64 {
    created_at.timestamp_micros()
}

/// The entity tag of a version.
pub fn entity_tag(version: i64) -> String {
    format!("\"{version}\"")
}

fn version_of(tag: &str) -> Option<i64> {
    tag.trim()
        .strip_prefix('"')?
        .strip_suffix('"')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(if_match: Option<&str>, if_none_match: Option<&str>, version: Option<i64>) -> u16 {
        let checked = Precondition::parse(if_match, if_none_match)
            .and_then(|condition| condition.check(version));
        checked.map_or_else(|error| error.code().status(), |()| 200)
    }

    #[test]
    fn conditions_are_those_of_http() {
        for (if_match, if_none_match, version, expected) in [
            (None, None, None, 200),
            (None, None, Some(7), 200),
            (Some("\"7\""), None, Some(7), 200),
            (Some("\"6\", \"7\""), None, Some(7), 200),
            (Some("\"6\""), None, Some(7), 412),
            (Some("W/\"7\""), None, Some(7), 412),
            (Some("7"), None, Some(7), 412),
            (Some("\"7\""), None, None, 412),
            (Some("*"), None, Some(7), 200),
            (Some("*"), None, None, 412),
            (None, Some("*"), None, 200),
            (None, Some("*"), Some(7), 412),
            (None, Some("\"7\""), Some(7), 400),
        ] {
            let actual = status(if_match, if_none_match, version);
            assert_eq!(
                actual, expected,
                "{if_match:?} {if_none_match:?} {version:?}"
            );
        }
        assert_eq!(
            status(Some(&entity_tag(i64::MAX)), None, Some(i64::MAX)),
            200
        );
    }
}
