//! Random repositories against a second implementation that only follows the words.

use std::collections::BTreeSet;

use super::*;
use crate::model::gc_policy::GcTime;

/// A generator of numbers, the same at each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

fn random_images(numbers: &mut Numbers) -> Vec<GcImage> {
    let count = 1 + numbers.below(7);
    let names: Vec<String> = (0..count + 1)
        .map(|number| format!("image {number}"))
        .collect();
    let tags = ["v1.0.0", "v1.2", "2.0.0-rc1", "dev", "latest"];
    let mut images: Vec<GcImage> = Vec::new();
    for name in &names[..count] {
        let mut made = image(name, &[]).pushed(300 + numbers.below(8) as i64 * 300);
        if numbers.one_in(3) {
            made = made.pulled(numbers.below(8) as i64 * 300);
        }
        // Only to what comes later, so that there are no circles.
        let later = &names[images.len() + 1..];
        for other in later {
            if numbers.one_in(4) {
                made.children.push(digest(other));
            }
        }
        if numbers.one_in(5) {
            made.subject = Some(digest(&later[numbers.below(later.len())]));
        }
        if numbers.one_in(6) {
            let suffix = [".sig", "", ".att", ".unknown"][numbers.below(4)];
            let tag = format!(
                "{}{suffix}",
                digest(&later[numbers.below(later.len())]).fallback_tag()
            );
            made.tags.push(tag.parse().unwrap());
        }
        for _ in 0..2 {
            if numbers.one_in(3) {
                made.tags
                    .push(tags[numbers.below(tags.len())].parse().unwrap());
            }
        }
        images.push(made);
    }
    images
}

fn random_policy(numbers: &mut Numbers) -> Value {
    let mut policy = json!({"match_repository": if numbers.one_in(6) { "other" } else { ".*" }});
    match numbers.below(6) {
        0 => policy["only_untagged"] = json!(true),
        1..=3 => policy["match_tag"] = json!("v.*"),
        4 => policy["except_tag"] = json!("latest|dev"),
        _ => {}
    }
    let on = ["pushed_at", "last_pulled_at"][numbers.below(2)];
    let age = json!({"value": 1 + numbers.below(35), "unit": "m"});
    let mut action = ["delete", "protect"][numbers.below(2)];
    match numbers.below(6) {
        0 => policy["time_constraint"] = json!({"on": on, "older_than": age}),
        1 => policy["time_constraint"] = json!({"on": on, "newer_than": age}),
        2 => {
            let on = if numbers.one_in(2) { "semver" } else { on };
            let end = ["newest", "oldest"][numbers.below(2)];
            policy["time_constraint"] = json!({"on": on, end: 1 + numbers.below(3)});
            action = "protect";
        }
        _ => {}
    }
    policy["action"] = json!(action);
    policy
}

/// The second implementation: sets, and rules applied until nothing changes.
struct Naive<'a> {
    images: &'a [GcImage],
    policies: Vec<GcPolicy>,
    /// What each image is about, by its digest.
    subjects: BTreeMap<Digest, Vec<&'a GcImage>>,
    recent: BTreeSet<Digest>,
}

impl<'a> Naive<'a> {
    fn new(images: &'a [GcImage], policies: Vec<GcPolicy>) -> Self {
        let mut naive = Self {
            images,
            policies,
            subjects: BTreeMap::new(),
            recent: BTreeSet::new(),
        };
        for image in images {
            let subjects = naive.find_subjects(image);
            naive.subjects.insert(image.digest.clone(), subjects);
        }
        let is_recent = |image: &&GcImage| naive.is_recent(image);
        naive.recent = images
            .iter()
            .filter(is_recent)
            .map(|image| image.digest.clone())
            .collect();
        naive
    }

