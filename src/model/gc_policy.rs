//! GC policies: which images of an account are to be deleted by themselves, and which are not.
//!
//! This is what a policy may say; what follows for the images of a repository is in `gc_plan.rs`. The order in an account's
//! list is their priority: the first that matches an image counts.

use serde::{Deserialize, Serialize};

use super::{
    invalid_field::InvalidField, policy_match::PolicyMatch, tag_policy::is_false, warning::Warning,
};

/// What becomes of images that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GcAction {
    /// They are deleted.
    Delete,
    /// They stay, whatever later policies say.
    Protect,
}

/// What images are ordered by: a time, or a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GcTime {
    /// When it was pushed.
    PushedAt,
    /// When it was last pulled; the beginning of 1970 if it never was.
    LastPulledAt,
    /// No time but the version in a tag, by the precedence of Semantic Versioning 2.0.0. With `oldest` and `newest` only.
    Semver,
}

/// A unit of an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum AgeUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Minutes.
    #[serde(rename = "m")]
    Minutes,
    /// Hours.
    #[serde(rename = "h")]
    Hours,
    /// Days of 24 hours.
    #[serde(rename = "d")]
    Days,
    /// Seven days.
    #[serde(rename = "w")]
    Weeks,
    /// 365 days.
    #[serde(rename = "y")]
    Years,
}

/// An age, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Age {
    /// How many.
    pub value: u64,
    /// Of what.
    pub unit: AgeUnit,
}

/// The longest age, in seconds: a thousand years.
const MAX_AGE_SECONDS: u64 = 1000 * 365 * 24 * 60 * 60;

impl Age {
    /// The age in seconds; `None` if it is too large for that.
    pub(super) fn seconds(self) -> Option<u64> {
        let unit = match self.unit {
            AgeUnit::Seconds => 1,
            AgeUnit::Minutes => 60,
            AgeUnit::Hours => 60 * 60,
            AgeUnit::Days => 24 * 60 * 60,
            AgeUnit::Weeks => 7 * 24 * 60 * 60,
            AgeUnit::Years => 365 * 24 * 60 * 60,
        };
        self.value.checked_mul(unit)
    }
}

/// Which images of a repository are meant, by a time of theirs. One member besides `on` is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeConstraint {
    /// The time, or the version.
    pub on: GcTime,
    /// So many of the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// So many of the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
    /// Those that are as old at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<Age>,
    /// Those that are as old at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_than: Option<Age>,
}

/// One rule of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GcPolicy {
    /// A regular expression over the repository's name inside the account; it must match the whole.
    pub match_repository: String,
    /// Repositories that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except_repository: Option<String>,
    /// A regular expression of which one of the image's tags must match the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_tag: Option<String>,
    /// Images with such a tag are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except_tag: Option<String>,
    /// Only images without a tag.
    #[serde(default, skip_serializing_if = "is_false")]
    pub only_untagged: bool,
    /// Which of them, by time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_constraint: Option<TimeConstraint>,
    /// What becomes of them.
    pub action: GcAction,
}

impl GcPolicy {
    pub(super) fn about(&self) -> PolicyMatch<'_> {
        PolicyMatch {
            match_repository: &self.match_repository,
            except_repository: self.except_repository.as_deref(),
            match_tag: self.match_tag.as_deref(),
            except_tag: self.except_tag.as_deref(),
        }
    }

    /// Says what is wrong with the rule, if anything is.
    pub fn validate(&self) -> Result<(), InvalidField> {
        self.about().validate()?;
        let tags = [
            ("match_tag", self.match_tag.is_some()),
            ("except_tag", self.except_tag.is_some()),
        ];
        if let Some((name, _)) = tags.iter().find(|(_, is_there)| *is_there)
            && self.only_untagged
        {
            let reason = "only_untagged is about images without tags: leave one of the two out";
            return Err(InvalidField::new(*name, reason));
        }
        self.time_constraint.as_ref().map_or(Ok(()), |constraint| {
            constraint
                .validate(self.action)
                .map_err(|invalid| invalid.below("time_constraint"))
        })
    }

    /// Members that cannot be meant so.
    pub fn warnings(&self) -> Vec<Warning> {
        self.about().warnings()
    }
}

