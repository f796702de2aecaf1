//! Regular expressions that tenants write: they must match the whole of a text and cannot fill the memory.
//!
//! A pattern is compiled once and then remembered for its owner, an auth tenant, since policies are asked at every
//! request (`compiled.rs`).

use std::sync::{LazyLock, PoisonError, RwLock};

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::{compiled::Compiled, invalid_field::InvalidField};

/// The longest pattern.
const MAX_PATTERN_BYTES: usize = 512;

/// The compiled size that one pattern may have, and what matching may take besides.
const SIZE_LIMIT_BYTES: usize = 128 * 1024;

/// The compiled size of a light pattern. Most are.
const LIGHT_BYTES: usize = 16 * 1024;

/// The weight of a pattern that is not light; a light one has 1.
const HEAVY: usize = SIZE_LIMIT_BYTES / LIGHT_BYTES;

/// The weight that is remembered of all owners together.
const REMEMBERED: usize = 4096;

static COMPILED: LazyLock<RwLock<Compiled<Option<Regex>>>> =
    LazyLock::new(|| RwLock::new(Compiled::new(REMEMBERED)));

/// A compiled pattern, `None` if it does not compile, with its weight.
type Weighed = (Option<Regex>, usize);

fn compiled(pattern: &str, limit_bytes: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(limit_bytes)
        .dfa_size_limit(limit_bytes)
        .build()
}

/// Compiles a pattern that was checked before it was stored.
fn weighed(pattern: &str) -> Weighed {
    match whole(pattern, LIGHT_BYTES) {
        Ok(light) => (Some(light), 1),
        Err(_) => (whole(pattern, SIZE_LIMIT_BYTES).ok(), HEAVY),
    }
}

fn whole(pattern: &str, limit_bytes: usize) -> Result<Regex, regex::Error> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(regex::Error::CompiledTooBig(MAX_PATTERN_BYTES));
    }
    // On its own first: what is not an expression must not become one between our anchors.
    regex_syntax::parse(pattern).map_err(|error| regex::Error::Syntax(error.to_string()))?;
    compiled(&format!("^(?:{pattern})$"), limit_bytes)
}

/// Says what is wrong with a pattern, if anything is.
pub fn check(pattern: &str) -> Result<(), String> {
    whole(pattern, SIZE_LIMIT_BYTES)
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

/// Whether a pattern could match a text of these ASCII characters alone. It looks at the characters and not at their
/// order, so that a no is sure and a yes is not.
pub fn can_be_made_of(pattern: &str, is_allowed: fn(char) -> bool) -> bool {
    regex_syntax::parse(pattern).map_or(true, |hir| is_made_of(&hir, is_allowed))
}

/// Whether a pattern could match a text that has one of these ASCII characters.
pub fn can_contain(pattern: &str, is_wanted: fn(char) -> bool) -> bool {
    regex_syntax::parse(pattern).map_or(true, |hir| has(&hir, is_wanted))
}

fn is_made_of(hir: &Hir, is_allowed: fn(char) -> bool) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => {
            str::from_utf8(&literal.0).is_ok_and(|text| text.chars().all(is_allowed))
        }
        HirKind::Class(class) => class_has(class, is_allowed),
        HirKind::Repetition(repeated) => repeated.min == 0 || is_made_of(&repeated.sub, is_allowed),
        HirKind::Capture(group) => is_made_of(&group.sub, is_allowed),
        HirKind::Concat(parts) => parts.iter().all(|part| is_made_of(part, is_allowed)),
        HirKind::Alternation(parts) => parts.iter().any(|part| is_made_of(part, is_allowed)),
    }
}

fn has(hir: &Hir, is_wanted: fn(char) -> bool) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => false,
        HirKind::Literal(literal) => {
            str::from_utf8(&literal.0).is_ok_and(|text| text.chars().any(is_wanted))
        }
        HirKind::Class(class) => class_has(class, is_wanted),
        HirKind::Repetition(repeated) => repeated.max != Some(0) && has(&repeated.sub, is_wanted),
        HirKind::Capture(group) => has(&group.sub, is_wanted),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().any(|part| has(part, is_wanted))
        }
    }
}

