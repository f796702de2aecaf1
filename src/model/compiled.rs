//! What was compiled of what tenants write, remembered for each owner, an auth tenant.
//!
//! What a newcomer gets wrong: the memory is shared, so whoever uses most of it has to give way, or a tenant with many
//! patterns would make the requests of all others compile theirs again.

use std::collections::HashMap;

/// What all owners have compiled, by its text.
pub(super) struct Compiled<T> {
    most: usize,
    weight: usize,
    owners: HashMap<String, Owned<T>>,
}

/// What one owner has.
struct Owned<T> {
    weight: usize,
    texts: HashMap<String, T>,
}

impl<T> Compiled<T> {
    /// Remembers things whose weights are `most` together.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            weight: 0,
            owners: HashMap::new(),
        }
    }

    /// What the owner's text was compiled to, if that is remembered.
    pub(super) fn get(&self, owner: &str, text: &str) -> Option<&T> {
        self.owners.get(owner)?.texts.get(text)
    }

    /// Remembers what a text was compiled to, with its weight. If there is no room left, the owner with most forgets
    /// everything: who uses less than an equal share is never the one.
    pub(super) fn insert(&mut self, owner: &str, text: &str, (compiled, weight): (T, usize)) {
        if self.get(owner, text).is_some() {
            return;
        }
        while self.weight + weight > self.most {
            let heaviest = self.owners.iter().max_by_key(|(_, owned)| owned.weight);
            let Some(heaviest) = heaviest.map(|(owner, _)| owner.clone()) else {
                return;
            };
            if let Some(forgotten) = self.owners.remove(&heaviest) {
                self.weight -= forgotten.weight;
            }
        }
        let owned = self.owners.entry(owner.to_owned()).or_insert(Owned {
            weight: 0,
            texts: HashMap::new(),
        });
        owned.texts.insert(text.to_owned(), compiled);
        owned.weight += weight;
        self.weight += weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_patterns_gives_way() {
        let mut compiled = Compiled::new(10);
        let light = || ((), 1);
        compiled.insert("small", "a", light());
        compiled.insert("small", "a", light());
        compiled.insert("small", "b", light());
        for number in 0..100 {
            compiled.insert("big", &number.to_string(), light());
            assert!(compiled.weight <= 10);
        }
        assert_eq!(compiled.owners["small"].weight, 2);
        assert!(compiled.get("small", "a").is_some() && compiled.get("small", "b").is_some());
        assert!(compiled.get("big", "99").is_some() && compiled.get("big", "0").is_none());
        // The weight counts, not the number.
        compiled.insert("small", "c", ((), 8));
        compiled.insert("third", "a", light());
        compiled.insert("third", "b", light());
        assert!(compiled.get("small", "a").is_none());
        assert_eq!((compiled.weight, compiled.owners.len()), (2, 1));
    }
}
