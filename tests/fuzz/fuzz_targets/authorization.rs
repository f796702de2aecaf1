//! `Authorization` headers.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use kontor_fuzz::auth::authorization::{Authorization, MAX_HEADER_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(data);
    // Random bytes seldom are base64: try them as what the header holds, too.
    for engine in [STANDARD, STANDARD_NO_PAD] {
        let result = check(format!("Basic {}", engine.encode(data)).as_bytes());
        let expected = str::from_utf8(data)
            .ok()
            .filter(|text| !text.contains(char::is_control))
            .and_then(|text| text.split_once(':'));
        match (result, expected) {
            (Some(Authorization::Basic { user, password }), Some(expected)) => {
                assert!((user.as_str(), password.as_str()) == expected);
            }
            (None, None) => {}
            (None, Some(_)) => assert!(data.len() > MAX_HEADER_BYTES / 2),
            _ => panic!("read as something that it is not"),
        }
    }
});

fn check(value: &[u8]) -> Option<Authorization> {
    let result = Authorization::parse(value);
    if let Ok(text) = str::from_utf8(value) {
        assert!(text.parse::<Authorization>() == result);
    }
    let authorization = match result {
        Ok(authorization) => authorization,
        Err(error) => {
            assert!(error.to_string().len() < 1024);
            return None;
        }
    };
    assert!(value.len() <= MAX_HEADER_BYTES);
    let shown = format!("{authorization:?}");
    let again = match &authorization {
        Authorization::Basic { user, password } => {
            assert_eq!(shown, "Basic(..)");
            assert!(!user.contains(':'));
            format!(
                "Basic {}",
                STANDARD_NO_PAD.encode(format!("{user}:{password}"))
            )
        }
        Authorization::Bearer(token) => {
            assert_eq!(shown, "Bearer(..)");
            assert!(!token.is_empty() && token.is_ascii());
            format!("Bearer {token}")
        }
        Authorization::KeystoneToken(_) => panic!("that comes from another header"),
    };
    assert!(Authorization::parse(again.as_bytes()) == Ok(authorization.clone()));
    Some(authorization)
}
