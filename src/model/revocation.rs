//! What takes the validity from access tokens before they expire.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

/// Which tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// The one of this name.
    Jti(String),
    /// All of somebody, `<driver>:<user>`.
    Subject(String),
}

const JTI: &str = "jti";
const SUBJECT: &str = "subject";

impl Revoked {
    /// The kind and the value, as the database has them.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Jti(value) => (JTI, value),
            Self::Subject(value) => (SUBJECT, value),
        }
    }

    /// From the kind and the value; `None` for a kind of a later version.
    pub fn from_parts(kind: &str, value: String) -> Option<Self> {
        match kind {
            JTI => Some(Self::Jti(value)),
            SUBJECT => Some(Self::Subject(value)),
            _ => None,
        }
    }
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Which tokens.
    pub revoked: Revoked,
    /// Those that were issued until then.
    pub issued_until: DateTime<Utc>,
    /// When no such token can be alive any more.
    pub expires_at: DateTime<Utc>,
}

/// All revocations, to be asked at every request.
#[derive(Debug, Default, Clone)]
pub struct Revocations {
    until: HashMap<Revoked, DateTime<Utc>>,
}

impl Revocations {
    /// Adds one.
    pub fn insert(&mut self, revocation: Revocation) {
        let until = self
            .until
            .entry(revocation.revoked)
            .or_insert(revocation.issued_until);
        *until = (*until).max(revocation.issued_until);
    }

    /// Whether a token is revoked.
    pub fn contains(&self, jti: &str, subject: &str, issued_at: DateTime<Utc>) -> bool {
        if self.until.is_empty() {
            return false;
        }
        let is_revoked = |revoked: Revoked| {
            self.until
                .get(&revoked)
                .is_some_and(|until| issued_at <= *until)
        };
        is_revoked(Revoked::Jti(jti.to_owned()))
            || (!subject.is_empty() && is_revoked(Revoked::Subject(subject.to_owned())))
    }
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<T: IntoIterator<Item = Revocation>>(revocations: T) -> Self {
        let mut all = Self::default();
        revocations.into_iter().for_each(|one| all.insert(one));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn tokens_of_the_revoked_until_then() {
        let revoke = |revoked, seconds| Revocation {
            revoked,
            issued_until: at(seconds),
            expires_at: at(1000),
        };
        let all: Revocations = [
            revoke(Revoked::Jti("j".into()), 100),
            revoke(Revoked::Subject("static:ann".into()), 100),
            revoke(Revoked::Subject("static:ann".into()), 50),
        ]
        .into_iter()
        .collect();
        for (jti, subject, issued_at, expected) in [
            ("j", "static:bob", 100, true),
            ("j", "static:bob", 101, false),
            ("k", "static:bob", 99, false),
            ("k", "static:ann", 99, true),
            ("k", "static:ann", 100, true),
            ("k", "static:ann", 101, false),
            ("k", "static:anna", 99, false),
            ("static:ann", "j", 99, false),
            ("k", "", 99, false),
        ] {
            assert_eq!(
                all.contains(jti, subject, at(issued_at)),
                expected,
                "{jti} {subject} {issued_at}"
            );
        }
        assert!(!Revocations::default().contains("j", "static:ann", at(0)));
    }
}
