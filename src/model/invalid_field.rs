//! A member of a document that cannot be accepted: where it is and why.

use std::fmt;

use crate::error::Error;

/// A member of a document that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    /// Where, below the document: `rbac_policies[0].match_cidr`. Empty for the document itself.
    pub path: String,
    /// Why, for people.
    pub reason: String,
}

impl InvalidField {
    /// The member `path` is wrong.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            reason: reason.into(),
        }
    }

    /// The same, seen from the document that has this member at `parent`.
    #[must_use]
    pub fn below(mut self, parent: impl fmt::Display) -> Self {
        self.path = match self.path.as_str() {
            "" => parent.to_string(),
            path if path.starts_with('[') => format!("{parent}{path}"),
            path => format!("{parent}.{path}"),
        };
        self
    }
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl From<InvalidField> for Error {
    fn from(invalid: InvalidField) -> Self {
        Self::field(&invalid.path, invalid.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_grow_from_the_inside() {
        let field = InvalidField::new("match_cidr", "no")
            .below("[3]")
            .below("rbac_policies");
        assert_eq!(field.path, "rbac_policies[3].match_cidr");
        let error = Error::from(field);
        assert_eq!(error.message(), "rbac_policies[3].match_cidr: no");
        assert_eq!(error.field_path(), Some("$.rbac_policies[3].match_cidr"));
        assert_eq!(
            Error::from(InvalidField::new("", "no")).field_path(),
            Some("$")
        );
    }
}
