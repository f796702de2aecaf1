//! What GC policies delete, worked out from the documents: what matches first, and what belongs together.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;

use super::{
    expected::{Expected, Place},
    plan::{Limit, MANIFESTS, Rule, Tagged},
};

/// How long an image stays after its push, whatever policies say.
const RECENT: TimeDelta = TimeDelta::minutes(10);

/// The images of a repository, and what they are to one another.
struct Images<'a> {
    expected: &'a Expected,
    repo: usize,
    there: BTreeSet<usize>,
}

impl Images<'_> {
    fn parents(&self, image: usize) -> impl Iterator<Item = usize> {
        let lists = move |parent: &usize| self.expected.needs[*parent].children.contains(&image);
        self.there.iter().copied().filter(lists)
    }

    fn subject(&self, image: usize) -> Option<usize> {
        let subject = self.expected.needs[image].subject;
        subject.filter(|subject| self.there.contains(subject))
    }

    fn tags(&self, image: usize) -> BTreeSet<usize> {
        self.expected.tags_of((self.repo, image))
    }

    fn is_tagged_or_unlisted(&self, image: usize) -> bool {
        !self.tags(image).is_empty() || self.parents(image).next().is_none()
    }

    fn age(&self, image: usize) -> TimeDelta {
        self.expected.now - self.expected.manifests[&(self.repo, image)]
    }

    /// Those that are young, and what these are about.
    fn recent(&self) -> BTreeSet<usize> {
        let young = |image: &usize| self.age(*image) < RECENT;
        let mut recent: BTreeSet<usize> = self.there.iter().copied().filter(young).collect();
        // What something is about has a lower number.
        for image in (0..MANIFESTS).rev() {
            if recent.contains(&image) {
                recent.extend(self.subject(image));
            }
        }
        recent
    }

    /// Those that the rule matches, of which those that an earlier one deletes are no longer counted.
    fn matched(&self, rule: &Rule, decided: &BTreeMap<usize, bool>) -> BTreeSet<usize> {
        let is_meant = |image: &usize| match rule.tagged {
            Tagged::Any => true,
            Tagged::Never => self.tags(*image).is_empty(),
            Tagged::With(tag) => self.tags(*image).contains(&tag),
        };
        let asked = self.there.iter().copied();
        let asked = asked
            .filter(|image| self.subject(*image).is_none())
            .filter(is_meant);
        match rule.limit {
            Limit::Every => asked.collect(),
            Limit::OlderThan(age) => asked.filter(|image| self.age(*image) >= age).collect(),
            Limit::NewerThan(age) => asked.filter(|image| self.age(*image) <= age).collect(),
            Limit::Newest(count) => {
                let counted = |image: &usize| {
                    self.is_tagged_or_unlisted(*image) && decided.get(image) != Some(&true)
                };
                let mut counted: Vec<usize> = asked.filter(counted).collect();
                // Of those of one moment, the digest decides.
                counted.sort_by_key(|image| (self.age(*image), self.expected.rank[*image]));
                counted.into_iter().take(count).collect()
            }
        }
    }
}

impl Expected {
    /// Takes away what the policies delete, and gives it.
    pub fn gc(&mut self, repo: usize, rules: &[Rule]) -> BTreeSet<usize> {
        let doomed = self.doomed(repo, rules);
        self.take_away(repo, &doomed, None);
        doomed
    }

    fn doomed(&self, repo: usize, rules: &[Rule]) -> BTreeSet<usize> {
        let there = self.manifests.keys().filter(|(there, _)| *there == repo);
        let images = Images {
            expected: self,
            repo,
            there: there.map(|(_, image)| *image).collect(),
        };
        let mut safe = images.recent();
        safe.extend(
            images
                .there
                .iter()
                .filter(|image| self.keeps_held((repo, **image))),
        );
        let mut decided = BTreeMap::new();
        for rule in rules
            .iter()
            .filter(|rule| rule.repo.is_none_or(|of| of == repo))
        {
            for image in images.matched(rule, &decided) {
                if !safe.contains(&image) {
                    decided.entry(image).or_insert(rule.deletes);
                }
            }
        }
        let may_go = |image: usize| {
            let by_itself = match decided.get(&image) {
                Some(deletes) => *deletes,
                None => images.subject(image).is_some() || !images.is_tagged_or_unlisted(image),
            };
            !rules.is_empty() && by_itself && !safe.contains(&image)
        };
        // It goes when all that needs it goes.
        let mut doomed = BTreeSet::new();
        loop {
            let is_free = |image: &&usize| {
                let subject = images.subject(**image);
                let mut needed_by = images.parents(**image).chain(subject);
                needed_by.all(|other| doomed.contains(&other))
            };
            let left = images.there.difference(&doomed);
            match left.filter(|image| may_go(**image)).find(is_free).copied() {
                Some(image) => doomed.insert(image),
                None => return doomed,
            };
        }
    }

    /// Whether an image without a tag is about another one, or about what is about it, and so on.
    pub fn is_about(&self, image: usize, root: usize) -> bool {
        let subject = self.needs[image].subject;
        subject.is_some_and(|subject| subject == root || self.is_about(subject, root))
    }

    /// It is known now with which manifest one went into the trash.
    pub fn went_with(&mut self, place: Place, with: usize) {
        let trashed = self.trash.get_mut(&place).unwrap();
        assert!(trashed.tags.is_empty());
        trashed.with = Some(with);
        assert!(self.is_about(place.1, with));
    }
}
