//! Each rule on a small repository.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

const DAY: i64 = 24 * 60 * 60;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn ago(seconds: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(seconds)
}

fn digest(name: &str) -> Digest {
    Digest::of(crate::oci::Algorithm::Sha256, name.as_bytes())
}

/// An image called `name`, pushed a hundred days ago.
fn image(name: &str, tags: &[&str]) -> GcImage {
    GcImage {
        digest: digest(name),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        pushed_at: ago(100 * DAY),
        last_pulled_at: None,
        children: Vec::new(),
        subject: None,
        size_bytes: 1,
        condemned_with: None,
    }
}

impl GcImage {
    fn pushed(mut self, seconds_ago: i64) -> Self {
        self.pushed_at = ago(seconds_ago);
        self
    }

    fn pulled(mut self, seconds_ago: i64) -> Self {
        self.last_pulled_at = Some(ago(seconds_ago));
        self
    }

    fn lists(mut self, names: &[&str]) -> Self {
        self.children = names.iter().map(|name| digest(name)).collect();
        self
    }

    fn about(mut self, name: &str) -> Self {
        self.subject = Some(digest(name));
        self
    }

    fn condemned(mut self, with: Condemned) -> Self {
        self.condemned_with = Some(with);
        self
    }
}

#[derive(Default)]
struct Case {
    images: Vec<GcImage>,
    policies: Value,
    tag_policies: Value,
    holds: Vec<GcHold>,
}

impl Case {
    /// What becomes of each image, in a word: the rule with what it names.
    fn outcome(&self) -> Vec<String> {
        let policies: Vec<GcPolicy> = serde_json::from_value(self.policies.clone()).unwrap();
        let tag_policies: Vec<TagPolicy> = match &self.tag_policies {
            Value::Null => Vec::new(),
            policies => serde_json::from_value(policies.clone()).unwrap(),
        };
        let repo = "app".parse().unwrap();
        let plan = GcPlan::new(GcInput {
            owner: "tests",
            repo: &repo,
            images: &self.images,
            policies: &policies,
            tag_policies: &tag_policies,
            holds: &self.holds,
            now: now(),
        });
        let names: BTreeMap<String, usize> = (0..)
            .zip(&self.images)
            .map(|(place, image)| (image.digest.to_string(), place))
            .collect();
        let doomed: Vec<usize> = plan.doomed().collect();
        let words = (0..self.images.len()).map(|place| {
            let status = plan.status(place);
            assert_eq!(status.is_deletion(), doomed.contains(&place));
            let other = |digest: &String| names.get(digest).map_or(-1, |place| *place as i64);
            match &status {
                GcStatus::ProtectedByRecentUpload => "recent".to_owned(),
                GcStatus::ProtectedByHold { .. } => "hold".to_owned(),
                GcStatus::ProtectedByTagPolicy { number } => format!("tag_policy {number}"),
                GcStatus::ProtectedByParent { parent } => format!("parent {}", other(parent)),
                GcStatus::ProtectedBySubject { subject } => format!("subject {}", other(subject)),
                GcStatus::ProtectedByPolicy { number, .. } => format!("policy {number}"),
                GcStatus::Kept { relevant_policies } => {
                    let numbers = relevant_policies
                        .iter()
                        .map(|policy| format!(" {}", policy.number));
                    format!("kept{}", numbers.collect::<String>())
                }
                GcStatus::Delete { number, .. } => format!("delete {number}"),
                GcStatus::DeleteWith { subject } => format!("with subject {}", other(subject)),
                GcStatus::DeleteWithParent { parent } => format!("with parent {}", other(parent)),
            }
        });
        words.collect()
    }
}

fn check(images: Vec<GcImage>, policies: Value, expected: &[&str]) {
    let read: Vec<GcPolicy> = serde_json::from_value(policies.clone()).unwrap();
    for policy in &read {
        policy.validate().unwrap();
    }
    let case = Case {
        images,
        policies,
        ..Case::default()
    };
    assert_eq!(case.outcome(), expected, "{}", case.policies);
}

fn delete_all() -> Value {
    json!([{"match_repository": ".*", "action": "delete"}])
}

fn timed(constraint: Value, action: &str) -> Value {
    json!({"match_repository": ".*", "time_constraint": constraint, "action": action})
}

#[test]
fn the_first_policy_that_matches_counts() {
    let images = || {
        vec![
            image("a", &["v1"]),
            image("b", &["dev", "v2"]),
            image("c", &[]),
            image("d", &["dev"]),
        ]
    };
    check(images(), json!([]), &["kept", "kept", "kept", "kept"]);
    check(
        images(),
        delete_all(),
        &["delete 0", "delete 0", "delete 0", "delete 0"],
    );
    check(
        images(),
        json!([
            {"match_repository": "other", "action": "delete"},
            {"match_repository": ".*", "except_repository": "ap.", "action": "delete"},
            {"match_repository": "app", "match_tag": "v.*", "except_tag": "dev", "action": "protect"},
            {"match_repository": "app", "only_untagged": true, "action": "delete"},
            {"match_repository": "app", "match_tag": "v", "action": "delete"},
            {"match_repository": "app", "except_tag": "v2", "action": "delete"},
        ]),
        &["policy 2", "kept", "delete 3", "delete 5"],
    );
}

