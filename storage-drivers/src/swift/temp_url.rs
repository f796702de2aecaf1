//! Signed addresses (Swift's TempURL middleware) and the rotation of the keys that sign them. Pure.
//!
//! A container has two keys, and an address is good if either signed it. One is active, the other is the one before
//! or the one to come. A rotation takes two steps, which any node may take: first the inactive key is replaced, and
//! only when every node has surely seen it does it become the active one. So two nodes that rotate at the same time
//! do no harm, and an address outlives the next rotation.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};
use url::Url;

/// The two keys of a container.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// Key and Key-2.
    pub(super) values: [String; 2],
    /// Which of them signs.
    pub(super) active: usize,
    /// Whether the inactive one is to become the active one.
    pub(super) is_fresh: bool,
    /// When the last step was taken, in seconds since 1970.
    pub(super) stepped_at: u64,
}

/// What is to be done with a container's keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Keep,
    /// Replace the inactive key.
    Replace,
    /// Let the inactive key sign from now on.
    Switch,
}

impl Keys {
    pub(super) fn next_step(&self, now: u64, rotate_every: Duration, settle: Duration) -> Step {
        let age = Duration::from_secs(now.saturating_sub(self.stepped_at));
        match self.is_fresh {
            true if age >= settle => Step::Switch,
            false if age >= rotate_every => Step::Replace,
            _ => Step::Keep,
        }
    }

    pub(super) fn replaced(mut self, key: String, now: u64) -> Self {
        self.values[1 - self.active] = key;
        self.is_fresh = true;
        self.stepped_at = now;
        self
    }

    pub(super) fn switched(mut self, now: u64) -> Self {
        self.active = 1 - self.active;
        self.is_fresh = false;
        self.stepped_at = now;
        self
    }

    pub(super) fn active_key(&self) -> &str {
        &self.values[self.active]
    }
}

/// The hash of a signature; which ones a cluster takes is in its `/info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TempUrlDigest {
    /// HMAC-SHA256.
    #[default]
    Sha256,
    /// HMAC-SHA512.
    Sha512,
}

/// `object` with a signature that lets anyone GET or HEAD it until `expires` (seconds since 1970).
///
/// Source: OpenStack Swift, "TempURL middleware".
pub(super) fn signed(mut object: Url, key: &str, expires: u64, digest: TempUrlDigest) -> Url {
    let text = format!("GET\n{expires}\n{}", object.path());
    let signature = match digest {
        TempUrlDigest::Sha256 => mac::<Hmac<Sha256>>(key, &text),
        TempUrlDigest::Sha512 => mac::<Hmac<Sha512>>(key, &text),
    };
    object
        .query_pairs_mut()
        .append_pair("temp_url_sig", &signature)
        .append_pair("temp_url_expires", &expires.to_string());
    object
}

fn mac<M: KeyInit + Mac>(key: &str, text: &str) -> String {
    use std::fmt::Write as _;
    // An HMAC takes keys of any length.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key.as_bytes()) else {
        return String::new();
    };
    mac.update(text.as_bytes());
    let mut hex = String::new();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    const SETTLE: Duration = Duration::from_secs(600);

    fn keys() -> Keys {
        Keys {
            values: ["old".to_owned(), "older".to_owned()],
            active: 0,
            is_fresh: false,
            stepped_at: 1_000,
        }
    }

    #[test]
    fn the_old_key_outlives_its_own_rotation() {
        let start = keys();
        let month_later = 1_000 + MONTH.as_secs();
        assert_eq!(start.next_step(month_later - 1, MONTH, SETTLE), Step::Keep);
        assert_eq!(start.next_step(month_later, MONTH, SETTLE), Step::Replace);
        let fresh = start.replaced("new".to_owned(), month_later);
        assert_eq!(fresh.active_key(), "old");
        assert_eq!(
            fresh.next_step(month_later + 599, MONTH, SETTLE),
            Step::Keep
        );
        assert_eq!(
            fresh.next_step(month_later + 600, MONTH, SETTLE),
            Step::Switch
        );
        let done = fresh.switched(month_later + 600);
        assert_eq!(done.active_key(), "new");
        assert_eq!(done.values, ["old", "new"]);
        assert_eq!(done.next_step(month_later + 700, MONTH, SETTLE), Step::Keep);
    }

    #[test]
    fn two_nodes_that_rotate_at_once_do_no_harm() {
        let (a, b) = (
            keys().replaced("a".into(), 5),
            keys().replaced("b".into(), 5),
        );
        assert_eq!((a.active_key(), b.active_key()), ("old", "old"));
        let (a, b) = (b.clone().switched(9), b.switched(9));
        assert!(a == b);
    }

    #[test]
    fn the_signature_is_that_of_the_documentation_s_recipe() {
        // printf 'GET\n1323479485\n/v1/AUTH_account/container/object' | openssl dgst -sha256 -hmac mykey
        let url = Url::parse("http://h/v1/AUTH_account/container/object").unwrap();
        let url = signed(url, "mykey", 1_323_479_485, TempUrlDigest::Sha256);
        assert_eq!(
            url.query(),
            Some(
                "temp_url_sig=05cb4ea08a08f2fdaef35d0f344975370077835c23bdc9342099ecbf03bc0378&temp_url_expires=1323479485"
            )
        );
    }
}
