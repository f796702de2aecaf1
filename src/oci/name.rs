//! Names of accounts and repositories.
//!
//! To a client a repository is `<account>/<repository>`, and the whole follows the grammar of the
//! OCI distribution specification ("Pulling manifests", `<name>`). The first component is the
//! account, which is more narrowly defined because it is also a DNS label
//! (`<account>.registry.example`) and part of the name of a container in the object store.
//!
//! The scanners are written by hand: one pass, no backtracking, no table to compile.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::text::{serde_as_text, text_newtype};

/// The longest account name. A DNS label may have 63 characters; the rest is left to the prefix
/// that a storage driver puts before the name of its container or bucket.
pub const MAX_ACCOUNT_CHARS: usize = 48;

/// The longest full name. Clients limit the name to 255 characters (OCI distribution spec,
/// `<name>`: "Many clients impose a limit of 255 characters on the length of the concatenation of
/// the registry hostname, /, and the `<name>` value").
pub const MAX_FULL_NAME_CHARS: usize = 255;

/// Why a text is not the name of an account or a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum NameError {
    /// Not an account name.
    #[error(
        "an account name has 1 to 48 characters: lowercase letters and digits, and hyphens \
         between them"
    )]
    Account,
    /// Not a repository name.
    #[error(
        "each part of a repository name is made of lowercase letters and digits, with one of . _ __ \
         or hyphens between them"
    )]
    Repository,
    /// A repository without an account.
    #[error("a repository is named <account>/<repository>")]
    NoAccount,
    /// Too long in all.
    #[error("the name of a repository, with its account, has at most 255 characters")]
    TooLong,
}

/// The name of an account: `[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?`, which is also a DNS label (RFC
/// 1123, section 2.1) and a name component of the OCI distribution spec.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(String);

text_newtype!(AccountName);

impl FromStr for AccountName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let ends_well = |end: Option<&u8>| end.is_some_and(|byte| is_lower_alphanumeric(*byte));
        let is_valid = bytes.len() <= MAX_ACCOUNT_CHARS
            && ends_well(bytes.first())
            && ends_well(bytes.last())
            && bytes
                .iter()
                .all(|byte| is_lower_alphanumeric(*byte) || *byte == b'-');
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Account)
        }
    }
}

/// The path of a repository inside its account: `name` of the OCI distribution spec,
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoName(String);

text_newtype!(RepoName);

impl FromStr for RepoName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // No account is so short that more could fit.
        if text.len() > MAX_FULL_NAME_CHARS - "a/".len() {
            return Err(NameError::TooLong);
        }
        if text.split('/').all(is_name_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Repository)
        }
    }
}

/// A repository as clients name it: `<account>/<repository>`, at most 255 characters.
///
/// Make one with [`FullRepoName::new`] or by parsing: they check the length of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FullRepoName {
    /// The account that owns the repository.
    pub account: AccountName,
    /// The path inside the account.
    pub repo: RepoName,
}

impl FullRepoName {
    /// Puts the two parts together, which may be too long even if each is not.
    pub fn new(account: AccountName, repo: RepoName) -> Result<Self, NameError> {
        if account.0.len() + 1 + repo.0.len() > MAX_FULL_NAME_CHARS {
            return Err(NameError::TooLong);
        }
        Ok(Self { account, repo })
    }
}

impl fmt::Display for FullRepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.repo)
    }
}

impl FromStr for FullRepoName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (account, repo) = text.split_once('/').ok_or(NameError::NoAccount)?;
        Self::new(account.parse()?, repo.parse()?)
    }
}

serde_as_text!(FullRepoName);