fn class_has(class: &Class, is_wanted: fn(char) -> bool) -> bool {
    let mut wanted = (0..128_u8).filter(|byte| is_wanted(char::from(*byte)));
    wanted.any(|byte| match class {
        Class::Unicode(class) => {
            let mut ranges = class.ranges().iter();
            let c = char::from(byte);
            ranges.any(|range| (range.start()..=range.end()).contains(&c))
        }
        Class::Bytes(class) => {
            let mut ranges = class.ranges().iter();
            ranges.any(|range| (range.start()..=range.end()).contains(&byte))
        }
    })
}

/// A pattern that can be asked. One that does not compile matches nothing: it was checked when it was stored.
#[derive(Debug, Clone)]
pub struct Pattern(Option<Regex>);

impl Pattern {
    /// Compiles the pattern, and forgets it.
    pub fn new(pattern: &str) -> Self {
        Self(whole(pattern, SIZE_LIMIT_BYTES).ok())
    }

    /// Compiles the pattern of an auth tenant, or takes the compiled one.
    pub fn of(owner: &str, pattern: &str) -> Self {
        let known = COMPILED.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(owner, pattern) {
            return Self(known.clone());
        }
        drop(known);
        // Without the lock: others need not wait for it.
        let (regex, weight) = weighed(pattern);
        let mut known = COMPILED.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(owner, pattern, (regex.clone(), weight));
        Self(regex)
    }

    /// Whether the pattern matches the whole text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// Those of an auth tenant's patterns that would have to be compiled first.
pub fn missing<'a>(owner: &str, patterns: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let known = COMPILED.read().unwrap_or_else(PoisonError::into_inner);
    patterns
        .filter(|pattern| known.get(owner, pattern).is_none())
        .collect()
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
            assert_eq!(
                Pattern::new(pattern).matches(text),
                is_match,
                "{pattern:?} {text:?}"
            );
            for _ in 0..2 {
                let pattern = Pattern::of("whole", pattern);
                assert_eq!(pattern.matches(text), is_match, "{pattern:?} {text:?}");
            }
        }
    }

    #[test]
    fn what_is_compiled_is_told_and_weighed() {
        let patterns = ["missing/.*", "missing|b"];
        assert_eq!(missing("weighed", patterns.into_iter()), patterns);
        assert!(Pattern::of("weighed", patterns[0]).matches("missing/a"));
        assert_eq!(missing("weighed", patterns.into_iter()), [patterns[1]]);
        assert_eq!(missing("other", patterns.into_iter()), patterns);
        assert_eq!(weighed("team/.*").1, 1);
        let (heavy, weight) = weighed("\\w{2}");
        assert_eq!((heavy.is_some(), weight), (true, HEAVY));
        assert_eq!(weighed("a{1000}{1000}").1, HEAVY);
    }

    #[test]
    fn what_a_pattern_can_never_match_is_seen() {
        let is_lower = |c: char| c.is_ascii_lowercase() || c == '/';
        for (pattern, can) in [
            ("team/.*", true),
            ("Team/.*", false),
            ("(?i)Team", true),
            ("a|B", true),
            ("A|B", false),
            ("[A-Z]", false),
            ("[A-Z]*", true),
            ("[A-Za]+", true),
            ("a b", false),
            (".*", true),
            ("\\w+", true),
            ("(x(Y|Z))?", true),
            ("ü", false),
            ("^a$", true),
            ("(", true),
        ] {
            assert_eq!(can_be_made_of(pattern, is_lower), can, "{pattern}");
        }
        for (pattern, can) in [
            ("static:ann", true),
            ("ann", false),
            ("ann|static:bob", true),
            (".*", true),
            ("(a|b)+[^c]", true),
            ("a{3}", false),
            ("(:){0}", false),
            ("", false),
        ] {
            assert_eq!(can_contain(pattern, |c| c == ':'), can, "{pattern}");
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
