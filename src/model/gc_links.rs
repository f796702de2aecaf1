//! Which images of a repository need which, and in which order they can go.

use std::collections::HashMap;

use super::gc_plan::GcImage;
use crate::oci::{Digest, Tag};

/// How names of tags end that stand for something about a manifest: the referrers tag schema of the OCI Distribution
/// Specification, and the tags of cosign.
const ABOUT_SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// Images by their place in the input. Four bytes, since there may be many.
pub(super) type Place = u32;

/// Who needs whom.
pub(super) struct Links {
    pub(super) parents: Vec<Vec<Place>>,
    pub(super) subjects: Vec<Vec<Place>>,
}

impl Links {
    pub(super) fn of(images: &[GcImage]) -> Self {
        let by_digest: HashMap<&Digest, Place> = (0..)
            .zip(images)
            .map(|(i, image)| (&image.digest, i))
            .collect();
        let by_tag: HashMap<String, Place> = (0..)
            .zip(images)
            .map(|(i, image)| (image.digest.fallback_tag(), i))
            .collect();
        let mut parents = vec![Vec::new(); images.len()];
        let mut subjects = vec![Vec::new(); images.len()];
        for (place, image) in (0..).zip(images) {
            let children = image
                .children
                .iter()
                .filter_map(|child| by_digest.get(child));
            for child in children.filter(|child| **child != place) {
                parents[*child as usize].push(place);
            }
            let own: &mut Vec<Place> = &mut subjects[place as usize];
            let subject = image
                .subject
                .as_ref()
                .and_then(|subject| by_digest.get(subject));
            own.extend(subject);
            let about: Vec<_> = image
                .tags
                .iter()
                .map(|tag| subject_of(tag, &by_tag))
                .collect();
            // With a tag of its own it is more than what it says about the other.
            if about.iter().all(Option::is_some) {
                own.extend(about.into_iter().flatten());
            }
            own.retain(|subject| *subject != place);
        }
        for list in parents.iter_mut().chain(&mut subjects) {
            list.sort_unstable();
            list.dedup();
        }
        Self { parents, subjects }
    }

    /// The other way round: what each image is needed by before it may go.
    fn dependents(&self) -> Vec<Vec<Place>> {
        let mut found = vec![Vec::new(); self.parents.len()];
        for needs in [&self.parents, &self.subjects] {
            for (place, needed_by) in (0..).zip(needs) {
                for other in needed_by {
                    found[*other as usize].push(place);
                }
            }
        }
        found
    }
}

/// The image that a tag says to be about.
fn subject_of(tag: &Tag, by_tag: &HashMap<String, Place>) -> Option<Place> {
    let names = ABOUT_SUFFIXES
        .iter()
        .filter_map(|suffix| tag.as_str().strip_suffix(suffix));
    names.filter_map(|name| by_tag.get(name)).next().copied()
}

/// The tags that say to be about the manifest.
pub fn tags_about(subject: &Digest) -> Vec<String> {
    let name = subject.fallback_tag();
    ABOUT_SUFFIXES
        .iter()
        .map(|suffix| format!("{name}{suffix}"))
        .collect()
}

/// What goes, given what may go once all that needs it goes, in such an order.
pub(super) fn doomed(links: &Links, can_go: impl Fn(usize) -> bool) -> Vec<Place> {
    let dependents = links.dependents();
    let mut needed_by: Vec<usize> = links
        .parents
        .iter()
        .zip(&links.subjects)
        .map(|(parents, subjects)| parents.len() + subjects.len())
        .collect();
    let free = (0..)
        .zip(&needed_by)
        .filter(|(place, count)| **count == 0 && can_go(*place as usize));
    let mut doomed: Vec<Place> = free.map(|(place, _)| place).collect();
    let mut next = 0;
    while let Some(place) = doomed.get(next).copied() {
        next += 1;
        for other in &dependents[place as usize] {
            let other_index = *other as usize;
            needed_by[other_index] -= 1;
            if needed_by[other_index] == 0 && can_go(other_index) {
                doomed.push(*other);
            }
        }
    }
    doomed
}