fn is_lower_alphanumeric(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_name_component(component: &str) -> bool {
    // The separator that is open before the next letter or digit. A component may neither begin nor
    // end inside one.
    let mut separator: &[u8] = b"";
    let mut rest = component.as_bytes();
    while let Some(&first) = rest.first() {
        if is_lower_alphanumeric(first) {
            rest = &rest[1..];
            separator = b"";
            continue;
        }
        let length = rest
            .iter()
            .take_while(|byte| !is_lower_alphanumeric(**byte))
            .count();
        (separator, rest) = rest.split_at(length);
        let is_known =
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-');
        let is_first = separator.len() + rest.len() == component.len();
        if !is_known || is_first {
            return false;
        }
    }
    !component.is_empty() && separator.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_names() {
        let longest = "a".repeat(48);
        for good in [
            "a", "0", "ab", "a-b", "a--b", "0-0", "library", "xn--abc", &longest,
        ] {
            assert_eq!(good.parse::<AccountName>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(49);
        let bad = [
            "", "-", "-a", "a-", "A", "aB", "a.b", "a_b", "a/b", "a b", " a", "a ", "a\n",
            "\u{e4}", "a\0", "..", ".", "%61", "a:b", "a@b", "*", &too_long,
        ];
        for text in bad {
            assert_eq!(
                text.parse::<AccountName>(),
                Err(NameError::Account),
                "{text:?}"
            );
        }
    }

    #[test]
    fn every_account_name_is_also_an_oci_name_component() {
        for name in ["a", "a-b", "a--b", "a---b", "0-9"] {
            assert!(name.parse::<AccountName>().is_ok());
            assert!(is_name_component(name), "{name:?}");
        }
    }

    #[test]
    fn repository_names() {
        let good = [
            "a",
            "0",
            "abc",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a--b",
            "a-----b",
            "a.b_c__d-e",
            "a/b",
            "a/b/c",
            "a/b/c/d/e/f/g/h",
            "blobs/uploads",
            "manifests",
            "a.b/c__d",
        ];
        for text in good {
            assert_eq!(text.parse::<RepoName>().unwrap().as_str(), text);
        }
        let bad = [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/./b",
            ".a",
            "a.",
            "_a",
            "a_",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "a.-b",
            "a-.b",
            "a_-b",
            "a-_b",
            "A",
            "a/B",
            "a b",
            "a\tb",
            "a\0",
            "a%2fb",
            "a:b",
            "a@b",
            "a+b",
            "a*",
            "a\\b",
            "\u{e4}",
            "a/\u{e4}",
            "a\u{2024}b",
            "a/ ",
            "a\n",
            "__",
            "a/_",
            "a/-b",
            "a/b-",
            "a/.b",
        ];
        for text in bad {
            assert_eq!(
                text.parse::<RepoName>(),
                Err(NameError::Repository),
                "{text:?}"
            );
        }
    }

    #[test]
    fn full_names() {
        let name: FullRepoName = "library/team/app".parse().unwrap();
        assert_eq!(name.account.as_str(), "library");
        assert_eq!(name.repo.as_str(), "team/app");
        assert_eq!(name.to_string(), "library/team/app");

        let table = [
            ("", NameError::NoAccount),
            ("library", NameError::NoAccount),
            ("/a", NameError::Account),
            ("a/", NameError::Repository),
            ("../a", NameError::Account),
            ("a/../b", NameError::Repository),
            ("a//b", NameError::Repository),
            ("a_b/c", NameError::Account),
            ("A/b", NameError::Account),
            ("a/B", NameError::Repository),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<FullRepoName>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_whole_is_at_most_255_characters() {
        let fits = format!("ab/{}", "a".repeat(252));
        assert_eq!(fits.len(), 255);
        assert!(fits.parse::<FullRepoName>().is_ok());
        let too_long = format!("ab/{}", "a".repeat(253));
        assert_eq!(too_long.parse::<FullRepoName>(), Err(NameError::TooLong));
        assert_eq!("a".repeat(254).parse::<RepoName>(), Err(NameError::TooLong));
        assert!(
            format!("a/{}", "a".repeat(253))
                .parse::<FullRepoName>()
                .is_ok()
        );
        assert_eq!(
            "a/".repeat(1 << 20).parse::<FullRepoName>(),
            Err(NameError::TooLong)
        );
    }

    #[test]
    fn the_error_for_a_single_component_says_what_a_repository_is() {
        let error = "nginx".parse::<FullRepoName>().unwrap_err();
        assert!(error.to_string().contains("<account>/<repository>"));
    }

    #[test]
    fn serde_goes_through_the_parser() {
        let name: FullRepoName = serde_json::from_str("\"a/b\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"a/b\"");
        assert!(serde_json::from_str::<AccountName>("\"-a\"").is_err());
        assert!(serde_json::from_str::<RepoName>("\"a/../b\"").is_err());
    }
}
