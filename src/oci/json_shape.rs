//! Refuses JSON that two readers could understand in two ways, before a manifest is read.
//!
//! The digest of a manifest says nothing about how its readers understand it. If a scanner, this
//! registry and a container runtime read different things out of the same bytes, the checks of one
//! do not protect the others ("manifest confusion"). So a document is walked once, without keeping
//! anything, and refused if
//!
//! - an object has the same key twice, at any depth: RFC 8259, section 4, leaves open which one
//!   counts;
//! - where we read keys, a key differs from one that we know only by case: Go's `encoding/json`,
//!   which most clients use, takes `"Layers"` for `layers`;
//! - a manifest or a descriptor is not an object: serde would read an array as the fields in order;
//! - it is nested deeper than serde_json's limit of 128, which keeps the stack from overflowing.
//!
//! All other keys are free: extension fields are part of the OCI specs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::text::excerpt;

/// The keys with a meaning in any kind of manifest, `fsLayers` being that of the refused schema 1.
const MANIFEST_KEYS: [&str; 10] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "blobs",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
];

/// The keys with a meaning in a descriptor (OCI image spec, descriptor.md, "Properties").
const DESCRIPTOR_KEYS: [&str; 8] = [
    "mediaType",
    "digest",
    "size",
    "urls",
    "annotations",
    "data",
    "artifactType",
    "platform",
];

/// Checks a whole document that is to be read as a manifest.
pub(super) fn check(text: &str) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Walk(Place::Manifest).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Where in a manifest a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Manifest,
    Descriptors,
    Descriptor,
    /// Anything that we do not read, or read as a free map.
    Free,
}

impl Place {
    fn known_keys(self) -> &'static [&'static str] {
        match self {
            Self::Manifest => &MANIFEST_KEYS,
            Self::Descriptor => &DESCRIPTOR_KEYS,
            Self::Descriptors | Self::Free => &[],
        }
    }

    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Manifest, "config" | "subject") => Self::Descriptor,
            (Self::Manifest, "layers" | "blobs" | "manifests") => Self::Descriptors,
            _ => Self::Free,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Walk(Place);

impl Walk {
    /// A manifest is an object; everything else that has the wrong type is found when it is read.
    fn scalar<E: Error>(self) -> Result<(), E> {
        if self.0 == Place::Manifest {
            Err(E::custom("a manifest is a JSON object"))
        } else {
            Ok(())
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let item = match self.0 {
            Place::Manifest => return self.scalar(),
            Place::Descriptor => return Err(A::Error::custom("a descriptor is a JSON object")),
            Place::Descriptors => Self(Place::Descriptor),
            Place::Free => self,
        };
        while items.next_element_seed(item)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(Key(key)) = entries.next_key::<Key<'de>>()? {
            if let Some(known) = self
                .0
                .known_keys()
                .iter()
                .find(|known| only_case_differs(&key, known))
            {
                return Err(A::Error::custom(format!(
                    "{:?} must be written {known:?}",
                    excerpt(&key)
                )));
            }
            let place = self.0.below(&key);
            if let Some(key) = seen.replace(key) {
                return Err(A::Error::custom(format!(
                    "{:?} stands twice in one object",
                    excerpt(&key)
                )));
            }
            entries.next_value_seed(Self(place))?;
        }
        Ok(())
    }
}

/// Borrows from the document unless the key has escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether Go's `encoding/json` takes the key for the known one although they are not equal. It
/// folds case as Unicode does, in which two letters outside ASCII become ASCII: long s and the
/// Kelvin sign.
fn only_case_differs(key: &str, known: &str) -> bool {
    let folded = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    };
    key != known && key.chars().map(folded).eq(known.chars().map(folded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unambiguous_documents_pass() {
        let good = [
            "{}",
            r#" {"a": [1, -2, 3.5, true, null, "x", {"a": {"a": {}}}]} "#,
            r#"{"layers": [{"digest": 1}, {"digest": 2}], "config": null, "manifests": 7}"#,
            r#"{"annotations": {"Layers": "", "layers": ""}, "x": {"Digest": 1, "digest": 2}}"#,
            r#"{"config": {"layers": 1, "Layers": 2}, "layer": 1, "digest": 2, "Digest": 3}"#,
        ];
        for text in good {
            assert!(check(text).is_ok(), "{text}: {:?}", check(text));
        }
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        let table = [
            ("", "EOF"),
            ("null", "a manifest is a JSON object"),
            ("7", "a manifest is a JSON object"),
            ("-7", "a manifest is a JSON object"),
            ("7.5", "a manifest is a JSON object"),
            ("true", "a manifest is a JSON object"),
            ("\"x\"", "a manifest is a JSON object"),
            ("[]", "a manifest is a JSON object"),
            ("[{}]", "a manifest is a JSON object"),
            ("{} {}", "trailing characters"),
            ("{", "EOF"),
            (r#"{"a":1,}"#, "trailing comma"),
            (r#"{"a":1,"a":1}"#, "\"a\" stands twice in one object"),
            (r#"{"a":1,"\u0061":1}"#, "\"a\" stands twice in one object"),
            (r#"{"x":[{"y":{"a":1,"b":2,"a":3}}]}"#, "\"a\" stands twice"),
            (r#"{"annotations":{"a":"1","a":"2"}}"#, "\"a\" stands twice"),
            (
                r#"{"layers":[{"digest":1,"digest":1}]}"#,
                "\"digest\" stands twice",
            ),
            (r#"{"Layers":[]}"#, "\"Layers\" must be written \"layers\""),
            (r#"{"layer\u017f":[]}"#, "must be written \"layers\""),
            (r#"{"mediatype":""}"#, "must be written \"mediaType\""),
            (r#"{"FSLayers":""}"#, "must be written \"fsLayers\""),
            (r#"{"config":{"DIGEST":1}}"#, "must be written \"digest\""),
            (r#"{"manifests":[{"Size":1}]}"#, "must be written \"size\""),
            (r#"{"config":[]}"#, "a descriptor is a JSON object"),
            (r#"{"layers":[["x"]]}"#, "a descriptor is a JSON object"),
            (r#"{"x":1e999}"#, "number out of range"),
            (r#"{"x":"\ud800"}"#, "unexpected end of hex escape"),
            (r#"{"x":01}"#, "invalid number"),
            (r#"{"x":NaN}"#, "expected value"),
            ("\u{feff}{}", "expected value"),
        ];
        for (text, expected) in table {
            let message = check(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |open: &str, close: &str, depth: usize| {
            format!("{{\"x\":{}0{}}}", open.repeat(depth), close.repeat(depth))
        };
        assert!(check(&nested("[", "]", 100)).is_ok());
        for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
            let message = check(&nested(open, close, 200_000))
                .unwrap_err()
                .to_string();
            assert!(message.contains("recursion limit"), "{message}");
        }
    }
}
