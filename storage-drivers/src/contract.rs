//! The suite that every driver must pass: a function per rule, each of which takes a driver and leaves nothing
//! behind in it when it passes.
//!
//! [`contract_tests!`](crate::contract_tests) makes a test of each rule; [`run_all`] runs them in a row, for a
//! live backend. Every rule uses accounts and auth tenants of its own, so rules may run side by side.

mod accounts;
mod objects;
mod support;
mod writes;

use std::sync::Arc;

pub use accounts::*;
pub use objects::*;
pub use writes::*;

use crate::StorageDriver;

/// The outcome of a rule: it panics where the driver breaks the contract, and fails where the driver fails.
pub type Verdict = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Passes the names of all rules to a macro. The one list of them.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_contract_rule {
    ($then:path, $($context:tt)*) => {
        $then! {
            [$($context)*]
            bodies_of_all_sizes_come_back
            odd_pieces_come_back
            wrong_sizes_leave_nothing
            endless_body_is_refused_early
            cut_body_leaves_nothing
            dropped_write_leaves_nothing
            existing_object_is_never_overwritten
            racing_writers_leave_a_winner
            range_edges
            missing_object_is_not_found
            delete_is_idempotent
            list_shows_every_object_once
            hundred_writers_at_once
            large_stream_comes_back
            download_url_is_none_or_valid
            accounts_never_see_one_another
            used_bytes_are_those_of_the_account
            prepare_and_release_are_idempotent
            release_refuses_while_objects_remain
            other_auth_tenants_are_refused
            unprepared_account_takes_no_objects
            bad_names_are_refused
            check_succeeds
        }
    };
}

/// Makes a module with a test for every rule. The second argument is a function that returns an
/// `Arc<dyn StorageDriver>` and something to keep alive meanwhile, such as a temporary folder.
#[macro_export]
macro_rules! contract_tests {
    ($module:ident, $make:expr) => {
        mod $module {
            use super::*;
            $crate::for_each_contract_rule! { $crate::contract_tests_of_rules, $make }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests_of_rules {
    ([$make:expr] $($rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() -> $crate::contract::Verdict {
            let (driver, _kept) = $make()?;
            $crate::contract::$rule(driver).await
        }
    )*};
}

macro_rules! run_rules {
    ([$make:ident] $($rule:ident)*) => {$(
        tracing::info!(rule = stringify!($rule), "checking a rule of the storage contract");
        $rule($make()).await.map_err(|e| format!("{}: {e}", stringify!($rule)))?;
    )*};
}

/// Runs all rules in a row, each on a driver that `make` returns.
///
/// Errors: the first failure of the driver, with the rule's name.
pub async fn run_all(make: impl Fn() -> Arc<dyn StorageDriver>) -> Verdict {
    for_each_contract_rule! { run_rules, make }
    Ok(())
}
