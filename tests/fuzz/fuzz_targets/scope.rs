//! Scopes of tokens. Each line of the input is one `scope` parameter.
#![no_main]

use std::collections::HashSet;

use kontor_fuzz::auth::scope::{Action, MAX_SCOPES, ResourceType, Scope, parse_scopes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(scope) = text.parse::<Scope>() {
        assert_eq!(scope.to_string().parse(), Ok(scope));
    }
    let scopes = parse_scopes(text.lines());
    assert!(scopes.len() <= MAX_SCOPES);
    let mut resources = HashSet::new();
    for scope in &scopes {
        assert!(
            resources.insert((&scope.resource, &scope.name)),
            "not merged"
        );
        assert!(!scope.name.is_empty() && !scope.name.contains(['"', '\\', ' ', '+']));
        match scope.resource {
            ResourceType::Repository => assert!(!scope.actions.contains(&Action::Catalog)),
            ResourceType::Registry => assert!(scope.actions.iter().all(|a| *a == Action::Catalog)),
            ResourceType::Other(_) => {}
        }
        let json = serde_json::to_string(scope).expect("JSON");
        assert_eq!(
            &serde_json::from_str::<Scope>(&json).expect("the same JSON"),
            scope
        );
    }
    // What was read is read again as the same, from one parameter or from several, and merging it with
    // itself changes nothing.
    let written: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    assert_eq!(parse_scopes(written.iter().map(String::as_str)), scopes);
    for separator in [" ", "+"] {
        let joined = written.join(separator);
        assert_eq!(
            parse_scopes([joined.as_str(), joined.as_str()].into_iter()),
            scopes
        );
    }
});
