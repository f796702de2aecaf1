//! Which servers there are.

#![expect(clippy::disallowed_methods, reason = "where the servers of a test are")]

/// The value of a variable that `ci/cloud` sets.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The settings of a server, or `None` if there is no such server. Panics if there must be one.
pub fn server<const N: usize>(names: [&str; N]) -> Option<[String; N]> {
    let values = names.map(variable);
    if values.iter().all(Option::is_some) {
        return Some(values.map(Option::unwrap_or_default));
    }
    assert_ne!(
        variable("KONTOR_TEST_LIVE").as_deref(),
        Some("required"),
        "{names:?} must be set"
    );
    println!("not run: no {}", names[0]);
    None
}

/// Makes a module with a test for every rule of the contract. The second argument is a function that returns
/// `Option<Arc<dyn StorageDriver>>`.
#[macro_export]
macro_rules! live_contract_tests {
    ($module:ident, $make:expr) => {
        mod $module {
            use super::*;
            storage_drivers::for_each_contract_rule! { $crate::live_contract_tests_of_rules, $make }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! live_contract_tests_of_rules {
    ([$make:expr] $($rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() -> storage_drivers::contract::Verdict {
            match $make() {
                Some(driver) => storage_drivers::contract::$rule(driver).await,
                None => Ok(()),
            }
        }
    )*};
}
