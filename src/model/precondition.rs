//! Conditions on a change: what `If-Match` and `If-None-Match` ask (RFC 9110, section 13.1).
//!
//! A tag is compared in the transaction that makes the change, so of two clients who read the same, one is refused.
//! Accounts have a version, the tag of everything else is a hash of what is shown. What a newcomer gets wrong: an
//! account can be deleted and made again, so versions begin at the time of creation and never at 1 again.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Error, Result};

/// An entity tag (RFC 9110, section 8.8.3): what is shown with it is the same as long as the tag is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// The tag of a version.
    pub fn of_version(version: i64) -> Self {
        Self(version.to_string())
    }

    /// The tag of something that has no version: the SHA-256 of what of it can be changed.
    pub fn of_document(document: &Value) -> Self {
        Self(hex::encode(Sha256::digest(document.to_string())))
    }

    /// Reads a tag of a header. A weak one is none: it does not promise that nothing has changed.
    fn parse(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix('"')?.strip_suffix('"')?;
        Some(Self(inner.to_owned()))
    }
}

/// With its quotes, as it stands in a header.
impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// What has an entity tag.
pub trait Tagged {
    /// The tag of its present state.
    fn tag(&self) -> EntityTag;
}

/// What must be true before something is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Precondition {
    /// Its tag must be one of these.
    pub tags: Option<Vec<EntityTag>>,
    /// It must be there, whatever its tag.
    pub must_exist: bool,
    /// It must not be there.
    pub must_be_new: bool,
}

impl Precondition {
    /// It must be as it was when it had this tag.
    pub fn unchanged(tag: EntityTag) -> Self {
        Self {
            tags: Some(vec![tag]),
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
            // No tag of ours has a comma.
            tags: tags.map(|tags| tags.split(',').filter_map(EntityTag::parse).collect()),
            must_exist,
            must_be_new,
        })
    }

    /// Refuses the change of something that has this tag; `None` if it is not there.
    pub fn check(&self, tag: Option<EntityTag>) -> Result<()> {
        let message = match tag {
            Some(_) if self.must_be_new => "it exists already",
            None if self.must_exist || self.tags.is_some() => "it does not exist",
            Some(tag) if self.tags.as_ref().is_some_and(|tags| !tags.contains(&tag)) => {
                "somebody has changed it meanwhile; read it again"
            }
            _ => return Ok(()),
        };
        Err(Error::with_message(Code::PreconditionFailed, message))
    }
}

/// What a `PUT` asks besides what is to be.
#[derive(Debug, Clone, Default)]
pub struct ChangeTerms {
    /// What must be true of what is there.
    pub condition: Precondition,
    /// Nothing is changed; the answer says what would be.
    pub is_dry_run: bool,
}

/// Something before a change and after it.
#[derive(Debug, Clone)]
pub struct Changed<T> {
    /// As it was.
    pub before: T,
    /// As it is now, or would be.
    pub after: T,
    /// Whether the change was made.
    pub is_made: bool,
}

/// The version of something new.
pub fn first_version(created_at: DateTime<Utc>) -> i64 {
    created_at.timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(if_match: Option<&str>, if_none_match: Option<&str>, version: Option<i64>) -> u16 {
        let checked = Precondition::parse(if_match, if_none_match)
            .and_then(|condition| condition.check(version.map(EntityTag::of_version)));
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
        let tag = EntityTag::of_version(i64::MAX).to_string();
        assert_eq!(status(Some(&tag), None, Some(i64::MAX)), 200);
    }

    #[test]
    fn a_document_has_another_tag_when_it_is_another() {
        let tag = |text: &str| EntityTag::of_document(&text.into());
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
        let read = Precondition::parse(Some(&tag("a").to_string()), None).unwrap();
        assert!(read.check(Some(tag("a"))).is_ok());
        assert!(read.check(Some(tag("b"))).is_err());
    }
}
