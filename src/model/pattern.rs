//! Regular expressions that tenants write: they must match the whole of a text and cannot fill the memory.
//!
//! A pattern is compiled once and then remembered, since policies are asked at every request.

use std::sync::{Arc, LazyLock};

use quick_cache::sync::Cache;
use regex::{Regex, RegexBuilder};

use super::invalid_field::InvalidField;

/// The longest pattern.
const MAX_PATTERN_BYTES: usize = 512;

/// The compiled size that one pattern may have, and what matching may take besides.
const SIZE_LIMIT_BYTES: usize = 128 * 1024;

/// How many compiled patterns are remembered. A typical one takes some KiB.
const REMEMBERED: usize = 512;

/// `None` for a pattern that does not compile.
static COMPILED: LazyLock<Cache<String, Option<Arc<Regex>>>> =
    LazyLock::new(|| Cache::new(REMEMBERED));

fn compiled(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(SIZE_LIMIT_BYTES)
        .dfa_size_limit(SIZE_LIMIT_BYTES)
        .build()
}

fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(regex::Error::CompiledTooBig(MAX_PATTERN_BYTES));
    }
    // On its own first: what is not an expression must not become one between our anchors.
    compiled(pattern)?;
    compiled(&format!("^(?:{pattern})$"))
}

/// Says what is wrong with a pattern, if anything is.
pub fn check(pattern: &str) -> Result<(), String> {
    whole(pattern)
        .map(drop)
        .map_err(|error| format!("{pattern:?} is not usable: {error}"))
}

/// The same, for the member `name` of a document. An empty pattern would match nothing.
pub fn check_field(name: &str, pattern: &str) -> Result<(), InvalidField> {
    if pattern.is_empty() {
        let reason = "it is empty, so that it matches nothing; leave it out, or say \".*\"";
        return Err(InvalidField::new(name, reason));
    }
    check(pattern).map_err(|reason| InvalidField::new(name, reason))
}

/// A pattern that can be asked.
#[derive(Debug, Clone)]
pub struct Pattern(Option<Arc<Regex>>);

impl Pattern {
    /// Compiles the pattern, or takes the compiled one. One that does not compile matches nothing: it was
    /// checked when it was stored.
    pub fn new(pattern: &str) -> Self {
        if let Some(known) = COMPILED.get(pattern) {
            return Self(known);
        }
        let compiled = whole(pattern).ok().map(Arc::new);
        COMPILED.insert(pattern.to_owned(), compiled.clone());
        Self(compiled)
    }

    /// Whether the pattern matches the whole text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text_or_nothing() {
        for (pattern, text, is_match) in [
            ("lib", "lib", true),
            ("lib", "library", false),
            ("a|b", "abc", false),
            ("a|b", "b", true),
            ("", "", true),
            ("", "x", false),
            ("(", "(", false),
            // Would open the group that the anchors stand around.
            ("a)|(.*", "xyz", false),
            ("(?m)a$", "a\nb", false),
        ] {
            for _ in 0..2 {
                assert_eq!(
                    Pattern::new(pattern).matches(text),
                    is_match,
                    "{pattern:?} {text:?}"
                );
            }
        }
    }

    #[test]
    fn patterns_that_cannot_be_used_are_named() {
        let long = "a".repeat(MAX_PATTERN_BYTES + 1);
        for bad in ["(", "a)|(.*", "a{1000}{1000}{1000}", &long] {
            assert!(check(bad).unwrap_err().contains("not usable"), "{bad}");
        }
        assert_eq!(check("team/.*"), Ok(()));
    }
}