    fn parents(&self, of: &GcImage) -> Vec<&'a GcImage> {
        let images = self.images.iter();
        images
            .filter(|other| other.children.contains(&of.digest))
            .collect()
    }

    fn subjects(&self, of: &GcImage) -> &[&'a GcImage] {
        &self.subjects[&of.digest]
    }

    fn find_subjects(&self, of: &GcImage) -> Vec<&'a GcImage> {
        let is_subject = |other: &&GcImage| of.subject.as_ref() == Some(&other.digest);
        let mut found: Vec<&GcImage> = self.images.iter().filter(is_subject).collect();
        let by_tag = |tag: &Tag| {
            self.images.iter().find(|other| {
                let name = other.digest.as_str().replace(':', "-");
                let names = [
                    name.clone(),
                    format!("{name}.sig"),
                    format!("{name}.att"),
                    format!("{name}.sbom"),
                ];
                names.contains(&tag.to_string())
            })
        };
        let by_tags: Vec<_> = of.tags.iter().map(by_tag).collect();
        if by_tags.iter().all(Option::is_some) {
            found.extend(by_tags.into_iter().flatten());
        }
        found
    }

    fn is_recent(&self, image: &GcImage) -> bool {
        let is_about = |other: &&GcImage| {
            self.subjects(other)
                .iter()
                .any(|subject| subject.digest == image.digest)
        };
        let mut about = self.images.iter().filter(is_about);
        now() - image.pushed_at < TimeDelta::minutes(10) || about.any(|other| self.is_recent(other))
    }

    fn is_counted(&self, image: &GcImage) -> bool {
        self.subjects(image).is_empty()
            && (self.parents(image).is_empty() || !image.tags.is_empty())
    }

    fn tags_match(policy: &GcPolicy, image: &GcImage) -> bool {
        let names: Vec<&str> = image.tags.iter().map(Tag::as_str).collect();
        // The patterns of `random_policy`, by hand.
        match (
            policy.only_untagged,
            policy.match_tag.is_some(),
            policy.except_tag.is_some(),
        ) {
            (true, ..) => names.is_empty(),
            (_, true, _) => names.iter().any(|name| name.starts_with('v')),
            (.., true) => !names.iter().any(|name| *name == "latest" || *name == "dev"),
            _ => true,
        }
    }

    fn rank(policy: &GcPolicy, on: GcTime, image: &GcImage) -> Option<(u64, i64, String)> {
        let pushed = image.pushed_at.timestamp();
        let digest = image.digest.to_string();
        match on {
            GcTime::PushedAt => Some((0, pushed, digest)),
            GcTime::LastPulledAt => Some((
                0,
                image.last_pulled_at.map_or(0, |at| at.timestamp()),
                digest,
            )),
            GcTime::Semver => {
                let meant = image
                    .tags
                    .iter()
                    .filter(|tag| policy.match_tag.is_none() || tag.as_str().starts_with('v'));
                let ranks = meant.filter_map(|tag| {
                    ["v1.0.0", "v1.2", "2.0.0-rc1"]
                        .iter()
                        .position(|name| *name == tag.as_str())
                });
                Some((ranks.max()? as u64, pushed, digest))
            }
        }
    }

    fn decision(&self, image: &GcImage) -> Option<(usize, GcAction)> {
        if !self.subjects(image).is_empty() {
            return None;
        }
        self.decision_before(image, self.policies.len())
    }

    /// What the policies before `end` say.
    fn decision_before(&self, image: &GcImage, end: usize) -> Option<(usize, GcAction)> {
        if self.recent.contains(&image.digest) {
            return None;
        }
        let number = (0..end).find(|number| self.matches(*number, image))?;
        Some((number, self.policies[number].action))
    }

    fn matches(&self, number: usize, image: &GcImage) -> bool {
        let policy = &self.policies[number];
        if policy.match_repository == "other" || !Self::tags_match(policy, image) {
            return false;
        }
        let Some(constraint) = policy.time_constraint else {
            return true;
        };
        let minutes = |age: crate::model::gc_policy::Age| TimeDelta::minutes(age.value as i64);
        let at = match constraint.on {
            GcTime::LastPulledAt => image.last_pulled_at.unwrap_or_default(),
            _ => image.pushed_at,
        };
        if let Some(age) = constraint.older_than {
            return at <= now() - minutes(age);
        }
        if let Some(age) = constraint.newer_than {
            return at >= now() - minutes(age);
        }
        if !self.is_counted(image) {
            return false;
        }
        let is_deleted = |other: &GcImage| {
            matches!(
                self.decision_before(other, number),
                Some((_, GcAction::Delete))
            )
        };
        let better = self.images.iter().filter(|other| {
            let (mine, theirs) = (
                Self::rank(policy, constraint.on, image),
                Self::rank(policy, constraint.on, other),
            );
            let is_better = if constraint.newest.is_some() {
                theirs > mine
            } else {
                theirs < mine
            };
            self.is_counted(other)
                && Self::tags_match(policy, other)
                && theirs.is_some()
                && is_better
                && !is_deleted(other)
        });
        let limit = constraint.newest.or(constraint.oldest).unwrap() as usize;
        Self::rank(policy, constraint.on, image).is_some() && better.count() < limit
    }

    fn doomed(&self) -> BTreeSet<String> {
        let mut doomed = BTreeSet::new();
        loop {
            let found = self.images.iter().find(|image| {
                !doomed.contains(&image.digest.to_string()) && self.may_go(image, &doomed)
            });
            let Some(found) = found else { return doomed };
            doomed.insert(found.digest.to_string());
        }
    }

    fn may_go(&self, image: &GcImage, doomed: &BTreeSet<String>) -> bool {
        let (parents, subjects) = (self.parents(image), self.subjects(image));
        let all_go = |needed: &[&GcImage]| {
            needed
                .iter()
                .all(|other| doomed.contains(&other.digest.to_string()))
        };
        if self.recent.contains(&image.digest) || !all_go(&parents) || !all_go(subjects) {
            return false;
        }
        if !subjects.is_empty() {
            return true;
        }
        match self.decision(image) {
            Some((_, action)) => action == GcAction::Delete,
            None => image.tags.is_empty() && !parents.is_empty(),
        }
    }
}

