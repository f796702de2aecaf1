//! The version that a tag may be: Semantic Versioning 2.0.0, with the two liberties that tags take.
//!
//! A leading `v` is left out, and `1.2` is 1.2.0. A number alone is none: it is as likely the number of a build or a date.

use semver::Version;

/// The version that a tag reads as, if it does.
pub(super) fn tag_version(tag: &str) -> Option<Version> {
    let text = tag.strip_prefix('v').unwrap_or(tag);
    let core_end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(core_end);
    match core.matches('.').count() {
        1 => Version::parse(&format!("{core}.0{rest}")).ok(),
        _ => Version::parse(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_versions_or_not() {
        for (tag, expected) in [
            ("1.2.3", Some("1.2.3")),
            ("v1.2.3-rc.1", Some("1.2.3-rc.1")),
            ("1.2", Some("1.2.0")),
            ("v1.2-beta", Some("1.2.0-beta")),
            ("1.2.3+build.5", Some("1.2.3+build.5")),
            ("0.0.0", Some("0.0.0")),
            ("1", None),
            ("20260101", None),
            ("latest", None),
            ("v", None),
            ("vv1.2.3", None),
            ("V1.2.3", None),
            ("01.2.3", None),
            ("1.2.3.4", None),
            ("1.2.3-01", None),
            ("99999999999999999999.0.0", None),
        ] {
            let found = tag_version(tag).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{tag}");
        }
    }
}
