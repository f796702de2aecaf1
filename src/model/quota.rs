//! Quotas: what an account or an auth tenant uses, and how much of it it may use. Pure.
//!
//! It knows numbers only; where they are kept is `db/quotas.rs`. What a newcomer gets wrong: to be over a limit is no
//! fault, since limits can be set below what is used. Only what makes a resource grow is refused.

use std::fmt;

use serde_json::json;

use super::precondition::{EntityTag, Tagged};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Content of blobs, once for each account, and of manifests; and of uploads that go on.
    Bytes,
    /// Manifests, in each repository.
    Manifests,
    /// Repositories that hold manifests.
    Repositories,
}

impl Resource {
    /// All resources.
    pub const ALL: [Self; 3] = [Self::Bytes, Self::Manifests, Self::Repositories];

    /// The name in documents and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Manifests => "manifests",
            Self::Repositories => "repositories",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose book it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BookKind {
    /// One account.
    Account,
    /// All accounts of an auth tenant.
    AuthTenant,
}

impl BookKind {
    /// The name in the database, documents and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::AuthTenant => "auth_tenant",
        }
    }
}

/// How much of each resource is used, or by how much that changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Content of blobs and manifests.
    pub bytes: i64,
    /// Content of uploads that go on, and bytes that are kept for what is being written.
    pub reserved_bytes: i64,
    /// Manifests.
    pub manifests: i64,
    /// Repositories that hold manifests.
    pub repositories: i64,
}

impl Amounts {
    /// So many bytes more, or less, that are reserved.
    pub fn reserved(bytes: i64) -> Self {
        Self {
            reserved_bytes: bytes,
            ..Self::default()
        }
    }

    /// Whether there is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// How much of one resource; more than any column holds is possible for a sum.
    pub fn of(&self, resource: Resource) -> i128 {
        match resource {
            Resource::Bytes => i128::from(self.bytes) + i128::from(self.reserved_bytes),
            Resource::Manifests => self.manifests.into(),
            Resource::Repositories => self.repositories.into(),
        }
    }
}

/// How much may be used; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, the reserved ones included.
    pub bytes: Option<u64>,
    /// Manifests.
    pub manifests: Option<u64>,
    /// Repositories that hold manifests.
    pub repositories: Option<u64>,
}

impl Limits {
    /// The limit of one resource.
    pub fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Bytes => self.bytes,
            Resource::Manifests => self.manifests,
            Resource::Repositories => self.repositories,
        }
    }

    /// The same with another limit of one resource.
    #[must_use]
    pub fn with(mut self, resource: Resource, limit: Option<u64>) -> Self {
        match resource {
            Resource::Bytes => self.bytes = limit,
            Resource::Manifests => self.manifests = limit,
            Resource::Repositories => self.repositories = limit,
        }
        self
    }
}

/// A book: what is used and what may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Book {
    /// Whose.
    pub kind: BookKind,
    /// What is used.
    pub used: Amounts,
    /// What may be.
    pub limits: Limits,
}

impl Tagged for Book {
    /// What is used changes all the time and cannot be set, so only the limits count.
    fn tag(&self) -> EntityTag {
        EntityTag::of_document(&json!({
            "bytes": self.limits.bytes,
            "manifests": self.limits.manifests,
            "repositories": self.limits.repositories,
        }))
    }
}

/// What would be more than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Of what.
    pub resource: Resource,
    /// Whose limit.
    pub of: BookKind,
    /// What is used.
    pub used: u64,
    /// What may be.
    pub limit: u64,
    /// How much more was wanted.
    pub wanted: u64,
}

impl Book {
    /// A book that nothing was written into.
    pub fn empty(kind: BookKind, defaults: &Limits) -> Self {
        Self {
            kind,
            used: Amounts::default(),
            limits: match kind {
                BookKind::Account => Limits::default(),
                BookKind::AuthTenant => *defaults,
            },
        }
    }

    /// What of `change` is too much, in a book that has it already. What does not grow is never too much.
    pub fn exceeded_by(&self, change: &Amounts) -> Option<Exceeded> {
        Resource::ALL.into_iter().find_map(|resource| {
            let (wanted, now) = (change.of(resource), self.used.of(resource));
            let limit = self.limits.of(resource)?;
            (wanted > 0 && now > i128::from(limit)).then(|| Exceeded {
                resource,
                of: self.kind,
                used: clamped(now - wanted),
                limit,
                wanted: clamped(wanted),
            })
        })
    }

    /// The resources of which 90 % or more is used.
    pub fn nearly_full(&self) -> impl Iterator<Item = (Resource, u64, u64)> {
        Resource::ALL.into_iter().filter_map(|resource| {
            let (used, limit) = (self.used.of(resource), self.limits.of(resource)?);
            (used * 10 >= i128::from(limit) * 9).then(|| (resource, clamped(used), limit))
        })
    }
}

fn clamped(amount: i128) -> u64 {
    u64::try_from(amount.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(bytes: i64, reserved_bytes: i64, limit: u64) -> Book {
        Book {
            kind: BookKind::Account,
            used: Amounts {
                bytes,
                reserved_bytes,
                ..Amounts::default()
            },
            limits: Limits::default().with(Resource::Bytes, Some(limit)),
        }
    }

    #[test]
    fn only_growth_over_the_limit_is_refused() {
        assert_eq!(book(60, 40, 100).exceeded_by(&Amounts::reserved(40)), None);
        let exceeded = book(60, 41, 100).exceeded_by(&Amounts::reserved(40));
        let exceeded = exceeded.unwrap();
        assert_eq!(
            (exceeded.used, exceeded.limit, exceeded.wanted),
            (61, 100, 40)
        );
        // Over the limit, but it shrinks or stays: a reservation becomes content.
        assert_eq!(book(500, 0, 100).exceeded_by(&Amounts::reserved(-1)), None);
        let settled = Amounts {
            bytes: 40,
            reserved_bytes: -40,
            ..Amounts::default()
        };
        assert_eq!(book(500, 0, 100).exceeded_by(&settled), None);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let full = book(i64::MAX, i64::MAX, u64::MAX);
        assert_eq!(full.exceeded_by(&Amounts::reserved(i64::MAX)), None);
        assert_eq!(full.nearly_full().count(), 1);
        let exceeded = book(i64::MAX, i64::MAX, 0).exceeded_by(&Amounts::reserved(i64::MAX));
        assert_eq!(exceeded.unwrap().used, i64::MAX as u64);
    }

    #[test]
    fn a_warning_begins_at_nine_tenths() {
        assert_eq!(book(89, 0, 100).nearly_full().count(), 0);
        assert_eq!(book(89, 1, 100).nearly_full().count(), 1);
        let unlimited = Book {
            limits: Limits::default(),
            ..book(i64::MAX, 0, 0)
        };
        assert_eq!(unlimited.nearly_full().count(), 0);
    }
}
