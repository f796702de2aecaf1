//! What is accepted but cannot be meant so, such as a policy that can never match.

use std::fmt;

use serde::Serialize;

/// A member of a document that was accepted and has no effect, or not the one that it seems to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Warning {
    /// Where, below the document: `tag_policies[0].match_tag`.
    pub path: String,
    /// Why, for people.
    pub message: String,
}

impl Warning {
    /// The member `path` is suspicious.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }

    /// The same, seen from the document that has this member at `parent`.
    #[must_use]
    pub fn below(mut self, parent: impl fmt::Display) -> Self {
        self.path = match self.path.as_str() {
            "" => parent.to_string(),
            path => format!("{parent}.{path}"),
        };
        self
    }
}
