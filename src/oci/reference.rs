//! Tags, and what stands after `/manifests/` in a URL: a tag or a digest.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::digest::{Digest, DigestError};
use super::text::{serde_as_text, text_newtype};

/// The longest tag (OCI distribution spec, `<reference>`).
pub const MAX_TAG_CHARS: usize = 128;

/// The text is not a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[error(
    "a tag has 1 to 128 characters: letters, digits, and _ . - of which the last two \
     cannot be the first"
)]
pub struct TagError;

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (OCI distribution spec, "Pulling manifests",
/// `<reference>`). The order is that of ASCII, as tags are listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

text_newtype!(Tag);

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_well = text.bytes().next().is_some_and(is_word);
        let is_valid = starts_well
            && text.len() <= MAX_TAG_CHARS
            && text
                .bytes()
                .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(TagError)
        }
    }
}

/// Why a text is neither a tag nor a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
pub enum ReferenceError {
    /// It has no colon and is not a tag.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// It has a colon and is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// Which manifest of a repository is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// Whichever manifest the tag points to now.
    Tag(Tag),
    /// Exactly this content.
    Digest(Digest),
}

impl Reference {
    /// The text, as it stands in a URL.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag.as_str(),
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// No tag has a colon and every digest has one, so the colon decides, and the error is about
    /// what the client meant.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') {
            Ok(Self::Digest(text.parse()?))
        } else {
            Ok(Self::Tag(text.parse()?))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

serde_as_text!(Reference);

#[cfg(test)]
mod tests {
    use super::super::digest::Algorithm;
    use super::*;

    #[test]
    fn tags() {
        let longest = "a".repeat(128);
        let good = [
            "a",
            "A",
            "0",
            "_",
            "latest",
            "v1.2.3",
            "1.0.0_build",
            "a-",
            "a.",
            "a..b",
            "__",
            "V1-RC.1",
            &longest,
        ];
        for text in good {
            assert_eq!(text.parse::<Tag>().unwrap().to_string(), text);
        }
        let too_long = "a".repeat(129);
        let bad = [
            "", ".", "..", "-", ".a", "-a", "a/b", "../a", "a+b", "a b", " a", "a ", "a:b", "a@b",
            "a\0", "a\n", "\u{e4}", "a\u{e4}", "%61", "*", &too_long,
        ];
        for text in bad {
            assert_eq!(text.parse::<Tag>(), Err(TagError), "{text:?}");
        }
    }

    #[test]
    fn a_colon_makes_it_a_digest() {
        let digest = Digest::of(Algorithm::Sha256, b"x");
        assert_eq!(
            digest.as_str().parse(),
            Ok(Reference::Digest(digest.clone()))
        );
        assert!(matches!("latest".parse(), Ok(Reference::Tag(_))));
        // The fallback tag of the referrers is a tag.
        assert!(matches!(
            digest.fallback_tag().parse(),
            Ok(Reference::Tag(_))
        ));
        assert_eq!("".parse::<Reference>(), Err(ReferenceError::Tag(TagError)));
        assert_eq!(
            "a:b".parse::<Reference>(),
            Err(ReferenceError::Digest(DigestError::UnsupportedAlgorithm(
                super::super::UnsupportedAlgorithm
            )))
        );
        assert_eq!(
            ":".parse::<Reference>(),
            Err(ReferenceError::Digest(DigestError::Malformed))
        );
        assert_eq!(
            "sha256:abc".parse::<Reference>(),
            Err(ReferenceError::Digest(DigestError::WrongHex(
                Algorithm::Sha256
            )))
        );
    }

    #[test]
    fn tags_sort_by_ascii() {
        let mut tags: Vec<Tag> = ["b", "a", "B", "_", "1", "a.1"]
            .iter()
            .map(|t| t.parse().unwrap())
            .collect();
        tags.sort();
        assert_eq!(
            tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
            ["1", "B", "_", "a", "a.1", "b"]
        );
    }
}
