//! Tag policies: tags of an account that cannot be set, moved or deleted.
//!
//! Whether a policy blocks a change of a tag is decided here; the use cases ask in the transaction that makes the change.
//! What a newcomer gets wrong: to push the same manifest under the same tag again changes nothing and is no overwrite.

use serde::{Deserialize, Serialize};

use super::{invalid_field::InvalidField, policy_match::PolicyMatch, warning::Warning};
use crate::oci::{RepoName, Tag};

/// What is about to happen to a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagChange {
    /// It is new.
    Create,
    /// It comes to point at another manifest.
    Move,
    /// It goes, alone or with its manifest.
    Delete,
}

/// One rule of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TagPolicy {
    /// A regular expression over the repository's name inside the account; it must match the whole.
    pub match_repository: String,
    /// Repositories that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except_repository: Option<String>,
    /// A regular expression over the tag; every tag without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_tag: Option<String>,
    /// Tags that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except_tag: Option<String>,
    /// The tag cannot come to point at another manifest.
    #[serde(default, skip_serializing_if = "is_false")]
    pub block_overwrite: bool,
    /// The tag cannot be deleted, nor the manifest that it points at.
    #[serde(default, skip_serializing_if = "is_false")]
    pub block_delete: bool,
    /// The tag cannot be set, new or not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub block_push: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
pub(super) fn is_false(value: &bool) -> bool {
    !*value
}

impl TagPolicy {
    fn about(&self) -> PolicyMatch<'_> {
        PolicyMatch {
            match_repository: &self.match_repository,
            except_repository: self.except_repository.as_deref(),
            match_tag: self.match_tag.as_deref(),
            except_tag: self.except_tag.as_deref(),
        }
    }

    /// Says what is wrong with the rule, if anything is.
    pub fn validate(&self) -> Result<(), InvalidField> {
        self.about().validate()
    }

    /// Members that cannot be meant so.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut found = self.about().warnings();
        if !self.block_overwrite && !self.block_delete && !self.block_push {
            let message = "it blocks nothing: set block_overwrite, block_delete or block_push";
            found.push(Warning::new("", message));
        }
        found
    }

    fn blocks(&self, change: TagChange) -> bool {
        match change {
            TagChange::Create => self.block_push,
            TagChange::Move => self.block_overwrite || self.block_push,
            TagChange::Delete => self.block_delete,
        }
    }
}

/// The place of the first policy, of those of an auth tenant, that blocks the change of a tag.
pub fn blocking_policy(
    (owner, policies): (&str, &[TagPolicy]),
    change: TagChange,
    repo: &RepoName,
    tag: &Tag,
) -> Option<usize> {
    policies.iter().position(|policy| {
        policy.blocks(change)
            && policy.about().has_repository(owner, repo)
            && policy.about().has_tag(owner, tag)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policies(document: serde_json::Value) -> Vec<TagPolicy> {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_policy_blocks_what_it_names_where_it_matches() {
        use TagChange::{Create, Delete, Move};
        let policies = policies(json!([
            {"match_repository": "app/.*", "except_repository": "app/test", "match_tag": "v[0-9].*",
             "except_tag": ".*-rc[0-9]+", "block_overwrite": true, "block_delete": true},
            {"match_repository": "frozen", "block_push": true},
        ]));
        for (repo, tag, change, expected) in [
            ("app/web", "v1.0", Move, Some(0)),
            ("app/web", "v1.0", Delete, Some(0)),
            ("app/web", "v1.0", Create, None),
            ("app/web", "v1.0-rc1", Move, None),
            ("app/web", "latest", Delete, None),
            ("app/test", "v1.0", Move, None),
            ("app", "v1.0", Move, None),
            ("frozen", "any", Create, Some(1)),
            ("frozen", "any", Move, Some(1)),
            ("frozen", "any", Delete, None),
        ] {
            let (repo, tag) = (repo.parse().unwrap(), tag.parse().unwrap());
            let actual = blocking_policy(("tests", &policies), change, &repo, &tag);
            assert_eq!(actual, expected, "{repo} {tag} {change:?}");
        }
    }

    #[test]
    fn bad_patterns_are_named_and_useless_policies_are_warned_of() {
        for (document, path) in [
            (json!({"match_repository": "("}), "match_repository"),
            (json!({"match_repository": ""}), "match_repository"),
            (
                json!({"match_repository": "a", "except_repository": "["}),
                "except_repository",
            ),
            (
                json!({"match_repository": "a", "match_tag": "*"}),
                "match_tag",
            ),
            (
                json!({"match_repository": "a", "except_tag": ""}),
                "except_tag",
            ),
        ] {
            let policy: TagPolicy = serde_json::from_value(document).unwrap();
            assert_eq!(policy.validate().unwrap_err().path, path);
        }
        for (document, path) in [
            (json!({"match_repository": "a"}), ""),
            (
                json!({"match_repository": "A", "block_push": true}),
                "match_repository",
            ),
            (
                json!({"match_repository": "a", "match_tag": "v 1", "block_push": true}),
                "match_tag",
            ),
            (
                json!({"match_repository": "a", "except_repository": "a", "block_push": true}),
                "except_repository",
            ),
            (
                json!({"match_repository": "a", "match_tag": "b", "except_tag": "b", "block_push": true}),
                "except_tag",
            ),
            (
                json!({"match_repository": "a", "except_tag": ".*", "block_push": true}),
                "except_tag",
            ),
        ] {
            let policy: TagPolicy = serde_json::from_value(document.clone()).unwrap();
            assert_eq!(policy.validate(), Ok(()));
            let found: Vec<_> = policy.warnings().into_iter().map(|w| w.path).collect();
            assert_eq!(found, [path], "{document}");
        }
    }
}
