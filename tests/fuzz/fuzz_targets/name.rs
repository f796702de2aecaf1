//! Names of accounts and repositories.
#![no_main]

use kontor_fuzz::assert_canonical;
use kontor_fuzz::oci::{AccountName, FullRepoName, RepoName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(account) = assert_canonical::<AccountName>(text) {
        assert!(text.len() <= 48);
        // An account name is a component of a repository name and a DNS label.
        assert!(text.parse::<RepoName>().is_ok());
        assert!(!text.contains(['.', '_', '/']) && !text.starts_with('-') && !text.ends_with('-'));
        assert_eq!(account.as_str(), text);
    }
    let repo = assert_canonical::<RepoName>(text);
    if let Some(repo) = &repo {
        for component in text.split('/') {
            assert!(!component.is_empty() && component != "." && component != "..");
            assert!(component.parse::<RepoName>().is_ok());
        }
        let account: AccountName = "a".parse().expect("an account name");
        assert!(FullRepoName::new(account, repo.clone()).is_ok());
    }
    if let Some(name) = assert_canonical::<FullRepoName>(text) {
        assert!(text.len() <= 255);
        // A full name is also a name in the OCI grammar, unless it is longer than any path.
        assert!(repo.is_some() || text.len() > 253);
        assert_eq!(
            FullRepoName::new(name.account.clone(), name.repo.clone()),
            Ok(name)
        );
    }
});
