//! What the GC policies of an account mean for the images of one repository. Pure: the run and the preview ask it alike.
//!
//! An image stands on its own if it has a tag or no index of the repository lists it, and if it is about no other
//! manifest of the repository. Policies decide about these. What is about another manifest (`subject`, or tags such as
//! `sha256-<hex>.sig` alone) lives and dies with that. What an index lists stays while the index stays; when all of its
//! indexes go, policies are asked, and if none matches an image without a tag goes too, since nothing leads to it.
//!
//! What a newcomer gets wrong: an image goes only if everything that needs it goes before it, so the order of
//! [`GcPlan::doomed`] matters; and of images that need each other in a circle none goes.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

pub use super::gc_links::tags_about;
use super::{
    gc_links::{Links, Place, doomed},
    gc_match::{CompiledPolicy, Standing, compiled, decisions},
    gc_policy::{GcAction, GcPolicy},
    gc_status::{GcStatus, NumberedGcPolicy},
    tag_policy::{TagChange, TagPolicy, blocking_policy},
};
use crate::oci::{Digest, RepoName, Tag};

/// How long an image stays after its push, whatever policies say: its tags, index or signature may still be coming.
pub const RECENT: TimeDelta = TimeDelta::minutes(10);

/// An image as the engine sees it.
#[derive(Debug, Clone)]
pub struct GcImage {
    /// Its digest.
    pub digest: Digest,
    /// Its tags in order.
    pub tags: Vec<Tag>,
    /// When it was pushed.
    pub pushed_at: DateTime<Utc>,
    /// When it was last pulled.
    pub last_pulled_at: Option<DateTime<Utc>>,
    /// The manifests that it lists.
    pub children: Vec<Digest>,
    /// The manifest that it is about.
    pub subject: Option<Digest>,
    /// The bytes of the manifest itself.
    pub size_bytes: u64,
    /// What a run before meant it to go with.
    pub condemned_with: Option<Condemned>,
}

/// What an image was to go with. If a run ended between the two, the other is gone and only this tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condemned {
    /// The manifest that it was about.
    Subject(Digest),
    /// An index that listed it.
    Parent(Digest),
}

/// What must not be deleted until a date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcHold {
    /// A tag; `None` is the whole repository.
    pub tag: Option<Tag>,
    /// When it ends.
    pub until: DateTime<Utc>,
}

/// A repository at a moment, and the rules for it.
#[derive(Debug, Clone, Copy)]
pub struct GcInput<'a> {
    /// The auth tenant whose patterns these are.
    pub owner: &'a str,
    /// The name inside the account.
    pub repo: &'a RepoName,
    /// All of its images.
    pub images: &'a [GcImage],
    /// The account's GC policies.
    pub policies: &'a [GcPolicy],
    /// The account's tag policies.
    pub tag_policies: &'a [TagPolicy],
    /// Holds in the repository.
    pub holds: &'a [GcHold],
    /// The moment.
    pub now: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    RecentUpload,
    Hold(DateTime<Utc>),
    TagPolicy(usize),
    Parent(Place),
    Subject(Place),
    Policy(usize),
    Kept,
    Delete(usize),
    DeleteWithSubject(Place),
    DeleteWithParent(Place),
    /// What it was to go with is gone.
    GoOn,
}

/// What is to be done with each image.
#[derive(Debug)]
pub struct GcPlan<'a> {
    input: GcInput<'a>,
    policies: Vec<CompiledPolicy<'a>>,
    verdicts: Vec<Verdict>,
    doomed: Vec<Place>,
}

/// Why an image stays that no policy is asked about.
fn safe(input: &GcInput<'_>, links: &Links) -> Vec<Option<Verdict>> {
    let repo_hold = input
        .holds
        .iter()
        .filter(|hold| hold.tag.is_none() && hold.until > input.now);
    let repo_hold = repo_hold.map(|hold| hold.until).max();
    let mut tag_holds: HashMap<&Tag, DateTime<Utc>> = HashMap::new();
    for hold in input.holds.iter().filter(|hold| hold.until > input.now) {
        if let Some(tag) = &hold.tag {
            let until = tag_holds.entry(tag).or_insert(hold.until);
            *until = hold.until.max(*until);
        }
    }
    let mut found: Vec<Option<Verdict>> = Vec::with_capacity(input.images.len());
    for image in input.images {
        let tag_hold = image.tags.iter().filter_map(|tag| tag_holds.get(tag)).max();
        let hold = repo_hold.max(tag_hold.copied()).map(Verdict::Hold);
        let blocked = || {
            let policies = (input.owner, input.tag_policies);
            let by = |tag| blocking_policy(policies, TagChange::Delete, input.repo, tag);
            image.tags.iter().find_map(by).map(Verdict::TagPolicy)
        };
        found.push(hold.or_else(blocked));
    }
    // A subject waits for what is just being made about it, or that would be about nothing.
    let is_recent = |image: &GcImage| image.pushed_at > input.now - RECENT;
    let mut recent: Vec<Place> = (0..)
        .zip(input.images)
        .filter(|(_, image)| is_recent(image))
        .map(|(place, _)| place)
        .collect();
    while let Some(place) = recent.pop() {
        if found[place as usize] != Some(Verdict::RecentUpload) {
            found[place as usize] = Some(Verdict::RecentUpload);
            recent.extend(&links.subjects[place as usize]);
        }
    }
    found
}

