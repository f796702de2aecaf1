//! Which repositories and tags a policy is about: what tag policies and GC policies have in common.
//!
//! The members lie in the policies themselves, since serde cannot refuse unknown members of parts that are put together;
//! this is a view of them. What a newcomer gets wrong: `except_...` wins over `match_...`.

use super::{
    invalid_field::InvalidField,
    pattern::{Pattern, can_be_made_of, check_field},
    warning::Warning,
};
use crate::oci::{RepoName, Tag};

/// The members of a policy that say what it is about.
#[derive(Debug, Clone, Copy)]
pub struct PolicyMatch<'a> {
    /// Repositories.
    pub match_repository: &'a str,
    /// Repositories that are left out.
    pub except_repository: Option<&'a str>,
    /// Tags; all of them without it.
    pub match_tag: Option<&'a str>,
    /// Tags that are left out.
    pub except_tag: Option<&'a str>,
}

impl PolicyMatch<'_> {
    /// Says what is wrong with a pattern, if anything is.
    pub fn validate(&self) -> Result<(), InvalidField> {
        check_field("match_repository", self.match_repository)?;
        for (name, pattern) in [
            ("except_repository", self.except_repository),
            ("match_tag", self.match_tag),
            ("except_tag", self.except_tag),
        ] {
            pattern.map_or(Ok(()), |pattern| check_field(name, pattern))?;
        }
        Ok(())
    }

    /// Whether the policy of this auth tenant is about this repository.
    pub fn has_repository(&self, owner: &str, repo: &RepoName) -> bool {
        matches(owner, self.match_repository, repo.as_str())
            && !self
                .except_repository
                .is_some_and(|pattern| matches(owner, pattern, repo.as_str()))
    }

    /// Whether the policy is about this tag, in a repository that it is about.
    pub fn has_tag(&self, owner: &str, tag: &Tag) -> bool {
        self.match_tag
            .is_none_or(|pattern| matches(owner, pattern, tag.as_str()))
            && !self
                .except_tag
                .is_some_and(|pattern| matches(owner, pattern, tag.as_str()))
    }

    /// Members that can never match, or leave everything out.
    pub fn warnings(&self) -> Vec<Warning> {
        let repositories = [
            ("match_repository", Some(self.match_repository)),
            ("except_repository", self.except_repository),
        ];
        let tags = [
            ("match_tag", self.match_tag),
            ("except_tag", self.except_tag),
        ];
        let mut found = Vec::new();
        for (name, pattern) in repositories {
            let warning = pattern.and_then(no_repository);
            found.extend(warning.map(|warning| warning.below(name)));
        }
        for (name, pattern) in tags {
            let warning = pattern.and_then(no_tag);
            found.extend(warning.map(|warning| warning.below(name)));
        }
        for (name, except, all) in [
            (
                "except_repository",
                self.except_repository,
                Some(self.match_repository),
            ),
            ("except_tag", self.except_tag, self.match_tag),
        ] {
            if except.is_some() && (except == all || except == Some(".*")) {
                let message = "it leaves out all that matches, so the policy does nothing";
                found.push(Warning::new(name, message));
            }
        }
        found
    }
}

fn matches(owner: &str, pattern: &str, text: &str) -> bool {
    Pattern::of(owner, pattern).matches(text)
}

/// A warning if a pattern can match no repository.
pub(super) fn no_repository(pattern: &str) -> Option<Warning> {
    let is_allowed = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '/' | '.' | '_' | '-')
    };
    let message = "it matches no repository: names have lowercase letters, digits and /._- , without the account";
    (!can_be_made_of(pattern, is_allowed)).then(|| Warning::new("", message))
}

fn no_tag(pattern: &str) -> Option<Warning> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let message = "it matches no tag: tags have letters, digits and ._-";
    (!can_be_made_of(pattern, is_allowed)).then(|| Warning::new("", message))
}