#[test]
fn ages_count_from_push_or_pull() {
    let images = || {
        vec![
            image("a", &["a"]).pushed(10 * DAY),
            image("b", &["b"]).pushed(10 * DAY).pulled(DAY),
            image("c", &["c"]).pushed(2 * DAY),
            image("d", &["d"]).pushed(10 * DAY - 1),
        ]
    };
    let days = |value: i64| json!({"value": value, "unit": "d"});
    let old = timed(json!({"on": "pushed_at", "older_than": days(10)}), "delete");
    check(
        images(),
        json!([old]),
        &["delete 0", "delete 0", "kept 0", "kept 0"],
    );
    let unused = timed(
        json!({"on": "last_pulled_at", "older_than": days(2)}),
        "delete",
    );
    check(
        images(),
        json!([unused]),
        &["delete 0", "kept 0", "delete 0", "delete 0"],
    );
    let young = timed(json!({"on": "pushed_at", "newer_than": days(2)}), "protect");
    check(
        images(),
        json!([young, old]),
        &["delete 1", "delete 1", "policy 0", "kept 1"],
    );
    // One that is for the young only does not come to match.
    let young = timed(json!({"on": "pushed_at", "newer_than": days(1)}), "delete");
    check(images(), json!([young]), &["kept", "kept", "kept", "kept"]);
}

#[test]
fn so_many_of_the_newest_and_oldest_are_counted() {
    let images = || {
        vec![
            image("a", &["v1"]).pushed(5 * DAY),
            image("b", &["v2"]).pushed(4 * DAY),
            image("c", &["dev"]).pushed(3 * DAY),
            image("d", &["v3"]).pushed(2 * DAY).pulled(DAY),
            image("e", &[]).pushed(DAY),
        ]
    };
    let rest = delete_all()[0].clone();
    let newest = timed(json!({"on": "pushed_at", "newest": 2}), "protect");
    check(
        images(),
        json!([newest, rest]),
        &["delete 1", "delete 1", "delete 1", "policy 0", "policy 0"],
    );
    let oldest = timed(json!({"on": "pushed_at", "oldest": 2}), "protect");
    check(
        images(),
        json!([oldest, rest]),
        &["policy 0", "policy 0", "delete 1", "delete 1", "delete 1"],
    );
    let mut of_pattern = newest.clone();
    of_pattern["match_tag"] = json!("v.*");
    check(
        images(),
        json!([of_pattern, rest]),
        &["delete 1", "policy 0", "delete 1", "policy 0", "delete 1"],
    );
    let pulled = timed(json!({"on": "last_pulled_at", "newest": 1}), "protect");
    check(
        images(),
        json!([pulled, rest]),
        &["delete 1", "delete 1", "delete 1", "policy 0", "delete 1"],
    );
    // What a policy before deletes is not counted, what it protects is.
    let no_dev = json!({"match_repository": ".*", "match_tag": "dev", "action": "delete"});
    let untagged = json!({"match_repository": ".*", "only_untagged": true, "action": "protect"});
    check(
        images(),
        json!([no_dev, untagged, newest, rest]),
        &["delete 3", "delete 3", "delete 0", "policy 2", "policy 1"],
    );
}

#[test]
fn versions_are_ordered_by_precedence() {
    let versions = [
        "v1.9.0",
        "1.10",
        "1.10.0-rc1",
        "latest",
        "2.0.0-alpha.1",
        "1.2.3",
    ];
    let images = || {
        versions
            .iter()
            .map(|tag| image(tag, &[tag]))
            .collect::<Vec<_>>()
    };
    let rest = delete_all()[0].clone();
    let newest = timed(json!({"on": "semver", "newest": 2}), "protect");
    check(
        images(),
        json!([newest, rest]),
        &[
            "delete 1", "policy 0", "delete 1", "delete 1", "policy 0", "delete 1",
        ],
    );
    let mut stable = newest.clone();
    stable["except_tag"] = json!(".*-.*");
    check(
        images(),
        json!([stable, rest]),
        &[
            "policy 0", "policy 0", "delete 1", "delete 1", "delete 1", "delete 1",
        ],
    );
    let oldest = timed(json!({"on": "semver", "oldest": 1}), "protect");
    check(
        images(),
        json!([oldest, rest]),
        &[
            "delete 1", "delete 1", "delete 1", "delete 1", "delete 1", "policy 0",
        ],
    );
    // The highest of the tags that are meant, and of the same version what was pushed last.
    let images = vec![
        image("a", &["v9.0.0", "w1.0.0"]),
        image("b", &["v1.0.0"]).pushed(2 * DAY),
        image("c", &["v1.0"]).pushed(3 * DAY),
    ];
    let mut of_pattern = newest;
    of_pattern["match_tag"] = json!("v.*");
    check(
        images,
        json!([of_pattern, rest]),
        &["policy 0", "policy 0", "delete 1"],
    );
}

mod random;
mod structure;