/// What an image was to go with in a run that ended too early, if that is gone and nothing has changed for the image.
fn left_behind<'i>(image: &'i GcImage, links: (&[Place], &[Place])) -> Option<&'i Condemned> {
    // Everything that leads to it or that it is about is gone: else that decides.
    if !links.0.is_empty() || !links.1.is_empty() {
        return None;
    }
    image.condemned_with.as_ref().filter(|with| match with {
        Condemned::Parent(_) => image.tags.is_empty(),
        Condemned::Subject(subject) => {
            let about = tags_about(subject);
            image
                .tags
                .iter()
                .all(|tag| about.iter().any(|name| name == tag.as_str()))
        }
    })
}

impl<'a> GcPlan<'a> {
    /// Decides about every image.
    pub fn new(input: GcInput<'a>) -> Self {
        let images = input.images;
        let links = Links::of(images);
        let safe = safe(&input, &links);
        let standing = |place: usize| {
            let (parents, subjects) = (&links.parents[place], &links.subjects[place]);
            if !subjects.is_empty() {
                Standing::Attached
            } else if parents.is_empty() || !images[place].tags.is_empty() {
                Standing::Alone
            } else {
                Standing::Listed
            }
        };
        let candidates: Vec<(Standing, bool)> = (0..images.len())
            .map(|place| (standing(place), safe[place].is_some()))
            .collect();
        let policies = compiled(&input);
        let own = decisions(&input, &policies, &candidates);
        let left_behind = |place: usize| {
            left_behind(
                &images[place],
                (&links.parents[place], &links.subjects[place]),
            )
        };
        let doomed = doomed(&links, |place| match (candidates[place], own[place]) {
            ((_, true), _) => false,
            ((Standing::Attached, _), _) => true,
            (_, Some((_, GcAction::Delete))) => true,
            (_, Some((_, GcAction::Protect))) => {
                matches!(left_behind(place), Some(Condemned::Subject(_)))
            }
            ((Standing::Listed, _), None) => true,
            ((Standing::Alone, _), None) => left_behind(place).is_some(),
        });
        let mut goes = vec![false; images.len()];
        for place in &doomed {
            goes[*place as usize] = true;
        }
        let staying =
            |others: &[Place]| others.iter().copied().find(|other| !goes[*other as usize]);
        let verdict = |place: usize| {
            let (parents, subjects) = (&links.parents[place], &links.subjects[place]);
            if goes[place] {
                return match (subjects.first(), own[place], parents.first()) {
                    (Some(subject), ..) => Verdict::DeleteWithSubject(*subject),
                    (None, Some((number, GcAction::Delete)), _) => Verdict::Delete(number),
                    (None, None, Some(parent)) => Verdict::DeleteWithParent(*parent),
                    _ => Verdict::GoOn,
                };
            }
            safe[place].unwrap_or_else(|| match (staying(parents), staying(subjects), own[place]) {
                (Some(parent), ..) => Verdict::Parent(parent),
                (_, Some(subject), _) => Verdict::Subject(subject),
                (.., Some((number, _))) => Verdict::Policy(number),
                (.., None) => Verdict::Kept,
            })
        };
        let verdicts = (0..images.len()).map(verdict).collect();
        Self {
            input,
            policies,
            verdicts,
            doomed,
        }
    }

    /// The images that go, by their places in the input: before each one all that list it and all that it is about.
    pub fn doomed(&self) -> impl Iterator<Item = usize> + '_ {
        self.doomed.iter().map(|place| *place as usize)
    }

    /// What is decided about an image.
    pub fn status(&self, place: usize) -> GcStatus {
        let images = self.input.images;
        let digest = |place: Place| images[place as usize].digest.to_string();
        match self.verdicts[place] {
            Verdict::RecentUpload => GcStatus::ProtectedByRecentUpload,
            Verdict::Hold(until) => GcStatus::ProtectedByHold { until },
            Verdict::TagPolicy(number) => GcStatus::ProtectedByTagPolicy { number },
            Verdict::Parent(parent) => GcStatus::ProtectedByParent {
                parent: digest(parent),
            },
            Verdict::Subject(subject) => GcStatus::ProtectedBySubject {
                subject: digest(subject),
            },
            Verdict::Policy(number) => GcStatus::ProtectedByPolicy {
                number,
                policy: self.input.policies[number].clone(),
            },
            Verdict::Kept => GcStatus::Kept {
                relevant_policies: self.relevant(&images[place]),
            },
            Verdict::Delete(number) => GcStatus::Delete {
                number,
                policy: self.input.policies[number].clone(),
            },
            Verdict::DeleteWithSubject(subject) => GcStatus::DeleteWith {
                subject: digest(subject),
            },
            Verdict::DeleteWithParent(parent) => GcStatus::DeleteWithParent {
                parent: digest(parent),
            },
            Verdict::GoOn => match &images[place].condemned_with {
                Some(Condemned::Parent(parent)) => GcStatus::DeleteWithParent {
                    parent: parent.to_string(),
                },
                Some(Condemned::Subject(subject)) => GcStatus::DeleteWith {
                    subject: subject.to_string(),
                },
                None => GcStatus::Kept {
                    relevant_policies: Vec::new(),
                },
            },
        }
    }

    /// The policies that will delete the image when it is older, unless one before them protects it then.
    fn relevant(&self, image: &GcImage) -> Vec<NumberedGcPolicy> {
        let relevant = self
            .policies
            .iter()
            .filter(|policy| policy.may_come_to_delete(image, self.input.now));
        let relevant = relevant.map(|policy| NumberedGcPolicy {
            number: policy.number,
            policy: policy.policy.clone(),
        });
        relevant.collect()
    }
}

#[cfg(test)]
mod tests;
