//! The pure modules of the project, included by path, and what several fuzz targets share.

pub mod auth;
#[path = "../../../src/oci/mod.rs"]
pub mod oci;

use std::fmt::{Debug, Display};
use std::str::FromStr;

/// What is parsed is written back as the same text, and its JSON form is that text.
pub fn assert_canonical<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Display> + Display + Debug + PartialEq,
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    match text.parse::<T>() {
        Ok(value) => {
            assert_eq!(value.to_string(), text);
            let json = serde_json::to_value(&value).expect("a string");
            assert_eq!(json, serde_json::Value::from(text));
            assert_eq!(
                serde_json::from_value::<T>(json).expect("the same string"),
                value
            );
            Some(value)
        }
        Err(error) => {
            // Messages go to clients: they are bounded, whatever the input.
            assert!(error.to_string().len() < 1024);
            None
        }
    }
}