impl TimeConstraint {
    fn validate(&self, action: GcAction) -> Result<(), InvalidField> {
        let counts = [("oldest", self.oldest), ("newest", self.newest)];
        let ages = [
            ("older_than", self.older_than),
            ("newer_than", self.newer_than),
        ];
        for (name, count) in counts {
            let reason = match count {
                None => continue,
                Some(_) if action == GcAction::Delete => {
                    "it is for the action protect alone: each run of a deletion would find others"
                }
                Some(0) => "it must be 1 at least",
                Some(_) => continue,
            };
            return Err(InvalidField::new(name, reason));
        }
        for (name, age) in ages {
            let Some(age) = age else { continue };
            let reason = match age.seconds() {
                Some(0) => "it must be 1 at least",
                Some(seconds) if seconds <= MAX_AGE_SECONDS => continue,
                _ => "it is longer than a thousand years",
            };
            return Err(InvalidField::new(format!("{name}.value"), reason));
        }
        if self.on == GcTime::Semver
            && let Some((name, _)) = ages.iter().find(|(_, age)| age.is_some())
        {
            let reason = format!("a version has no age: {name} needs pushed_at or last_pulled_at");
            return Err(InvalidField::new("on", reason));
        }
        let counts = counts
            .into_iter()
            .map(|(name, count)| (name, count.is_some()));
        let ages = ages.into_iter().map(|(name, age)| (name, age.is_some()));
        let mut given = counts.chain(ages).filter(|(_, is_there)| *is_there);
        match (given.next(), given.next()) {
            (Some(_), None) => Ok(()),
            (None, _) => {
                let reason = "it needs one of oldest, newest, older_than and newer_than";
                Err(InvalidField::new("", reason))
            }
            (Some((first, _)), Some((second, _))) => {
                let reason = format!("it cannot stand beside {first}");
                Err(InvalidField::new(second, reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn policies_of_keppel_are_taken_and_shown_as_they_came() {
        for document in [
            json!({"match_repository": ".*", "only_untagged": true, "action": "delete"}),
            json!({"match_repository": "a", "except_repository": "b", "match_tag": "c", "except_tag": "d",
                "time_constraint": {"on": "last_pulled_at", "older_than": {"value": 4, "unit": "w"}}, "action": "delete"}),
            json!({"match_repository": ".*", "time_constraint": {"on": "pushed_at", "newest": 10}, "action": "protect"}),
            json!({"match_repository": ".*",
                "time_constraint": {"on": "pushed_at", "newer_than": {"value": 1, "unit": "y"}}, "action": "protect"}),
            json!({"match_repository": ".*", "time_constraint": {"on": "semver", "newest": 3}, "action": "protect"}),
        ] {
            let policy: GcPolicy = serde_json::from_value(document.clone()).unwrap();
            assert_eq!(policy.validate(), Ok(()), "{document}");
            assert_eq!(policy.warnings(), []);
            assert_eq!(serde_json::to_value(&policy).unwrap(), document);
        }
    }

    #[test]
    fn combinations_that_make_no_sense_are_refused_at_their_member() {
        let timed = |constraint: Value, action: &str| json!({"match_repository": ".*", "time_constraint": constraint, "action": action});
        for (document, path) in [
            (
                json!({"match_repository": "(", "action": "delete"}),
                "match_repository",
            ),
            (
                json!({"match_repository": "a", "only_untagged": true, "match_tag": "b", "action": "delete"}),
                "match_tag",
            ),
            (
                json!({"match_repository": "a", "only_untagged": true, "except_tag": "b", "action": "delete"}),
                "except_tag",
            ),
            (
                timed(json!({"on": "pushed_at"}), "delete"),
                "time_constraint",
            ),
            (
                timed(json!({"on": "pushed_at", "oldest": 1}), "delete"),
                "time_constraint.oldest",
            ),
            (
                timed(json!({"on": "pushed_at", "newest": 1}), "delete"),
                "time_constraint.newest",
            ),
            (
                timed(json!({"on": "semver", "newest": 1}), "delete"),
                "time_constraint.newest",
            ),
            (timed(json!({"on": "semver"}), "protect"), "time_constraint"),
            (
                timed(
                    json!({"on": "semver", "older_than": {"value": 1, "unit": "d"}}),
                    "delete",
                ),
                "time_constraint.on",
            ),
            (
                timed(json!({"on": "pushed_at", "newest": 0}), "protect"),
                "time_constraint.newest",
            ),
            (
                timed(
                    json!({"on": "pushed_at", "newest": 1, "oldest": 1}),
                    "protect",
                ),
                "time_constraint.newest",
            ),
            (
                timed(
                    json!({"on": "pushed_at", "oldest": 1, "newer_than": {"value": 1, "unit": "d"}}),
                    "protect",
                ),
                "time_constraint.newer_than",
            ),
            (
                timed(
                    json!({"on": "pushed_at", "older_than": {"value": 0, "unit": "d"}}),
                    "delete",
                ),
                "time_constraint.older_than.value",
            ),
            (
                timed(
                    json!({"on": "pushed_at", "older_than": {"value": u64::MAX, "unit": "y"}}),
                    "delete",
                ),
                "time_constraint.older_than.value",
            ),
        ] {
            let policy: GcPolicy = serde_json::from_value(document.clone()).unwrap();
            assert_eq!(policy.validate().unwrap_err().path, path, "{document}");
        }
        for document in [
            json!({"action": "delete"}),
            json!({"match_repository": "a"}),
            json!({"match_repository": "a", "action": "keep"}),
            timed(json!({"oldest": 1}), "protect"),
            timed(json!({"on": "made_at", "oldest": 1}), "protect"),
            timed(
                json!({"on": "pushed_at", "older_than": {"value": 1, "unit": "month"}}),
                "delete",
            ),
            timed(
                json!({"on": "pushed_at", "older_than": {"value": -1, "unit": "d"}}),
                "delete",
            ),
        ] {
            assert!(
                serde_json::from_value::<GcPolicy>(document.clone()).is_err(),
                "{document}"
            );
        }
    }
}
