//! What all the types that are a checked string have in common.
//!
//! A value of such a type can only come from its `FromStr`, and serde goes the same way: there is
//! no second, unchecked door.

/// Gives a type that has `Display` and `FromStr` a serde form: the string.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The accessors of a tuple struct whose only field is its checked text.
macro_rules! text_newtype {
    ($type:ident) => {
        impl $type {
            /// The text, as it was parsed.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        $crate::oci::text::serde_as_text!($type);
    };
}

pub(super) use text_newtype;

pub(crate) use serde_as_text;

/// The beginning of a text that a client sent, short enough to be repeated in an error message.
pub(super) fn excerpt(text: &str) -> String {
    const LIMIT: usize = 160;
    match text.char_indices().nth(LIMIT) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_bounded_and_cuts_between_characters() {
        assert_eq!(excerpt("short"), "short");
        let long = "\u{e4}".repeat(1000);
        assert_eq!(excerpt(&long), format!("{}...", "\u{e4}".repeat(160)));
    }
}