#[test]
fn random_repositories_are_decided_as_the_words_say() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut seen = BTreeMap::<String, usize>::new();
    for round in 0..1500 {
        let images = random_images(&mut numbers);
        let policies: Vec<Value> = (0..1 + numbers.below(4))
            .map(|_| random_policy(&mut numbers))
            .collect();
        let case = Case {
            images,
            policies: json!(policies),
            ..Case::default()
        };
        let outcome = case.outcome();
        let policies = serde_json::from_value(case.policies.clone()).unwrap();
        let naive = Naive::new(&case.images, policies);
        let expected = naive.doomed();
        for (image, word) in case.images.iter().zip(&outcome) {
            let goes = word.starts_with("delete") || word.starts_with("with");
            let is_expected = expected.contains(&image.digest.to_string());
            assert_eq!(
                goes, is_expected,
                "round {round}: {image:#?} is {word}\n{:#?}\n{:#}",
                case.images, case.policies
            );
            if let Some((number, GcAction::Protect)) = naive.decision(image)
                && let Some(shown) = word.strip_prefix("policy ")
            {
                assert_eq!(shown, number.to_string(), "round {round}");
            }
            let rule = word
                .split(' ')
                .take(if word.starts_with("with") { 2 } else { 1 })
                .collect::<Vec<_>>();
            *seen.entry(rule.join(" ")).or_default() += 1;
        }
    }
    // The rounds reach every rule that they are about.
    for rule in [
        "recent",
        "parent",
        "subject",
        "policy",
        "kept",
        "delete",
        "with subject",
        "with parent",
    ] {
        assert!(
            seen.get(rule).is_some_and(|count| *count > 10),
            "{rule}: {seen:?}"
        );
    }
}
