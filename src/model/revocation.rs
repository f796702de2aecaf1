//! What takes the validity from access tokens before they expire.
//!
//! Every revocation has a version, and every token the version at which its login began. What a newcomer gets wrong:
//! comparing times would be wrong by as much as the clocks of two nodes differ, and would forget a login that began
//! before a revocation and ended after it.

use std::collections::HashMap;

use crate::oci::AccountName;

/// Which tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// The one of this name.
    Jti(String),
    /// All of somebody, `<driver>:<user>`.
    Subject(String),
    /// What any token allows in an account that was deleted: another tenant may make one of that name.
    Account(String),
}

const JTI: &str = "jti";
const SUBJECT: &str = "subject";
const ACCOUNT: &str = "account";

impl Revoked {
    /// The kind and the value, as the database has them.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Jti(value) => (JTI, value),
            Self::Subject(value) => (SUBJECT, value),
            Self::Account(value) => (ACCOUNT, value),
        }
    }

    /// From the kind and the value; `None` for a kind of a later version.
    pub fn from_parts(kind: &str, value: String) -> Option<Self> {
        match kind {
            JTI => Some(Self::Jti(value)),
            SUBJECT => Some(Self::Subject(value)),
            ACCOUNT => Some(Self::Account(value)),
            _ => None,
        }
    }
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Which tokens.
    pub revoked: Revoked,
    /// Those whose login began at an earlier version.
    pub version: i64,
}

/// All revocations, to be asked at every request.
#[derive(Debug, Default, Clone)]
pub struct Revocations {
    versions: HashMap<Revoked, i64>,
}

impl Revocations {
    /// Adds one.
    pub fn insert(&mut self, revocation: Revocation) {
        let known = self
            .versions
            .entry(revocation.revoked)
            .or_insert(revocation.version);
        *known = (*known).max(revocation.version);
    }

    /// Takes over what the database has. What was added here since it was read stays.
    pub fn refresh(&mut self, fresh: Self) {
        let read_at = fresh.versions.values().copied().max().unwrap_or(0);
        self.versions.retain(|_, version| *version > read_at);
        for (revoked, version) in fresh.versions {
            self.insert(Revocation { revoked, version });
        }
    }

    fn is_after(&self, revoked: &Revoked, version: i64) -> bool {
        self.versions.get(revoked).is_some_and(|at| version < *at)
    }

    /// Whether a token is revoked whose login began at `version`.
    pub fn contains(&self, jti: &str, subject: &str, version: i64) -> bool {
        if self.versions.is_empty() {
            return false;
        }
        self.is_after(&Revoked::Jti(jti.to_owned()), version)
            || (!subject.is_empty()
                && self.is_after(&Revoked::Subject(subject.to_owned()), version))
    }

    /// Whether what a token allows in an account was meant for one that is gone.
    pub fn contains_account(&self, account: &AccountName, version: i64) -> bool {
        !self.versions.is_empty()
            && self.is_after(&Revoked::Account(account.as_str().to_owned()), version)
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

    fn revoke(revoked: Revoked, version: i64) -> Revocation {
        Revocation { revoked, version }
    }

    fn ann() -> Revoked {
        Revoked::Subject("static:ann".into())
    }

    #[test]
    fn tokens_of_logins_that_began_before() {
        let all: Revocations = [
            revoke(Revoked::Jti("j".into()), 10),
            revoke(ann(), 10),
            revoke(ann(), 5),
            revoke(Revoked::Account("acme".into()), 7),
        ]
        .into_iter()
        .collect();
        for (jti, subject, version, expected) in [
            ("j", "static:bob", 9, true),
            ("j", "static:bob", 10, false),
            ("k", "static:bob", 9, false),
            ("k", "static:ann", 9, true),
            ("k", "static:ann", 10, false),
            ("k", "static:anna", 9, false),
            ("static:ann", "j", 9, false),
            ("acme", "acme", 0, false),
            ("k", "", 9, false),
        ] {
            let actual = all.contains(jti, subject, version);
            assert_eq!(actual, expected, "{jti} {subject} {version}");
        }
        let acme = "acme".parse().unwrap();
        assert!(all.contains_account(&acme, 6));
        assert!(!all.contains_account(&acme, 7));
        assert!(!all.contains_account(&"other".parse().unwrap(), 0));
        assert!(!Revocations::default().contains("j", "static:ann", 0));
    }

    #[test]
    fn a_list_that_was_read_before_takes_nothing_back() {
        let mut known: Revocations = [revoke(ann(), 3)].into_iter().collect();
        let read: Revocations = [revoke(Revoked::Jti("old".into()), 2)]
            .into_iter()
            .collect();
        known.refresh(read);
        assert!(known.contains("", "static:ann", 2));
        // Swept meanwhile.
        let read: Revocations = [revoke(Revoked::Jti("new".into()), 4)]
            .into_iter()
            .collect();
        known.refresh(read);
        assert!(!known.contains("", "static:ann", 2));
        assert!(known.contains("new", "", 3));
    }
}
