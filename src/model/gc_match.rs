//! Which images of a repository a GC policy matches, and what the first match of each says.
//!
//! What a newcomer gets wrong: `newest` and `oldest` count. Counted are the images that stand alone, match otherwise, and
//! that no policy before deletes; those that an earlier policy protects count as well.

use std::cmp::Ordering;

use chrono::{DateTime, TimeDelta, Utc};
use semver::Version;

use super::{
    gc_plan::{GcImage, GcInput},
    gc_policy::{GcAction, GcPolicy, GcTime, TimeConstraint},
    pattern::Pattern,
    tag_version::tag_version,
};
use crate::oci::Tag;

/// How an image stands in its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a tag, or no index lists it.
    Alone,
    /// It has no tag, and indexes list it. It is not counted.
    Listed,
    /// It is about another image. No policy is asked.
    Attached,
}

/// A policy that is about the repository.
#[derive(Debug)]
pub(super) struct CompiledPolicy<'a> {
    pub(super) number: usize,
    pub(super) policy: &'a GcPolicy,
    match_tag: Option<Pattern>,
    except_tag: Option<Pattern>,
}

/// What the first policy that matches says, and which that is.
type Decision = Option<(usize, GcAction)>;

/// The policies that are about the repository.
pub(super) fn compiled<'a>(input: &GcInput<'a>) -> Vec<CompiledPolicy<'a>> {
    let policies = input.policies.iter().enumerate();
    let policies =
        policies.filter(|(_, policy)| policy.about().has_repository(input.owner, input.repo));
    policies
        .map(|(number, policy)| CompiledPolicy {
            number,
            policy,
            match_tag: policy.match_tag.as_deref().map(Pattern::new),
            except_tag: policy.except_tag.as_deref().map(Pattern::new),
        })
        .collect()
}

/// What the policies say of each image. Of those that are safe anyway nothing is decided, but they are counted.
pub(super) fn decisions(
    input: &GcInput<'_>,
    policies: &[CompiledPolicy<'_>],
    candidates: &[(Standing, bool)],
) -> Vec<Decision> {
    let mut decided: Vec<Decision> = vec![None; input.images.len()];
    for policy in policies {
        let action = policy.policy.action;
        let matching: Vec<usize> = match policy.count() {
            Some((on, count)) => {
                let is_counted = |place: &usize| {
                    candidates[*place].0 == Standing::Alone
                        && !matches!(decided[*place], Some((_, GcAction::Delete)))
                };
                policy.counted(input, is_counted, (on, count))
            }
            None => {
                let is_asked = |place: &usize| {
                    candidates[*place].0 != Standing::Attached
                        && decided[*place].is_none()
                        && policy.has_tags(&input.images[*place])
                        && policy.has_age(&input.images[*place], input.now)
                };
                (0..input.images.len()).filter(is_asked).collect()
            }
        };
        for place in matching {
            if !candidates[place].1 && decided[place].is_none() {
                decided[place] = Some((policy.number, action));
            }
        }
    }
    decided
}

/// How many, and from which end.
#[derive(Debug, Clone, Copy)]
enum Count {
    Newest(u64),
    Oldest(u64),
}

impl CompiledPolicy<'_> {
    /// Whether the policy is about an image with these tags.
    fn has_tags(&self, image: &GcImage) -> bool {
        if self.policy.only_untagged {
            return image.tags.is_empty();
        }
        let is_matched =
            |pattern: &Pattern| image.tags.iter().any(|tag| pattern.matches(tag.as_str()));
        self.match_tag.as_ref().is_none_or(is_matched)
            && !self.except_tag.as_ref().is_some_and(is_matched)
    }

    /// Whether the image is of the age that the policy asks for, if it asks for one.
    fn has_age(&self, image: &GcImage, now: DateTime<Utc>) -> bool {
        let Some(constraint) = &self.policy.time_constraint else {
            return true;
        };
        let age = now - time(constraint.on, image);
        constraint
            .older_than
            .is_none_or(|least| age >= length(least.seconds()))
            && constraint
                .newer_than
                .is_none_or(|most| age <= length(most.seconds()))
    }

    /// Whether the policy deletes the image when time has passed.
    pub(super) fn may_come_to_delete(&self, image: &GcImage, now: DateTime<Utc>) -> bool {
        let older_than = self
            .policy
            .time_constraint
            .is_some_and(|constraint| constraint.older_than.is_some());
        self.policy.action == GcAction::Delete
            && older_than
            && self.has_tags(image)
            && !self.has_age(image, now)
    }

    fn count(&self) -> Option<(GcTime, Count)> {
        let TimeConstraint {
            on, oldest, newest, ..
        } = self.policy.time_constraint?;
        let count = newest.map(Count::Newest).or(oldest.map(Count::Oldest))?;
        Some((on, count))
    }

    /// The images that are so many of the newest or oldest.
    fn counted(
        &self,
        input: &GcInput<'_>,
        is_counted: impl Fn(&usize) -> bool,
        (on, count): (GcTime, Count),
    ) -> Vec<usize> {
        let places = (0..input.images.len()).filter(is_counted);
        let places = places.filter(|place| self.has_tags(&input.images[*place]));
        let mut ranked: Vec<(Option<Version>, usize)> = match on {
            GcTime::Semver => places
                .filter_map(|place| Some((Some(self.version(&input.images[place].tags)?), place)))
                .collect(),
            _ => places.map(|place| (None, place)).collect(),
        };
        let second = if on == GcTime::Semver {
            GcTime::PushedAt
        } else {
            on
        };
        ranked.sort_by(|(a_version, a), (b_version, b)| {
            let (a, b) = (&input.images[*a], &input.images[*b]);
            by_precedence(a_version.as_ref(), b_version.as_ref())
                .then_with(|| time(second, a).cmp(&time(second, b)))
                .then_with(|| a.digest.as_str().cmp(b.digest.as_str()))
        });
        let places = ranked.into_iter().map(|(_, place)| place);
        match count {
            Count::Newest(count) => places.rev().take(bounded(count)).collect(),
            Count::Oldest(count) => places.take(bounded(count)).collect(),
        }
    }

    /// The highest version among the tags that the policy is about.
    fn version(&self, tags: &[Tag]) -> Option<Version> {
        let is_meant = |tag: &&Tag| {
            self.match_tag
                .as_ref()
                .is_none_or(|pattern| pattern.matches(tag.as_str()))
        };
        let versions = tags
            .iter()
            .filter(is_meant)
            .filter_map(|tag| tag_version(tag.as_str()));
        versions.max_by(Version::cmp_precedence)
    }
}

fn by_precedence(a: Option<&Version>, b: Option<&Version>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp_precedence(b),
        _ => Ordering::Equal,
    }
}

fn time(on: GcTime, image: &GcImage) -> DateTime<Utc> {
    match on {
        GcTime::PushedAt | GcTime::Semver => image.pushed_at,
        GcTime::LastPulledAt => image.last_pulled_at.unwrap_or(DateTime::UNIX_EPOCH),
    }
}

/// Ages are a thousand years at most, which was checked.
fn length(seconds: Option<u64>) -> TimeDelta {
    let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    seconds
        .and_then(TimeDelta::try_seconds)
        .unwrap_or(TimeDelta::MAX)
}

fn bounded(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
